//! What is not from the sky beyond: bright stars that are subtracted badly at the same place again and again, the same
//! once, cosmic rays; and satellites' glints, which are real light but seen once.
//!
//! Scores of bogus detections are low as those of trained classifiers are (Duev et al. 2019, MNRAS 489, 3582), with a tail that
//! is not; cosmic rays are sharper than stars, bad subtractions dipoles, glints points or short streaks (Corbett et al. 2020,
//! ApJ 903, L27).

use super::cadence::Field;
use super::camera::Spot;
use super::instrument::Instrument;
use super::measure::{Exposed, Measured, THRESHOLD, Target, detection};
use super::patch::{BOGUS_SLOTS, Shares, tiles};
use crate::simulator::dice::Dice;
use crate::simulator::heavens::Sky;
use crate::simulator::heavens::object::{ONCE_KIND, SITE_KIND, place};
use crate::simulator::light::njy;
use crate::simulator::seen::{Class, Detection, Dipole, Forced, Shape, Telescope, Trail};

/// Dice of a place of bad subtractions, of its failures, of what is seen once.
const SITE: u64 = 0xa1;
const FAILURE: u64 = 0xa2;
const ONCE: u64 = 0xa3;
/// In what share of visits a star is subtracted badly.
const FAILING: f64 = 0.3;

/// A bright star that is often subtracted badly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) number: u64,
    pub(crate) ra_deg: f64,
    pub(crate) dec_deg: f64,
    pub(crate) spot: Spot,
    /// The same in all bands.
    pub(crate) magnitude: f64,
    pub(crate) slot: u32,
}

/// The bright stars of a field that are often subtracted badly.
pub(crate) fn sites(instrument: &Instrument, sky: &Sky, field: &Field, shares: &Shares) -> Vec<Site> {
    let tiles = tiles(instrument, field);
    (0..shares.sites)
        .filter_map(|index| {
            let mut dice = Dice::new(&[sky.seed, SITE, u64::from(field.patch), u64::from(index), instrument.telescope as u64]);
            let (ra_deg, dec_deg, spot) = (0..20).find_map(|_| {
                let tile = tiles.start + dice.below(u64::from(tiles.end - tiles.start)) as u32;
                let (ra, dec) = place(&sky.tiles.tile(tile), &mut dice);
                instrument.spot((field.ra_deg, field.dec_deg), ra, dec).map(|spot| (ra, dec, spot))
            })?;
            let brightest = if instrument.telescope == Telescope::Ztf { 12.0 } else { 16.0 };
            Some(Site {
                number: (u64::from(field.patch) * 8192 + u64::from(index)) << 2 | SITE_KIND,
                ra_deg,
                dec_deg,
                spot,
                magnitude: brightest + 3.0 * dice.within(0.0, 1.0).sqrt(),
                slot: BOGUS_SLOTS + index,
            })
        })
        .collect()
}

/// An artefact, or a glint: what is detected and how it looks.
#[derive(Clone, Debug)]
pub(crate) struct Artefact {
    pub(crate) number: u64,
    pub(crate) class: Class,
    pub(crate) target: Target,
    pub(crate) detection: Detection,
    pub(crate) forced: Forced,
    /// By how much the star is not aligned, arcseconds east and north.
    pub(crate) shift_arcsec: [f64; 2],
    pub(crate) shape: Shape,
}

/// In which exposure something is detected, and which of its alerts it is.
#[derive(Clone, Copy, Debug)]
struct Scope<'a> {
    instrument: &'a Instrument,
    seed: u64,
    exposed: &'a Exposed,
    slot: u32,
}

impl Site {
    /// Whether it fails at a visit.
    pub(crate) fn fails(&self, seed: u64, exposed: &Exposed) -> bool {
        self.dice(seed, exposed).within(0.0, 1.0) < FAILING
    }

    fn dice(&self, seed: u64, exposed: &Exposed) -> Dice {
        Dice::new(&[seed, FAILURE, exposed.visit.number as u64, self.number])
    }

    /// The star, were it subtracted well.
    pub(crate) fn target(&self) -> Target {
        let Self { number, ra_deg, dec_deg, spot, magnitude, .. } = *self;
        Target { number, ra_deg, dec_deg, spot, difference_njy: 0.0, template_njy: njy(magnitude) }
    }

    /// What is detected at a visit at which it fails.
    pub(crate) fn failure(&self, instrument: &Instrument, seed: u64, exposed: &Exposed) -> Artefact {
        let mut dice = self.dice(seed, exposed);
        dice.bits();
        bad_subtraction(Scope { instrument, seed, exposed, slot: self.slot }, self.target(), &mut dice)
    }
}

/// What is seen at a visit only, in the `index`th slot after the sites'.
pub(crate) fn once(instrument: &Instrument, seed: u64, exposed: &Exposed, shares: &Shares, index: u32) -> Artefact {
    let slot = BOGUS_SLOTS + shares.sites + index;
    let number = exposed.alert(slot) << 2 | ONCE_KIND;
    let mut dice = Dice::new(&[seed, ONCE, number]);
    let dice = &mut dice;
    let pointing = (exposed.visit.ra_deg, exposed.visit.dec_deg);
    let at = (0..50).find_map(|_| instrument.place(pointing, dice.within(0.0, 1.0), dice.within(0.0, 1.0)));
    let (ra_deg, dec_deg, spot) = at.unwrap_or((pointing.0, pointing.1, Spot { detector: 0, x: 100.0, y: 100.0 }));
    let mut target = Target { number, ra_deg, dec_deg, spot, difference_njy: 0.0, template_njy: 0.0 };
    let scope = Scope { instrument, seed, exposed, slot };
    match dice.below(100) {
        0..4 => glint(scope, target, dice),
        4..55 => cosmic_ray(scope, target, dice),
        _ => {
            target.template_njy = exposed.five_njy * libm::exp10(dice.within(0.8, 2.6));
            bad_subtraction(scope, target, dice)
        }
    }
}

