//! Topics of a Kafka cluster as a source.
//!
//! One client reads, with partitions assigned by hand: no group decides what is read, and the cluster's stored offsets decide
//! nothing. What is passed over is told by spans from position to position, so that transaction markers, aborted and
//! compacted messages leave no holes; at the end of a log a second client ([`probe`]) looks whether there are any.
//! A client of its own asks how far topics reach: a broker answers one connection's questions in order, and on the reading
//! client's they would wait behind a fetch that waits for messages, while nobody takes what has come.
//! Behind messages that it can't read librdkafka just goes on: they are asked for again, and nothing is passed over
//! meanwhile ([`damage`]).
//!
//! | file | what it is |
//! |---|---|
//! | [`config`] | how to reach a cluster, and which of its topics to read |
//! | `damage` | messages that can't be read, and when they are asked for again |
//! | `health` | how we stand with the cluster, told once per change |
//! | `held` | a message of our own, in the client's memory |
//! | `positions` | where each log stands, and how messages become chunks |
//! | `probe` | looks at single offsets |
//! | `there` | which topics and partitions there are |
//! | `unreadable` | which offsets hold messages that are damaged for good |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_dataflow::message::{Chunk, Log, Mark};
use fink_dataflow::ports::{Extent, Source, SourceError, Stretch};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tracing::{debug, info};

pub mod config;
mod damage;
mod errors;
mod health;
mod held;
mod positions;
mod probe;
mod there;
mod unreadable;

pub use config::{ConfigError, KafkaConfig, Mechanism, Sasl, Secret, Tls, Topics};

use damage::Damage;
use errors::{client_error, is_away, passing};
use health::Health;
use held::Held;
use positions::{Positions, Taken};
use probe::Tails;
use there::There;
pub use unreadable::unreadable;

/// How long the cluster may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take where it only makes a start quicker.
const HASTE: Duration = Duration::from_secs(2);
/// How many messages are gathered at most before they are handed over.
const GATHERED_MAX: usize = 256;
/// How many bytes, likewise.
const GATHERED_BYTES_MAX: usize = 8 << 20;
/// How long messages are gathered after the first: a batch of one alert costs as much as the next dozen.
const GATHERING: Duration = Duration::from_millis(100);

/// Topics of a Kafka cluster.
pub struct KafkaSource {
    topics: Topics,
    client: ClientConfig,
    /// Reads. Messages that it gave keep it.
    consumer: Arc<BaseConsumer<Health>>,
    /// Asks, and never reads. It also shows monitors what is durable: librdkafka begins to fetch nothing while a commit waits
    /// for the group's coordinator.
    asker: BaseConsumer<Health>,
    positions: Positions,
    tails: Option<Tails>,
    /// Some log does not hold the offset that it is read at, and which one is not known yet.
    astray: bool,
    damage: Damage,
    /// What there was when the source was last looked at.
    there: There,
    /// An offset was said not to be there that by all accounts is.
    suspects: bool,
    /// What is to be told, one by one: offsets out of range, damage.
    lost: Vec<SourceError>,
    /// What was told to monitors last.
    told: BTreeMap<(Arc<str>, i32), i64>,
    /// Topics of which something was read.
    met: BTreeSet<Arc<str>>,
}

impl KafkaSource {
    /// A source of these topics; nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// When the configuration can't be right.
    pub fn new(config: &KafkaConfig) -> Result<Self, ConfigError> {
        let client = config.client()?;
        let health = Health::default();
        let create = |health| client.create_with_context(health).map_err(|error| ConfigError::Client(client_error(&error)));
        let (consumer, asker) = (create(health.clone())?, create(health)?);
        Ok(Self {
            topics: config.topics.clone(),
            client,
            consumer: Arc::new(consumer),
            asker,
            positions: Positions::default(),
            tails: None,
            astray: false,
            damage: Damage::default(),
            there: There::default(),
            suspects: false,
            lost: Vec::new(),
            told: BTreeMap::new(),
            met: BTreeSet::new(),
        })
    }

    fn health(&self) -> &Health {
        self.consumer.context()
    }

