//! Supernovae and kilonovae: what shines once.
//!
//! - Types Ia and Ib/c: exp(-(t - t0) / fall) / (1 + exp(-(t - t0) / rise)) in each band (Bazin et al. 2009, A&A 499, 653,
//!   eq. 1), made 1 at its maximum, which comes earlier in the blue as that falls faster. Absolute magnitudes of Ia as in
//!   Phillips 1993 (ApJ 413, L105), of Ib/c as in Drout et al. 2011 (ApJ 741, 97, sec. 4), fall times from their decline rates.
//! - Type II: a plateau that falls in a straight line, then exponentially (Villar et al. 2019, ApJ 884, 83, eq. 1), 60 to 120
//!   days long, bluer bands falling more (Anderson et al. 2014, ApJ 786, 67).
//! - Kilonovae: a rise of half a day, then a straight decline in magnitudes, each band at about the pace of AT2017gfo
//!   (Villar et al. 2017, ApJ 851, L21, fig. 1).
//!
//! Absolute magnitudes and times belong to wavelengths at the source and are read there at the observer's band over 1 + z
//! (straight in log wavelength; in the ultraviolet beyond u, 1 magnitude fainter for each tenth), times stretched by 1 + z.

use super::{WAVELENGTHS_NM, njy};
use crate::simulator::seen::Band;

/// An explosion.
#[derive(Clone, Debug)]
pub(crate) struct Explosion {
    pub(crate) kind: Kind,
    pub(crate) redshift: f64,
    /// The maximum in r (Ia, Ibc), the explosion (II), the merger (kilonova), MJD.
    pub(crate) reference_mjd: f64,
    /// Magnitudes at the maximum in u g r i z y.
    pub(crate) peaks: [f64; 6],
    /// By band: fall time, days (Ia, Ibc); share lost on the plateau (II); decline, magnitudes a day (kilonova).
    pub(crate) falls: [f64; 6],
    /// Of the plateau, days in the observer's frame (II).
    pub(crate) plateau_days: f64,
    /// Days in the observer's frame.
    pub(crate) rise_days: f64,
}

/// The form of an explosion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ia,
    Ibc,
    II,
    Kilonova,
}

impl Kind {
    /// At the wavelengths of u to y, at the source: magnitude less that in r; and what [`Explosion::falls`] says.
    fn at_rest(self) -> ([f64; 6], [f64; 6]) {
        match self {
            Self::Ia => ([0.5, -0.05, 0.0, 0.55, 0.6, 0.65], [13.0, 19.0, 25.0, 29.0, 32.0, 34.0]),
            Self::Ibc => ([1.3, 0.3, 0.0, 0.05, 0.1, 0.1], [9.0, 13.0, 18.0, 22.0, 24.0, 26.0]),
            Self::II => ([0.0, 0.0, 0.0, 0.1, 0.15, 0.2], [0.97, 0.75, 0.40, 0.30, 0.25, 0.22]),
            Self::Kilonova => ([0.4, 0.1, 0.0, 0.1, 0.25, 0.35], [1.9, 1.5, 1.0, 0.75, 0.55, 0.45]),
        }
    }
}

/// What is drawn for each explosion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    pub(crate) kind: Kind,
    pub(crate) redshift: f64,
    /// Magnitude in r at the maximum, were all bands at rest.
    pub(crate) peak_r: f64,
    pub(crate) reference_mjd: f64,
    /// How slow it is, 1 on average.
    pub(crate) stretch: f64,
    /// At the source, days.
    pub(crate) rise_days: f64,
    /// At the source, days.
    pub(crate) plateau_days: f64,
}

