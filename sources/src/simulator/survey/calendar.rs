//! The numbers of visits: how many each night has, and which night a number belongs to.
//!
//! Exposures follow one another from dusk to dawn, so a night has as many visits as fit. The lengths of the nights come
//! round every four years (1,461 nights), so sums over one such cycle do for all times.

use super::instrument::Instrument;

/// Nights of a cycle.
const CYCLE: i32 = 1461;
/// A cycle begins on 2000-01-01; visit 0 is the first of that night.
const FIRST_NIGHT: i32 = 51_544;
/// The cycle whose nights are counted, from 2024-01-01: the middle of the times that matter.
const COUNTED: i32 = FIRST_NIGHT + 6 * CYCLE;

/// The nights of an observatory.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    /// How many visits there are in the cycle before each of its nights, and in all of it.
    before: Vec<i64>,
}

impl Calendar {
    pub(crate) fn new(instrument: &Instrument) -> Self {
        let mut before = vec![0];
        for night in COUNTED..COUNTED + CYCLE {
            let (dusk, dawn) = instrument.site.night(night);
            let visits = ((dawn - dusk) * 86_400.0 / instrument.interval_s).floor().max(1.0) as i64;
            before.push(before[before.len() - 1] + visits);
        }
        Self { before }
    }

    fn cycle(&self) -> i64 {
        self.before[CYCLE as usize]
    }

    /// The first visit of a night.
    pub(crate) fn first(&self, night_mjd: i32) -> i64 {
        let nights = night_mjd - FIRST_NIGHT;
        i64::from(nights.div_euclid(CYCLE)) * self.cycle() + self.before[nights.rem_euclid(CYCLE) as usize]
    }

    /// How many visits a night has.
    pub(crate) fn count(&self, night_mjd: i32) -> u32 {
        (self.first(night_mjd + 1) - self.first(night_mjd)) as u32
    }

    /// The night of a visit, and which of its visits it is.
    pub(crate) fn night(&self, visit: i64) -> (i32, u32) {
        let (cycle, rest) = (visit.div_euclid(self.cycle()), visit.rem_euclid(self.cycle()));
        let night = self.before.partition_point(|before| *before <= rest) - 1;
        (FIRST_NIGHT + cycle as i32 * CYCLE + night as i32, (rest - self.before[night]) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::seen::Telescope;

    #[test]
    fn every_visit_has_its_night_and_nights_follow_one_another() {
        for telescope in [Telescope::Ztf, Telescope::Lsst] {
            let calendar = Calendar::new(&Instrument::of(telescope));
            let mut next = calendar.first(51_500);
            for night in 51_500..56_000 {
                let (first, count) = (calendar.first(night), calendar.count(night));
                assert_eq!(first, next);
                assert!((400..1300).contains(&count), "{count} visits");
                assert_eq!(calendar.night(first), (night, 0));
                assert_eq!(calendar.night(first + i64::from(count) - 1), (night, count - 1));
                next = first + i64::from(count);
            }
            assert_eq!(calendar.first(51_544), 0);
            // Winter nights are long, on either half of the Earth.
            let (december, june) = (calendar.count(61_395), calendar.count(61_211));
            assert_eq!(december > june, telescope == Telescope::Ztf);
        }
    }
}
