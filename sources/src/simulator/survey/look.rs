//! A look at the sky: all that one visit detects, in the order in which it is sent.

use std::sync::Arc;

use super::Inner;
use super::bogus::{Artefact, once};
use super::measure::{Exposed, Measured, THRESHOLD, Target, measure};
use super::moving::{Passing, passing};
use super::patch::{ASTEROID_SLOTS, Followed, Patch, shining};
use crate::simulator::dice::Dice;

/// Dice of the order of a visit's alerts.
const ORDER: u64 = 0xb1;

/// What an alert of a visit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A lasting object, by its place in the field.
    Lasting(u32),
    /// A transient, by its place in the look.
    Transient(u32),
    /// An asteroid, by its place in the look.
    Asteroid(u32),
    /// A star that was subtracted badly, by its place in the field.
    Site(u32),
    /// What was seen once, by its place in the look.
    Once(u32),
}

/// All that one visit detects.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) exposed: Exposed,
    /// Earlier visits to the field, within the history that alerts tell of.
    pub(crate) past: Vec<Exposed>,
    pub(crate) patch: Arc<Patch>,
    pub(crate) transients: Vec<Followed>,
    pub(crate) asteroids: Vec<Passing>,
    pub(crate) once: Vec<Artefact>,
    /// The alerts in their order: as many as are asked for.
    pub(crate) alerts: Vec<What>,
}

impl Followed {
    /// The object as it truly is at a visit.
    pub(crate) fn target(&self, exposed: &Exposed) -> Target {
        let (visit, object) = (&exposed.visit, &self.object);
        let band = visit.band;
        let host = object
            .host
            .as_ref()
            .map_or(0.0, |host| crate::simulator::light::njy(host.magnitudes[band as usize]) * host.share(visit.seeing_fwhm_arcsec));
        Target {
            number: object.number,
            ra_deg: object.ra_deg,
            dec_deg: object.dec_deg,
            spot: self.spot,
            difference_njy: object.difference(visit.mjd_tai, band),
            template_njy: object.template(band) + host,
        }
    }

    /// What is measured at a visit.
    pub(crate) fn measured(&self, seed: u64, exposed: &Exposed) -> (Target, Measured) {
        let target = self.target(exposed);
        (target, measure(seed, exposed, &target))
    }
}

impl Look {
    pub(crate) fn new(inner: &Inner, number: i64) -> Self {
        let seed = inner.options.seed;
        let (night_mjd, in_night) = inner.calendar.night(number);
        let night = inner.night(night_mjd);
        let field_index = night.visits[in_night as usize].0;
        let field = &inner.fields[field_index as usize];
        let exposed = inner.exposed(&night, in_night);
        let patch = inner.patch(field_index);
        let transients = shining(&inner.instrument, &inner.sky, field, &inner.shares, exposed.visit.mjd_tai);
        let ephemeris = inner.ephemeris(night_mjd);
        let most = inner.shares.asteroids;
        let asteroids = passing(&inner.instrument, &inner.sky, &ephemeris, &exposed.visit, most, ASTEROID_SLOTS);

        let mut found: Vec<(u16, u64, What)> = Vec::new();
        let order = |slot: u32| Dice::new(&[seed, ORDER, exposed.alert(slot)]).bits();
        for (followed, at) in patch.lasting.iter().zip(0..) {
            if followed.measured(seed, &exposed).1.snr() >= THRESHOLD {
                found.push((followed.spot.detector, order(followed.slot), What::Lasting(at)));
            }
        }
        for (followed, at) in transients.iter().zip(0..) {
            if followed.measured(seed, &exposed).1.snr() >= THRESHOLD {
                found.push((followed.spot.detector, order(followed.slot), What::Transient(at)));
            }
        }
        for (asteroid, at) in asteroids.iter().zip(0..) {
            let target = asteroid.target(&exposed);
            if measure(seed, &exposed, &target).snr() >= THRESHOLD {
                found.push((target.spot.detector, order(asteroid.slot), What::Asteroid(at)));
            }
        }
        for (site, at) in patch.sites.iter().zip(0..) {
            if site.fails(seed, &exposed) {
                found.push((site.spot.detector, order(site.slot), What::Site(at)));
            }
        }
        // Never in practice: see `Patch::new`.
        found.truncate(inner.shares.all as usize);
        let rest = inner.shares.all - found.len() as u32;
        let once: Vec<Artefact> = (0..rest).map(|index| once(&inner.instrument, seed, &exposed, &inner.shares, index)).collect();
        for (artefact, at) in once.iter().zip(0..) {
            found.push((artefact.target.spot.detector, order(u32::MAX - at), What::Once(at)));
        }
        // Detector by detector, as a pipeline sends them.
        found.sort_unstable();
        let alerts = found.into_iter().map(|(.., what)| what).collect();
        let past = inner.past(field_index, night_mjd, in_night, exposed.visit.mjd_tai);
        Self { exposed, past, patch, transients, asteroids, once, alerts }
    }

    /// How much memory it takes, in alerts.
    pub(crate) fn weight(&self) -> usize {
        self.alerts.len() + self.transients.len() + self.past.len()
    }
}
