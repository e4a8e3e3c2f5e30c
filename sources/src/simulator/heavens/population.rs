//! How many of each class a tile holds: by galactic latitude and longitude, in sum as many as asked for.
//!
//! Stars crowd to the galactic plane with the e-folding latitudes of their populations seen from here (young Cepheids
//! closest, nearby M dwarfs nearly all over) and to the bulge; RR Lyrae fill halo and bulge; galaxies are everywhere but
//! behind the dust, which dims by about 0.1 mag over the sine of the latitude in r. These are shapes for a sky that looks
//! right, not a model of the Galaxy.

use super::tiles::Tiles;
use crate::simulator::dice::Dice;
use crate::simulator::seen::Class;

/// Dice of the number of objects in a tile.
const COUNT: u64 = 0x11;

/// The lasting classes, and their shares of the bright and of the faint objects.
pub(crate) const LASTING: [(Class, [f64; 2]); 7] = [
    (Class::RrLyrae, [0.16, 0.04]),
    (Class::Cepheid, [0.04, 0.0]),
    (Class::EclipsingBinary, [0.23, 0.26]),
    (Class::Mira, [0.07, 0.0]),
    (Class::Agn, [0.32, 0.55]),
    (Class::CataclysmicVariable, [0.07, 0.05]),
    (Class::FlareStar, [0.11, 0.10]),
];

/// What shines once: how many a year begin on the whole sky in a sky of 1,000,000 bright objects, and in one of
/// 200,000,000 faint. Kilonovae are a thousand times too many, that there be some.
pub(crate) const TRANSIENT: [(Class, [f64; 2]); 6] = [
    (Class::SupernovaIa, [6_000.0, 900_000.0]),
    (Class::SupernovaIbc, [1_000.0, 150_000.0]),
    (Class::SupernovaII, [3_500.0, 450_000.0]),
    (Class::Kilonova, [100.0, 3_000.0]),
    (Class::TidalDisruption, [150.0, 15_000.0]),
    (Class::Microlensing, [2_500.0, 30_000.0]),
];

/// Bright objects, which every survey looks at, and faint ones, which only a deep survey does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Bright,
    Faint,
}

/// At most so many lasting objects are in a tile: what its numbers have room for.
pub(crate) const TILE_OBJECTS: u32 = 1 << 17;

/// The sky: how its objects are spread. What they are is drawn when a tile is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Sky {
    pub(crate) seed: u64,
    pub(crate) tiles: Tiles,
    /// Lasting objects for each unit of profile and square degree.
    lasting: [[f64; 2]; LASTING.len()],
    /// Transients a day for each unit of profile and square degree.
    transient: [[f64; 2]; TRANSIENT.len()],
}

impl Sky {
    /// A sky of about so many bright and faint lasting objects.
    pub(crate) fn new(seed: u64, bright: u32, faint: u32) -> Self {
        let tiles = Tiles::new();
        let mut sums = [0.0; Class::ALL.len()];
        for tile in 0..tiles.tiles() {
            let (span, place) = (tiles.tile(tile), Galactic::of_tile(&tiles, tile));
            for class in LASTING.iter().map(|lasting| lasting.0).chain(TRANSIENT.iter().map(|transient| transient.0)) {
                sums[class as usize] += span.area() * place.profile(class);
            }
        }
        let counts = [f64::from(bright), f64::from(faint)];
        let lasting = LASTING.map(|(class, shares)| [0, 1].map(|layer| counts[layer] * shares[layer] / sums[class as usize]));
        let scales = [counts[0] / 1e6, counts[1] / 2e8];
        let transient = TRANSIENT.map(|(class, yearly)| [0, 1].map(|layer| yearly[layer] * scales[layer] / 365.25 / sums[class as usize]));
        Self { seed, tiles, lasting, transient }
    }

    /// The lasting objects of a tile by number within it: (class, layer) for 0, 1, 2, …; the bright come first.
    pub(crate) fn lasting(&self, tile: u32, faint: bool) -> Vec<(Class, Layer)> {
        let place = Galactic::of_tile(&self.tiles, tile);
        let area = self.tiles.tile(tile).area();
        let mut dice = Dice::new(&[self.seed, COUNT, u64::from(tile)]);
        let mut all = Vec::new();
        for (layer, word) in [Layer::Bright, Layer::Faint].into_iter().zip([0, 1]).take(if faint { 2 } else { 1 }) {
            for (kind, (class, _)) in LASTING.iter().enumerate() {
                let expected = self.lasting[kind][word] * area * place.profile(*class);
                let count = (expected + dice.within(0.0, 1.0)) as usize;
                let room = TILE_OBJECTS as usize - all.len();
                all.extend(std::iter::repeat_n((*class, layer), count.min(room)));
            }
        }
        all
    }

    /// How many transients of each class are expected in a tile in so many days.
    pub(crate) fn expected(&self, tile: u32, days: f64, layer: Layer) -> [(Class, f64); TRANSIENT.len()] {
        let place = Galactic::of_tile(&self.tiles, tile);
        let scale = self.tiles.tile(tile).area() * days;
        std::array::from_fn(|kind| {
            let class = TRANSIENT[kind].0;
            (class, self.transient[kind][layer as usize] * scale * place.profile(class))
        })
    }
}

