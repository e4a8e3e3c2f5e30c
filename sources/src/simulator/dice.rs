//! Chance and functions that give the same bits on every machine: integer hashing, and only such floating-point
//! operations as IEEE 754 rounds exactly (no libm, whose last bit differs from platform to platform).

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

    /// Nearly a normal deviate of mean 0 and width 1: the sum of four even ones, cut at 3.46.
    pub(super) fn normal(&mut self) -> f64 {
        let sum = self.within(0.0, 1.0) + self.within(0.0, 1.0) + self.within(0.0, 1.0) + self.within(0.0, 1.0);
        (sum - 2.0) * 1.732_050_807_568_877_2
    }
}

/// The finisher of splitmix64.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// 10 to the `exponent`, for exponents from -200 to 200.
pub(super) fn power_of_ten(exponent: f64) -> f64 {
    let twos = exponent.clamp(-200.0, 200.0) * std::f64::consts::LOG2_10;
    let whole = twos.floor();
    let rest = (twos - whole) * std::f64::consts::LN_2;
    let series = (1..=16).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    // `whole` is within -665 to 665: a normal number.
    series * f64::from_bits(((whole as i64 + 1023) as u64) << 52)
}

/// The sine of an angle given in turns.
pub(super) fn sine(turns: f64) -> f64 {
    let turns = turns - turns.floor();
    // Folded into a quarter turn around zero, where the series converges fast.
    let folded = if turns < 0.25 {
        turns
    } else if turns < 0.75 {
        0.5 - turns
    } else {
        turns - 1.0
    };
    let x = folded * std::f64::consts::TAU;
    x * (1..=8).rev().fold(1.0, |sum, n| 1.0 - sum * x * x / f64::from(2 * n * (2 * n + 1)))
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
    fn functions_are_close_to_the_platform_s() {
        for step in -400..400 {
            let x = f64::from(step) * 0.037;
            assert!((power_of_ten(x) / 10f64.powf(x) - 1.0).abs() < 1e-13, "10^{x}");
            assert!((sine(x) - (x * std::f64::consts::TAU).sin()).abs() < 1e-11, "sine of {x} turns");
        }
    }

    #[test]
    fn normal_deviates_have_mean_zero_and_width_one() {
        let mut dice = Dice::new(&[7]);
        let draws: Vec<f64> = (0..100_000).map(|_| dice.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let width = (draws.iter().map(|d| d * d).sum::<f64>() / 1e5).sqrt();
        assert!(mean.abs() < 0.02 && (width - 1.0).abs() < 0.02, "{mean} {width}");
    }
}
