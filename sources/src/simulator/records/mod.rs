//! Alerts as the surveys write them: Avro records of our own schemas, with the surveys' field names, types, nullability
//! and units.
//!
//! | module | what it is |
//! |---|---|
//! | `field` | a record as one table of its fields: schema and writer |
//! | [`ztf`] | ZTF's alert, as of 4.02 |
//! | [`lsst`] | LSST's alert, as of 11.0 |
//! | [`frame`] | a datum made a message: container, Confluent's framing, bare |

mod datum;
mod field;
pub mod frame;
pub mod lsst;
mod lsst_object;
mod lsst_solar;
mod shape;
pub mod ztf;

#[cfg(test)]
mod tests;

use super::seen::{Seen, Telescope};

/// The schema of a survey's alerts, as one line of JSON.
#[must_use]
pub fn schema(telescope: Telescope) -> &'static str {
    match telescope {
        Telescope::Ztf => &ztf::SCHEMA,
        Telescope::Lsst => &lsst::SCHEMA,
    }
}

/// The id of that schema where no registry gives it one: 100 times major, plus minor.
#[must_use]
pub fn schema_id(telescope: Telescope) -> u32 {
    match telescope {
        Telescope::Ztf => 402,
        Telescope::Lsst => lsst::SCHEMA_ID,
    }
}

/// Appends an alert's datum, of the survey's schema; `cutouts` are science, template and difference.
pub fn encode(telescope: Telescope, seen: &Seen, cutouts: &[Vec<u8>; 3], out: &mut Vec<u8>) {
    match telescope {
        Telescope::Ztf => ztf::encode(seen, cutouts, out),
        Telescope::Lsst => lsst::encode(seen, cutouts, out),
    }
}

/// The alert's number at the survey: `candid`, or `diaSourceId`.
#[must_use]
pub fn alert_id(telescope: Telescope, seen: &Seen) -> i64 {
    match telescope {
        Telescope::Ztf => ztf::candid(&seen.detection),
        Telescope::Lsst => lsst::source_id(&seen.detection),
    }
}

/// The object's name at the survey: `objectId`, or the digits of `diaObjectId` (of a moving object, `ssObjectId`).
#[must_use]
pub fn object_name(telescope: Telescope, seen: &Seen) -> String {
    match telescope {
        Telescope::Ztf => ztf::object_id(seen),
        Telescope::Lsst => lsst::solar_id(seen).unwrap_or_else(|| lsst::object_id(seen)).to_string(),
    }
}
