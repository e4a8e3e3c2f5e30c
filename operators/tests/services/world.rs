//! A small world of objects, alerts and what the surveys do to them.

use std::sync::Arc;

use fink_dataflow::detection::{
    Address, Band, Detection, Enriched, Kind, LightAlert, LogRef, ObjectId, Point, Real, Real32, SurveyId, Traits, Unit,
};
use fink_dataflow::{Log, Moment};
use proptest::prelude::*;

use crate::harness::{Update, moment};

/// How many objects there are.
pub const OBJECTS: u8 = 4;

/// Where an object is: at the pole, at right ascension 0, and two surveys' objects at one place.
pub fn place(object: u8) -> (f64, f64) {
    [(10.0, 89.999_95), (359.999_95, 0.0), (0.000_05, 0.0), (120.0, -30.0)][usize::from(object % 4)]
}

/// An object's id: odd ones are LSST's.
pub fn object(number: u8) -> ObjectId {
    ObjectId::new(SurveyId(1 + number % 2), &format!("object{number}")).unwrap()
}

/// A point of an object: the same for the same numbers.
pub fn point(number: u8, kind: Kind, id: i64) -> Point {
    let (ra, dec) = place(number);
    let offset = (id % 7) as f64 * 0.000_03;
    let seen = kind == Kind::Detection;
    let flux = number % 2 == 1;
    Point {
        kind,
        id,
        mjd_tai: Real(61_000.0 + (id * 5 % 11) as f64 * 0.3),
        ra_deg: if seen { Real((ra + offset) % 360.0) } else { Real::NONE },
        dec_deg: if seen { Real((dec + offset / 2.0).min(90.0)) } else { Real::NONE },
        value: match (kind, flux) {
            (Kind::Limit, _) => Real32::NONE,
            (_, true) => Real32((id * 37 % 101) as f32 * 10.0 - 300.0),
            (_, false) => Real32(18.0 + (id * 7 % 13) as f32 * 0.1),
        },
        error: if kind == Kind::Limit { Real32::NONE } else { Real32(if flux { 30.0 } else { 0.05 + (id % 3) as f32 * 0.01 }) },
        limit: if flux { Real32::NONE } else { Real32(20.5) },
        score: Real32(0.9),
        band: Band(b"grx"[(id % 3) as usize]),
        unit: if flux { Unit::NanoJansky } else { Unit::Magnitude },
        negative: flux && id * 37 % 101 < 30,
    }
}

fn traits(id: i64, kind: u8) -> Traits {
    let enriched = (kind % 3 == 0).then(|| {
        Arc::new(Enriched {
            cdsxmatch: ["Unknown", "RRLyrae", "Galaxy", "Fail 504"][usize::from(kind / 3) % 4].into(),
            mulens: Real(f64::from(kind % 2)),
            snn_snia_vs_nonia: Real(f64::from(kind % 5) / 4.0),
            snn_sn_vs_all: Real(f64::from(kind % 7) / 6.0),
            rf_snia_vs_nonia: Real(f64::from(kind % 4) / 3.0),
            rf_kn_vs_nonkn: Real(f64::from(kind % 6) / 5.0),
        })
    });
    Traits {
        age_days: Real((id % 120) as f64),
        detections: i32::from(kind % 25),
        drb: Real32(0.9),
        classtar: Real32(if kind % 8 == 0 { 0.3 } else { 0.9 }),
        roid: if kind % 16 == 0 { 3 } else { kind % 4 % 3 },
        tracklet: kind % 11 == 0,
        enriched,
    }
}

/// An alert of a world: its object, number, what it repeats, where it stands, and how it is.
pub fn alert(number: u8, id: i64, repeats: &[(u8, i64)], partition: i32, offset: i64, how: u8) -> LightAlert {
    let log = Arc::new(Log::new("test", "alerts", 0, partition));
    // A copy in a history may differ in a rounding.
    let repeated = |(kind, id): &(u8, i64)| {
        let kind = [Kind::Detection, Kind::Limit, Kind::Forced][usize::from(kind % 3)];
        let mut point = point(number, kind, *id);
        point.score = Real32(0.9 + f32::from(how % 2) * 1e-6);
        point
    };
    LightAlert {
        object: object(number),
        detection: Detection {
            point: point(number, Kind::Detection, id),
            traits: traits(id, how),
            address: Address { log: LogRef::from(log), offset, record: 0 },
        },
        visit: id / 3,
        night: Some(20_000 + (id / 5) as i32),
        history: repeats.iter().map(repeated).collect(),
    }
}

/// Some alerts that come, come again, come late, and are taken back.
pub fn alerts() -> impl Strategy<Value = Vec<Update<LightAlert>>> {
    let one = (0..OBJECTS, 0i64..12, prop::collection::vec((any::<u8>(), 0i64..12), 0..6), 0i32..3, any::<u8>());
    let one = (one, moment(), prop::option::weighted(0.3, moment()), prop::bool::weighted(0.2));
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let mut updates: Vec<Update<LightAlert>> = Vec::new();
        for (offset, ((number, id, repeats, partition, how), came, gone, twice)) in (0..).zip(all) {
            let alert = alert(number, id, &repeats, partition, offset, how);
            // Taken back at or after it came, or else it would be missing before it was there.
            let gone = gone.map(|gone| Moment::new(gone.epoch.max(came.epoch), gone.tick.max(came.tick)));
            if twice {
                let mut again = alert.clone();
                again.detection.address.offset += 1_000;
                updates.push((again, came, 1));
            }
            updates.extend(gone.map(|gone| (alert.clone(), gone, -1)));
            updates.push((alert, came, 1));
        }
        updates
    })
}
