//! Pulsating stars: a Fourier series in magnitudes, m(t) = mean + amplitude f(phase), where f has mean 0 and runs over 1.
//!
//! - RR Lyrae of type ab: amplitude ratios and phases of V light curves (Jurcsik & Kovacs 1996, A&A 312, 111, table 1 and
//!   eq. 3), amplitude from period by the Oosterhoff I line (Cacciari, Corwin & Carney 2005, AJ 129, 267, sec. 4: A = -3.123 -
//!   26.331 log P - 35.853 log^2 P); ratios of the amplitudes in u to z by Sesar et al. 2010, ApJ 708, 717, sec. 3.
//!   Type c: nearly a sine.
//! - Cepheids: phases at periods of some days (Simon & Lee 1981, ApJ 248, 291, figs. 1 and 2), amplitudes falling with
//!   wavelength (Klagyivik & Szabados 2009, A&A 504, 959, sec. 3).
//! - Miras: slightly skewed sines of 80 to 600 days and magnitudes of amplitude (Soszynski et al. 2009, Acta Astron. 59, 239,
//!   sec. 4), less in the red.

use std::sync::OnceLock;

use super::njy;
use crate::simulator::seen::Band;

/// A pulsating star.
#[derive(Clone, Debug)]
pub(crate) struct Pulsation {
    pub(crate) kind: Kind,
    pub(crate) period_days: f64,
    /// A time of maximum light of the series' phase 0, MJD.
    pub(crate) epoch_mjd: f64,
    /// Mean magnitudes in u g r i z y.
    pub(crate) means: [f64; 6],
    /// From maximum to minimum, magnitudes, in u g r i z y.
    pub(crate) amplitudes: [f64; 6],
}

/// The shape of the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    RrAb,
    RrC,
    Cepheid,
    Mira,
}

/// Amplitudes and phases of sin(k x + phase), k from 1: as magnitudes, so larger is fainter.
const SERIES: [[(f64, f64); 4]; 4] = [
    [(1.0, 0.0), (0.50, 2.36), (0.34, 4.90), (0.22, 1.15)],
    [(1.0, 0.0), (0.10, 2.90), (0.05, 3.60), (0.0, 0.0)],
    [(1.0, 0.0), (0.42, 2.70), (0.20, 5.20), (0.08, 1.40)],
    [(1.0, 0.0), (0.15, 2.60), (0.0, 0.0), (0.0, 0.0)],
];

/// A series made ready.
struct Shape {
    /// Of each term, what multiplies sin(k x) and cos(k x); scaled so that the series runs over 1.
    terms: [(f64, f64); 4],
    /// Where it is brightest, turns.
    brightest: f64,
}

impl Shape {
    fn new(series: [(f64, f64); 4]) -> Self {
        let terms = series.map(|(amplitude, phase)| (amplitude * libm::cos(phase), amplitude * libm::sin(phase)));
        let mut shape = Self { terms, brightest: 0.0 };
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for step in 0..2000 {
            let turns = f64::from(step) / 2000.0;
            let value = shape.at(turns);
            most = most.max(value);
            if value < least {
                least = value;
                shape.brightest = turns;
            }
        }
        shape.terms = shape.terms.map(|(sin, cos)| (sin / (most - least), cos / (most - least)));
        shape
    }

    fn at(&self, turns: f64) -> f64 {
        let (sin, cos) = libm::sincos((turns - turns.floor()) * std::f64::consts::TAU);
        // sin and cos of k x by the rule of addition, so that one call does for all terms.
        let (mut sin_k, mut cos_k, mut sum) = (sin, cos, 0.0);
        for (of_sin, of_cos) in self.terms {
            sum += of_sin * sin_k + of_cos * cos_k;
            (sin_k, cos_k) = (sin_k * cos + cos_k * sin, cos_k * cos - sin_k * sin);
        }
        sum
    }
}

fn shape(kind: Kind) -> &'static Shape {
    static SHAPES: OnceLock<[Shape; 4]> = OnceLock::new();
    &SHAPES.get_or_init(|| SERIES.map(Shape::new))[kind as usize]
}

impl Pulsation {
    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        let shape = shape(self.kind);
        let light = shape.at((mjd - self.epoch_mjd) / self.period_days + shape.brightest);
        njy(self.means[band as usize] + self.amplitudes[band as usize] * light)
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("period_days", self.period_days),
            ("maximum_mjd", self.epoch_mjd),
            ("mean_r_mag", self.means[2]),
            ("amplitude_r_mag", self.amplitudes[2]),
        ]
    }
}

/// The V amplitude of an RR Lyrae of type ab (Oosterhoff I), magnitudes, at least 0.2.
pub(crate) fn rr_lyrae_amplitude(period_days: f64) -> f64 {
    let log = libm::log10(period_days);
    (-3.123 - 26.331 * log - 35.853 * log * log).max(0.2)
}

#[cfg(test)]
mod tests {
    use super::super::magnitude;
    use super::*;

    fn star(kind: Kind) -> Pulsation {
        Pulsation { kind, period_days: 0.5613, epoch_mjd: 61_000.25, means: [17.0; 6], amplitudes: [1.2, 1.0, 0.7, 0.6, 0.5, 0.5] }
    }

    #[test]
    fn repeats_with_its_period_and_is_brightest_at_its_epoch() {
        for kind in [Kind::RrAb, Kind::RrC, Kind::Cepheid, Kind::Mira] {
            let star = star(kind);
            for step in 0..40 {
                let mjd = 60_000.0 + f64::from(step) * 0.173;
                let (now, later) = (star.flux(mjd, Band::R), star.flux(mjd + 1000.0 * star.period_days, Band::R));
                assert!((now / later - 1.0).abs() < 1e-6, "{kind:?}");
                assert!(now <= star.flux(star.epoch_mjd, Band::R) * (1.0 + 1e-5), "{kind:?}");
            }
        }
    }

    #[test]
    fn runs_over_its_amplitude_in_each_band() {
        for kind in [Kind::RrAb, Kind::RrC, Kind::Cepheid, Kind::Mira] {
            let star = star(kind);
            for band in Band::ALL {
                let mags = (0..500).map(|step| magnitude(star.flux(61_000.0 + star.period_days * f64::from(step) / 500.0, band)));
                let (low, high) = mags.fold((f64::MAX, f64::MIN), |(low, high), mag| (low.min(mag), high.max(mag)));
                assert!((high - low - star.amplitudes[band as usize]).abs() < 0.01, "{kind:?} {band:?} {}", high - low);
            }
        }
    }

    #[test]
    fn rr_lyrae_rise_faster_than_they_fall() {
        let star = star(Kind::RrAb);
        let rising = (0..1000).filter(|step| {
            let mjd = 61_000.0 + star.period_days * f64::from(*step) / 1000.0;
            star.flux(mjd + 1e-4, Band::G) > star.flux(mjd, Band::G)
        });
        let share = rising.count() as f64 / 1000.0;
        assert!((0.1..0.35).contains(&share), "{share}");
        assert!((rr_lyrae_amplitude(0.55) - 1.3).abs() < 0.05);
    }
}
