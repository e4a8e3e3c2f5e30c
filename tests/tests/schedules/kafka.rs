//! A cluster made up: logs that grow, lose their oldest messages, and are away at times.

use std::collections::BTreeMap;
use std::sync::Arc;

use fink_dataflow::message::Mark;
use fink_dataflow::ports::Extent;

use super::chance::Chance;

/// Who the cluster is.
pub const SOURCE: &str = "kafka:made-up";

/// What stands at an offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A message of so many records.
    Alert(i32),
    /// A message that can't be decoded.
    Reject,
    /// A message without a record.
    Empty,
    /// What no consumer sees: a marker, an aborted or compacted message.
    Unseen,
}

/// A partition: all that ever stood in it, and where it begins now.
#[derive(Debug, Default)]
pub struct Partition {
    pub kinds: Vec<Kind>,
    pub low: i64,
}

impl Partition {
    pub fn high(&self) -> i64 {
        i64::try_from(self.kinds.len()).expect("small")
    }

    pub fn at(&self, offset: i64) -> Kind {
        self.kinds[usize::try_from(offset).expect("an offset")]
    }
}

/// The cluster.
#[derive(Debug, Default)]
pub struct Kafka {
    pub partitions: BTreeMap<(Arc<str>, i32), Partition>,
    /// It does not answer.
    pub away: bool,
}

/// The mark of a message.
pub fn mark(partition: i32, offset: i64) -> Mark {
    Mark { offset, timestamp_ms: Some(1_000 + offset), hash: (offset.unsigned_abs() * 31) ^ u64::from(partition.unsigned_abs()) }
}

/// The night of a message: messages of a time are of few nights.
pub fn night(offset: i64) -> i64 {
    offset / 40
}

impl Kafka {
    pub fn new(chance: &mut Chance) -> Self {
        let mut kafka = Self::default();
        for topic in ["ztf", "lsst"].iter().take(usize::try_from(chance.between(1, 2)).expect("small")) {
            for partition in 0..chance.between(1, 3) {
                let key = (Arc::from(*topic), i32::try_from(partition).expect("small"));
                kafka.partitions.insert(key.clone(), Partition::default());
                if chance.permille(700) {
                    kafka.grow(&key, chance.between(1, 40), chance);
                }
            }
        }
        kafka
    }

    pub fn grow(&mut self, key: &(Arc<str>, i32), count: u64, chance: &mut Chance) {
        let Some(partition) = self.partitions.get_mut(key) else { return };
        for _ in 0..count {
            partition.kinds.push(match chance.below(20) {
                0 => Kind::Reject,
                1 => Kind::Empty,
                2 | 3 => Kind::Unseen,
                4 => Kind::Alert(3),
                _ => Kind::Alert(1),
            });
        }
    }

    pub fn any(&self, chance: &mut Chance) -> (Arc<str>, i32) {
        let which = usize::try_from(chance.below(self.partitions.len() as u64)).expect("small");
        self.partitions.keys().nth(which).expect("there is one").clone()
    }

    /// A partition more, of a topic that there is, or of a new one.
    pub fn bear(&mut self, chance: &mut Chance) {
        let topic: Arc<str> = if chance.permille(200) { "new".into() } else { self.any(chance).0 };
        let number = self.partitions.keys().filter(|(name, _)| *name == topic).count();
        self.partitions.insert((topic, i32::try_from(number).expect("small")), Partition::default());
    }

    /// Retention strikes: the oldest messages go, whether they were read or not.
    pub fn forget(&mut self, chance: &mut Chance) {
        let key = self.any(chance);
        let partition = self.partitions.get_mut(&key).expect("there is one");
        let left = (partition.high() - partition.low).unsigned_abs();
        partition.low += chance.below(left + 1).cast_signed();
    }

    pub fn extents(&self) -> Option<Vec<Extent>> {
        let extent = |((topic, partition), held): (&(Arc<str>, i32), &Partition)| Extent {
            topic: topic.clone(),
            partition: *partition,
            low: held.low,
            high: held.high(),
        };
        (!self.away).then(|| self.partitions.iter().map(extent).collect())
    }
}
