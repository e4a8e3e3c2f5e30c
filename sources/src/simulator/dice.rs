//! Chance and functions that give the same bits on every machine: integer hashing, and only such floating-point
//! operations as IEEE 754 rounds exactly, or the functions of the `libm` crate, which are made of them (the standard
//! library's are the platform's, whose last bit differs).

/// A short stream of random numbers that is a function of the words it was made from (splitmix64).
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Dice that depend on all of `words`, and on nothing else.
    pub(super) fn new(words: &[u64]) -> Self {
        Self(words.iter().fold(0x51_6d_75_6c_61_74_6f_72, |state, word| mix(state ^ mix(*word))))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to `below`, which is excluded.
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.bits() % below
    }

    /// A number from `low` to `high`, evenly.
    pub(super) fn within(&mut self, low: f64, high: f64) -> f64 {
        // 53 bits and a power of two: exact.
        let unit = (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0);
        low + (high - low) * unit
    }

    /// A normal deviate of mean 0 and width 1, with its tails, from one draw.
    pub(super) fn gauss(&mut self) -> f64 {
        // In the middle of its 2^-53, so never 0 nor 1.
        gauss(((self.bits() >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0))
    }

    /// A number of events of which `mean` are expected (Poisson; at most 255).
    pub(super) fn count(&mut self, mean: f64) -> u32 {
        if mean > 25.0 {
            return (mean + mean.sqrt() * self.gauss() + 0.5).clamp(0.0, 255.0) as u32;
        }
        let (mut left, mut count) = (self.within(0.0, 1.0), 0);
        let mut chance = libm::exp(-mean.max(0.0));
        while left >= chance && count < 255 {
            left -= chance;
            count += 1;
            chance *= mean / f64::from(count);
        }
        count
    }
}

/// The normal deviate below which lies a share `p` (Wichura 1988, Applied Statistics 37, 477: algorithm AS 241, PPND7).
fn gauss(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * (((59.109_374_72 * r + 159.291_132_02) * r + 50.434_271_938) * r + 3.387_132_717_9)
            / (((67.187_563_6 * r + 78.757_757_664) * r + 17.895_169_469) * r + 1.0);
    }
    let r = (-libm::log(if q < 0.0 { p } else { 1.0 - p })).sqrt();
    let tail = if r <= 5.0 {
        let r = r - 1.6;
        (((0.170_238_211_03 * r + 1.306_728_481_6) * r + 2.756_815_39) * r + 1.423_437_277_7)
            / ((0.120_211_329_75 * r + 0.737_001_642_5) * r + 1.0)
    } else {
        let r = r - 5.0;
        (((0.017_337_203_997 * r + 0.428_682_943_37) * r + 3.081_226_386) * r + 6.657_905_115)
            / ((0.012_258_202_635 * r + 0.241_978_942_25) * r + 1.0)
    };
    if q < 0.0 { -tail } else { tail }
}

/// The finisher of splitmix64.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_every_word_and_on_their_order() {
        let first = |words: &[u64]| Dice::new(words).bits();
        assert_eq!(first(&[1, 2, 3]), first(&[1, 2, 3]));
        let all = [first(&[1, 2, 3]), first(&[1, 3, 2]), first(&[0, 2, 3]), first(&[1, 2]), first(&[1, 2, 3, 0])];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn gaussian_deviates_have_the_tails_of_a_gaussian() {
        // Quantiles as tables have them.
        for (share, deviate) in [(0.5, 0.0), (0.841_344_746, 1.0), (0.977_249_868, 2.0), (0.998_650_102, 3.0), (0.999_999_713, 5.0)] {
            assert!((gauss(share) - deviate).abs() < 1e-3 && (gauss(1.0 - share) + deviate).abs() < 1e-3, "{share}");
        }
        let mut dice = Dice::new(&[8]);
        let draws: Vec<f64> = (0..200_000).map(|_| dice.gauss()).collect();
        let beyond = |limit: f64| draws.iter().filter(|draw| draw.abs() > limit).count() as f64 / 2e5;
        assert!((beyond(1.0) - 0.3173).abs() < 0.005 && (beyond(3.0) - 0.0027).abs() < 0.0006);
    }

    #[test]
    fn counts_have_the_mean_and_variance_of_poisson() {
        for expected in [0.1, 2.5, 12.0, 40.0] {
            let mut dice = Dice::new(&[9]);
            let draws: Vec<f64> = (0..50_000).map(|_| f64::from(dice.count(expected))).collect();
            let mean = draws.iter().sum::<f64>() / 5e4;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 5e4;
            assert!((mean / expected - 1.0).abs() < 0.05 && (variance / expected - 1.0).abs() < 0.07, "{mean} {variance}");
        }
    }
}
