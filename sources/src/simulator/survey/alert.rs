//! One alert of a look, with its history, surroundings and truth.

use std::sync::Arc;

use super::Inner;
use super::bogus::Artefact;
use super::look::{Look, What};
use super::measure::{Exposed, THRESHOLD, Target, detection, measure};
use super::moving::Passing;
use super::patch::Followed;
use super::scene::Scenery;
use crate::simulator::seen::{Class, Detection, Forced, Past, Seen, Shape, Trail, Truth};

/// What is made of the visits before.
struct History {
    past: Vec<Past>,
    detections: u32,
    first_mjd_tai: f64,
}

impl Look {
    /// Alert `index` of this look.
    pub(crate) fn seen(&self, inner: &Inner, index: usize) -> Seen {
        match self.alerts[index] {
            What::Lasting(at) => self.of_object(inner, &self.patch.lasting[at as usize]),
            What::Transient(at) => self.of_object(inner, &self.transients[at as usize]),
            What::Asteroid(at) => self.of_asteroid(inner, &self.asteroids[at as usize]),
            What::Site(at) => {
                let site = &self.patch.sites[at as usize];
                let failure = |exposed: &Exposed| {
                    let artefact = site.failure(&inner.instrument, inner.options.seed, exposed);
                    (artefact.forced, Some(artefact.detection))
                };
                let history = self.history(inner, site.spot.detector, |exposed| {
                    let fails = site.fails(inner.options.seed, exposed);
                    if fails { failure(exposed) } else { (measure(inner.options.seed, exposed, &site.target()).forced, None) }
                });
                self.of_artefact(inner, &site.failure(&inner.instrument, inner.options.seed, &self.exposed), history)
            }
            What::Once(at) => {
                let artefact = &self.once[at as usize];
                self.of_artefact(inner, artefact, self.nothing_before(inner, &artefact.target))
            }
        }
    }

    fn of_object(&self, inner: &Inner, followed: &Followed) -> Seen {
        let (seed, instrument) = (inner.options.seed, &inner.instrument);
        let (target, measured) = followed.measured(seed, &self.exposed);
        let mut detected = detection(instrument, seed, &self.exposed, &target, followed.slot, &measured);
        let history = self.history(inner, followed.spot.detector, |exposed| {
            let (target, measured) = followed.measured(seed, exposed);
            let mut detected =
                (measured.snr() >= THRESHOLD).then(|| detection(instrument, seed, exposed, &target, followed.slot, &measured));
            if let Some(detected) = &mut detected {
                extend(followed, detected);
            }
            (measured.forced, detected)
        });
        extend(followed, &mut detected);
        let object = &followed.object;
        let mut parameters = object.light.parameters();
        if let Some(host) = &object.host {
            parameters.push(("host_r_mag", host.magnitudes[2]));
            let [east, north] = host.offset_arcsec;
            parameters.push(("host_offset_arcsec", (east * east + north * north).sqrt()));
        }
        let scenery = Scenery { object: Some(object), ..Scenery::of(target, object.number) };
        self.alert(inner, object.class, scenery, (detected, measured.forced), history, parameters)
    }

