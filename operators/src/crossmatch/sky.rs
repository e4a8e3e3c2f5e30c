//! Angles on the sphere, and the HEALPix cells in which neighbours are looked for.

use cdshealpix::nested;

/// The depth of the cells: 3.4 arcminutes across, wide against the radius of any match, and few objects in each.
const DEPTH: u8 = 10;
/// The mean side of such a cell, in radians: the root of 4 pi / (12 * 4^depth).
const SIDE: f64 = 9.993_6e-4;
/// No cell is narrower than this part of the mean side.
const NARROWEST: f64 = 0.5;

/// The distance of two directions in arcseconds, exact to rounding at any distance and anywhere on the sphere: the haversine
/// formula (Sinnott 1984, Sky & Telescope 68, 159).
#[must_use]
pub fn separation_arcsec(a: (f64, f64), b: (f64, f64)) -> f64 {
    let ((ra_a, dec_a), (ra_b, dec_b)) = ((a.0.to_radians(), a.1.to_radians()), (b.0.to_radians(), b.1.to_radians()));
    let (sin_dec, sin_ra) = (((dec_a - dec_b) / 2.0).sin(), ((ra_a - ra_b) / 2.0).sin());
    let haversine = sin_dec * sin_dec + dec_a.cos() * dec_b.cos() * sin_ra * sin_ra;
    2.0 * haversine.sqrt().min(1.0).asin().to_degrees() * 3600.0
}

/// The distance, if it is at most `radius_arcsec`.
#[must_use]
pub fn within_arcsec(a: (f64, f64), b: (f64, f64), radius_arcsec: f64) -> Option<f64> {
    // Most of a cell is farther off in declination alone, which costs no sine.
    if (a.1 - b.1).abs() * 3600.0 > radius_arcsec * (1.0 + 1e-9) + 1e-9 {
        return None;
    }
    Some(separation_arcsec(a, b)).filter(|separation| *separation <= radius_arcsec)
}

/// The cell of a direction in degrees.
#[must_use]
pub fn cell(ra_deg: f64, dec_deg: f64) -> u64 {
    nested::hash(DEPTH, ra_deg.to_radians(), dec_deg.to_radians())
}

/// Calls `each` with every cell that a disc touches, and perhaps some that it does not.
pub fn cells(ra_deg: f64, dec_deg: f64, radius_arcsec: f64, mut each: impl FnMut(u64)) {
    let (lon, lat, radius) = (ra_deg.to_radians(), dec_deg.to_radians(), (radius_arcsec / 3600.0).to_radians());
    let (cell, x, y) = nested::hash_with_dxdy(DEPTH, lon, lat);
    let edge = x.min(1.0 - x).min(y).min(1.0 - y);
    if edge * NARROWEST * SIDE > radius {
        return each(cell);
    }
    let coverage = nested::cone_coverage_approx(DEPTH, lon, lat, radius * (1.0 + 1e-6) + 1e-12);
    let mut own = false;
    for touched in coverage.flat_iter() {
        own |= touched == cell;
        each(touched);
    }
    if !own {
        each(cell);
    }
}

/// A direction after some years of proper motion, in degrees: along the tangent, so that poles are nothing special.
/// `pm_ra` is that in right ascension times the cosine of the declination; both in milliarcseconds a year.
#[must_use]
pub fn moved(ra_deg: f64, dec_deg: f64, pm_ra: f64, pm_dec: f64, years: f64) -> (f64, f64) {
    let ((sin_ra, cos_ra), (sin_dec, cos_dec)) = (ra_deg.to_radians().sin_cos(), dec_deg.to_radians().sin_cos());
    let angle = |mas_a_year: f64| (mas_a_year * years / 3_600_000.0).to_radians();
    let (east, north) = (angle(pm_ra), angle(pm_dec));
    let x = cos_dec * cos_ra - east * sin_ra - north * sin_dec * cos_ra;
    let y = cos_dec * sin_ra + east * cos_ra - north * sin_dec * sin_ra;
    let z = sin_dec + north * cos_dec;
    let ra = y.atan2(x).to_degrees();
    (if ra < 0.0 { ra + 360.0 } else { ra }, z.atan2(x.hypot(y)).to_degrees())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn separations_are_known_ones() {
        let arcsec = |a, b| separation_arcsec(a, b);
        assert!((arcsec((10.0, 0.0), (11.0, 0.0)) - 3600.0).abs() < 1e-7);
        assert!((arcsec((359.9999, 0.0), (0.0001, 0.0)) - 0.72).abs() < 1e-7);
        assert!((arcsec((0.0, 89.9999), (180.0, 89.9999)) - 0.72).abs() < 1e-7);
        assert!((arcsec((0.0, 90.0), (123.0, -90.0)) - 648_000.0).abs() < 1e-6);
        assert_eq!(arcsec((266.4, -29.0), (266.4, -29.0)), 0.0);
    }

    #[test]
    fn barnards_star_moves_as_it_does() {
        // 2000.0 to 2050.0 at 10.4 arcsec a year, nearly north.
        let (ra, dec) = moved(269.452_075, 4.693_391, -798.58, 10_328.12, 50.0);
        assert!((separation_arcsec((ra, dec), (269.452_075, 4.693_391)) - 517.94).abs() < 0.02);
        assert!(ra < 269.452_075 && dec > 4.83);
        // Across the pole it comes down on the other side.
        let (ra, dec) = moved(30.0, 89.9999, 0.0, 1_000.0, 1.0);
        assert!((ra - 210.0).abs() < 1e-6 && (dec - (90.0 - 0.64 / 3600.0)).abs() < 1e-7, "{ra} {dec}");
    }

    fn direction() -> impl Strategy<Value = (f64, f64)> {
        let anywhere = (0.0..360.0f64, -1.0..1.0f64).prop_map(|(ra, z)| (ra, z.asin().to_degrees()));
        // Where cells are odd: poles, corners of the base cells, the seam.
        let odd = (
            prop::sample::select(vec![0.0, 45.0, 90.0, 180.0, 315.0, 359.999_99]),
            prop::sample::select(vec![-90.0, -41.810_3, 0.0, 41.810_3, 89.99, 90.0]),
        );
        let odd = (odd, -0.01..0.01f64, -0.01..0.01f64)
            .prop_map(|((ra, dec), a, d)| ((ra + a + 360.0) % 360.0, f64::clamp(dec + d, -90.0, 90.0)));
        prop_oneof![anywhere, odd]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_disc_touches_the_cells_of_all_its_points(centre in direction(), radius in prop::sample::select(vec![0.01, 1.0, 1.5, 5.0, 60.0, 600.0]), angle in 0.0..std::f64::consts::TAU, part in 0.0..1.0f64) {
            let mut touched = Vec::new();
            cells(centre.0, centre.1, radius, |cell| touched.push(cell));
            prop_assert!(touched.contains(&cell(centre.0, centre.1)));
            let mut once = touched.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), touched.len(), "each once");
            // A point of the disc, most of them near its edge.
            let (distance, mas) = (radius * part.sqrt(), 1_000.0);
            let point = moved(centre.0, centre.1, distance * mas * angle.sin(), distance * mas * angle.cos(), 1.0);
            if within_arcsec(centre, point, radius).is_some() {
                prop_assert!(touched.contains(&cell(point.0, point.1)), "{:?} {:?} {}", centre, point, radius);
            }
        }
    }
}
