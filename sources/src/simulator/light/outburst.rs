//! Stars that flare up again and again.
//!
//! - Cataclysmic variables (dwarf novae): outbursts that recur, each a straight rise, a plateau and a straight decline in
//!   magnitudes (Warner 1995, Cataclysmic Variable Stars, sec. 3.3; lengths and amplitudes as in Otulakowska-Hypka et al. 2016,
//!   MNRAS 460, 2526, figs. 2 to 6). The times between vary by a quarter.
//! - Flares of M dwarfs: the template of Davenport et al. 2014, ApJ 797, 122, eqs. 1 and 4 (a polynomial rise, a decay of
//!   two exponentials), amplitudes by a power law, bluer than the star as a body of 10,000 K (Kowalski et al. 2013, ApJS
//!   207, 15).

use super::njy;
use crate::simulator::dice::Dice;
use crate::simulator::seen::Band;

/// A cataclysmic variable.
#[derive(Clone, Debug)]
pub(crate) struct Outbursts {
    /// Which outbursts.
    pub(crate) seed: u64,
    /// Quiescent magnitudes in u g r i z y.
    pub(crate) means: [f64; 6],
    /// Mean time between outbursts.
    pub(crate) recurrence_days: f64,
    /// At most by so much they brighten in r, magnitudes.
    pub(crate) amplitude_mag: f64,
    pub(crate) rise_days: f64,
    pub(crate) plateau_days: f64,
    pub(crate) decline_days: f64,
}

/// By how much more the bands brighten than r, as outbursts are bluer than quiescence.
const OUTBURST_COLOUR: [f64; 6] = [1.15, 1.08, 1.0, 0.95, 0.9, 0.88];

impl Outbursts {
    /// When outburst `n` begins, MJD, and its share of the amplitude.
    fn outburst(&self, n: i64) -> (f64, f64) {
        let mut dice = Dice::new(&[self.seed, n as u64]);
        ((n as f64 + 0.25 * dice.within(0.0, 1.0)) * self.recurrence_days, dice.within(0.7, 1.0))
    }

    /// By how much it is brighter than in quiescence, of the amplitude.
    fn at(&self, mjd: f64) -> f64 {
        let n = (mjd / self.recurrence_days).floor() as i64;
        // The outburst before may still decline.
        let of = |n: i64| {
            let (begin, share) = self.outburst(n);
            let since = mjd - begin;
            let decline = (since - self.rise_days - self.plateau_days).max(0.0) / self.decline_days;
            share * (since / self.rise_days).min(1.0).min(1.0 - decline).max(0.0)
        };
        of(n).max(of(n - 1))
    }

    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        njy(self.means[band as usize] - self.amplitude_mag * OUTBURST_COLOUR[band as usize] * self.at(mjd))
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("recurrence_days", self.recurrence_days),
            ("amplitude_r_mag", self.amplitude_mag),
            ("rise_days", self.rise_days),
            ("plateau_days", self.plateau_days),
            ("decline_days", self.decline_days),
            ("quiescent_r_mag", self.means[2]),
        ]
    }
}

/// A flaring M dwarf.
#[derive(Clone, Debug)]
pub(crate) struct Flares {
    /// Which flares.
    pub(crate) seed: u64,
    /// Quiescent magnitudes in u g r i z y.
    pub(crate) means: [f64; 6],
    /// Flares a day, at most 4.
    pub(crate) rate_per_day: f64,
    /// Time above half of the peak.
    pub(crate) half_width_days: f64,
}

/// In each slot of so many days there is one flare or none.
const SLOT_DAYS: f64 = 0.25;

/// The flux of a flare whose peak is one of the star's flux in g, over the star's flux in each band: the ratio of a body
/// of 10,000 K to one of 3,200 K at the bands' wavelengths, g being 1.
const FLARE_OVER_STAR: [f64; 6] = [7.16, 1.0, 0.256, 0.114, 0.070, 0.051];

