//! A ledger in memory, a reader that is drained into it, and what a cluster is asked to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fink_dataflow::message::{Chunk, Log, Mark, Message};
use fink_dataflow::ports::{Drawn, Inlet as _, Keeper, Stored};
use fink_sources::kafka::{KafkaConfig, KafkaSource, Topics};
use fink_sources::lanes::{Origin, Rules};
use fink_sources::progress::{Progress, ReaderState};
use fink_sources::queue::{Bounds, Inlet};
use fink_sources::reader::{Reader, Settings};
use fink_sources::schemas::{NoSchemas, Schemas};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A ledger in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) logs: Mutex<BTreeMap<Log, Stored>>,
}

impl Keeper for Memory {
    fn stored(&self, log: &Log) -> Option<Stored> {
        self.logs.lock().expect("lock").get(log).cloned()
    }

    fn incarnation(&self, source: &str, topic: &str) -> Option<u32> {
        let logs = self.logs.lock().expect("lock");
        logs.keys().filter(|log| &*log.source == source && &*log.topic == topic).map(|log| log.incarnation).max()
    }

    fn topics(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.logs.lock().expect("lock").keys().map(|log| (log.source.clone(), log.topic.clone())).collect()
    }

    fn open(&self, origins: &[(Log, i64)]) -> Result<(), String> {
        let mut logs = self.logs.lock().expect("lock");
        for (log, origin) in origins {
            assert!(!logs.contains_key(log), "{log} is opened twice");
            logs.insert(log.clone(), Stored { origin: *origin, ..Stored::default() });
        }
        Ok(())
    }
}

impl Memory {
    /// Covers a chunk, which must be new, whole, and of a log that is open.
    pub(crate) fn cover(&self, chunk: &Chunk) {
        let mut logs = self.logs.lock().expect("lock");
        let stored = logs.get_mut(&*chunk.log).expect("the log was opened before it was read");
        assert_eq!(stored.covered.insert(chunk.span.clone()), chunk.span.end.abs_diff(chunk.span.start), "{} doubled", chunk.log);
        assert!(chunk.messages.iter().all(|message| chunk.span.contains(&message.offset)));
        if let Some(last) = chunk.messages.last() {
            let hash = last.payload.as_deref().map_or(0, xxhash_rust::xxh3::xxh3_64);
            stored.mark = Some(Mark { offset: last.offset, timestamp_ms: last.timestamp_ms, hash });
        }
    }

    /// What is covered, log by log.
    pub(crate) fn covered(&self) -> BTreeMap<(String, u32, i32), Vec<(i64, i64)>> {
        let logs = self.logs.lock().expect("lock");
        let key = |log: &Log| (log.topic.to_string(), log.incarnation, log.partition);
        logs.iter().map(|(log, stored)| (key(log), stored.covered.clone().into())).collect()
    }
}

/// A reader whose chunks are covered as they are drained.
pub(crate) struct Run {
    pub(crate) reader: Reader,
    pub(crate) inlet: Inlet,
    keeper: Arc<Memory>,
    /// All that came, by log and offset.
    pub(crate) messages: BTreeMap<(Log, i64), Message>,
}

pub(crate) fn rules(origin: Origin) -> Rules {
    Rules { origin, ..Rules::default() }
}

pub(crate) fn config(brokers: &str, topics: &str) -> KafkaConfig {
    KafkaConfig::new(brokers, Topics::parse(topics).expect("topics"))
}

impl Run {
    pub(crate) fn start(config: &KafkaConfig, keeper: &Arc<Memory>, rules: Rules) -> Self {
        Self::with(config, keeper, rules, Bounds::default(), Arc::new(NoSchemas))
    }

    pub(crate) fn with(config: &KafkaConfig, keeper: &Arc<Memory>, rules: Rules, bounds: Bounds, schemas: Arc<dyn Schemas>) -> Self {
        let source = KafkaSource::new(config).expect("source");
        let settings = Settings { rules, bounds, refresh: Duration::from_millis(300) };
        let (reader, inlet) = Reader::start(Box::new(source), keeper.clone(), schemas, settings).expect("thread");
        Self { reader, inlet, keeper: keeper.clone(), messages: BTreeMap::new() }
    }

    /// Draws one chunk, if there is one.
    pub(crate) fn draw(&mut self) -> bool {
        match self.inlet.draw(0) {
            Drawn::Chunk(chunk) => {
                self.keeper.cover(&chunk);
                let log = (*chunk.log).clone();
                self.messages.extend(chunk.messages.into_iter().map(|message| ((log.clone(), message.offset), message)));
                true
            }
            Drawn::Nothing => false,
            Drawn::Ended => panic!("reading ended: {:?}", self.reader.progress().state),
        }
    }

    /// Drains until something holds.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited too long: {what}; {:?}", self.reader.progress());
            if !self.draw() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Drains until all that the logs held at the start is covered.
    pub(crate) fn catch_up(&mut self) -> Vec<(Log, i64)> {
        self.until("caught up", |run| run.reader.caught_up_to().is_some() && run.inlet.waiting().0 == 0);
        self.reader.caught_up_to().expect("caught up")
    }

    /// Waits until the reader gives up, and why.
    pub(crate) fn refusal(self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.reader.progress() {
                Progress { state: ReaderState::Stopped(reason), .. } => return reason,
                progress => assert!(Instant::now() < deadline, "did not stop: {progress:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The offsets that came of a partition.
    pub(crate) fn offsets(&self, partition: i32) -> BTreeSet<i64> {
        self.messages.keys().filter(|(log, _)| log.partition == partition).map(|(_, offset)| *offset).collect()
    }
}
