//! Tidal disruptions: a Gaussian rise, then a power law with exponent -5/3, at one temperature (van Velzen et al. 2021, ApJ
//! 908, 4, eqs. 1 and 2; temperatures and times as in their table 6).

use super::{WAVELENGTHS_NM, njy};
use crate::simulator::seen::Band;

/// So long after its peak it is taken to be over.
const ENDS_DAYS: f64 = 600.0;

/// A tidal disruption.
#[derive(Clone, Debug)]
pub(crate) struct Disruption {
    pub(crate) redshift: f64,
    pub(crate) peak_mjd: f64,
    /// Magnitudes at the peak in u g r i z y.
    pub(crate) peaks: [f64; 6],
    /// Width of the rise, days in the observer's frame.
    pub(crate) rise_days: f64,
    /// Time scale of the decline, days in the observer's frame.
    pub(crate) decline_days: f64,
    pub(crate) temperature_k: f64,
}

impl Disruption {
    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        let since = mjd - self.peak_mjd;
        let light = if since > ENDS_DAYS {
            0.0
        } else if since < 0.0 {
            let x = since / self.rise_days;
            if x < -7.0 { 0.0 } else { libm::exp(-0.5 * x * x) }
        } else {
            let base = 1.0 + since / self.decline_days;
            1.0 / (base * libm::cbrt(base * base))
        };
        if light == 0.0 { 0.0 } else { njy(self.peaks[band as usize]) * light }
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("redshift", self.redshift),
            ("peak_mjd", self.peak_mjd),
            ("peak_g_mag", self.peaks[1]),
            ("rise_days", self.rise_days),
            ("decline_days", self.decline_days),
            ("temperature_k", self.temperature_k),
        ]
    }
}

/// Magnitudes in u g r i z y of a black body that has `g` there, seen from redshift `z`.
pub(crate) fn black_body(temperature_k: f64, z: f64, g: f64) -> [f64; 6] {
    // h c / k = 1.438777e7 nm K; Planck's law per unit of frequency.
    let planck = |wavelength: f64| {
        let x = 1.438_777e7 * (1.0 + z) / (wavelength * temperature_k);
        1.0 / (wavelength * wavelength * wavelength * libm::expm1(x))
    };
    let at_g = planck(WAVELENGTHS_NM[1]);
    WAVELENGTHS_NM.map(|wavelength| g - 2.5 * libm::log10(planck(wavelength) / at_g))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_falls_by_five_thirds_and_stays_blue() {
        let peaks = black_body(20_000.0, 0.05, 18.0);
        assert!(peaks[0] < peaks[1] && peaks.is_sorted());
        let tde = Disruption { redshift: 0.05, peak_mjd: 61_000.0, peaks, rise_days: 10.0, decline_days: 30.0, temperature_k: 20_000.0 };
        let at = |days: f64| tde.flux(61_000.0 + days, Band::G) / njy(18.0);
        assert!((at(0.0) - 1.0).abs() < 1e-9 && (at(-10.0) - (-0.5f64).exp()).abs() < 1e-9 && at(-100.0) == 0.0);
        assert!((at(210.0) - 8f64.powf(-5.0 / 3.0)).abs() < 1e-9);
    }
}