/// Where something is as the Galaxy lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Galactic {
    /// Degrees, -90 to 90.
    pub(crate) latitude_deg: f64,
    /// Degrees, -180 to 180.
    pub(crate) longitude_deg: f64,
}

impl Galactic {
    /// Of a place in degrees (J2000): the pole at 192.85948, 27.12825, the celestial pole at longitude 122.93192 (ESA 1997,
    /// The Hipparcos Catalogue, vol. 1, sec. 1.5.3).
    pub(crate) fn of(ra_deg: f64, dec_deg: f64) -> Self {
        let (pole_sin, pole_cos) = libm::sincos(27.128_25f64.to_radians());
        let (sin, cos) = libm::sincos(dec_deg.to_radians());
        let (turn_sin, turn_cos) = libm::sincos((ra_deg - 192.859_48).to_radians());
        let latitude = libm::asin((pole_sin * sin + pole_cos * cos * turn_cos).clamp(-1.0, 1.0));
        let longitude = 122.931_92 - libm::atan2(cos * turn_sin, pole_cos * sin - pole_sin * cos * turn_cos).to_degrees();
        let longitude_deg = longitude - 360.0 * ((longitude + 180.0) / 360.0).floor();
        Self { latitude_deg: latitude.to_degrees(), longitude_deg }
    }

    fn of_tile(tiles: &Tiles, tile: u32) -> Self {
        let (ra, dec) = tiles.tile(tile).middle();
        Self::of(ra, dec)
    }

    /// How dense a class is here, in units of its own.
    pub(crate) fn profile(&self, class: Class) -> f64 {
        let (b, l) = (self.latitude_deg.abs(), self.longitude_deg.abs());
        // e to the minus b over so many degrees, more of it towards the bulge.
        let disc = |scale: f64| libm::exp(-b / scale) * (0.4 + libm::exp(-l / 60.0));
        let bulge = libm::exp(-(b * b + l * l) / 288.0);
        let clear = libm::exp(-0.5 * 0.14 / libm::sin((b + 1.0).to_radians()));
        match class {
            Class::RrLyrae => 0.15 * libm::exp(-b / 60.0) * (0.5 + libm::exp(-l / 90.0)) + 0.8 * bulge,
            Class::Cepheid => disc(4.0) + 0.002,
            Class::EclipsingBinary => disc(15.0) + 0.02,
            Class::Mira => disc(8.0) + 0.5 * bulge + 0.005,
            Class::CataclysmicVariable => disc(25.0) + 0.03,
            Class::FlareStar => disc(60.0) + 0.1,
            Class::Microlensing => disc(4.0) + 4.0 * bulge,
            _ => clear,
        }
    }

    /// How many catalogued sources are expected within 30 arcseconds.
    pub(crate) fn crowd(&self) -> f64 {
        1.2 + 9.0 * libm::exp(-self.latitude_deg.abs() / 12.0) * (0.4 + libm::exp(-self.longitude_deg.abs() / 60.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn galactic_places_are_those_of_the_catalogues() {
        // Sgr A* and Vega.
        let centre = Galactic::of(266.4168, -29.0078);
        assert!((centre.longitude_deg + 0.056).abs() < 0.01 && (centre.latitude_deg + 0.046).abs() < 0.01, "{centre:?}");
        let vega = Galactic::of(279.2347, 38.7837);
        assert!((vega.longitude_deg - 67.448).abs() < 0.01 && (vega.latitude_deg - 19.237).abs() < 0.01, "{vega:?}");
    }

    #[test]
    fn a_sky_has_as_many_objects_as_asked_for_where_they_belong() {
        let sky = Sky::new(5, 100_000, 0);
        let (mut all, mut plane_stars, mut stars, mut plane_agn, mut agn) = (0, 0, 0, 0, 0);
        for tile in 0..sky.tiles.tiles() {
            let near = Galactic::of_tile(&sky.tiles, tile).latitude_deg.abs() < 10.0;
            for (class, _) in sky.lasting(tile, true) {
                all += 1;
                match class {
                    Class::Agn => (agn, plane_agn) = (agn + 1, plane_agn + u32::from(near)),
                    Class::Cepheid | Class::EclipsingBinary => (stars, plane_stars) = (stars + 1, plane_stars + u32::from(near)),
                    _ => {}
                }
            }
        }
        assert!((99_000..101_000).contains(&all), "{all}");
        // The band within 10 degrees is 17 % of the sphere.
        let (stars, agn) = (f64::from(plane_stars) / f64::from(stars), f64::from(plane_agn) / f64::from(agn));
        assert!(stars > 0.4 && agn < 0.12, "{stars} of stars, {agn} of nuclei in the plane");
    }

    #[test]
    fn faint_objects_leave_the_bright_as_they_are() {
        let (shallow, deep) = (Sky::new(5, 50_000, 0), Sky::new(5, 50_000, 1_000_000));
        for tile in (0..shallow.tiles.tiles()).step_by(97) {
            let (bright, all) = (shallow.lasting(tile, false), deep.lasting(tile, true));
            assert_eq!(all[..bright.len()], bright);
            assert!(all[bright.len()..].iter().all(|(_, layer)| *layer == Layer::Faint));
        }
    }
}
