//! A second client, that looks at single offsets without disturbing the first.
//!
//! Two things are looked at: the message at an offset (a mark), and whether a log holds any message between a position and
//! its end. The first client can't tell the latter: it says that an end was reached, but not of which topic, nor where, and
//! a log may end in transaction markers and aborted messages, which no consumer ever sees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_dataflow::message::{Log, Mark};
use fink_dataflow::ports::SourceError;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use xxhash_rust::xxh3::xxh3_64;

use super::health::{Health, is_of_the_group};

/// How long a look at single offsets may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long logs looked at together may take before each is looked at alone.
const TOGETHER: Duration = Duration::from_secs(3);

/// A place in a log: topic, partition, offset.
pub(crate) type Place = (Arc<str>, i32, i64);

/// A client for looking.
pub(crate) fn client(config: &ClientConfig) -> Result<BaseConsumer<Health>, KafkaError> {
    let mut config = config.clone();
    // Little is looked at, so little is fetched.
    config.set("enable.partition.eof", "true").set("fetch.message.max.bytes", "65536").set("queued.max.messages.kbytes", "4096");
    config.create_with_context(Health::default())
}

/// The marks of the messages at these places; `None` where a log holds no message there.
pub(crate) fn marks(probe: &BaseConsumer<Health>, of: &[Place]) -> Result<Vec<Option<Mark>>, SourceError> {
    let failed = |error: &KafkaError| probe.context().judge("reading stored messages again", error);
    let mut found: BTreeMap<(Arc<str>, i32, i64), Option<Mark>> = BTreeMap::new();
    let wanted: BTreeMap<(&str, i32), &Place> = of.iter().map(|place| ((&*place.0, place.1), place)).collect();
    assign(probe, of).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + TOGETHER;
    while found.len() < wanted.len() && Instant::now() < deadline {
        match probe.poll(deadline.saturating_duration_since(Instant::now())) {
            Some(Ok(message)) => {
                if let Some(place) = wanted.get(&(message.topic(), message.partition())) {
                    found.entry((*place).clone()).or_insert_with(|| mark_at(&message, place.2));
                }
            }
            // Of which topic it is the end is not known: those that are left are looked at alone.
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) if is_of_the_group(&error) => {}
            Some(Err(_)) => break,
            None => {}
        }
    }
    for place in of {
        if !found.contains_key(place) {
            found.insert(place.clone(), alone(probe, place)?);
        }
    }
    // Nothing is to be fetched any more; that it is not, costs nothing but memory.
    let _ = probe.unassign();
    Ok(of.iter().map(|place| found.get(place).copied().flatten()).collect())
}

fn alone(probe: &BaseConsumer<Health>, place: &Place) -> Result<Option<Mark>, SourceError> {
    let failed = |error: &KafkaError| probe.context().judge("reading a stored message again", error);
    assign(probe, std::slice::from_ref(place)).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match probe.poll(deadline.saturating_duration_since(Instant::now())) {
            Some(Ok(message)) if message.topic() == &*place.0 && message.partition() == place.1 => return Ok(mark_at(&message, place.2)),
            Some(Err(KafkaError::PartitionEOF(partition))) if partition == place.1 => return Ok(None),
            Some(Err(error)) if out_of_range(&error) => return Ok(None),
            Some(Err(error)) if is_of_the_group(&error) => {}
            Some(Err(error)) => return Err(failed(&error)),
            Some(Ok(_)) | None => {}
        }
    }
    Err(probe.context().judge_silence("reading a stored message again"))
}

/// Whether an error says that an offset is not there.
pub(crate) fn out_of_range(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(error.rdkafka_error_code(), Some(Code::AutoOffsetReset | Code::OffsetOutOfRange))
}

fn mark_at(message: &BorrowedMessage<'_>, offset: i64) -> Option<Mark> {
    (message.offset() == offset).then(|| Mark {
        offset,
        timestamp_ms: message.timestamp().to_millis(),
        hash: message.payload().map_or(0, xxh3_64),
    })
}

pub(crate) fn assign(probe: &BaseConsumer<Health>, places: &[Place]) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in places {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    probe.assign(&list)
}

/// A look at the ends of quiet logs, some at a time, never waiting.
pub(crate) struct Tails {
    probe: BaseConsumer<Health>,
    /// Still to be looked at: the log, its position, and the end that it had before.
    ahead: Vec<(Arc<Log>, i64, i64)>,
    /// Looked at now, by partition: ends are told by partition only.
    now: BTreeMap<i32, (Arc<Log>, i64, i64)>,
    deadline: Instant,
}

impl Tails {
    pub(crate) fn new(config: &ClientConfig, quiet: Vec<(Arc<Log>, i64, i64)>) -> Result<Self, KafkaError> {
        Ok(Self { probe: client(config)?, ahead: quiet, now: BTreeMap::new(), deadline: Instant::now() })
    }

    /// The logs found to hold nothing from their position up to the end given; `None` when all have been looked at.
    pub(crate) fn poll(&mut self) -> Option<Vec<(Arc<Log>, i64, i64)>> {
        if self.now.is_empty() || Instant::now() >= self.deadline {
            self.advance()?;
        }
        let mut empty = Vec::new();
        while let Some(event) = self.probe.poll(Duration::ZERO) {
            match event {
                // There is something after all: the other client will read it.
                Ok(message) => {
                    let at = message.partition();
                    if self.now.get(&at).is_some_and(|(log, from, _)| *log.topic == *message.topic() && message.offset() >= *from) {
                        self.now.remove(&at);
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) => empty.extend(self.now.remove(&partition)),
                Err(error) if is_of_the_group(&error) => {}
                Err(_) => self.now.clear(),
            }
        }
        Some(empty)
    }

    /// Takes the next logs, one of each partition number.
    fn advance(&mut self) -> Option<()> {
        self.now.clear();
        let mut later = Vec::new();
        for quiet in self.ahead.drain(..) {
            match self.now.entry(quiet.0.partition) {
                std::collections::btree_map::Entry::Vacant(slot) => {
                    slot.insert(quiet);
                }
                std::collections::btree_map::Entry::Occupied(_) => later.push(quiet),
            }
        }
        self.ahead = later;
        if self.now.is_empty() {
            return None;
        }
        let places: Vec<Place> = self.now.values().map(|(log, from, _)| (log.topic.clone(), log.partition, *from)).collect();
        assign(&self.probe, &places).ok()?;
        self.deadline = Instant::now() + PATIENCE;
        Some(())
    }
}