impl Flares {
    /// The flux of all flares at `mjd`, of the star's in g.
    fn at(&self, mjd: f64) -> f64 {
        let slot = (mjd / SLOT_DAYS).floor() as i64;
        let of = |slot: i64| {
            let mut dice = Dice::new(&[self.seed, slot as u64]);
            if dice.within(0.0, 1.0) >= self.rate_per_day * SLOT_DAYS {
                return 0.0;
            }
            let peak = (slot as f64 + dice.within(0.0, 1.0)) * SLOT_DAYS;
            // Cumulative slope -0.8, from 0.1 of the star's flux up, at most 30.
            let amplitude = (0.1 * libm::pow(dice.within(1e-4, 1.0), -1.0 / 0.8)).min(30.0);
            amplitude * flare((mjd - peak) / self.half_width_days)
        };
        // A flare lasts less than a slot: only it and its neighbours matter.
        of(slot - 1) + of(slot) + of(slot + 1)
    }

    pub(crate) fn flux(&self, mjd: f64, band: Band) -> f64 {
        njy(self.means[band as usize]) * (1.0 + FLARE_OVER_STAR[band as usize] * self.at(mjd))
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, f64)> {
        vec![("flares_per_day", self.rate_per_day), ("half_width_days", self.half_width_days), ("quiescent_r_mag", self.means[2])]
    }
}

/// Davenport's template, `t` half widths after the peak: 1 at 0.
fn flare(t: f64) -> f64 {
    if t < -1.0 {
        0.0
    } else if t < 0.0 {
        (1.0 + t * (1.941 + t * (-0.175 + t * (-2.246 - t * 1.125)))).max(0.0)
    } else if t < 40.0 {
        0.6890 * libm::exp(-1.600 * t) + 0.3030 * libm::exp(-0.2783 * t)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::magnitude;
    use super::*;

    #[test]
    fn outbursts_recur_and_reach_their_amplitude() {
        let star = Outbursts {
            seed: 4,
            means: [20.0; 6],
            recurrence_days: 40.0,
            amplitude_mag: 4.0,
            rise_days: 1.0,
            plateau_days: 4.0,
            decline_days: 6.0,
        };
        let mags: Vec<f64> = (0..40_000).map(|step| magnitude(star.flux(60_000.0 + f64::from(step) * 0.1, Band::R))).collect();
        let brightest = mags.iter().copied().fold(f64::MAX, f64::min);
        assert!((16.0..16.4).contains(&brightest), "{brightest}");
        let begins = mags.windows(2).filter(|pair| pair[0] > 19.9 && pair[1] <= 19.9).count();
        assert!((98..=102).contains(&begins), "{begins} outbursts in 4000 days");
        let quiet = mags.iter().filter(|mag| **mag > 19.99).count() as f64 / mags.len() as f64;
        assert!((0.68..0.78).contains(&quiet), "{quiet}");
    }

    #[test]
    fn flares_come_at_their_rate_and_are_blue() {
        let star = Flares { seed: 5, means: [18.0; 6], rate_per_day: 0.8, half_width_days: 0.01 };
        let steps = (0..200_000).map(|step| 60_000.0 + f64::from(step) * 0.002);
        let above: Vec<bool> = steps.map(|mjd| star.at(mjd) > 0.05).collect();
        let flares = above.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        assert!((250..350).contains(&flares), "{flares} flares in 400 days");
        let peak = (0..200_000).map(|step| 60_000.0 + f64::from(step) * 0.002).max_by(|a, b| star.at(*a).total_cmp(&star.at(*b)));
        let peak = peak.unwrap();
        assert!(star.flux(peak, Band::U) > 3.0 * star.flux(peak, Band::R));
        assert!((flare(0.0) - 0.992).abs() < 1e-9 && flare(-1.0).abs() < 0.02 && flare(-1.1) == 0.0);
    }
}
