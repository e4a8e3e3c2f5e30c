//! The usual options of each survey, and which make sense.

use crate::simulator::seen::{SurveyOptions, Telescope};

/// Why there is no such survey.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    /// A number out of its range.
    #[error("{name} {value} is not between {low} and {high}")]
    Range {
        /// The option.
        name: &'static str,
        /// What it is.
        value: i64,
        /// The least that it may be.
        low: i64,
        /// The most that it may be.
        high: i64,
    },
}

impl SurveyOptions {
    /// ZTF: 1,000,000 objects and 50,000 asteroids, 250 alerts a visit, 30 days of history; from the night of 2026-11-22 on.
    #[must_use]
    pub fn ztf(seed: u64) -> Self {
        Self {
            telescope: Telescope::Ztf,
            seed,
            objects: 1_000_000,
            faint_objects: 0,
            asteroids: 50_000,
            alerts_per_visit: 250,
            first_night_mjd: 61_366,
            history_days: 30,
            history_visits: 50,
        }
    }

    /// LSST: the same sky with 200,000,000 fainter objects and 400,000 asteroids, 10,000 alerts a visit, a year of history.
    #[must_use]
    pub fn lsst(seed: u64) -> Self {
        Self {
            telescope: Telescope::Lsst,
            faint_objects: 200_000_000,
            asteroids: 400_000,
            alerts_per_visit: 10_000,
            history_days: 365,
            history_visits: 200,
            ..Self::ztf(seed)
        }
    }

    /// A sky of few objects and visits of 40 alerts, for tests.
    #[must_use]
    pub fn small(telescope: Telescope, seed: u64) -> Self {
        let usual = match telescope {
            Telescope::Ztf => Self::ztf(seed),
            Telescope::Lsst => Self { faint_objects: 100_000, history_days: 60, ..Self::lsst(seed) },
        };
        Self { objects: 100_000, asteroids: 1_000, alerts_per_visit: 40, ..usual }
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// With the first that is not.
    pub fn check(&self) -> Result<(), SurveyError> {
        let ranges = [
            ("objects", i64::from(self.objects), 1_000, 10_000_000),
            ("faint_objects", i64::from(self.faint_objects), 0, 400_000_000),
            ("asteroids", i64::from(self.asteroids), 0, 1_000_000),
            ("alerts_per_visit", i64::from(self.alerts_per_visit), 10, 65_535),
            // From 2001, with a year of history before, to 2100.
            ("first_night_mjd", i64::from(self.first_night_mjd), 51_960, 88_069),
            ("history_days", i64::from(self.history_days), 0, 400),
            ("history_visits", i64::from(self.history_visits), 0, 2_000),
        ];
        match ranges.into_iter().find(|(_, value, low, high)| !(low..=high).contains(&value)) {
            Some((name, value, low, high)) => Err(SurveyError::Range { name, value, low, high }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_options_are_in_range_and_others_are_refused() {
        for telescope in [Telescope::Ztf, Telescope::Lsst] {
            assert_eq!(SurveyOptions::small(telescope, 1).check(), Ok(()));
        }
        assert!(SurveyOptions::ztf(1).check().is_ok() && SurveyOptions::lsst(1).check().is_ok());
        let wrong = SurveyOptions { alerts_per_visit: 9, ..SurveyOptions::ztf(1) };
        assert_eq!(wrong.check(), Err(SurveyError::Range { name: "alerts_per_visit", value: 9, low: 10, high: 65_535 }));
    }
}
