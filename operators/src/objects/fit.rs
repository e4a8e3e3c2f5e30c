//! A straight line through magnitudes.

use fink_dataflow::detection::Real32;
use serde::{Deserialize, Serialize};

/// How fast a brightness changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// Magnitudes a day: negative while it becomes brighter; none of fewer than two times.
    pub mag_per_day: Real32,
    /// Its standard error.
    pub error: Real32,
}

impl Rate {
    /// No rate.
    pub const NONE: Self = Self { mag_per_day: Real32::NONE, error: Real32::NONE };
}

/// The slope of the line of least squares through (days, magnitude, error), each weighed by its error's inverse square, and
/// the slope's error: Bevington & Robinson, Data Reduction and Error Analysis (2003), section 6.3. Points without an error
/// have no weight.
#[must_use]
pub fn rate(points: impl Iterator<Item = (f64, f64, f64)> + Clone) -> Rate {
    let weighed = points.filter(|(_, _, error)| *error > 0.0).map(|(t, m, error)| (t, m, 1.0 / (error * error)));
    let (mut sum, mut sum_t, mut sum_m) = (0.0, 0.0, 0.0);
    // Counted from the first, since a Julian date's square loses the seconds.
    let Some((origin, _, _)) = weighed.clone().next() else { return Rate::NONE };
    for (t, m, w) in weighed.clone() {
        sum += w;
        sum_t += w * (t - origin);
        sum_m += w * m;
    }
    let (mean_t, mean_m) = (sum_t / sum, sum_m / sum);
    let (mut tt, mut tm) = (0.0, 0.0);
    for (t, m, w) in weighed {
        let dt = t - origin - mean_t;
        tt += w * dt * dt;
        tm += w * dt * (m - mean_m);
    }
    // Less than a millisecond apart is no baseline.
    if tt / sum < 1e-16 {
        return Rate::NONE;
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounded to what a row has room for")]
    let rate = Rate { mag_per_day: Real32((tm / tt) as f32), error: Real32((1.0 / tt).sqrt() as f32) };
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_line_and_its_error() {
        let line = |t: f64| (61_000.0 + t, 20.0 - 0.25 * t, 0.1);
        let rate = rate((0..5).map(|t| line(f64::from(t))));
        // Five points of error 0.1 at -2 … 2 days: 0.1 / sqrt(10).
        assert!((rate.mag_per_day.0 + 0.25).abs() < 1e-6 && (rate.error.0 - 0.031_623).abs() < 1e-5, "{rate:?}");
    }

    #[test]
    fn heavy_points_bend_it_and_weightless_ones_do_not() {
        let points = [(0.0, 20.0, 0.1), (1.0, 19.0, 0.1), (2.0, 25.0, 1e6), (2.0, 30.0, 0.0)];
        let rate = rate(points.into_iter());
        assert!((rate.mag_per_day.0 + 1.0).abs() < 1e-6, "{rate:?}");
    }

    #[test]
    fn one_time_has_no_rate() {
        assert_eq!(rate([(1.0, 20.0, 0.1), (1.0, 19.0, 0.1)].into_iter()), Rate::NONE);
        assert_eq!(rate([(1.0, 20.0, 0.1)].into_iter()), Rate::NONE);
        assert_eq!(rate([].into_iter()), Rate::NONE);
    }
}
