//! One object: where it is, how it shines, what stands around it.

use crate::simulator::dice::Dice;
use crate::simulator::light::{Light, coloured};
use crate::simulator::seen::{Band, Class};

use super::population::Galactic;
use super::tiles::Span;

/// Dice of the sources around an object.
const AROUND: u64 = 0x21;
/// How far around.
pub(crate) const AROUND_ARCSEC: f64 = 30.0;

/// The kinds of numbers: the last two bits.
pub(crate) const LASTING_KIND: u64 = 0;
pub(crate) const TRANSIENT_KIND: u64 = 1;
pub(crate) const SITE_KIND: u64 = 2;
pub(crate) const ONCE_KIND: u64 = 3;

/// An object that stays where it is.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The same wherever it is made again.
    pub(crate) number: u64,
    pub(crate) class: Class,
    pub(crate) ra_deg: f64,
    pub(crate) dec_deg: f64,
    pub(crate) light: Light,
    /// The galaxy that it is in.
    pub(crate) host: Option<Galaxy>,
}

/// A galaxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Galaxy {
    /// Magnitudes in u g r i z y.
    pub(crate) magnitudes: [f64; 6],
    /// Its middle, east and north of the object.
    pub(crate) offset_arcsec: [f64; 2],
    pub(crate) half_light_arcsec: f64,
    /// Sersic index.
    pub(crate) index: f64,
    pub(crate) axis_ratio: f64,
    pub(crate) angle_deg: f64,
}

impl Galaxy {
    /// Which share of its light a PSF of a width finds at its object's place: that of a Gaussian as wide as both.
    pub(crate) fn share(&self, fwhm_arcsec: f64) -> f64 {
        let [east, north] = self.offset_arcsec;
        // Half of a Gaussian's light lies within 1.177 sigma.
        let own = self.half_light_arcsec * self.half_light_arcsec * self.axis_ratio / 1.386;
        let seeing = fwhm_arcsec * fwhm_arcsec / 5.545;
        let both = own + 2.0 * seeing;
        2.0 * seeing / both * libm::exp(-0.5 * (east * east + north * north) / both)
    }

    /// A galaxy of magnitude `r` and so large, at an offset.
    pub(crate) fn draw(r: f64, half_light_arcsec: f64, offset_arcsec: [f64; 2], dice: &mut Dice) -> Self {
        let red = dice.within(0.0, 1.0);
        Self {
            magnitudes: coloured(r, [1.4 + 1.0 * red, 0.4 + 0.4 * red, -0.2 - 0.15 * red, -0.3 - 0.3 * red, -0.35 - 0.4 * red]),
            offset_arcsec,
            half_light_arcsec,
            index: if red > 0.7 { 4.0 } else { 1.0 },
            axis_ratio: dice.within(0.3, 1.0),
            angle_deg: dice.within(0.0, 180.0),
        }
    }
}

/// A place in a tile, even over its area, degrees.
pub(crate) fn place(span: &Span, dice: &mut Dice) -> (f64, f64) {
    let ra = dice.within(span.ra[0], span.ra[1]);
    let sines = span.dec.map(|dec| libm::sin(dec.to_radians()));
    let dec = libm::asin(dice.within(sines[0], sines[1])).to_degrees();
    (ra, dec.clamp(span.dec[0], span.dec[1]))
}

/// The degrees of a place so many arcseconds east and north of another.
pub(crate) fn beside(ra_deg: f64, dec_deg: f64, east_arcsec: f64, north_arcsec: f64) -> (f64, f64) {
    let dec = (dec_deg + north_arcsec / 3600.0).clamp(-90.0, 90.0);
    let ra = ra_deg + east_arcsec / 3600.0 / libm::cos(dec_deg.to_radians()).max(1e-6);
    (ra - 360.0 * (ra / 360.0).floor(), dec)
}

/// A source that has nothing to do with an object, near it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) number: u64,
    pub(crate) east_arcsec: f64,
    pub(crate) north_arcsec: f64,
    pub(crate) magnitudes: [f64; 6],
    /// A galaxy's half-light radius, or a star.
    pub(crate) half_light_arcsec: Option<f64>,
}

/// What stands around the place of an object (by number), down to magnitude `faintest` in r.
pub(crate) fn around(seed: u64, object: u64, ra_deg: f64, dec_deg: f64, faintest: f64) -> Vec<Around> {
    let mut dice = Dice::new(&[seed, AROUND, object]);
    let place = Galactic::of(ra_deg, dec_deg);
    let count = dice.count(place.crowd());
    (0..count)
        .map(|n| {
            let (radius, angle) = (AROUND_ARCSEC * dice.within(0.002, 1.0).sqrt(), dice.within(0.0, std::f64::consts::TAU));
            let r = faintest + libm::log10(dice.within(1e-3, 1.0)) / 0.35;
            let galaxy = dice.within(0.0, 1.0) < 0.25 + 0.25 * (place.latitude_deg.abs() / 90.0);
            let red = dice.within(0.0, 1.0);
            Around {
                number: object << 6 | u64::from(n + 1),
                east_arcsec: radius * libm::cos(angle),
                north_arcsec: radius * libm::sin(angle),
                magnitudes: coloured(r, [1.2 + 1.6 * red, 0.3 + 0.9 * red, -0.1 - 0.8 * red, -0.15 - 1.2 * red, -0.2 - 1.4 * red]),
                half_light_arcsec: galaxy.then(|| dice.within(0.4, 2.0)),
            }
        })
        .collect()
}

impl Object {
    /// What it adds to a template, nJy.
    pub(crate) fn template(&self, band: Band) -> f64 {
        self.light.template(band)
    }

    /// By how much it is brighter than on the template, nJy.
    pub(crate) fn difference(&self, mjd: f64, band: Band) -> f64 {
        self.light.flux(mjd, band) - self.light.template(band)
    }
}
