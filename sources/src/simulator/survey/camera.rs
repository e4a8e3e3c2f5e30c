//! Which detector a place falls on, and where: the tangent plane of the pointing, north up, cut into detectors with gaps.

use super::instrument::Instrument;
use crate::simulator::seen::Telescope;

/// A place on a detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spot {
    /// ZTF: readout quadrant; LSST: CCD.
    pub(crate) detector: u16,
    /// Pixels.
    pub(crate) x: f64,
    /// Pixels.
    pub(crate) y: f64,
}

/// Degrees east and north of the pointing on the tangent plane, if it is before the camera (Calabretta & Greisen 2002, A&A
/// 395, 1077, sec. 5.1.3).
fn project(pointing: (f64, f64), ra_deg: f64, dec_deg: f64) -> Option<(f64, f64)> {
    let ((s0, c0), (s, c)) = (libm::sincos(pointing.1.to_radians()), libm::sincos(dec_deg.to_radians()));
    let (sin, cos) = libm::sincos((ra_deg - pointing.0).to_radians());
    let before = s0 * s + c0 * c * cos;
    (before > 0.5).then(|| ((c * sin / before).to_degrees(), ((c0 * s - s0 * c * cos) / before).to_degrees()))
}

/// The place of degrees east and north of the pointing on the tangent plane.
fn unproject(pointing: (f64, f64), east: f64, north: f64) -> (f64, f64) {
    let (x, y) = (east.to_radians(), north.to_radians());
    let (s0, c0) = libm::sincos(pointing.1.to_radians());
    let ra = pointing.0 + libm::atan2(x, c0 - y * s0).to_degrees();
    let dec = libm::atan2(s0 + y * c0, (x * x + (c0 - y * s0) * (c0 - y * s0)).sqrt()).to_degrees();
    (ra - 360.0 * (ra / 360.0).floor(), dec)
}

/// The number of the detector in a column and row, if there is one.
fn numbered(instrument: &Instrument, column: u16, row: u16) -> Option<u16> {
    match instrument.telescope {
        // Sixteen CCDs of four quadrants each.
        Telescope::Ztf => Some((row / 2 * 4 + column / 2) * 4 + row % 2 * 2 + column % 2),
        // Rafts of nine CCDs, five by five without the corners.
        Telescope::Lsst => {
            let (across, up) = (column / 3, row / 3);
            let corner = |raft: u16| raft == 0 || raft == 4;
            if corner(across) && corner(up) {
                return None;
            }
            // Rows of 3, 5, 5, 5, 3 rafts.
            let raft = [0, 3, 8, 13, 18][usize::from(up)] + across - u16::from(corner(up));
            Some(raft * 9 + row % 3 * 3 + column % 3)
        }
    }
}

impl Instrument {
    /// Where a place falls, if on a detector.
    pub(crate) fn spot(&self, pointing: (f64, f64), ra_deg: f64, dec_deg: f64) -> Option<Spot> {
        let (east, north) = project(pointing, ra_deg, dec_deg)?;
        let half = f64::from(self.detectors) / 2.0;
        // East is to the left of an image with north up.
        let (across, up) = (half - east / self.pitch_deg, half + north / self.pitch_deg);
        let inside = |value: f64| (0.0..2.0 * half).contains(&value);
        if !inside(across) || !inside(up) {
            return None;
        }
        let detector = numbered(self, across as u16, up as u16)?;
        let pixel = |cells: f64, pixels: f64| (cells - cells.floor() - 0.5) * self.pitch_deg * 3600.0 / self.pixel_arcsec + pixels / 2.0;
        let (x, y) = (pixel(across, self.pixels[0]), pixel(up, self.pixels[1]));
        let on = |value: f64, pixels: f64| (1.0..pixels - 1.0).contains(&value);
        (on(x, self.pixels[0]) && on(y, self.pixels[1])).then_some(Spot { detector, x, y })
    }

    /// The place that shares of the camera's sides point to, from 0 to 1: on whichever detector is there.
    pub(crate) fn place(&self, pointing: (f64, f64), across: f64, up: f64) -> Option<(f64, f64, Spot)> {
        let side = f64::from(self.detectors) * self.pitch_deg;
        let (ra, dec) = unproject(pointing, (0.5 - across) * side, (up - 0.5) * side);
        self.spot(pointing, ra, dec).map(|spot| (ra, dec, spot))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::simulator::dice::Dice;

    #[test]
    fn every_detector_is_hit_and_places_go_there_and_back() {
        for (telescope, count, most) in [(Telescope::Ztf, 64, 0.87), (Telescope::Lsst, 189, 0.88)] {
            let instrument = Instrument::of(telescope);
            let (mut detectors, mut hit) = (BTreeSet::new(), 0);
            for step in 0..10_000 {
                let mut dice = Dice::new(&[step]);
                let (across, up) = (dice.within(0.0, 1.0), dice.within(0.0, 1.0));
                let Some((ra, dec, spot)) = instrument.place((359.0, 62.0), across, up) else { continue };
                hit += 1;
                detectors.insert(spot.detector);
                assert!((0.0..=360.0).contains(&ra) && dec < 90.0);
                assert!((1.0..instrument.pixels[0]).contains(&spot.x) && (1.0..instrument.pixels[1]).contains(&spot.y));
            }
            assert_eq!(detectors.len(), count);
            assert_eq!(detectors.last(), Some(&(count as u16 - 1)));
            let share = f64::from(hit) / 1e4;
            assert!((0.7..most).contains(&share), "{share}");
        }
    }

    #[test]
    fn a_pixel_is_as_large_as_told() {
        let instrument = Instrument::of(Telescope::Ztf);
        let pointing = (180.0, 20.0);
        let (ra, dec, spot) = instrument.place(pointing, 0.44, 0.57).unwrap();
        let north = instrument.spot(pointing, ra, dec + 10.0 / 3600.0).unwrap();
        assert!((north.y - spot.y - 10.0 / 1.012).abs() < 0.1 && (north.x - spot.x).abs() < 0.3);
        let east = instrument.spot(pointing, ra + 10.0 / 3600.0 / dec.to_radians().cos(), dec).unwrap();
        assert!((spot.x - east.x - 10.0 / 1.012).abs() < 0.1);
        assert_eq!(instrument.spot(pointing, 0.0, -20.0), None);
    }
}
