//! A process's share of a source: which logs it reads, and which the cluster's other processes do.
//!
//! The rule depends on nothing but a log's name and the number of processes, so all agree without asking: partition `p` of a
//! topic goes to process `(hash(topic) + p) mod N`. Each topic's partitions are spread evenly, and topics of one partition among
//! themselves. Started again with another N, the logs are spread anew: what is covered is all that counts.

use std::sync::Arc;
use std::time::Duration;

use fink_dataflow::message::{Chunk, Log, Mark};
use fink_dataflow::ports::{Extent, Source, SourceError, Stretch};
use xxhash_rust::xxh3::xxh3_64;

/// Which logs a process reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    process: u64,
    processes: u64,
}

impl Share {
    /// The share of a process of so many.
    #[must_use]
    pub fn of(process: usize, processes: usize) -> Self {
        Self { process: process as u64, processes: (processes as u64).max(1) }
    }

    /// Whether a log is in it.
    #[must_use]
    pub fn has(self, topic: &str, partition: i32) -> bool {
        let turn = xxh3_64(topic.as_bytes()) % self.processes + u64::from(partition.unsigned_abs());
        turn % self.processes == self.process
    }
}

/// A source that shows a share of another's logs only.
pub struct Shared {
    source: Box<dyn Source>,
    share: Share,
}

impl Shared {
    /// That share of `source`.
    #[must_use]
    pub fn new(source: Box<dyn Source>, share: Share) -> Self {
        Self { source, share }
    }
}

impl Source for Shared {
    fn identity(&mut self) -> Result<Arc<str>, SourceError> {
        self.source.identity()
    }

    fn extents(&mut self) -> Result<Vec<Extent>, SourceError> {
        let mut extents = self.source.extents()?;
        extents.retain(|extent| self.share.has(&extent.topic, extent.partition));
        Ok(extents)
    }

    fn away(&self) -> Vec<(Arc<str>, i32)> {
        let mut away = self.source.away();
        away.retain(|(topic, partition)| self.share.has(topic, *partition));
        away
    }

    fn absent(&self) -> Vec<Arc<str>> {
        self.source.absent()
    }

    fn suspects(&mut self) -> bool {
        self.source.suspects()
    }

    fn offset_at(&mut self, topic: &str, partition: i32, time_ms: i64) -> Result<i64, SourceError> {
        self.source.offset_at(topic, partition, time_ms)
    }

    fn mark(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Option<Mark>, SourceError> {
        self.source.mark(topic, partition, offset)
    }

    fn marks(&mut self, of: &[(Arc<str>, i32, i64)]) -> Result<Vec<Option<Mark>>, SourceError> {
        self.source.marks(of)
    }

    fn read(&mut self, stretches: &[Stretch]) -> Result<(), SourceError> {
        self.source.read(stretches)
    }

    fn pause(&mut self, log: &Log, paused: bool) -> Result<(), SourceError> {
        self.source.pause(log, paused)
    }

    fn poll(&mut self, timeout: Duration) -> Result<Option<Chunk>, SourceError> {
        self.source.poll(timeout)
    }

    fn durable(&mut self, log: &Log, offset: i64) {
        self.source.durable(log, offset);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simulator::{Simulator, SimulatorConfig};

    proptest! {
        #[test]
        fn every_log_is_in_one_share_and_the_shares_of_a_topic_differ_by_one_at_most(
            topic in "[a-z_.0-9]{1,20}", partitions in 1i32..200, processes in 1usize..12,
        ) {
            let sizes: Vec<usize> = (0..processes)
                .map(|process| (0..partitions).filter(|p| Share::of(process, processes).has(&topic, *p)).count())
                .collect();
            prop_assert_eq!(sizes.iter().sum::<usize>(), usize::try_from(partitions).expect("small"));
            prop_assert!(sizes.iter().max().expect("some") - sizes.iter().min().expect("some") <= 1, "{:?}", sizes);
        }
    }

    #[test]
    fn topics_of_one_partition_are_spread_too() {
        let mut sizes = [0; 3];
        for night in 0..300 {
            let topic = format!("ztf_2026{night:04}_programid1");
            sizes[(0..3).find(|process| Share::of(*process, 3).has(&topic, 0)).expect("one has it")] += 1;
        }
        assert!(sizes.iter().all(|size| (70..=130).contains(size)), "{sizes:?}");
    }

    #[test]
    fn a_source_shows_the_share_only() {
        let config = SimulatorConfig { partitions: 5, ..SimulatorConfig::new(1, 0) };
        let extents = |process| {
            let whole = Box::new(Simulator::new(config.clone(), || 10_000).expect("a stream"));
            let mut shared = Shared::new(whole, Share::of(process, 2));
            shared.extents().expect("extents").iter().map(|extent| extent.partition).collect::<Vec<_>>()
        };
        let mut all = [extents(0), extents(1)].concat();
        all.sort_unstable();
        assert_eq!((all, extents(0).len().abs_diff(extents(1).len())), ((0..5).collect::<Vec<_>>(), 1));
    }
}
