//! The simulated stream behind the interface of all sources.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fink_dataflow::message::{Chunk, Log, Mark, Message};
use fink_dataflow::ports::{Extent, Source, SourceError, Stretch};
use xxhash_rust::xxh3::xxh3_64;

use super::config::{ConfigError, SimulatorConfig};
use super::generate::Generator;

/// A chunk ends after so many messages,
const CHUNK_MESSAGES: i64 = 256;
/// or so many bytes.
const CHUNK_BYTES: usize = 4 << 20;
/// The stream is looked at no more often than this, so that a slow one costs next to nothing.
const PACE: Duration = Duration::from_millis(10);

/// The simulated stream as a source.
pub struct Simulator<C> {
    config: SimulatorConfig,
    identity: Arc<str>,
    topic: Arc<str>,
    generator: Generator,
    clock: C,
    /// The latest time that the clock has shown: a clock that steps back takes no message away.
    latest_ms: i64,
    readings: Vec<Reading>,
    /// Which reading comes next.
    turn: usize,
}

struct Reading {
    log: Arc<Log>,
    at: i64,
    until: Option<i64>,
    paused: bool,
}

/// Milliseconds since 1970 UTC by the machine's clock: the clock of a [`Simulator`] outside of tests.
#[must_use]
pub fn system_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

impl<C: Fn() -> i64 + Send> Simulator<C> {
    /// The stream of `config`; `clock` gives milliseconds since 1970 UTC.
    ///
    /// # Errors
    /// When a number of `config` is out of its range.
    pub fn new(config: SimulatorConfig, clock: C) -> Result<Self, ConfigError> {
        config.check()?;
        let generator = Generator::new(&config);
        let (identity, topic) = (config.describe().into(), config.topic.as_str().into());
        Ok(Self { config, identity, topic, generator, clock, latest_ms: i64::MIN, readings: Vec::new(), turn: 0 })
    }

    /// The stream as a clock shows it that has shown this time already: messages that were there stay there, and the next come when
    /// the clock has passed it.
    #[must_use]
    pub fn not_before(self, time_ms: i64) -> Self {
        Self { latest_ms: self.latest_ms.max(time_ms), ..self }
    }

    fn now_ms(&mut self) -> i64 {
        self.latest_ms = self.latest_ms.max((self.clock)());
        self.latest_ms
    }

    fn known(&self, topic: &str, partition: i32) -> Result<(), SourceError> {
        if topic == self.config.topic && (0..self.config.partitions).contains(&partition) {
            Ok(())
        } else {
            Err(SourceError::Stop(format!("the simulated stream {} has no {topic}/{partition}", self.identity)))
        }
    }

    /// The next chunk that is there now, of whichever log's turn it is.
    fn next(&mut self, now_ms: i64) -> Option<Chunk> {
        for step in 0..self.readings.len() {
            let index = (self.turn + step) % self.readings.len();
            let reading = &mut self.readings[index];
            let reached = self.config.reached(reading.log.partition, now_ms);
            let end = reading.until.map_or(reached, |until| until.min(reached)).min(reading.at + CHUNK_MESSAGES);
            if reading.paused || reading.at >= end {
                continue;
            }
            let log = reading.log.clone();
            let (from, mut bytes, mut messages) = (reading.at, 0, Vec::with_capacity((end - reading.at) as usize));
            while reading.at < end && bytes < CHUNK_BYTES {
                let payload = self.generator.message(log.partition, reading.at);
                bytes += payload.len();
                let timestamp_ms = Some(self.config.due_ms(log.partition, reading.at));
                messages.push(Message { offset: reading.at, timestamp_ms, key: None, payload: Some(Bytes::from(payload)) });
                reading.at += 1;
            }
            let span = from..reading.at;
            self.turn = index + 1;
            if reading.until.is_some_and(|until| reading.at >= until) {
                self.readings.remove(index);
                self.turn = index;
            }
            return Some(Chunk { log, span, messages, received_us: now_ms * 1000 });
        }
        None
    }