/// The value at the source's wavelength of what `values` says at u to y.
fn redshifted(values: &[f64; 6], z: f64, band: usize, blueward: f64) -> f64 {
    let wavelength = WAVELENGTHS_NM[band] / (1.0 + z);
    if wavelength <= WAVELENGTHS_NM[0] {
        return values[0] + blueward * libm::log(WAVELENGTHS_NM[0] / wavelength);
    }
    let above = (1..6).find(|above| wavelength <= WAVELENGTHS_NM[*above]).unwrap_or(5);
    let (low, high) = (WAVELENGTHS_NM[above - 1], WAVELENGTHS_NM[above]);
    let share = (libm::log(wavelength / low) / libm::log(high / low)).min(1.0);
    values[above - 1] + (values[above] - values[above - 1]) * share
}

impl Explosion {
    pub(crate) fn new(draws: Draws) -> Self {
        let Draws { kind, redshift, peak_r, reference_mjd, stretch, rise_days, plateau_days } = draws;
        let (colours, falls) = kind.at_rest();
        let slow = stretch * (1.0 + redshift);
        let bands: [usize; 6] = std::array::from_fn(|band| band);
        Self {
            kind,
            redshift,
            reference_mjd,
            peaks: bands.map(|band| peak_r + redshifted(&colours, redshift, band, 10.0)),
            falls: bands.map(|band| {
                let fall = redshifted(&falls, redshift, band, 0.0);
                match kind {
                    Kind::Ia | Kind::Ibc => fall * slow,
                    Kind::II => fall,
                    Kind::Kilonova => fall / slow,
                }
            }),
            plateau_days: plateau_days * (1.0 + redshift),
            rise_days: rise_days * slow,
        }
    }

    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        let fall = self.falls[band as usize];
        let since = mjd - self.reference_mjd;
        let light = match self.kind {
            Kind::Ia | Kind::Ibc => {
                // t0 from the maximum in r, which comes rise ln(fall / rise - 1) after t0.
                let t0 = -self.rise_days * libm::log(self.falls[2] / self.rise_days - 1.0);
                bazin(since - t0, self.rise_days, fall)
            }
            Kind::II => plateau(since, self.rise_days, self.plateau_days, fall),
            Kind::Kilonova => {
                if since <= 0.0 {
                    0.0
                } else {
                    (since / self.rise_days).min(1.0) * libm::exp(-0.921_034 * fall * (since - self.rise_days).max(0.0))
                }
            }
        };
        if light < 1e-5 { 0.0 } else { njy(self.peaks[band as usize]) * light }
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        let reference = match self.kind {
            Kind::Ia | Kind::Ibc => "peak_mjd",
            Kind::II | Kind::Kilonova => "explosion_mjd",
        };
        let mut parameters = vec![
            ("redshift", self.redshift),
            (reference, self.reference_mjd),
            ("peak_r_mag", self.peaks[2]),
            ("peak_g_mag", self.peaks[1]),
            ("rise_days", self.rise_days),
        ];
        match self.kind {
            Kind::Ia | Kind::Ibc => parameters.push(("fall_r_days", self.falls[2])),
            Kind::II => parameters.push(("plateau_days", self.plateau_days)),
            Kind::Kilonova => parameters.push(("decline_r_mag_day", self.falls[2])),
        }
        parameters
    }
}

/// Bazin's form, `t` days after its t0, 1 at its maximum.
fn bazin(t: f64, rise: f64, fall: f64) -> f64 {
    // From d/dt = 0: exp(-t / rise) = rise / (fall - rise).
    let top = rise * libm::log(fall / rise - 1.0);
    let form = |t: f64| {
        let turn = -t / rise;
        // Long before, where exp would overflow, there is nothing.
        if turn > 60.0 { 0.0 } else { libm::exp(-t / fall) / (1.0 + libm::exp(turn)) }
    };
    form(t) / form(top)
}

/// Villar's form, `t` days after the explosion, about 1 at its maximum.
fn plateau(t: f64, rise: f64, length: f64, lost: f64) -> f64 {
    /// Of the exponential decline after the plateau, of the plateau's length.
    const TAIL: f64 = 0.25;
    // The explosion is 4 rise times before the middle of the rise.
    let turn = -(t - 4.0 * rise) / rise;
    if turn > 4.0 {
        return 0.0;
    }
    let rising = 1.0 + libm::exp(turn);
    if t < length {
        (1.0 - lost * t.max(0.0) / length) / rising
    } else {
        (1.0 - lost) * libm::exp(-(t - length) / (TAIL * length)) / rising
    }
}