    fn failed(&self, doing: &str) -> impl Fn(KafkaError) -> SourceError + '_ {
        let doing = doing.to_owned();
        move |error| {
            // Serves what librdkafka has to say about why.
            self.serve_callbacks();
            self.health().judge(&doing, &error)
        }
    }

    /// Callbacks come by polling only; no message can be lost by it where nothing is assigned.
    fn serve_callbacks(&self) {
        while let Some(event) = self.asker.poll(Duration::ZERO) {
            if event.is_err_and(|error| health::is_of_the_group(&error)) {
                self.group_refused();
            }
        }
        if self.positions.iter().next().is_none() {
            while self.consumer.poll(Duration::ZERO).is_some() {}
        }
    }

    /// The partitions that somebody leads now.
    fn partitions(&mut self) -> Result<Vec<(Arc<str>, i32)>, SourceError> {
        let mut there = std::mem::take(&mut self.there);
        let found = there.look(&self.topics, |name| self.asker.fetch_metadata(name, PATIENCE).map_err(self.failed("asking for topics")));
        self.there = there;
        found
    }

    /// Asks for an offset of each partition: their starts, their ends, or by time. Those that nobody leads are left out.
    fn offsets(&self, of: &[(Arc<str>, i32)], which: Offset) -> Result<BTreeMap<(Arc<str>, i32), Offset>, SourceError> {
        let doing = "asking how far topics reach";
        if of.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition) in of {
            list.add_partition_offset(topic, *partition, which).map_err(self.failed(doing))?;
        }
        let answer = self.asker.offsets_for_times(list, PATIENCE).map_err(self.failed(doing))?;
        let offset = |element: TopicPartitionListElem<'_>| element.error().map(|()| element.offset());
        let mut offsets = BTreeMap::new();
        for (topic, partition) in of {
            let element = answer.find_partition(topic, *partition).map(offset);
            match element {
                Some(Ok(offset)) => {
                    offsets.insert((topic.clone(), *partition), offset);
                }
                Some(Err(error)) if is_away(&error) => debug!(%topic, partition, %error, "left out of a look"),
                Some(Err(error)) => return Err(self.failed(doing)(error)),
                None => return Err(self.health().judge_silence(doing)),
            }
        }
        Ok(offsets)
    }

    /// Extents of these partitions.
    fn extents_of(&self, partitions: &[(Arc<str>, i32)]) -> Result<Vec<Extent>, SourceError> {
        let lows = self.offsets(partitions, Offset::Beginning)?;
        let highs = self.offsets(partitions, Offset::End)?;
        let extents = lows.into_iter().filter_map(|((topic, partition), low)| {
            let of = (topic, partition);
            match (low, highs.get(&of)) {
                (Offset::Offset(low), Some(Offset::Offset(high))) => Some(Extent { topic: of.0, partition, low, high: low.max(*high) }),
                _ => None,
            }
        });
        self.health().works();
        Ok(extents.collect())
    }

    /// Has the client fetch a log from its position on.
    fn fetch_from_positions(&self, logs: &[Arc<Log>]) -> Result<(), KafkaError> {
        let (mut old, mut new, mut paused) = (TopicPartitionList::new(), TopicPartitionList::new(), TopicPartitionList::new());
        let assigned = self.consumer.assignment()?;
        for log in logs {
            let Some(reading) = self.positions.get(&log.topic, log.partition) else { continue };
            new.add_partition_offset(&log.topic, log.partition, Offset::Offset(reading.position))?;
            if assigned.find_partition(&log.topic, log.partition).is_some() {
                old.add_partition(&log.topic, log.partition);
            }
            if reading.paused {
                paused.add_partition(&log.topic, log.partition);
            }
        }
        if old.count() > 0 {
            self.consumer.incremental_unassign(&old)?;
        }
        if new.count() > 0 {
            self.consumer.incremental_assign(&new)?;
        }
        if paused.count() > 0 {
            self.consumer.pause(&paused)?;
        }
        Ok(())
    }

    fn fetch_no_more(&mut self, topic: &str, partition: i32) {
        self.positions.gather(now_us());
        self.positions.end(topic, partition);
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            debug!(topic, partition, %error, "not unassigned");
        }
    }

    /// Gathers messages for a moment after the first, and makes chunks of them.
    fn gather(&mut self, timeout: Duration) -> Result<(), SourceError> {
        let mut finished = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        let mut wait = whole_ms(timeout);
        let mut deadline = None;
        let mut failure = None;
        while messages < GATHERED_MAX && bytes < GATHERED_BYTES_MAX {
            match Held::poll(&self.consumer, wait) {
                None => break,
                // What comes behind these may be behind messages that nobody saw. It is gone through all the same: such errors
                // come several at a time, and each would drop what the other partitions have for us.
                Some(Err(error)) if damage::is_told_by(&error) => self.damaged(damage::text(&error)),
                Some(Err(error)) if probe::out_of_range(&error) => {
                    self.positions.pass_over_nothing(true);
                    self.astray = true;
                }
                Some(Err(error)) if health::is_of_the_group(&error) => self.group_refused(),
                // Behind an error there may be messages: only where there are none it is told.
                Some(Err(error)) if passing(&error) => failure = Some(error),
                Some(Err(error)) => {
                    failure = Some(error);
                    break;
                }
                Some(Ok(held)) => {
                    messages += 1;
                    bytes += held.as_ref().len();
                    if let Taken::Finished(log) = self.positions.take(held) {
                        finished.push(log);
                    }
                }
            }
            let until = *deadline.get_or_insert_with(|| Instant::now() + GATHERING);
            wait = whole_ms(until.saturating_duration_since(Instant::now()));
        }
        if messages > 0 {
            self.health().works();
        }
        for log in finished {
            self.fetch_no_more(&log.topic, log.partition);
        }
        self.positions.gather(now_us());
        match failure {
            Some(error) => self.poll_failed(&error),
            None if messages == 0 => self.health().trouble().map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    /// Whoever may read the topics need not be allowed a group: nothing is read by it.
    fn group_refused(&self) {
        self.health().note_group(self.client.get("group.id").unwrap_or_default());
    }

    fn poll_failed(&self, error: &KafkaError) -> Result<(), SourceError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => Ok(()),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Err(SourceError::Stop(format!("kafka client failed: {error}"))),
            _ => Err(self.health().judge("reading", error)),
        }
    }

    /// Some messages can't be read: nothing is passed over until they are asked for again.
    fn damaged(&mut self, why: String) {
        self.positions.pass_over_nothing(true);
        if self.damage.found(Instant::now()) {
            self.lost.push(SourceError::Retry(why));
        }
    }

    /// Finds the logs that do not hold the offset that they are read at: librdkafka does not say which, so all are looked
    /// at. Whichever it was, its fetching has stopped.
    fn find_lost(&mut self) -> Result<(), SourceError> {
        let logs = self.positions.iter().map(|reading| (reading.log.topic.clone(), reading.log.partition));
        let partitions: Vec<_> = logs.filter(|log| !self.there.away().contains(log)).collect();
        let before = self.lost.len();
        for Extent { topic, partition, low, high } in self.extents_of(&partitions)? {
            let Some(offset) = self.positions.get(&topic, partition).map(|reading| reading.position) else { continue };
            if !(low..=high).contains(&offset) {
                self.lost.push(SourceError::OutOfRange { topic, partition, offset, low, high });
            }
        }
        self.astray = false;
        if self.lost.len() == before {
            // Behind damage librdkafka was seen to ask for offsets that it took from the damage. Or else the topic was
            // recreated, and has grown beyond our position since.
            self.suspects = true;
            self.damaged("an offset is said not to be there, though all are that are read; asked for again".to_owned());
            return Ok(());
        }
        self.fetch_again()
    }

    /// Fetches all logs again from where they stand, but for those that are lost.
    fn fetch_again(&mut self) -> Result<(), SourceError> {
        let lost = |log: &Log| {
            let is = |error: &SourceError| matches!(error, SourceError::OutOfRange { topic, partition, .. } if *topic == log.topic && *partition == log.partition);
            self.lost.iter().any(is)
        };
        let held: Vec<Arc<Log>> = self.positions.iter().map(|reading| reading.log.clone()).filter(|log| !lost(log)).collect();
        self.fetch_from_positions(&held).map_err(self.failed("reading"))?;
        self.positions.pass_over_nothing(false);
        self.damage.asked();
        Ok(())
    }

    /// Goes on looking at the ends of quiet logs.
    fn look_at_tails(&mut self) {
        let Some(tails) = &mut self.tails else { return };
        let Some(empty) = tails.poll() else {
            self.tails = None;
            return;
        };
        for (log, from, to) in empty {
            debug!(%log, from, to, "log ends in what no consumer sees");
            if matches!(self.positions.pass(&log, from, to), Taken::Finished(_)) {
                self.fetch_no_more(&log.topic, log.partition);
            }
        }
        self.positions.gather(now_us());
    }
}