    /// How long until the next message of a log that is read, as far as that can be known.
    fn wait(&self, now_ms: i64) -> Option<Duration> {
        let ended = |reading: &Reading| reading.at >= self.config.reached(reading.log.partition, i64::MAX);
        let due = |reading: &Reading| self.config.due_ms(reading.log.partition, reading.at);
        let next = self.readings.iter().filter(|reading| !reading.paused && !ended(reading)).map(due).min()?;
        Some(Duration::from_millis((next - now_ms).max(0) as u64))
    }
}

impl<C: Fn() -> i64 + Send> Source for Simulator<C> {
    fn identity(&mut self) -> Result<Arc<str>, SourceError> {
        Ok(self.identity.clone())
    }

    fn extents(&mut self) -> Result<Vec<Extent>, SourceError> {
        let now_ms = self.now_ms();
        let extent = |partition| Extent { topic: self.topic.clone(), partition, low: 0, high: self.config.reached(partition, now_ms) };
        Ok((0..self.config.partitions).map(extent).collect())
    }

    fn offset_at(&mut self, topic: &str, partition: i32, time_ms: i64) -> Result<i64, SourceError> {
        self.known(topic, partition)?;
        let now_ms = self.now_ms();
        // All that came before `time_ms` lies below.
        Ok(self.config.reached(partition, time_ms.saturating_sub(1).min(now_ms)))
    }

