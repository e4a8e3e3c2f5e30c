//! A message's fate is its own: neighbours, batches and chunks change nothing.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use common::{chunk, container, decode, decode_with, framed, long, rows};
use fink_dataflow::alerts::{Decoded, Tally};
use fink_operators::decode::{Decode, SchemaBook};
use proptest::prelude::*;

const ALERT: &str = r#"{"type":"record","name":"x.alert","fields":[
    {"name":"id","type":"long"},
    {"name":"band","type":{"type":"enum","name":"band","symbols":["g","r"]}},
    {"name":"name","type":["null","string"]},
    {"name":"previous","type":{"type":"array","items":{"type":"record","name":"p","fields":[{"name":"m","type":["null","float"]}]}}},
    {"name":"candidate","type":{"type":"record","name":"c","fields":[{"name":"jd","type":"double"}]}}]}"#;
const RAW: &str = r#"{"type":"record","name":"list","fields":[{"name":"next","type":["null","list"]}]}"#;

fn alert(id: i64) -> Vec<u8> {
    let mut out = Vec::new();
    long(&mut out, id);
    long(&mut out, id & 1);
    long(&mut out, 1);
    common::bytes(&mut out, format!("ZTF{id}").as_bytes());
    if id % 4 > 0 {
        long(&mut out, id % 4);
        for n in 0..id % 4 {
            long(&mut out, n & 1);
            out.extend_from_slice(if n & 1 == 1 { &[0, 0, 128, 63] } else { &[] });
        }
    }
    long(&mut out, 0);
    out.extend_from_slice(&(2_458_000.5 + id as f64 / 3.0).to_le_bytes());
    out
}

fn good(id: i64) -> Vec<u8> {
    container(ALERT, "null", &[(1, alert(id))])
}

#[test]
fn one_poisoned_datum_among_255_good_ones_is_one_reject() {
    let poisons: [(&str, fn(&mut Vec<u8>)); 5] = [
        ("truncated", |d| d.truncate(d.len() - 3)),
        ("longer", |d| d.push(0)),
        ("no such symbol, found only when the batch is finished", |d| d[1] = 8),
        ("not UTF-8, found only when the batch is finished", |d| d[4] = 0xff),
        ("an endless array", |d| *d = [&d[..d.len() - 9], &[0xfe, 0xff, 0xff, 0xff, 0x7f, 0, 0]].concat()),
    ];
    for (what, poison) in poisons {
        for at in [0, 1, 100, 255] {
            let payloads: Vec<_> = (0..256)
                .map(|n| {
                    // Ids of one byte, so that the next is the band's.
                    let mut datum = alert(4 * (n % 8) + 3);
                    if n == at {
                        poison(&mut datum);
                    }
                    container(ALERT, "null", &[(1, datum)])
                })
                .collect();
            let decoded = decode(&payloads);
            let offsets: Vec<_> = decoded.rejects.iter().map(|r| r.message.offset).collect();
            assert_eq!(offsets, [at], "{what}");
            assert_eq!(decoded.rejects[0].message.payload.as_deref(), Some(&payloads[at as usize][..]));
            assert_eq!(rows(&decoded).len(), 255, "{what}");
        }
    }
}

#[test]
fn a_message_of_several_records_is_archived_or_rejected_whole() {
    let three = |last: Vec<u8>| container(ALERT, "null", &[(3, [alert(1), alert(2), last].concat())]);
    let bad = [alert(3), vec![0]].concat();
    let decoded = decode(&[three(alert(3)), three(bad), three(alert(5))]);
    assert_eq!(decoded.rejects.iter().map(|r| r.message.offset).collect::<Vec<_>>(), [1]);
    let places: Vec<_> = rows(&decoded).into_keys().collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]);
    assert_eq!(decoded.passed[0].tally.rows, 6);
}

#[test]
fn a_hundred_bad_ones_leave_the_decoder_good() {
    let mut decoder = Decode::new(Arc::new(SchemaBook::new()));
    let bad: Vec<_> = (0..100).map(|n| container(ALERT, "null", &[(1, alert(n)[..7].to_vec())])).collect();
    assert_eq!(decoder.decode(vec![chunk("t", 0, &bad)]).rejects.len(), 100);
    assert_eq!(decoder.decode(vec![chunk("t", 100, &[good(1)])]).passed[0].tally.archived, 1);
    assert!(!fink_operators::decode::decoding());
}

#[test]
fn chunks_keep_their_own_accounts() {
    let mut decoder = Decode::new(Arc::new(SchemaBook::new()));
    let (mut empty, claim) = chunk("t", 7, &[]);
    empty.span = 7..9;
    let decoded = decoder.decode(vec![chunk("t", 0, &[good(1), vec![9]]), (empty, claim), chunk("u", 0, &[good(2)])]);
    let tallies: Vec<_> = decoded.passed.iter().map(|p| (p.tally.messages, p.tally.archived, p.tally.rejected)).collect();
    assert_eq!(tallies, [(2, 1, 1), (0, 0, 0), (1, 1, 0)]);
    assert_eq!((decoded.passed[1].span.clone(), decoded.passed[1].mark), (7..9, None));
    assert_eq!((decoded.alerts.len(), decoded.claims.len()), (1, 3));
    assert_eq!(&*decoded.alerts[0].places[1].log.topic, "u");
}