impl Source for KafkaSource {
    fn identity(&mut self) -> Result<Arc<str>, SourceError> {
        let first = match &self.topics {
            Topics::Names(names) => names.first().cloned(),
            Topics::Pattern(_) => None,
        };
        hasten(&self.asker, first.as_deref());
        let Some(cluster) = self.asker.client().fetch_cluster_id(PATIENCE) else {
            self.serve_callbacks();
            return Err(self.health().judge_silence("asking who the cluster is"));
        };
        self.health().works();
        info!(cluster, "connected to kafka");
        Ok(format!("kafka:{cluster}").into())
    }

    fn extents(&mut self) -> Result<Vec<Extent>, SourceError> {
        self.serve_callbacks();
        let partitions = self.partitions()?;
        let extents = self.extents_of(&partitions)?;
        if extents.len() < partitions.len() {
            // Their leaders went between the two questions.
            let seen = |of: &(Arc<str>, i32)| extents.iter().any(|extent| (&extent.topic, extent.partition) == (&of.0, of.1));
            let away = partitions.iter().filter(|of| !seen(of)).cloned().chain(self.there.away().iter().cloned()).collect();
            self.there.set_away(away);
        }
        if self.tails.is_none() {
            let quiet = self.positions.quiet(&extents);
            if !quiet.is_empty() {
                self.tails = Some(Tails::new(&self.client, quiet).map_err(self.failed("looking at the ends of topics"))?);
            }
        }
        Ok(extents)
    }

