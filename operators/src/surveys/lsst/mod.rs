//! LSST: Cerro Pachón; alerts carry modified Julian dates of TAI, fluxes in nanojansky, and a year of history.

use fink_dataflow::detection::{Band, Kind, Real, Real32, SurveyId, Traits};

use super::columns::{Column, Record};
use super::light::{Brightness, Field, Light, Points, Sign, Visit};
use super::{Scale, Survey, Time};

/// The Legacy Survey of Space and Time. Schemas before 7 called the time `midPointTai`.
pub static LSST: Survey = Survey {
    id: SurveyId(2),
    name: "lsst",
    records: "lsst.",
    times: &[
        Time { path: &["diaSource", "midpointMjdTai"], scale: Scale::MjdTai },
        Time { path: &["diaSource", "midPointTai"], scale: Scale::MjdTai },
    ],
    longitude_deg: -70.7494,
    light: &LIGHT,
};

static LIGHT: Light = Light {
    // What moves has no diaObject; its number is 0 or null where there is none.
    objects: &[
        Field { record: &["diaObject"], names: &["diaObjectId"] },
        Field { record: &["diaSource"], names: &["diaObjectId"] },
        Field { record: &["diaSource"], names: &["ssObjectId"] },
        Field { record: &["mpc_orbits"], names: &["designation"] },
        Field { record: &["MPCORB"], names: &["mpcDesignation"] },
        // Nobody has said yet what it is: it is known by itself alone.
        Field { record: &["diaSource"], names: &["diaSourceId"] },
    ],
    own: sources("diaSource", Kind::Detection, &["diaSourceId"]),
    histories: &[
        sources("prvDiaSources", Kind::Detection, &["diaSourceId"]),
        sources("prvDiaForcedSources", Kind::Forced, &["diaForcedSourceId"]),
        limits(),
    ],
    visit: Visit { field: Field { record: &["diaSource"], names: &["visit", "ccdVisitId"] }, divisor: 1 },
    bands: &[("u", Band(b'u')), ("g", Band(b'g')), ("r", Band(b'r')), ("i", Band(b'i')), ("z", Band(b'z')), ("y", Band(b'y'))],
    traits,
};

const TIMES: &[&str] = &["midpointMjdTai", "midPointTai"];
const BANDS: &[&str] = &["band", "filterName"];

const fn sources(at: &'static str, kind: Kind, ids: &'static [&'static str]) -> Points {
    Points {
        at,
        kind,
        ids,
        limit_ids: &[],
        times: TIMES,
        scale: Scale::MjdTai,
        ra: &["ra"],
        dec: &["dec", "decl"],
        band: BANDS,
        brightness: Brightness::NanoJansky(&["psfFlux", "psFlux"], &["psfFluxErr", "psFluxErr"]),
        limit: &[],
        score: &["reliability"],
        sign: Sign::Negative(&["isNegative"]),
    }
}

/// The limits of schemas before 8: the noise of an image in which nothing was found.
const fn limits() -> Points {
    Points {
        at: "prvDiaNondetectionLimits",
        kind: Kind::Detection,
        ids: &[],
        limit_ids: &["ccdVisitId"],
        times: TIMES,
        scale: Scale::MjdTai,
        ra: &[],
        dec: &[],
        band: BANDS,
        brightness: Brightness::NanoJansky(&[], &[]),
        limit: &["diaNoise"],
        score: &[],
        sign: Sign::Negative(&[]),
    }
}

/// Fink calls what the survey knows to move a Solar System object of the Minor Planet Center.
fn traits(record: &Record<'_>, rows: usize) -> Vec<Traits> {
    let source = record.at(&["diaSource"]);
    let object = record.at(&["diaObject"]);
    let of_source = |names: &[&str]| source.as_ref().map_or(Column::None, |r| r.column(names));
    let of_object = |names: &[&str]| object.as_ref().map_or(Column::None, |r| r.column(names));
    let (moving, time, reliability) = (of_source(&["ssObjectId"]), of_source(TIMES), of_source(&["reliability"]));
    let (count, first) = (of_object(&["nDiaSources"]), of_object(&["firstDiaSourceMjdTai"]));
    let row = |row: usize| {
        let there = object.as_ref().is_some_and(|o| o.is_there(row));
        let first = first.double(row).filter(|_| there);
        let count = count.long(row).filter(|_| there).and_then(|n| i32::try_from(n).ok());
        Traits {
            age_days: Real::from(first.and_then(|first| Some(time.double(row)? - first))),
            detections: count.unwrap_or(-1),
            drb: Real32::from(reliability.single(row)),
            classtar: Real32::NONE,
            roid: if moving.long(row).is_some_and(|number| number != 0) { 3 } else { 0 },
            tracklet: false,
            enriched: None,
        }
    };
    (0..rows).map(row).collect()
}