    fn of_asteroid(&self, inner: &Inner, passing: &Passing) -> Seen {
        let target = passing.target(&self.exposed);
        let measured = measure(inner.options.seed, &self.exposed, &target);
        let mut detected = detection(&inner.instrument, inner.options.seed, &self.exposed, &target, passing.slot, &measured);
        let (length_arcsec, angle_deg) = passing.trail(&self.exposed.visit);
        let mut shape = Shape::Point;
        if length_arcsec > 0.3 * self.exposed.visit.seeing_fwhm_arcsec {
            shape = Shape::Trail { length_arcsec, angle_deg };
            let stretch = length_arcsec / self.exposed.visit.seeing_fwhm_arcsec;
            detected.elongation *= (1.0 + stretch * stretch).sqrt();
            detected.trail = (stretch > 0.7).then_some(Trail { flux_njy: detected.difference_njy, length_arcsec, angle_deg });
        }
        let orbit = passing.asteroid.orbit;
        let parameters = vec![
            ("number", f64::from(passing.asteroid.index + 1)),
            ("absolute_mag", orbit.absolute_mag),
            ("semi_major_axis_au", orbit.perihelion_au / (1.0 - orbit.eccentricity)),
            ("eccentricity", orbit.eccentricity),
            ("inclination_deg", orbit.inclination_deg),
            ("rate_ra_deg_day", passing.seen.rate_ra_deg_day),
            ("rate_dec_deg_day", passing.seen.rate_dec_deg_day),
        ];
        let moving = passing.expected(detected.ra_deg, detected.dec_deg);
        let history = self.nothing_before(inner, &target);
        let scenery = Scenery { shape, ..Scenery::of(target, target.number) };
        let seen = self.alert(inner, Class::Asteroid, scenery, (detected, measured.forced), history, parameters);
        Seen { moving: Some(moving), ..seen }
    }

    fn of_artefact(&self, inner: &Inner, artefact: &Artefact, history: History) -> Seen {
        let scenery =
            Scenery { shape: artefact.shape, shift_arcsec: artefact.shift_arcsec, ..Scenery::of(artefact.target, artefact.number) };
        let measured = (artefact.detection.clone(), artefact.forced);
        self.alert(inner, artefact.class, scenery, measured, history, Vec::new())
    }

    fn alert(
        &self,
        inner: &Inner,
        class: Class,
        scenery: Scenery<'_>,
        (detection, forced): (Detection, Forced),
        history: History,
        parameters: Vec<(&'static str, f64)>,
    ) -> Seen {
        let target = scenery.target;
        let (neighbours, scene) = scenery.around(inner, &self.exposed, &detection);
        let truth = Truth { ra_deg: target.ra_deg, dec_deg: target.dec_deg, difference_njy: target.difference_njy, parameters };
        Seen {
            object: target.number,
            class,
            visit: Arc::clone(&self.exposed.visit),
            detection,
            forced,
            detections: history.detections + 1,
            visits: self.past.len() as u32 + 1,
            first_mjd_tai: history.first_mjd_tai.min(self.exposed.visit.mjd_tai),
            history: history.past,
            neighbours,
            moving: None,
            scene,
            truth,
        }
    }

    /// The history of a place where nothing was before.
    fn nothing_before(&self, inner: &Inner, target: &Target) -> History {
        let nothing = Target { difference_njy: 0.0, ..*target };
        self.history(inner, target.spot.detector, |exposed| (measure(inner.options.seed, exposed, &nothing).forced, None))
    }

    fn history(&self, inner: &Inner, detector: u16, look: impl Fn(&Exposed) -> (Forced, Option<Detection>)) -> History {
        let told = self.past.len().saturating_sub(inner.options.history_visits as usize);
        let mut history = History { past: Vec::with_capacity(self.past.len() - told), detections: 0, first_mjd_tai: f64::MAX };
        for (exposed, at) in self.past.iter().zip(0..) {
            let (forced, detection) = look(exposed);
            if let Some(found) = &detection {
                history.detections += 1;
                history.first_mjd_tai = history.first_mjd_tai.min(exposed.visit.mjd_tai);
                debug_assert!(found.snr >= THRESHOLD);
            }
            if at >= told {
                // All of a field's visits point alike, so a place falls on the same detector.
                history.past.push(Past { visit: Arc::clone(&exposed.visit), detector, detection, forced });
            }
        }
        history
    }
}

/// A galaxy's nucleus, or what is in a galaxy, looks more extended than a star.
fn extend(followed: &Followed, detected: &mut Detection) {
    if followed.object.host.is_some() {
        detected.extendedness = (detected.extendedness + 0.1).min(1.0);
    }
}
