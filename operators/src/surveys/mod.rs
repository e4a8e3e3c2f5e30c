//! What differs from survey to survey, as data: a survey is one folder with one table.
//!
//! | module | what it is |
//! |---|---|
//! | [`light`] | how a table makes light rows of decoded batches |
//! | [`operator`] | the same as a stream |
//! | [`stored`] | light rows as the archive keeps them, and back |
//! | [`columns`] | Arrow columns by name, whatever number type a schema gives them |
//! | [`ztf`], [`lsst`] | the surveys |

pub mod columns;
pub mod light;
pub mod lsst;
pub mod operator;
pub mod stored;
pub mod ztf;

use arrow::datatypes::{DataType, Schema};
use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::detection::{LightAlert, SurveyId};

use light::{Light, Unlit};

/// The surveys that fink knows.
pub static SURVEYS: [&Survey; 2] = [&ztf::ZTF, &lsst::LSST];

/// One survey's differences.
#[derive(Debug)]
pub struct Survey {
    /// The survey's number in rows: unlike any other's, and never given to another.
    pub id: SurveyId,
    /// The survey's name.
    pub name: &'static str,
    /// What the full names of its records begin with.
    pub records: &'static str,
    /// Where an alert's own time stands, by preference.
    pub times: &'static [Time],
    /// The observatory's longitude in degrees, east positive.
    pub longitude_deg: f64,
    /// How its alerts become light rows.
    pub light: &'static Light,
}

/// The survey of a number.
#[must_use]
pub fn of_id(id: SurveyId) -> Option<&'static Survey> {
    SURVEYS.into_iter().find(|survey| survey.id == id)
}

/// A field that holds an alert's time.
#[derive(Debug)]
pub struct Time {
    /// Field names from the record down.
    pub path: &'static [&'static str],
    /// What its number means.
    pub scale: Scale,
}

/// A scale of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// Julian date, UTC.
    JdUtc,
    /// Modified Julian date, TAI.
    MjdTai,
}

/// TAI minus UTC since 2017; some seconds less before, which matters only at noon, when nobody observes.
const TAI_MINUS_UTC_S: f64 = 37.0;
const DAY_S: f64 = 86_400.0;
/// 1990-01-01 and 2101-01-01, in days since 1970.
const SANE_DAYS: std::ops::Range<f64> = 7_305.0..47_847.0;

impl Scale {
    /// A time of this scale in seconds since 1970 UTC.
    #[must_use]
    pub fn unix_s(self, time: f64) -> f64 {
        match self {
            Self::JdUtc => (time - 2_440_587.5) * DAY_S,
            Self::MjdTai => (time - 40_587.0) * DAY_S - TAI_MINUS_UTC_S,
        }
    }
}

/// The observing night of a time at a longitude: the local date at which it began, in days since 1970. Nights run from
/// noon to noon of mean solar time; before 1990 and after 2100 there are none.
#[must_use]
pub fn night(unix_s: f64, longitude_deg: f64) -> Option<i32> {
    if !SANE_DAYS.contains(&(unix_s / DAY_S)) {
        return None;
    }
    // 240 s a degree; a night's date is that of its noon.
    let day = ((unix_s + longitude_deg * 240.0) / DAY_S - 0.5).floor();
    #[expect(clippy::cast_possible_truncation, reason = "a day between 1990 and 2100")]
    Some(day as i32)
}

/// Where alerts of one schema hold their time.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The survey.
    pub survey: &'static Survey,
    /// The time's scale.
    pub scale: Scale,
    /// The time's place: indices of columns and fields, from the record down.
    pub path: Vec<usize>,
}

/// Finds the survey whose time field these columns have; a record name that fits a survey speaks for it first, but
/// re-encoded alerts (`topLevelRecord`) are known by their fields alone.
#[must_use]
pub fn sight(record: &str, columns: &Schema) -> Option<Sight> {
    let named = SURVEYS.iter().filter(|s| record.starts_with(s.records));
    let others = SURVEYS.iter().filter(|s| !record.starts_with(s.records));
    named
        .chain(others)
        .find_map(|survey| survey.times.iter().find_map(|time| Some(Sight { survey, scale: time.scale, path: find(columns, time.path)? })))
}

/// The light rows of a batch of any survey that fink knows, and the alerts that have none.
#[must_use]
pub fn light_rows(batch: &AlertBatch) -> (Vec<LightAlert>, Vec<Unlit>) {
    if *batch.schema.fingerprint == *fink_dataflow::table::light::SCHEMA {
        return stored::load(batch);
    }
    match sight(&batch.schema.name, &batch.schema.columns) {
        Some(sight) => sight.survey.light_rows(batch),
        None => (Vec::new(), light::unlit(batch, "no survey sends such alerts")),
    }
}

/// The indices of a path that ends in a double.
fn find(columns: &Schema, path: &[&str]) -> Option<Vec<usize>> {
    let mut fields = columns.fields();
    let mut indices = Vec::with_capacity(path.len());
    for (depth, name) in path.iter().enumerate() {
        let (index, field) = fields.find(name)?;
        indices.push(index);
        match field.data_type() {
            DataType::Struct(inner) if depth + 1 < path.len() => fields = inner,
            DataType::Float64 if depth + 1 == path.len() => return Some(indices),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate};

    use super::*;

    fn night_of(utc: &str, longitude_deg: f64) -> String {
        let unix_s = DateTime::parse_from_rfc3339(utc).unwrap().timestamp() as f64;
        let day = night(unix_s, longitude_deg).unwrap();
        NaiveDate::from_num_days_from_ce_opt(day + NaiveDate::from_ymd_opt(1970, 1, 1).unwrap().num_days_from_ce()).unwrap().to_string()
    }

    #[test]
    fn a_night_has_the_date_at_which_it_began() {
        // Palomar's noon is at 19:47:28 UTC, Cerro Pachón's at 16:43 UTC.
        assert_eq!(night_of("2018-11-29T12:00:00Z", ztf::ZTF.longitude_deg), "2018-11-28");
        assert_eq!(night_of("2018-11-29T19:47:27Z", ztf::ZTF.longitude_deg), "2018-11-28");
        assert_eq!(night_of("2018-11-29T19:47:28Z", ztf::ZTF.longitude_deg), "2018-11-29");
        assert_eq!(night_of("2018-11-30T03:00:00Z", ztf::ZTF.longitude_deg), "2018-11-29");
        assert_eq!(night_of("2026-01-01T00:30:00Z", lsst::LSST.longitude_deg), "2025-12-31");
        assert_eq!(night_of("2026-01-01T16:42:59Z", lsst::LSST.longitude_deg), "2025-12-31");
        assert_eq!(night_of("2026-01-01T16:43:00Z", lsst::LSST.longitude_deg), "2026-01-01");
    }

    #[test]
    fn absurd_times_have_no_night() {
        for absurd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1e300, 1e300, Scale::JdUtc.unix_s(99_999.0), 47_847.0 * DAY_S] {
            assert_eq!(night(absurd, 0.0), None, "{absurd}");
        }
        assert_eq!(night(7_305.5 * DAY_S, 0.0), Some(7_305));
        assert_eq!(night(47_846.9 * DAY_S, 0.0), Some(47_846));
    }

    #[test]
    fn scales_agree() {
        let jd = 2_458_451.5;
        let difference = Scale::JdUtc.unix_s(jd) - Scale::MjdTai.unix_s(jd - 2_400_000.5);
        assert!((difference - TAI_MINUS_UTC_S).abs() < 1e-3);
        assert_eq!(Scale::JdUtc.unix_s(2_440_588.5), DAY_S);
    }
}
