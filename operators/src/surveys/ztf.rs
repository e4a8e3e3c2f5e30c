//! ZTF: Palomar; alerts carry Julian dates of UTC.

use super::{Scale, Survey, Time};

/// The Zwicky Transient Facility, as the survey sends it and as Fink's own streams carry it on (`topLevelRecord`).
pub static ZTF: Survey =
    Survey { name: "ztf", records: "ztf.", times: &[Time { path: &["candidate", "jd"], scale: Scale::JdUtc }], longitude_deg: -116.8650 };
