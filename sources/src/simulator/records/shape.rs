//! Small conversions that both surveys' records need; transcendental functions are libm's, the same on every machine.

/// AB magnitude of a flux in nJy.
pub(super) fn magnitude(njy: f64) -> f64 {
    31.4 - 2.5 * libm::log10(njy.max(1e-3))
}

/// Between two places (right ascension and declination, degrees) that are close, in arc seconds.
pub(super) fn separation_arcsec(a: [f64; 2], b: [f64; 2]) -> f64 {
    let mut along = a[0] - b[0];
    along -= 360.0 * libm::round(along / 360.0);
    let along = along * libm::cos((a[1] + b[1]) / 2.0 * std::f64::consts::PI / 180.0);
    let up = a[1] - b[1];
    3600.0 * libm::sqrt(along * along + up * up)
}

/// Galactic longitude and latitude of a right ascension and declination (J2000), all in degrees.
///
/// The pole is at 192.85948, 27.12825, and the north celestial pole's longitude is 122.93192 (ESA 1997, The Hipparcos and
/// Tycho Catalogues, vol. 1, section 1.5.3).
pub(super) fn galactic(ra_deg: f64, dec_deg: f64) -> [f64; 2] {
    let radians = std::f64::consts::PI / 180.0;
    let (dec, pole, away) = (dec_deg * radians, 27.128_25 * radians, (ra_deg - 192.859_48) * radians);
    let sine = libm::sin(dec) * libm::sin(pole) + libm::cos(dec) * libm::cos(pole) * libm::cos(away);
    let y = libm::cos(dec) * libm::sin(away);
    let x = libm::sin(dec) * libm::cos(pole) - libm::cos(dec) * libm::sin(pole) * libm::cos(away);
    let longitude = 122.931_92 - libm::atan2(y, x) / radians;
    [longitude - 360.0 * libm::floor(longitude / 360.0), libm::asin(sine.clamp(-1.0, 1.0)) / radians]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_converted() {
        assert!((separation_arcsec([359.9999, 60.0], [0.0001, 60.0]) - 0.36).abs() < 1e-6);
        // The galactic centre and the north galactic pole.
        let [l, b] = galactic(266.405, -28.936);
        assert!((l < 0.01 || l > 359.99) && b.abs() < 0.01, "{l} {b}");
        assert!((galactic(192.859_48, 27.128_25)[1] - 90.0).abs() < 1e-6);
        assert!((magnitude(3631e9) - 0.0).abs() < 1e-3);
    }
}
