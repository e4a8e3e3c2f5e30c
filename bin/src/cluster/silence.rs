//! A graph that stands still ends its process: another is silent (stopped, swapped out, cut off), and nothing tells so.
//!
//! Live data's frontier advances with every tick, whatever the store, the source or late data do; it stands still only when a
//! worker of some process does nothing, or does not get through. Then a restart of all is the way on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fink_dataflow::Moment;

use super::AGAIN;
use super::crew::Crew;
use crate::gauges::Frontiers;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// How long nothing has moved, in looks: a process that is itself stopped and goes on has looked no more often.
#[derive(Debug, Default)]
struct Still {
    last: Option<Moment>,
    looks: u32,
}

impl Still {
    /// Looks; returns for how many looks nothing has moved.
    fn look(&mut self, now: Moment) -> u32 {
        if self.last == Some(now) {
            self.looks += 1;
        } else {
            (self.last, self.looks) = (Some(now), 0);
        }
        self.looks
    }
}

/// Watches this process's view of the graph, until the crew stops. Ends the process when nothing moves for so long.
pub(crate) fn watch(crew: &Crew, frontiers: &Arc<Mutex<Frontiers>>, bound: Duration) -> std::io::Result<()> {
    let (crew, frontiers, mut still) = (crew.clone(), frontiers.clone(), Still::default());
    let looks_max = u32::try_from(bound.as_millis().div_ceil(LOOK.as_millis())).unwrap_or(u32::MAX).max(2);
    std::thread::Builder::new().name("silence".to_owned()).spawn(move || {
        while !crew.stopping() {
            std::thread::sleep(LOOK);
            let live = frontiers.lock().unwrap_or_else(PoisonError::into_inner).live;
            if still.look(live) >= looks_max && !crew.stopping() {
                let who = crew.silent(bound / 2);
                let who = if who.is_empty() { "it is not known here which process is silent".to_owned() } else { who.join("; ") };
                tracing::error!(
                    "the cluster stands still at {live} for {bound:?}: {who}. This process ends, and with it all; started again, they go on \
                     from what is durable"
                );
                signal_hook::low_level::exit(i32::from(AGAIN));
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_move_is_counted() {
        let mut still = Still::default();
        let looks = [1, 1, 1, 2, 2, 5].map(|tick| still.look(Moment::new(0, tick)));
        assert_eq!(looks, [0, 1, 2, 0, 1, 0]);
    }
}
