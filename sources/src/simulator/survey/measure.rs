//! What an exposure measures of a light: fluxes with their noise, and, beyond five sigma, a detection.
//!
//! Noise of the sky from the depth (five sigma of a point), of the light itself by Ivezic et al. 2019, ApJ 873, 111, eq. 5
//! (gamma 0.039), and 0.2 % of what is subtracted, as no template is perfect.

use std::sync::Arc;

use super::camera::Spot;
use super::instrument::Instrument;
use super::patch::SLOT_BITS;
use crate::simulator::dice::Dice;
use crate::simulator::heavens::object::beside;
use crate::simulator::light::njy;
use crate::simulator::seen::{Detection, Forced, Visit};

/// Dice of a measurement.
const MEASURE: u64 = 0x91;
const TEMPLATE: u64 = 0x92;
/// Signal over noise of a detection.
pub(crate) const THRESHOLD: f64 = 5.0;

/// A visit with its noise.
#[derive(Clone, Debug)]
pub(crate) struct Exposed {
    pub(crate) visit: Arc<Visit>,
    /// Flux of a point at five sigma, nJy.
    pub(crate) five_njy: f64,
}

impl Exposed {
    pub(crate) fn new(visit: Visit) -> Self {
        Self { five_njy: njy(visit.depth_mag), visit: Arc::new(visit) }
    }

    /// One sigma of a point's flux by the sky, nJy.
    pub(crate) fn background_njy(&self) -> f64 {
        self.five_njy / THRESHOLD
    }

    /// The number of the alert of a slot.
    pub(crate) fn alert(&self, slot: u32) -> u64 {
        (self.visit.number as u64) << SLOT_BITS | u64::from(slot)
    }

    /// One sigma of a flux on the difference, nJy, where science and template have so much.
    pub(crate) fn difference_error(&self, science: f64, template: f64) -> f64 {
        let sky = self.background_njy();
        let share = 1.0 + 1.0 / f64::from(self.visit.template_visits);
        (0.975 * sky * sky + 0.001 * self.five_njy * (science.max(0.0) * share) + 4e-6 * template * template).sqrt()
    }
}

/// A light at a place, as it truly is at a visit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The object's number.
    pub(crate) number: u64,
    pub(crate) ra_deg: f64,
    pub(crate) dec_deg: f64,
    pub(crate) spot: Spot,
    /// nJy.
    pub(crate) difference_njy: f64,
    /// What a PSF finds of the template there, nJy.
    pub(crate) template_njy: f64,
}

/// What a forced measurement says, and the dice for what else is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) forced: Forced,
    pub(crate) dice: Dice,
}

impl Measured {
    pub(crate) fn snr(&self) -> f64 {
        self.forced.difference_njy.abs() / self.forced.difference_error_njy
    }
}

/// Measures the flux at a place, as much as forced photometry does. A pure function of seed, visit and object.
pub(crate) fn measure(seed: u64, exposed: &Exposed, target: &Target) -> Measured {
    let mut dice = Dice::new(&[seed, MEASURE, exposed.visit.number as u64, target.number]);
    let science = (target.template_njy + target.difference_njy).max(0.0);
    let difference_error_njy = exposed.difference_error(science, target.template_njy);
    let sky = exposed.background_njy();
    let science_error_njy = (0.94 * sky * sky + 0.001 * exposed.five_njy * science + 4e-6 * science * science).sqrt();
    let difference_njy = target.difference_njy + difference_error_njy * dice.gauss();
    let science_njy = science + science_error_njy * dice.gauss();
    Measured { forced: Forced { difference_njy, difference_error_njy, science_njy, science_error_njy }, dice }
}

/// The detection of a light that was measured, as real things look: a point where it is.
pub(crate) fn detection(
    instrument: &Instrument,
    seed: u64,
    exposed: &Exposed,
    target: &Target,
    slot: u32,
    measured: &Measured,
) -> Detection {
    let (visit, forced) = (&exposed.visit, &measured.forced);
    let mut dice = measured.dice;
    let dice = &mut dice;
    let snr = measured.snr();
    // King 1983, PASP 95, 163: centring is as good as width over signal.
    let centring = 0.6 * visit.seeing_fwhm_arcsec / snr;
    let error = (centring * centring + instrument.place_error_arcsec * instrument.place_error_arcsec).sqrt();
    let (east, north) = (error * dice.gauss(), error * dice.gauss());
    let (ra_deg, dec_deg) = beside(target.ra_deg, target.dec_deg, east, north);
    let template_error_njy = exposed.background_njy() / f64::from(visit.template_visits).sqrt();
    let template = Dice::new(&[seed, TEMPLATE, visit.band as u64, target.number]).gauss();
    let aperture_error_njy = 1.4 * forced.difference_error_njy;
    let doubt = 0.35 * libm::exp(-(snr - THRESHOLD) / 4.0);
    Detection {
        alert: exposed.alert(slot),
        ra_deg,
        dec_deg,
        position_error_arcsec: error,
        detector: target.spot.detector,
        x: target.spot.x - east / instrument.pixel_arcsec,
        y: target.spot.y + north / instrument.pixel_arcsec,
        difference_njy: forced.difference_njy,
        difference_error_njy: forced.difference_error_njy,
        aperture_njy: forced.difference_njy + forced.difference_error_njy * dice.gauss(),
        aperture_error_njy,
        science_njy: forced.science_njy,
        science_error_njy: forced.science_error_njy,
        template_njy: target.template_njy + template_error_njy * template,
        template_error_njy,
        snr,
        real_bogus: (0.98 - doubt * dice.within(0.2, 1.6) - 0.06 * dice.within(0.0, 1.0)).clamp(0.02, 0.999),
        fwhm_pixels: visit.seeing_fwhm_arcsec / instrument.pixel_arcsec * (1.0 + (0.04 + 0.3 / snr) * dice.gauss()).max(0.5),
        elongation: 1.03 + (0.06 + 0.4 / snr) * dice.gauss().abs(),
        angle_deg: dice.within(-90.0, 90.0),
        extendedness: (0.08 * dice.gauss().abs()).min(1.0),
        negative_pixels: dice.below(if snr < 10.0 { 8 } else { 4 }) as u32,
        bad_pixels: u32::from(dice.below(50) == 0),
        dipole: None,
        trail: None,
        cosmic_ray_flag: false,
    }
}
