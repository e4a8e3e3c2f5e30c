//! ZTF: Palomar; alerts carry Julian dates of UTC, magnitudes, and thirty days of history.

mod traits;

use fink_dataflow::detection::{Band, Kind, SurveyId};

use super::light::{Brightness, Field, Light, Points, Sign, Visit};
use super::{Scale, Survey, Time};

pub use traits::{RoidInput, roid};

/// The Zwicky Transient Facility, as the survey sends it and as Fink's own streams carry it on (`topLevelRecord`).
pub static ZTF: Survey = Survey {
    id: SurveyId(1),
    name: "ztf",
    records: "ztf.",
    times: &[Time { path: &["candidate", "jd"], scale: Scale::JdUtc }],
    longitude_deg: -116.8650,
    light: &LIGHT,
};

static LIGHT: Light = Light {
    objects: &[Field { record: &[], names: &["objectId"] }],
    own: candidates("candidate"),
    histories: &[
        candidates("prv_candidates"),
        Points {
            at: "fp_hists",
            kind: Kind::Forced,
            ids: &["pid"],
            limit_ids: &[],
            times: &["jd"],
            scale: Scale::JdUtc,
            ra: &[],
            dec: &[],
            band: &["fid"],
            brightness: Brightness::Counts(&["forcediffimflux"], &["forcediffimfluxunc"], &["magzpsci"]),
            limit: &[],
            score: &[],
            sign: Sign::Negative(&[]),
        },
    ],
    // pid is night (4 digits), fraction of the day (5), quadrant (2), type (2).
    visit: Visit { field: Field { record: &["candidate"], names: &["pid"] }, divisor: 10_000 },
    bands: &[("1", Band(b'g')), ("2", Band(b'r')), ("3", Band(b'i'))],
    traits: traits::traits,
};

/// The candidate and its predecessors, of which those without a magnitude are upper limits.
const fn candidates(at: &'static str) -> Points {
    Points {
        at,
        kind: Kind::Detection,
        ids: &["candid"],
        limit_ids: &["pid"],
        times: &["jd"],
        scale: Scale::JdUtc,
        ra: &["ra"],
        dec: &["dec"],
        band: &["fid"],
        brightness: Brightness::Magnitude(&["magpsf"], &["sigmapsf"]),
        limit: &["diffmaglim"],
        score: &["drb", "rb"],
        sign: Sign::Positive(&["isdiffpos"]),
    }
}
