//! Light curves: what an object shines with at a time, in each band.
//!
//! Each is a simple form of the literature, a function of its parameters and the time alone, so that any moment can be
//! asked for without those before it. Fluxes are nJy, times MJD, magnitudes AB. The sources are named in each module and
//! in `docs/sky.md`.
//!
//! | module | what shines |
//! |---|---|
//! | [`pulsation`] | RR Lyrae, Cepheids, Miras |
//! | [`eclipse`] | eclipsing binaries |
//! | [`walk`] | active galactic nuclei: a damped random walk |
//! | [`outburst`] | cataclysmic variables, flares of M dwarfs |
//! | [`lens`] | microlensing |
//! | [`explosion`] | supernovae, kilonovae |
//! | [`disruption`] | tidal disruptions |

pub(crate) mod disruption;
pub(crate) mod eclipse;
pub(crate) mod explosion;
pub(crate) mod lens;
pub(crate) mod outburst;
pub(crate) mod pulsation;
pub(crate) mod walk;

use super::seen::Band;

/// Effective wavelengths of u g r i z y, nm (Ivezic et al. 2019, ApJ 873, 111, fig. 4).
pub(crate) const WAVELENGTHS_NM: [f64; 6] = [367.0, 483.0, 622.0, 754.0, 869.0, 971.0];

/// The flux of a magnitude, nJy.
pub(crate) fn njy(magnitude: f64) -> f64 {
    libm::exp((31.4 - magnitude) * (0.4 * std::f64::consts::LN_10))
}

/// The magnitude of a flux above 0.
pub(crate) fn magnitude(njy: f64) -> f64 {
    31.4 - 2.5 * libm::log10(njy)
}

/// A light curve.
#[derive(Clone, Debug)]
pub(crate) enum Light {
    Pulsation(pulsation::Pulsation),
    Eclipses(eclipse::Eclipses),
    Walk(walk::Walk),
    Outbursts(outburst::Outbursts),
    Flares(outburst::Flares),
    Lens(lens::Lens),
    Explosion(explosion::Explosion),
    Disruption(disruption::Disruption),
}

impl Light {
    /// What it shines with at `mjd`, nJy.
    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        match self {
            Self::Pulsation(light) => light.flux(mjd, band),
            Self::Eclipses(light) => light.flux(mjd, band),
            Self::Walk(light) => light.flux(mjd, band),
            Self::Outbursts(light) => light.flux(mjd, band),
            Self::Flares(light) => light.flux(mjd, band),
            Self::Lens(light) => light.flux(mjd, band),
            Self::Explosion(light) => light.flux(mjd, band),
            Self::Disruption(light) => light.flux(mjd, band),
        }
    }

    /// What a template made over years shows of it, nJy.
    pub(crate) fn template(&self, band: Band) -> f64 {
        match self {
            Self::Pulsation(light) => njy(light.means[band as usize]),
            Self::Eclipses(light) => njy(light.means[band as usize]),
            Self::Walk(light) => njy(light.means[band as usize]),
            Self::Outbursts(light) => njy(light.means[band as usize]),
            Self::Flares(light) => njy(light.means[band as usize]),
            Self::Lens(light) => njy(light.means[band as usize]),
            Self::Explosion(_) | Self::Disruption(_) => 0.0,
        }
    }

    /// How likely about (rather more than less) it differs by `five_njy` from its template at some time.
    pub(crate) fn chance(&self, five_njy: f64) -> f64 {
        // A change of so many magnitudes, in units of what is seen.
        let change = |mean: f64, magnitudes: f64| njy(mean) * (libm::exp(0.921_034 * magnitudes) - 1.0) / five_njy;
        match self {
            Self::Pulsation(light) => (change(light.means[2], 0.5 * light.amplitudes[2]) - 0.2).clamp(0.0, 0.97),
            Self::Eclipses(light) => {
                let humps = change(light.means[2], light.ellipsoidal) - 0.2;
                let dips = if change(light.means[2], light.depths[0]) > 0.5 { 10.0 * light.width } else { 0.0 };
                humps.max(dips).clamp(0.0, 0.9)
            }
            Self::Walk(light) => (1.15 * libm::exp(-1.15 / change(light.means[1], light.sigma_mag))).min(0.97),
            Self::Outbursts(light) => {
                let shining = (light.rise_days + light.plateau_days + light.decline_days) / light.recurrence_days;
                if change(light.means[2], light.amplitude_mag) > 1.0 { shining.min(0.9) } else { 0.0 }
            }
            Self::Flares(_) => 0.02,
            Self::Lens(_) | Self::Explosion(_) | Self::Disruption(_) => 1.0,
        }
    }

    /// Its parameters, by name with the unit last.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Pulsation(light) => light.parameters(),
            Self::Eclipses(light) => light.parameters(),
            Self::Walk(light) => light.parameters(),
            Self::Outbursts(light) => light.parameters(),
            Self::Flares(light) => light.parameters(),
            Self::Lens(light) => light.parameters(),
            Self::Explosion(light) => light.parameters(),
            Self::Disruption(light) => light.parameters(),
        }
    }
}

/// Magnitudes in all bands from the one in r and the colours `[u - r, g - r, i - r, z - r, y - r]`.
pub(crate) fn coloured(r: f64, colours: [f64; 5]) -> [f64; 6] {
    let [u, g, i, z, y] = colours;
    [r + u, r + g, r, r + i, r + z, r + y]
}