static BOOK: LazyLock<Arc<SchemaBook>> = LazyLock::new(|| {
    let book = SchemaBook::new();
    book.know(1, ALERT);
    book.know(2, RAW);
    Arc::new(book)
});

/// Messages of all kinds, good and bad.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let datum = (0i64..1000, any::<prop::sample::Index>(), any::<u8>(), 0..6u8).prop_map(|(id, at, flip, fate)| {
        let mut datum = alert(id);
        let at = at.index(datum.len());
        match fate {
            0 => datum.truncate(at),
            1 => datum[at] ^= flip,
            _ => {}
        }
        datum
    });
    let whole = (prop::collection::vec(datum.clone(), 0..4), prop::sample::select(&common::CODECS[..]))
        .prop_map(|(datums, codec)| container(ALERT, codec, &[(datums.len() as i64, datums.concat())]));
    prop_oneof![
        4 => datum.clone().prop_map(|d| framed(1, &d)),
        2 => whole.clone(),
        1 => (0..200usize).prop_map(|n| framed(2, &[vec![2; n], vec![0]].concat())),
        1 => (whole, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut c, at, flip)| { let at = at.index(c.len()); c[at] ^= flip; c }),
        1 => prop::collection::vec(any::<u8>(), 0..30),
        1 => Just(framed(3, &[])),
    ]
}

type Fates = (BTreeMap<(i64, i32), (String, Option<i32>, arrow::array::RecordBatch)>, BTreeMap<i64, (&'static str, String)>, Tally);

fn fates(decoded: &[Decoded]) -> Fates {
    let (mut all, mut faults, mut tally) = (BTreeMap::new(), BTreeMap::new(), Tally::default());
    for decoded in decoded {
        all.extend(rows(decoded));
        for passed in &decoded.passed {
            assert!(passed.tally.agrees(), "{:?}", passed.tally);
            tally += passed.tally;
        }
        for reject in &decoded.rejects {
            assert_ne!(reject.fault, "crashed", "{}", reject.reason);
            assert!(faults.insert(reject.message.offset, (reject.fault, reject.reason.clone())).is_none());
        }
    }
    (all, faults, tally)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 96 } else { 1000 }))]

    #[test]
    fn decoding_together_equals_decoding_one_by_one(messages in prop::collection::vec(message(), 1..60), cuts in prop::collection::vec(1usize..20, 1..20)) {
        let together = fates(&[decode_with(&BOOK, &messages)]);
        let alone: Vec<_> = (0..).zip(&messages)
            .map(|(offset, m)| Decode::new(Arc::clone(&BOOK)).decode(vec![chunk("t", offset, std::slice::from_ref(m))]))
            .collect();
        prop_assert_eq!(&fates(&alone), &together);
        // In any cut into calls and chunks, by one decoder.
        let mut decoder = Decode::new(Arc::clone(&BOOK));
        let (mut rest, mut offset, mut parts) = (&messages[..], 0, Vec::new());
        for cut in cuts.iter().cycle() {
            let (call, after) = rest.split_at((*cut).min(rest.len()));
            let half = call.len() / 2;
            let (a, b) = (offset, offset + half as i64);
            parts.push(decoder.decode(vec![chunk("t", a, &call[..half]), chunk("t", b, &call[half..])]));
            offset += call.len() as i64;
            rest = after;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(&fates(&parts), &together);
        prop_assert_eq!(together.2.messages, messages.len() as u64);
    }
}

#[test]
fn the_operator_decodes_together_what_comes_together() {
    use fink_dataflow::Moment;
    use timely::dataflow::operators::capture::{Capture, Event};
    use timely::dataflow::operators::vec::ToStream;

    let events = timely::execute_directly(|worker| {
        worker.dataflow::<Moment, _, _>(|scope| {
            let chunks: Vec<_> = (0..600).map(|n| chunk("t", n, &[if n % 100 == 0 { vec![9] } else { good(n) }])).collect();
            fink_operators::decode::decode(chunks.to_stream(scope), Arc::clone(&BOOK)).capture()
        })
    });
    let decoded: Vec<_> =
        events.into_iter().filter_map(|e| if let Event::Messages(_, data) = e { Some(data) } else { None }).flatten().collect();
    assert!(decoded.iter().all(|d| d.passed.len() <= 256 && d.claims.len() == d.passed.len()));
    assert!(decoded.len() < 30, "{} batches of 600 messages", decoded.len());
    let (rows, faults, tally) = fates(&decoded);
    assert_eq!((rows.len(), faults.len()), (594, 6));
    assert_eq!((tally.messages, tally.archived, tally.rejected), (600, 594, 6));
    let order: Vec<_> = decoded.iter().flat_map(|d| d.passed.iter().map(|p| p.span.start)).collect();
    assert!(order.is_sorted());
}