/// What is detected of a light that stands `sigmas` out of the noise, whose own noise is already in it.
fn artefact(scope: Scope<'_>, mut target: Target, sigmas: f64, dice: &mut Dice) -> (Target, Forced, Detection) {
    let Scope { instrument, seed, exposed, slot } = scope;
    let first = exposed.difference_error(target.template_njy, target.template_njy) * sigmas;
    let difference_error_njy = exposed.difference_error(target.template_njy + first, target.template_njy);
    target.difference_njy = difference_error_njy * sigmas;
    let science_error_njy = difference_error_njy * 0.97;
    let forced = Forced {
        difference_njy: target.difference_njy,
        difference_error_njy,
        science_njy: target.template_njy + target.difference_njy + science_error_njy * dice.gauss(),
        science_error_njy,
    };
    let measured = Measured { forced, dice: Dice::new(&[dice.bits()]) };
    (target, forced, detection(instrument, seed, exposed, &target, slot, &measured))
}

fn bogus_score(dice: &mut Dice) -> f64 {
    (0.55 * libm::pow(dice.within(0.0, 1.0), 1.8) + 0.3 * libm::pow(dice.within(0.0, 1.0), 12.0)).clamp(0.001, 0.95)
}

fn bad_subtraction(scope: Scope<'_>, target: Target, dice: &mut Dice) -> Artefact {
    let sign = if dice.below(2) == 0 { 1.0 } else { -1.0 };
    // What a bad fit of the PSF leaves is a small part of the star; deep ones are fainter than the star itself.
    let Scope { instrument, exposed, .. } = scope;
    let noise = exposed.difference_error(target.template_njy, target.template_njy);
    let most = (0.3 * target.template_njy / noise).clamp(THRESHOLD + 1.5, 60.0);
    let sigmas = (THRESHOLD + 0.3 + 3.0 * -libm::log(dice.within(1e-6, 1.0))).min(most);
    let (target, forced, mut detection) = artefact(scope, target, sign * sigmas, dice);
    let (length, angle) = (instrument.pixel_arcsec * dice.within(0.08, 0.4), dice.within(0.0, 360.0));
    let (east, north) = libm::sincos(angle.to_radians());
    let fwhm = exposed.visit.seeing_fwhm_arcsec;
    // The lobes of a point shifted by a small part of its width.
    let mean_njy = 0.66 * target.template_njy * length / fwhm;
    detection.real_bogus = bogus_score(dice);
    detection.fwhm_pixels *= dice.within(0.7, 1.6);
    detection.elongation += dice.within(0.1, 1.0);
    detection.negative_pixels = 4 + dice.below(14) as u32;
    detection.extendedness = dice.within(0.0, 1.0);
    let dipole = Dipole { mean_njy, difference_njy: forced.difference_njy, length_arcsec: 0.8 * fwhm, angle_deg: angle };
    detection.dipole = (mean_njy > forced.difference_njy.abs()).then_some(dipole);
    let shift_arcsec = [length * east, length * north];
    Artefact { number: target.number, class: Class::BadSubtraction, target, detection, forced, shift_arcsec, shape: Shape::Point }
}

fn cosmic_ray(scope: Scope<'_>, target: Target, dice: &mut Dice) -> Artefact {
    let sigmas = THRESHOLD + 0.3 + 12.0 * -libm::log(dice.within(1e-4, 1.0));
    let (target, forced, mut detection) = artefact(scope, target, sigmas, dice);
    let (length_pixels, angle_deg) = (1.0 + 2.0 * -libm::log(dice.within(1e-3, 1.0)), dice.within(0.0, 180.0));
    detection.real_bogus = bogus_score(dice);
    detection.fwhm_pixels = dice.within(0.9, 1.6);
    detection.elongation = (length_pixels / 1.1).max(1.1);
    detection.angle_deg = angle_deg - 90.0;
    detection.negative_pixels = dice.below(6) as u32;
    detection.bad_pixels = u32::from(dice.below(4) == 0);
    detection.cosmic_ray_flag = dice.below(5) == 0;
    let shape = Shape::CosmicRay { length_pixels, angle_deg };
    Artefact { number: target.number, class: Class::CosmicRay, target, detection, forced, shift_arcsec: [0.0; 2], shape }
}

fn glint(scope: Scope<'_>, target: Target, dice: &mut Dice) -> Artefact {
    let sigmas = 8.0 + 40.0 * -libm::log(dice.within(1e-4, 1.0));
    let (mut target, forced, mut detection) = artefact(scope, target, sigmas, dice);
    let streak = dice.below(2) == 0;
    let seeing = scope.exposed.visit.seeing_fwhm_arcsec;
    let shape = if streak {
        let (length_arcsec, angle_deg) = (dice.within(2.0, 25.0) * seeing, dice.within(0.0, 180.0));
        // A point's profile fitted to the middle of a long line finds as much light as a stretch of 2 sqrt(pi) sigma holds.
        let stretches = length_arcsec / (1.505 * seeing);
        target.difference_njy *= (1.0 + stretches * stretches).sqrt();
        detection.trail = Some(Trail { flux_njy: target.difference_njy, length_arcsec, angle_deg });
        detection.elongation = length_arcsec / seeing;
        detection.extendedness = 1.0;
        Shape::Trail { length_arcsec, angle_deg }
    } else {
        Shape::Point
    };
    Artefact { number: target.number, class: Class::SatelliteGlint, target, detection, forced, shift_arcsec: [0.0; 2], shape }
}
