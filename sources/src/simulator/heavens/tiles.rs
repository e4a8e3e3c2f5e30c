//! The sphere in tiles: 24 bands of 7.5 degrees of declination, each in fields as wide, each field in 3 x 3 tiles of about
//! 2.5 degrees. A field is what ZTF's camera sees at once, a tile is what fills most of LSST's.

/// Bands of declination.
const BANDS: usize = 24;
const BAND_DEG: f64 = 180.0 / BANDS as f64;

/// Where the tiles are.
#[derive(Clone, Debug)]
pub(crate) struct Tiles {
    /// Of each band: the number of its first field, and how many it has.
    bands: [(u32, u32); BANDS],
    fields: u32,
}

/// A rectangle in right ascension and declination, degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) ra: [f64; 2],
    pub(crate) dec: [f64; 2],
}

impl Span {
    pub(crate) fn middle(&self) -> (f64, f64) {
        ((self.ra[0] + self.ra[1]) / 2.0, (self.dec[0] + self.dec[1]) / 2.0)
    }

    /// Square degrees.
    pub(crate) fn area(&self) -> f64 {
        let sines = libm::sin(self.dec[1].to_radians()) - libm::sin(self.dec[0].to_radians());
        (self.ra[1] - self.ra[0]) * sines.to_degrees()
    }
}

impl Tiles {
    pub(crate) fn new() -> Self {
        let mut fields = 0;
        let bands = std::array::from_fn(|band| {
            let low = -90.0 + BAND_DEG * band as f64;
            // The widest part of the band is its edge next to the equator.
            let edge = if low < 0.0 { low + BAND_DEG } else { low };
            let count = (360.0 * libm::cos(f64::to_radians(edge)) / BAND_DEG).ceil().max(3.0) as u32;
            let first = fields;
            fields += count;
            (first, count)
        });
        Self { bands, fields }
    }

    /// How many fields there are.
    pub(crate) fn fields(&self) -> u32 {
        self.fields
    }

    /// How many tiles there are.
    pub(crate) fn tiles(&self) -> u32 {
        self.fields * 9
    }

    /// What a field spans.
    pub(crate) fn field(&self, field: u32) -> Span {
        let band = self.bands.partition_point(|(first, _)| *first <= field) - 1;
        let (first, count) = self.bands[band];
        let width = 360.0 / f64::from(count);
        let ra = f64::from(field - first) * width;
        let dec = -90.0 + BAND_DEG * band as f64;
        Span { ra: [ra, ra + width], dec: [dec, dec + BAND_DEG] }
    }

    /// What a tile spans. Tiles 9 f to 9 f + 8 make up field f.
    pub(crate) fn tile(&self, tile: u32) -> Span {
        let field = self.field(tile / 9);
        let (column, row) = (f64::from(tile % 3), f64::from(tile % 9 / 3));
        let (width, height) = ((field.ra[1] - field.ra[0]) / 3.0, (field.dec[1] - field.dec[0]) / 3.0);
        let (ra, dec) = (field.ra[0] + column * width, field.dec[0] + row * height);
        Span { ra: [ra, ra + width], dec: [dec, dec + height] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_sphere_once() {
        let tiles = Tiles::new();
        let whole: f64 = (0..tiles.tiles()).map(|tile| tiles.tile(tile).area()).sum();
        assert!((whole - 41_252.96).abs() < 0.01, "{whole} square degrees");
        assert!((6000..9000).contains(&tiles.tiles()), "{}", tiles.tiles());
        for field in 0..tiles.fields() {
            let span = tiles.field(field);
            let parts: f64 = (0..9).map(|part| tiles.tile(field * 9 + part).area()).sum();
            assert!((span.area() - parts).abs() < 1e-9 && span.area() < 56.5, "{span:?}");
            let (_, dec) = span.middle();
            let low = if dec > 0.0 { span.dec[0] } else { span.dec[1] };
            assert!((span.ra[1] - span.ra[0]) * low.to_radians().cos() < 7.6 || dec.abs() > 85.0);
        }
    }
}