    fn away(&self) -> Vec<(Arc<str>, i32)> {
        self.there.away().iter().cloned().collect()
    }

    fn suspects(&mut self) -> bool {
        std::mem::take(&mut self.suspects)
    }

    fn absent(&self) -> Vec<Arc<str>> {
        self.there.absent().iter().cloned().collect()
    }

    fn offset_at(&mut self, topic: &str, partition: i32, time_ms: i64) -> Result<i64, SourceError> {
        let of = [(Arc::from(topic), partition)];
        match self.offsets(&of, Offset::Offset(time_ms))?.get(&of[0]) {
            Some(Offset::Offset(offset)) => Ok(*offset),
            _ => match self.extents_of(&of)?.first() {
                Some(extent) => Ok(extent.high),
                None => Err(SourceError::Retry(format!("no broker leads {topic}/{partition}"))),
            },
        }
    }

    fn mark(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Option<Mark>, SourceError> {
        Ok(self.marks(&[(topic.into(), partition, offset)])?.first().copied().flatten())
    }

    fn marks(&mut self, of: &[(Arc<str>, i32, i64)]) -> Result<Vec<Option<Mark>>, SourceError> {
        let probe = probe::client(&self.client).map_err(self.failed("reading stored messages again"))?;
        probe::marks(&probe, of)
    }

    fn read(&mut self, stretches: &[Stretch]) -> Result<(), SourceError> {
        for stretch in stretches {
            self.positions.begin(stretch);
        }
        let logs: Vec<Arc<Log>> = stretches.iter().map(|stretch| stretch.log.clone()).collect();
        let topics: BTreeSet<Arc<str>> = logs.iter().map(|log| log.topic.clone()).collect();
        for topic in topics.difference(&self.met) {
            hasten(&self.consumer, Some(topic));
        }
        self.met.extend(topics);
        self.fetch_from_positions(&logs).map_err(self.failed("beginning to read"))
    }

    fn pause(&mut self, log: &Log, paused: bool) -> Result<(), SourceError> {
        self.positions.set_paused(&log.topic, log.partition, paused);
        if self.positions.get(&log.topic, log.partition).is_none() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&log.topic, log.partition);
        let done = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        done.map_err(self.failed("pausing"))
    }

    fn poll(&mut self, timeout: Duration) -> Result<Option<Chunk>, SourceError> {
        if let Some(chunk) = self.positions.next() {
            return Ok(Some(chunk));
        }
        if let Some(lost) = self.lost.pop() {
            return Err(lost);
        }
        if self.astray {
            self.find_lost()?;
            return Ok(None);
        }
        if self.damage.is_due(Instant::now()) {
            self.fetch_again()?;
        }
        self.look_at_tails();
        // While ends are looked at, somebody waits for them.
        let timeout = if self.tails.is_some() { timeout.min(Duration::from_millis(20)) } else { timeout };
        let gathered = self.gather(timeout);
        match self.positions.next() {
            // The error, if any, comes again: librdkafka keeps trying.
            Some(chunk) => Ok(Some(chunk)),
            None => gathered.map(|()| None),
        }
    }

    fn durable(&mut self, log: &Log, offset: i64) {
        if self.health().group_is_refused() || self.told.get(&(log.topic.clone(), log.partition)) == Some(&offset) {
            return;
        }
        self.told.insert((log.topic.clone(), log.partition), offset);
        let mut list = TopicPartitionList::new();
        let committed = list
            .add_partition_offset(&log.topic, log.partition, Offset::Offset(offset))
            .and_then(|()| self.asker.commit(&list, CommitMode::Async));
        if let Err(error) = committed {
            debug!(%log, %error, "durable offset not shown to monitors");
        }
    }
}

/// Has a client ask for metadata at once. By itself it asks when its timer comes round, once a second, and until then knows
/// neither the cluster nor who leads what. An error comes again where it matters.
fn hasten(client: &BaseConsumer<Health>, topic: Option<&str>) {
    if let Err(error) = client.fetch_metadata(topic, HASTE) {
        debug!(topic, %error, "no metadata yet");
    }
}

/// The whole milliseconds of a time: librdkafka waits for those, and rdkafka spins through the rest.
fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
