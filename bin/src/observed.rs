//! Up to which time of observation alerts are durable, lane by lane.
//!
//! Alerts come in the order of their sending, not of observation: an alert that is held back or sent again is of an earlier
//! time than those before it. So this is the latest time of observation of all that is durable; what is older may follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fink_dataflow::Moment;
use fink_dataflow::alerts::Decoded;
use fink_sources::lanes::Lane;
use timely::dataflow::operators::Inspect;
use timely::dataflow::{ProbeHandle, StreamVec};

#[derive(Default)]
struct Inner {
    /// The latest observation of each lane at Moments that are not durable yet.
    open: [BTreeMap<Moment, i64>; 2],
    /// The latest that is durable.
    until: [Option<i64>; 2],
}

/// The latest observations, in milliseconds since 1970 UTC. Clones are the same.
#[derive(Clone, Default)]
pub struct Observed {
    inner: Arc<Mutex<Inner>>,
}

impl Observed {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the alerts that come by a lane.
    pub(crate) fn watch<'s>(&self, alerts: StreamVec<'s, Moment, Decoded>, lane: Lane) -> StreamVec<'s, Moment, Decoded> {
        let here = self.clone();
        alerts.inspect_core(move |event| {
            let Ok((stamp, all)) = event else { return };
            let latest = all.iter().flat_map(|each| &each.alerts).filter_map(|batch| batch.observed_ms).max();
            if let Some((moment, latest)) = stamp.iter().copied().max().zip(latest) {
                here.came(lane, moment, latest);
            }
        })
    }

    fn came(&self, lane: Lane, moment: Moment, observed_ms: i64) {
        let mut inner = self.inner();
        let open = inner.open[lane as usize].entry(moment).or_insert(observed_ms);
        *open = observed_ms.max(*open);
    }

    /// Notes what is durable by a probe behind the archive.
    pub(crate) fn settle(&self, durable: &ProbeHandle<Moment>) {
        let mut inner = self.inner();
        let Inner { open, until } = &mut *inner;
        for (open, until) in open.iter_mut().zip(until) {
            open.retain(|moment, observed_ms| {
                let waits = durable.less_equal(moment);
                if !waits {
                    *until = (*until).max(Some(*observed_ms));
                }
                waits
            });
        }
    }

    /// The latest observation of a lane that is durable, since the start.
    pub(crate) fn until_ms(&self, lane: Lane) -> Option<i64> {
        self.inner().until[lane as usize]
    }
}

#[cfg(test)]
mod tests {
    use timely::dataflow::operators::Probe;
    use timely::dataflow::operators::vec::UnorderedInput;

    use super::*;

    #[test]
    fn what_is_not_durable_does_not_count_and_older_observations_change_nothing() {
        let observed = Observed::default();
        timely::execute_directly({
            let observed = observed.clone();
            move |worker| {
                let probe = ProbeHandle::new();
                let (_input, mut open) = worker.dataflow::<Moment, _, _>(|scope| {
                    let ((input, open), stream) = scope.new_unordered_input::<()>();
                    stream.probe_with(&probe);
                    (input, open)
                });
                let mut until = |live: Moment| {
                    open.downgrade(&live);
                    (0..4).for_each(|_| _ = worker.step());
                    observed.settle(&probe);
                    [Lane::Live, Lane::Backlog].map(|lane| observed.until_ms(lane))
                };
                observed.came(Lane::Live, Moment::new(0, 3), 5_000);
                observed.came(Lane::Backlog, Moment::new(1, 5), 2_000);
                assert_eq!(until(Moment::new(0, 3)), [None, None]);
                assert_eq!(until(Moment::new(0, 4)), [Some(5_000), None], "the late epoch is open");
                observed.came(Lane::Live, Moment::new(0, 4), 1_000);
                assert_eq!(until(Moment::new(1, 6)), [Some(5_000), Some(2_000)]);
            }
        });
    }
}
