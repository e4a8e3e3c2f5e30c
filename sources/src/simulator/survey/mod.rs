//! The survey that looks at the synthetic sky: any alert of any visit, as a function of the options.
//!
//! | module | what it is |
//! |---|---|
//! | [`options`] | the usual options of each survey |
//! | `instrument` | what the surveys differ in |
//! | `site` | sun, moon and stars over an observatory; nights |
//! | `calendar` | how visits are numbered |
//! | `cadence` | which field is observed when, in which filter |
//! | `conditions` | seeing, clouds, moonlight, depth |
//! | `camera` | which detector a place falls on |
//! | `patch` | which objects are followed in a field |
//! | `measure` | fluxes with their noise, detections |
//! | `moving`, `bogus` | asteroids; artefacts and glints |
//! | `look` | all that a visit detects |
//! | `alert`, `scene` | one alert with its history and surroundings |
//!
//! Nothing is remembered: an earlier visit's measurement is made again when a history tells of it, from the same dice. What
//! is dear to make (a night's plan, a field's objects, a visit's detections) is kept in small bounded stores, shared by
//! clones.

mod alert;
mod bogus;
mod cache;
mod cadence;
mod calendar;
mod camera;
mod conditions;
mod instrument;
mod look;
mod measure;
mod moving;
pub mod options;
mod patch;
mod scene;
mod site;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use super::heavens::Sky;
use super::seen::{Seen, SurveyOptions, Visit};
use cache::Cache;
use cadence::{Field, Night};
use calendar::Calendar;
use instrument::Instrument;
use look::Look;
use measure::Exposed;
use moving::Ephemeris;
pub use options::SurveyError;
use patch::{Patch, Shares, is_deep};

/// A survey of a synthetic sky. Cheap to clone; clones, in any thread, give the same alerts.
#[derive(Clone, Debug)]
pub struct Survey {
    inner: Arc<Inner>,
}

/// Objects that the store of fields holds at most: about 20 MB.
const OBJECTS_KEPT: usize = 60_000;
/// Alerts that the store of looks holds at most: about 20 MB.
const ALERTS_KEPT: usize = 50_000;

#[derive(Debug)]
struct Inner {
    options: SurveyOptions,
    instrument: Instrument,
    sky: Sky,
    fields: Vec<Field>,
    calendar: Calendar,
    shares: Shares,
    first_visit: i64,
    nights: Cache<i32, Night>,
    ephemerides: Cache<i32, Ephemeris>,
    patches: Cache<u32, Patch>,
    looks: Cache<i64, Look>,
}

impl Survey {
    /// A survey with these options.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn new(options: &SurveyOptions) -> Result<Self, SurveyError> {
        options.check()?;
        let instrument = Instrument::of(options.telescope);
        let faint = if is_deep(&instrument) { options.faint_objects } else { 0 };
        let sky = Sky::new(options.seed, options.objects, faint);
        let calendar = Calendar::new(&instrument);
        let inner = Inner {
            fields: cadence::fields(&instrument, &sky.tiles, options.seed),
            shares: Shares::new(options.alerts_per_visit),
            first_visit: calendar.first(options.first_night_mjd),
            nights: Cache::new(options.history_days as usize + 8),
            ephemerides: Cache::new(2),
            patches: Cache::new(OBJECTS_KEPT),
            looks: Cache::new(ALERTS_KEPT),
            options: options.clone(),
            instrument,
            sky,
            calendar,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What it was made of.
    #[must_use]
    pub fn options(&self) -> &SurveyOptions {
        &self.inner.options
    }

    /// The number of the stream's first visit.
    #[must_use]
    pub fn first_visit(&self) -> i64 {
        self.inner.first_visit
    }

    /// The visits of some nights, one after another (nights as [`SurveyOptions::first_night_mjd`] counts them).
    #[must_use]
    pub fn visits_of(&self, night_mjd: i32, nights: u32) -> Range<i64> {
        let calendar = &self.inner.calendar;
        calendar.first(night_mjd)..calendar.first(night_mjd.saturating_add_unsigned(nights))
    }

    /// A visit, from 2000 on.
    #[must_use]
    pub fn visit(&self, number: i64) -> Arc<Visit> {
        let (night_mjd, in_night) = self.inner.calendar.night(number);
        self.inner.exposed(&self.inner.night(night_mjd), in_night).visit
    }

    /// Which alert of which visit is alert `number` of the stream.
    #[must_use]
    pub fn place(&self, number: u64) -> (i64, u32) {
        let all = u64::from(self.inner.shares.all);
        (self.inner.first_visit + (number / all) as i64, (number % all) as u32)
    }

    /// Alert `index` of a visit, below [`SurveyOptions::alerts_per_visit`].
    ///
    /// # Panics
    /// When there is no such index.
    #[must_use]
    pub fn seen(&self, visit: i64, index: u32) -> Seen {
        self.inner.look(visit).seen(&self.inner, index as usize)
    }
}

impl Inner {
    fn night(&self, night_mjd: i32) -> Arc<Night> {
        let plan = || Night::plan(&self.instrument, &self.calendar, &self.fields, self.options.seed, night_mjd);
        self.nights.get(night_mjd, plan, |_| 1)
    }

    fn ephemeris(&self, night_mjd: i32) -> Arc<Ephemeris> {
        let middle = f64::from(night_mjd) + 1.0 - self.instrument.site.longitude_deg / 360.0;
        self.ephemerides.get(night_mjd, || Ephemeris::new(&self.sky, self.options.asteroids, middle), |_| 1)
    }

    fn patch(&self, field: u32) -> Arc<Patch> {
        let make = || Patch::new(&self.instrument, &self.sky, &self.fields[field as usize], &self.shares);
        self.patches.get(field, make, Patch::weight)
    }

    fn look(&self, visit: i64) -> Arc<Look> {
        self.looks.get(visit, || Look::new(self, visit), Look::weight)
    }

    fn exposed(&self, night: &Night, in_night: u32) -> Exposed {
        Exposed::new(conditions::visit(&self.instrument, night, &self.fields, self.options.seed, in_night))
    }

    /// The visits to a field before one, within the history that alerts tell of.
    fn past(&self, field: u32, night_mjd: i32, in_night: u32, mjd_tai: f64) -> Vec<Exposed> {
        let days = if self.options.history_visits == 0 { 0 } else { self.options.history_days };
        let mut past = Vec::new();
        if days == 0 {
            return past;
        }
        for earlier in night_mjd.saturating_sub_unsigned(days)..=night_mjd {
            let night = self.night(earlier);
            let before = night.visits_to(field).filter(|visit| earlier < night_mjd || *visit < in_night);
            past.extend(before.map(|visit| self.exposed(&night, visit)));
        }
        past.retain(|exposed| mjd_tai - exposed.visit.mjd_tai <= f64::from(days));
        past
    }
}