    fn mark(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Option<Mark>, SourceError> {
        self.known(topic, partition)?;
        let now_ms = self.now_ms();
        if !(0..self.config.reached(partition, now_ms)).contains(&offset) {
            return Ok(None);
        }
        let hash = xxh3_64(&self.generator.message(partition, offset));
        Ok(Some(Mark { offset, timestamp_ms: Some(self.config.due_ms(partition, offset)), hash }))
    }

    fn read(&mut self, stretches: &[Stretch]) -> Result<(), SourceError> {
        let now_ms = self.now_ms();
        for Stretch { log, from, .. } in stretches {
            self.known(&log.topic, log.partition)?;
            let high = self.config.reached(log.partition, now_ms);
            if !(0..=high).contains(from) {
                return Err(SourceError::OutOfRange { topic: self.topic.clone(), partition: log.partition, offset: *from, low: 0, high });
            }
        }
        for Stretch { log, from, until } in stretches {
            self.readings.retain(|reading| reading.log != *log);
            if until.is_none_or(|until| *from < until) {
                self.readings.push(Reading { log: log.clone(), at: *from, until: *until, paused: false });
            }
        }
        Ok(())
    }

    fn pause(&mut self, log: &Log, paused: bool) -> Result<(), SourceError> {
        self.known(&log.topic, log.partition)?;
        self.readings.iter_mut().filter(|reading| *reading.log == *log).for_each(|reading| reading.paused = paused);
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<Option<Chunk>, SourceError> {
        let begin = Instant::now();
        loop {
            let now_ms = self.now_ms();
            if let Some(chunk) = self.next(now_ms) {
                return Ok(Some(chunk));
            }
            let left = timeout.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(self.wait(now_ms).unwrap_or(left).max(PACE).min(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::simulator::Rate;

    const START_MS: i64 = 1_795_460_400_000;
    const NOW: Duration = Duration::ZERO;

    /// A stream whose clock the test turns: the clock's hand, and how to make the source once more.
    fn stream(limit: Option<u64>) -> (Arc<AtomicI64>, impl Fn() -> Simulator<Box<dyn Fn() -> i64 + Send>>) {
        let hand = Arc::new(AtomicI64::new(START_MS));
        let config = SimulatorConfig { partitions: 3, rate: Rate::per_second(10.0).unwrap(), limit, ..SimulatorConfig::new(9, START_MS) };
        let make = {
            let hand = hand.clone();
            move || {
                let hand = hand.clone();
                let clock: Box<dyn Fn() -> i64 + Send> = Box::new(move || hand.load(Ordering::Relaxed));
                Simulator::new(config.clone(), clock).unwrap()
            }
        };
        (hand, make)
    }

    fn log(source: &mut impl Source, partition: i32) -> Arc<Log> {
        let identity = source.identity().unwrap();
        Arc::new(Log::new(&identity, "simulator", 0, partition))
    }

    fn highs(source: &mut impl Source) -> Vec<i64> {
        source.extents().unwrap().into_iter().map(|extent| extent.high).collect()
    }

    /// Everything there is now, by partition; asserts that spans follow one another from `from` and hold their messages.
    fn drain(source: &mut impl Source, at: &mut BTreeMap<i32, i64>) -> BTreeMap<i32, Vec<Message>> {
        let mut seen: BTreeMap<i32, Vec<Message>> = BTreeMap::new();
        while let Some(chunk) = source.poll(NOW).unwrap() {
            let at = at.entry(chunk.log.partition).or_default();
            assert_eq!(chunk.span.start, *at);
            assert!(chunk.messages.iter().map(|message| message.offset).eq(chunk.span.clone()));
            *at = chunk.span.end;
            seen.entry(chunk.log.partition).or_default().extend(chunk.messages);
        }
        seen
    }

    #[test]
    fn reaches_as_far_as_the_clock_says_and_never_back() {
        let (hand, make) = stream(None);
        let mut source = make();
        hand.store(START_MS - 1, Ordering::Relaxed);
        assert_eq!(highs(&mut source), [0, 0, 0]);
        hand.store(START_MS + 1000, Ordering::Relaxed);
        assert_eq!(highs(&mut source), [4, 4, 3]);
        hand.store(START_MS, Ordering::Relaxed);
        assert_eq!(highs(&mut source), [4, 4, 3]);
    }

    #[test]
    fn chunks_are_contiguous_and_follow_the_clock() {
        let (hand, make) = stream(None);
        let mut source = make();
        hand.store(START_MS + 60_000, Ordering::Relaxed);
        let stretches: Vec<_> = (0..3).map(|partition| Stretch { log: log(&mut source, partition), from: 0, until: None }).collect();
        source.read(&stretches).unwrap();
        let mut at = BTreeMap::new();
        let first = drain(&mut source, &mut at);
        assert_eq!(first.values().map(Vec::len).sum::<usize>(), 601);
        assert!(source.poll(NOW).unwrap().is_none());
        hand.fetch_add(500, Ordering::Relaxed);
        let more = drain(&mut source, &mut at);
        assert_eq!(more.values().map(Vec::len).sum::<usize>(), 5);
        for message in more.values().flatten() {
            let timestamp = message.timestamp_ms.unwrap();
            assert!(timestamp > START_MS + 60_000 && timestamp <= START_MS + 60_500);
        }
    }

    #[test]
    fn a_restart_anywhere_gives_the_same_messages() {
        let (hand, make) = stream(None);
        hand.store(START_MS + 20_000, Ordering::Relaxed);
        let mut source = make();
        let whole = Stretch { log: log(&mut source, 1), from: 0, until: None };
        source.read(std::slice::from_ref(&whole)).unwrap();
        let all = drain(&mut source, &mut BTreeMap::new()).remove(&1).unwrap();
        for from in [0, 1, 17, 66, 67] {
            let mut again = make();
            again.read(&[Stretch { from, ..whole.clone() }]).unwrap();
            let rest = drain(&mut again, &mut BTreeMap::from([(1, from)])).remove(&1).unwrap_or_default();
            assert_eq!(rest, all[from as usize..]);
        }
    }

    #[test]
    fn a_stretch_ends_at_its_until_and_a_new_one_takes_its_place() {
        let (hand, make) = stream(None);
        hand.store(START_MS + 20_000, Ordering::Relaxed);
        let mut source = make();
        let log = log(&mut source, 0);
        source.read(&[Stretch { log: log.clone(), from: 5, until: Some(30) }]).unwrap();
        let mut at = BTreeMap::from([(0, 5)]);
        assert_eq!(drain(&mut source, &mut at)[&0].len(), 25);
        hand.fetch_add(10_000, Ordering::Relaxed);
        assert!(source.poll(NOW).unwrap().is_none());
        source.read(&[Stretch { log: log.clone(), from: 30, until: None }]).unwrap();
        source.read(&[Stretch { log, from: 2, until: Some(3) }]).unwrap();
        assert_eq!(drain(&mut source, &mut BTreeMap::from([(0, 2)]))[&0].len(), 1);
    }

    #[test]
    fn a_paused_log_waits_and_the_others_go_on() {
        let (hand, make) = stream(None);
        hand.store(START_MS + 5000, Ordering::Relaxed);
        let mut source = make();
        let (a, b) = (log(&mut source, 0), log(&mut source, 1));
        let stretch = |log: &Arc<Log>| Stretch { log: log.clone(), from: 0, until: None };
        source.read(&[stretch(&a), stretch(&b)]).unwrap();
        source.pause(&a, true).unwrap();
        let mut at = BTreeMap::new();
        assert_eq!(drain(&mut source, &mut at).into_keys().collect::<Vec<_>>(), [1]);
        source.pause(&a, false).unwrap();
        assert_eq!(drain(&mut source, &mut at).into_keys().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn offsets_outside_of_the_log_are_refused() {
        let (_, make) = stream(None);
        let mut source = make();
        let log = log(&mut source, 0);
        for from in [-1, 2] {
            let refused = source.read(&[Stretch { log: log.clone(), from, until: None }]);
            assert!(matches!(refused, Err(SourceError::OutOfRange { low: 0, high: 1, .. })), "{refused:?}");
        }
        assert!(source.mark("elsewhere", 0, 0).is_err() && source.mark("simulator", 3, 0).is_err());
    }

    #[test]
    fn marks_and_times_are_those_of_the_messages() {
        let (hand, make) = stream(None);
        hand.store(START_MS + 10_000, Ordering::Relaxed);
        let mut source = make();
        let log = log(&mut source, 2);
        source.read(&[Stretch { log, from: 0, until: None }]).unwrap();
        let messages = drain(&mut source, &mut BTreeMap::new()).remove(&2).unwrap();
        for message in &messages {
            let expected =
                Mark { offset: message.offset, timestamp_ms: message.timestamp_ms, hash: xxh3_64(message.payload.as_ref().unwrap()) };
            assert_eq!(make().mark("simulator", 2, message.offset).unwrap(), Some(expected));
        }
        let high = messages.len() as i64;
        assert_eq!(source.mark("simulator", 2, high).unwrap(), None);
        assert_eq!(source.mark("simulator", 2, -1).unwrap(), None);
        for time_ms in (START_MS - 500..START_MS + 11_000).step_by(37) {
            let first = messages.iter().find(|message| message.timestamp_ms.unwrap() >= time_ms).map_or(high, |message| message.offset);
            assert_eq!(source.offset_at("simulator", 2, time_ms).unwrap(), first);
        }
        assert_eq!(source.offset_at("simulator", 2, i64::MAX).unwrap(), high);
        assert_eq!(source.offset_at("simulator", 2, i64::MIN).unwrap(), 0);
    }

    #[test]
    fn a_limited_stream_ends() {
        let (hand, make) = stream(Some(100));
        hand.store(START_MS + 3_600_000, Ordering::Relaxed);
        let mut source = make();
        let stretches: Vec<_> = (0..3).map(|partition| Stretch { log: log(&mut source, partition), from: 0, until: None }).collect();
        source.read(&stretches).unwrap();
        assert_eq!(drain(&mut source, &mut BTreeMap::new()).values().map(Vec::len).collect::<Vec<_>>(), [34, 33, 33]);
        assert!(source.poll(Duration::from_millis(1)).unwrap().is_none());
    }

    #[test]
    fn poll_blocks_until_something_is_there() {
        let config = SimulatorConfig { rate: Rate::per_second(20.0).unwrap(), ..SimulatorConfig::new(1, system_clock()) };
        let mut source = Simulator::new(config, system_clock).unwrap();
        let stretches: Vec<_> = (0..4).map(|partition| Stretch { log: log(&mut source, partition), from: 0, until: Some(3) }).collect();
        source.read(&stretches).unwrap();
        for _ in 0..12 {
            let chunk = source.poll(Duration::from_secs(60)).unwrap().expect("an alert within a minute");
            if source.readings.is_empty() {
                return assert_eq!(chunk.span.end, 3);
            }
        }
        panic!("12 alerts took more than 12 chunks");
    }
}
