//! What stands around an alert: the catalogue's neighbours, and the scene for its cutouts.

use super::Inner;
use super::measure::{Exposed, Target};
use super::site::separation_deg;
use crate::simulator::dice::Dice;
use crate::simulator::heavens::Object;
use crate::simulator::heavens::object::{AROUND_ARCSEC, around, beside};
use crate::simulator::light::{magnitude, njy};
use crate::simulator::seen::{Band, Class, Detection, Image, Neighbour, Scene, Shape, Source, Telescope};

/// Dice of a scene's noise.
const NOISE: u64 = 0xc1;

/// What an alert is about, as its surroundings depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenery<'a> {
    pub(crate) target: Target,
    /// What the surroundings are drawn from.
    pub(crate) number: u64,
    /// The object, if it is one that stays.
    pub(crate) object: Option<&'a Object>,
    pub(crate) shape: Shape,
    pub(crate) shift_arcsec: [f64; 2],
}

impl Scenery<'_> {
    /// A point that is well aligned.
    pub(crate) fn of(target: Target, number: u64) -> Self {
        Self { target, number, object: None, shape: Shape::Point, shift_arcsec: [0.0; 2] }
    }

    /// The neighbours, nearest first, and the scene.
    pub(crate) fn around(&self, inner: &Inner, exposed: &Exposed, detection: &Detection) -> (Vec<Neighbour>, Scene) {
        let (visit, target) = (&exposed.visit, &self.target);
        let band = visit.band as usize;
        let faintest = if inner.instrument.telescope == Telescope::Ztf { 22.0 } else { 25.5 };
        let others = around(inner.options.seed, self.number, target.ra_deg, target.dec_deg, faintest);
        let host = self.object.and_then(|object| object.host);

        let mut neighbours = Vec::with_capacity(others.len() + 2);
        let mut sources = Vec::with_capacity(others.len() + 2);
        let mut add = |number: u64, [east, north]: [f64; 2], magnitudes: [f64; 6], star_score: f64| {
            let (ra_deg, dec_deg) = beside(target.ra_deg, target.dec_deg, east, north);
            let distance_arcsec = 3600.0 * separation_deg(ra_deg, dec_deg, detection.ra_deg, detection.dec_deg);
            if distance_arcsec < AROUND_ARCSEC {
                neighbours.push(Neighbour { number, distance_arcsec, ra_deg, dec_deg, magnitudes, star_score });
            }
        };
        let nucleus = host.map_or(0.0, |host| njy(host.magnitudes[band]) * host.share(visit.seeing_fwhm_arcsec));
        let own = (target.template_njy - nucleus).max(0.0);
        let [own_number, host_number] = [0, 63].map(|last| self.number << 6 | last);
        if own > 0.0 {
            let (magnitudes, score) = match self.object {
                Some(object) if object.class == Class::Agn => (Band::ALL.map(|band| magnitude(object.template(band))), 0.6),
                Some(object) => (Band::ALL.map(|band| magnitude(object.template(band))), 0.97),
                None => ([magnitude(own); 6], 0.99),
            };
            add(own_number, [0.0, 0.0], magnitudes, score);
        }
        if let Some(host) = host.filter(|_| own == 0.0) {
            add(host_number, host.offset_arcsec, host.magnitudes, 0.03);
        }
        for other in &others {
            let score = if other.half_light_arcsec.is_some() { 0.05 } else { 0.95 };
            add(other.number, [other.east_arcsec, other.north_arcsec], other.magnitudes, score);
        }
        neighbours.sort_by(|a, b| a.distance_arcsec.total_cmp(&b.distance_arcsec).then(a.number.cmp(&b.number)));
        neighbours.truncate(3);

        sources.push(Source {
            shape: self.shape,
            east_arcsec: 0.0,
            north_arcsec: 0.0,
            science_njy: (own + target.difference_njy).max(0.0),
            template_njy: own.max(-target.difference_njy),
            shift_arcsec: self.shift_arcsec,
        });
        let still = |shape, [east_arcsec, north_arcsec]: [f64; 2], njy| Source {
            shape,
            east_arcsec,
            north_arcsec,
            science_njy: njy,
            template_njy: njy,
            shift_arcsec: [0.0; 2],
        };
        if let Some(host) = host {
            let shape = Shape::Galaxy {
                half_light_arcsec: host.half_light_arcsec,
                index: host.index,
                axis_ratio: host.axis_ratio,
                angle_deg: host.angle_deg,
            };
            sources.push(still(shape, host.offset_arcsec, njy(host.magnitudes[band])));
        }
        for other in &others {
            let shape = other.half_light_arcsec.map_or(Shape::Point, |half_light_arcsec| Shape::Galaxy {
                half_light_arcsec,
                index: 1.0,
                axis_ratio: 0.7,
                angle_deg: 45.0,
            });
            sources.push(still(shape, [other.east_arcsec, other.north_arcsec], njy(other.magnitudes[band])));
        }
        sources.sort_by(|a, b| b.science_njy.total_cmp(&a.science_njy).then(a.east_arcsec.total_cmp(&b.east_arcsec)));
        (neighbours, self.ground(inner, exposed, sources))
    }

    /// The scene of these sources.
    fn ground(&self, inner: &Inner, exposed: &Exposed, sources: Vec<Source>) -> Scene {
        let (visit, pixel_arcsec) = (&exposed.visit, inner.instrument.pixel_arcsec);
        let spot = &self.target.spot;
        // The noise of a point's flux is that of its effective area, 4 pi sigma^2 of pixels.
        let noise = |njy: f64, fwhm: f64| njy / (3.545 * fwhm / 2.3548 / pixel_arcsec);
        let images = f64::from(visit.template_visits);
        let science = exposed.background_njy() * (images / (images + 1.0)).sqrt();
        let image = |sky_mag: f64, noise_njy: f64, fwhm_arcsec: f64| Image {
            sky_njy: njy(sky_mag) * pixel_arcsec * pixel_arcsec,
            noise_njy,
            fwhm_arcsec,
            zero_point_mag: visit.zero_point_mag,
        };
        let seeing = visit.seeing_fwhm_arcsec;
        Scene {
            noise_seed: Dice::new(&[inner.options.seed, NOISE, visit.number as u64, self.target.number]).bits(),
            pixel_arcsec,
            middle_arcsec: [-((spot.x + 0.5).floor() - spot.x) * pixel_arcsec, ((spot.y + 0.5).floor() - spot.y) * pixel_arcsec],
            science: image(visit.sky_mag_arcsec2, noise(science, seeing), seeing),
            template: image(
                inner.instrument.dark_sky[visit.band as usize],
                noise(science, seeing) / images.sqrt(),
                inner.instrument.seeing_arcsec,
            ),
            sources,
        }
    }
}