#[cfg(test)]
mod tests {
    use super::super::magnitude;
    use super::*;

    fn explosion(kind: Kind, redshift: f64) -> Explosion {
        Explosion::new(Draws {
            kind,
            redshift,
            peak_r: 18.0,
            reference_mjd: 61_000.0,
            stretch: 1.0,
            rise_days: if kind == Kind::Kilonova { 0.5 } else { 3.5 },
            plateau_days: 90.0,
        })
    }

    fn brightest(explosion: &Explosion, band: Band) -> f64 {
        let times = (0..12_000).map(|step| 60_960.0 + f64::from(step) * 0.01);
        times.max_by(|a, b| explosion.flux(*a, band).total_cmp(&explosion.flux(*b, band))).unwrap()
    }

    #[test]
    fn supernovae_peak_when_and_as_bright_as_told_and_earlier_in_the_blue() {
        for (kind, z) in [(Kind::Ia, 0.0), (Kind::Ia, 0.1), (Kind::Ibc, 0.02)] {
            let sn = explosion(kind, z);
            assert!((brightest(&sn, Band::R) - 61_000.0).abs() < 0.02);
            assert!((magnitude(sn.flux(61_000.0, Band::R)) - sn.peaks[2]).abs() < 1e-6);
            assert!(brightest(&sn, Band::G) < brightest(&sn, Band::R) && brightest(&sn, Band::R) < brightest(&sn, Band::I));
            assert!(sn.flux(60_900.0, Band::R) == 0.0);
        }
    }

    #[test]
    fn an_ia_declines_in_15_days_as_phillips_found() {
        let sn = explosion(Kind::Ia, 0.0);
        let decline = magnitude(sn.flux(brightest(&sn, Band::G) + 15.0, Band::G)) - magnitude(sn.flux(brightest(&sn, Band::G), Band::G));
        // Dm15 in B of a normal one is 1.1; g is slower.
        assert!((0.5..1.1).contains(&decline), "{decline}");
    }

    #[test]
    fn redshift_stretches_time_and_reddens() {
        let (near, far) = (explosion(Kind::Ia, 0.0), explosion(Kind::Ia, 0.5));
        assert!((far.rise_days / near.rise_days - 1.5).abs() < 1e-12);
        assert!(far.peaks[1] - far.peaks[3] > near.peaks[1] - near.peaks[3] + 1.0);
    }

    #[test]
    fn a_plateau_is_long_and_then_falls() {
        let sn = explosion(Kind::II, 0.0);
        let mag = |days: f64, band| magnitude(sn.flux(61_000.0 + days, band));
        assert!(sn.flux(60_999.0, Band::R) == 0.0);
        assert!(mag(80.0, Band::R) - mag(25.0, Band::R) < 0.5, "the plateau");
        assert!(mag(140.0, Band::R) - mag(85.0, Band::R) > 1.5, "the fall");
        assert!(mag(80.0, Band::G) - mag(25.0, Band::G) > mag(80.0, Band::R) - mag(25.0, Band::R));
    }

    #[test]
    fn a_kilonova_is_gone_in_days_and_first_in_the_blue() {
        let kn = explosion(Kind::Kilonova, 0.0);
        let mag = |days: f64, band| magnitude(kn.flux(61_000.0 + days, band));
        assert!((mag(0.5, Band::R) - 18.0).abs() < 1e-9 && (mag(3.5, Band::R) - 21.0).abs() < 1e-3);
        assert!(mag(3.5, Band::G) > mag(3.5, Band::R) && mag(3.5, Band::R) > mag(3.5, Band::I));
        assert!(kn.flux(60_999.9, Band::R) == 0.0);
    }
}
