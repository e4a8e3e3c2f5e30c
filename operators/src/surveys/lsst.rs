//! LSST: Cerro Pachón; alerts carry modified Julian dates of TAI.

use super::{Scale, Survey, Time};

/// The Legacy Survey of Space and Time. Schemas before 7 called the field
/// `midPointTai`.
pub static LSST: Survey = Survey {
    name: "lsst",
    records: "lsst.",
    times: &[
        Time { path: &["diaSource", "midpointMjdTai"], scale: Scale::MjdTai },
        Time { path: &["diaSource", "midPointTai"], scale: Scale::MjdTai },
    ],
    longitude_deg: -70.7494,
};
