//! How the services' arrangements are merged while nothing comes: little by little, and only where it is worth it.
//!
//! Differential's own choice for idle arrangements rewrites all of one as soon as it is in two parts, which is at each tick, and does
//! so in turns that are as long as it is told. Answers wait for a turn to end. Here a turn is short; and what is small against the
//! rest stays apart, as merging it would rewrite the rest for its sake.

use std::sync::Arc;

use differential_dataflow::trace::ExertionLogic;
use timely::WorkerConfig;

/// Updates that an arrangement merges in one turn: some two milliseconds for the largest of them.
const EFFORT: usize = 1_000;
/// The greatest batch is merged with all others when these are more than this part of it.
const PART: usize = 8;

/// Has workers so configured merge so.
pub fn configure(config: &mut WorkerConfig) {
    config.set::<ExertionLogic>("differential/default_exert_logic".to_owned(), Arc::new(effort));
}

/// How many updates to merge now, by the levels of an arrangement: each with how many batches it has (two: they are being merged),
/// and their updates.
fn effort(levels: &[(usize, usize, usize)]) -> Option<usize> {
    let (mut all, mut greatest) = (0, 0);
    for (_, batches, updates) in levels {
        if *batches > 1 {
            return Some(EFFORT);
        }
        all += updates;
        greatest = greatest.max(*updates);
    }
    ((all - greatest) * PART > greatest).then_some(EFFORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_against_the_rest_stays_apart() {
        assert_eq!(effort(&[]), None);
        assert_eq!(effort(&[(20, 1, 1_000_000), (6, 1, 50), (5, 0, 0)]), None);
        assert_eq!(effort(&[(20, 1, 1_000_000), (16, 1, 60_000), (17, 1, 70_000)]), Some(EFFORT));
        assert_eq!(effort(&[(20, 2, 1_000_000)]), Some(EFFORT), "what was begun is brought to an end");
    }
}
