//! Packed entries are what they were, and in their order.

use fink_dataflow::Log;
use proptest::prelude::*;

use super::*;

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![Just(f32::NAN), Just(0.0), Just(18.25), any::<f32>()]
}

fn any_point() -> impl Strategy<Value = Point> {
    let kind = prop_oneof![Just(Kind::Detection), Just(Kind::Limit), Just(Kind::Forced)];
    let id = prop_oneof![0..3i64, any::<i64>()];
    (kind, id, (0..3u8), [number(), number(), number(), number(), number(), number()], any::<u8>(), any::<bool>(), any::<bool>()).prop_map(
        |(kind, id, time, [ra, dec, value, error, limit, score], band, flux, negative)| Point {
            kind,
            id,
            mjd_tai: Real(61_000.0 + f64::from(time) / 3.0),
            ra_deg: Real(f64::from(ra)),
            dec_deg: Real(f64::from(dec)),
            value: Real32(value),
            error: Real32(error),
            limit: Real32(limit),
            score: Real32(score),
            band: Band(band % 3),
            unit: if flux { Unit::NanoJansky } else { Unit::Magnitude },
            negative,
        },
    )
}

fn any_own() -> impl Strategy<Value = Own> {
    let offset = prop_oneof![0..4i64, any::<i64>()];
    (0..3i32, offset, any::<i32>(), 0..128u8, any::<bool>(), any::<bool>()).prop_map(
        |(partition, offset, record, signs, moves, enriched)| {
            let enriched = enriched.then(|| {
                let score = Real(f64::from(signs) / 100.0);
                Arc::new(Enriched {
                    cdsxmatch: format!("Type{partition}").into(),
                    mulens: score,
                    snn_snia_vs_nonia: Real::NONE,
                    snn_sn_vs_all: score,
                    rf_snia_vs_nonia: score,
                    rf_kn_vs_nonkn: score,
                })
            });
            let log = LogRef::from(Arc::new(Log::new("source", "topic", 0, partition)));
            Own { address: Address { log, offset, record }, signs: Signs::from_bits(signs), moves, enriched }
        },
    )
}

/// Entries of few points, so that many are copies of each other.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    (prop::collection::vec(any_point(), 1..4), prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(any_own())), 0..24))
        .prop_map(|(points, picked)| {
            let entry = |(which, own): (prop::sample::Index, Option<Own>)| Entry { point: *which.get(&points), own: own.map(Box::new) };
            picked.into_iter().map(entry).collect()
        })
}

fn unpack(packed: &Packed) -> Vec<Entry> {
    (0..packed.len()).map(|index| packed.index(index).into()).collect()
}

proptest! {
    #[test]
    fn what_is_packed_is_what_it_was(mut entries in entries(), sorted in any::<bool>()) {
        if sorted {
            entries.sort();
        }
        let mut packed = Packed::with_capacity(entries.len());
        entries.iter().for_each(|entry| packed.push_own(entry));
        prop_assert_eq!(&unpack(&packed), &entries);
        // As a merge copies it: into a slab that has other logs.
        let other = Entry { point: entries.first().map_or_else(|| Entry::repeated(ANY).point, |e| e.point), own: None };
        let mut merged = Packed::merge_capacity(&packed, &packed);
        merged.push_own(&other);
        (0..packed.len()).rev().for_each(|index| merged.push_ref(packed.index(index)));
        let mut back = unpack(&merged);
        prop_assert_eq!(back.remove(0), other);
        back.reverse();
        prop_assert_eq!(back, entries);
    }

    #[test]
    fn seen_entries_have_one_total_order(entries in entries()) {
        let mut packed = Packed::default();
        entries.iter().for_each(|entry| packed.push_own(entry));
        for (i, a) in entries.iter().enumerate() {
            for (j, b) in entries.iter().enumerate() {
                prop_assert_eq!(packed.index(i).cmp(&packed.index(j)), a.cmp(b));
                prop_assert_eq!(packed.index(i) == b, a == b);
                prop_assert_eq!(a.cmp(b).reverse(), b.cmp(a));
            }
        }
    }
}

const ANY: Point = Point {
    kind: Kind::Detection,
    id: 1,
    mjd_tai: Real(1.0),
    ra_deg: Real(1.0),
    dec_deg: Real(1.0),
    value: Real32(1.0),
    error: Real32(1.0),
    limit: Real32(1.0),
    score: Real32(1.0),
    band: Band(b'g'),
    unit: Unit::Magnitude,
    negative: false,
};

#[test]
fn copies_of_a_point_take_two_bytes_however_far_they_are() {
    let mut packed = Packed::default();
    for _ in 0..1_000 {
        packed.push_own(&Entry::repeated(ANY));
    }
    assert!((0..1_000).all(|index| packed.index(index) == &Entry::repeated(ANY)));
    // Every 256th stands there in full again: how far back is one byte.
    assert_eq!(packed.bytes.len(), 4 * 51 + 996 * 2);
}

#[test]
fn a_limit_has_no_room_for_what_it_has_not() {
    let mut packed = Packed::default();
    let none = (Real::NONE, Real32::NONE);
    packed.push_own(&Entry::repeated(Point {
        kind: Kind::Limit,
        ra_deg: none.0,
        dec_deg: none.0,
        value: none.1,
        error: none.1,
        score: none.1,
        ..ANY
    }));
    assert_eq!(packed.bytes.len(), 23);
}
