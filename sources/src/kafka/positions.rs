//! Where each log that is read stands, and how messages become chunks: the part of the source that knows no client.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fink_dataflow::message::{Chunk, Log, Message};
use fink_dataflow::ports::{Extent, Stretch};

/// The logs that are read, by topic and partition, and the chunks that wait to be handed over.
#[derive(Default)]
pub(crate) struct Positions {
    logs: BTreeMap<String, BTreeMap<i32, Reading>>,
    ready: VecDeque<Chunk>,
    /// Nothing is passed over: only the very next message of a log is taken.
    strict: bool,
}

/// A log that is read.
pub(crate) struct Reading {
    pub(crate) log: Arc<Log>,
    /// The offset after the last that was passed over.
    pub(crate) position: i64,
    pub(crate) until: Option<i64>,
    pub(crate) paused: bool,
    /// Messages taken since the last chunk, and where they began.
    gathered: Vec<Message>,
    since: i64,
    /// Where it stood when the log's extent was last asked for: if it is there still, nothing came in between.
    looked: Option<i64>,
}

/// A message as it comes.
pub(crate) trait Incoming {
    /// Its topic, partition and offset.
    fn place(&self) -> (&str, i32, i64);

    /// The same, of our own.
    fn owned(self) -> Message;
}

/// What became of a message.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// It will be in the next chunk of its log.
    Gathered,
    /// Nobody reads its log there: it came from before a seek, or is past the end of the stretch.
    Dropped,
    /// The stretch of its log has been read to the end.
    Finished(Arc<Log>),
}

impl Positions {
    /// Reads a stretch from now on; what was gathered of its log and not handed over is forgotten.
    pub(crate) fn begin(&mut self, stretch: &Stretch) {
        let log = stretch.log.clone();
        self.ready.retain(|chunk| chunk.log != log);
        let partitions = self.logs.entry(log.topic.to_string()).or_default();
        let paused = partitions.get(&log.partition).is_some_and(|reading| reading.paused);
        let reading = Reading {
            position: stretch.from,
            until: stretch.until,
            paused,
            gathered: Vec::new(),
            since: stretch.from,
            looked: None,
            log: log.clone(),
        };
        partitions.insert(log.partition, reading);
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&Reading> {
        self.logs.get(topic)?.get(&partition)
    }

    fn get_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Reading> {
        self.logs.get_mut(topic)?.get_mut(&partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Reading> + '_ {
        self.logs.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn set_paused(&mut self, topic: &str, partition: i32, paused: bool) {
        if let Some(reading) = self.get_mut(topic, partition) {
            reading.paused = paused;
        }
    }

    /// Reads a log no more; what was gathered of it is still handed over.
    pub(crate) fn end(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.logs.get_mut(topic) {
            partitions.remove(&partition);
        }
    }

    /// From now on only the very next message of each log is taken, since some that came before may not have been readable;
    /// or no longer so.
    pub(crate) fn pass_over_nothing(&mut self, strict: bool) {
        self.strict = strict;
    }

    /// Takes the next message of a log.
    pub(crate) fn take(&mut self, message: impl Incoming) -> Taken {
        let (strict, (topic, partition, offset)) = (self.strict, message.place());
        let Some(reading) = self.get_mut(topic, partition) else { return Taken::Dropped };
        if offset < reading.position || reading.done() || (strict && offset > reading.position) {
            return Taken::Dropped;
        }
        match reading.until {
            Some(until) if offset >= until => reading.position = until,
            _ => {
                reading.position = offset + 1;
                reading.gathered.push(message.owned());
            }
        }
        reading.taken()
    }

    /// A log holds nothing from `from` up to `to`: it is passed over, if it still stands there. Whether its stretch is
    /// read to the end by that.
    pub(crate) fn pass(&mut self, log: &Log, from: i64, to: i64) -> Taken {
        let Some(reading) = self.get_mut(&log.topic, log.partition) else { return Taken::Dropped };
        if *reading.log != *log || reading.position != from || reading.done() {
            return Taken::Dropped;
        }
        reading.position = reading.until.map_or(to, |until| until.min(to));
        reading.taken()
    }

    /// Makes chunks of what was gathered.
    pub(crate) fn gather(&mut self, received_us: i64) {
        for reading in self.logs.values_mut().flat_map(BTreeMap::values_mut) {
            if reading.position > reading.since {
                let span = reading.since..reading.position;
                reading.since = reading.position;
                let messages = std::mem::take(&mut reading.gathered);
                self.ready.push_back(Chunk { log: reading.log.clone(), span, messages, received_us });
            }
        }
    }

    /// The next chunk to hand over.
    pub(crate) fn next(&mut self) -> Option<Chunk> {
        self.ready.pop_front()
    }

    /// The logs that end beyond their position, though nothing came since they were looked at before: what is between
    /// may be markers and aborted messages only.
    pub(crate) fn quiet(&mut self, extents: &[Extent]) -> Vec<(Arc<Log>, i64, i64)> {
        let mut quiet = Vec::new();
        for extent in extents {
            let Some(reading) = self.get_mut(&extent.topic, extent.partition) else { continue };
            let still = reading.looked == Some(reading.position);
            reading.looked = Some(reading.position);
            if still && !reading.paused && reading.position < extent.high && reading.position >= extent.low {
                quiet.push((reading.log.clone(), reading.position, extent.high));
            }
        }
        quiet
    }
}

impl Reading {
    fn taken(&self) -> Taken {
        if self.done() { Taken::Finished(self.log.clone()) } else { Taken::Gathered }
    }

    fn done(&self) -> bool {
        self.until.is_some_and(|until| self.position >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of the log, by its offset.
    impl Incoming for i64 {
        fn place(&self) -> (&str, i32, i64) {
            ("t", 2, *self)
        }

        fn owned(self) -> Message {
            Message { offset: self, timestamp_ms: None, key: None, payload: None }
        }
    }

    fn reading(from: i64, until: Option<i64>) -> (Positions, Arc<Log>) {
        let log = Arc::new(Log::new("kafka:x", "t", 0, 2));
        let mut positions = Positions::default();
        positions.begin(&Stretch { log: log.clone(), from, until });
        (positions, log)
    }

    fn spans(positions: &mut Positions) -> Vec<(i64, i64, Vec<i64>)> {
        positions.gather(0);
        std::iter::from_fn(|| positions.next()).map(|c| (c.span.start, c.span.end, c.messages.iter().map(|m| m.offset).collect())).collect()
    }

    #[test]
    fn spans_follow_one_another_over_what_holds_no_message() {
        let (mut positions, log) = reading(10, None);
        assert_eq!(positions.take(12), Taken::Gathered);
        assert_eq!(positions.take(13), Taken::Gathered);
        assert_eq!(spans(&mut positions), [(10, 14, vec![12, 13])]);
        assert_eq!(positions.take(13), Taken::Dropped);
        assert_eq!(positions.take(20), Taken::Gathered);
        assert_eq!(positions.pass(&log, 20, 25), Taken::Dropped);
        assert_eq!(positions.pass(&log, 21, 25), Taken::Gathered);
        assert_eq!(spans(&mut positions), [(14, 25, vec![20])]);
    }

    #[test]
    fn a_stretch_ends_where_it_should() {
        let (mut positions, log) = reading(0, Some(5));
        assert_eq!(positions.take(3), Taken::Gathered);
        assert_eq!(positions.take(7), Taken::Finished(log.clone()));
        assert_eq!(positions.take(8), Taken::Dropped);
        assert_eq!(spans(&mut positions), [(0, 5, vec![3])]);
        let (mut positions, _) = reading(0, Some(2));
        assert_eq!((positions.take(0), positions.take(1)), (Taken::Gathered, Taken::Finished(log.clone())));
        let (mut positions, _) = reading(0, Some(2));
        assert_eq!(positions.pass(&log, 0, 9), Taken::Finished(log.clone()));
        assert_eq!(spans(&mut positions), [(0, 2, vec![])]);
    }

    #[test]
    fn nothing_is_passed_over_while_messages_can_not_be_read() {
        let (mut positions, _) = reading(10, None);
        positions.pass_over_nothing(true);
        assert_eq!((positions.take(10), positions.take(12)), (Taken::Gathered, Taken::Dropped));
        assert_eq!((positions.take(13), positions.take(11)), (Taken::Dropped, Taken::Gathered));
        positions.pass_over_nothing(false);
        assert_eq!(positions.take(13), Taken::Gathered);
        assert_eq!(spans(&mut positions), [(10, 14, vec![10, 11, 13])]);
    }

    #[test]
    fn a_new_stretch_forgets_what_was_not_handed_over() {
        let (mut positions, log) = reading(0, None);
        positions.take(0);
        positions.gather(0);
        positions.take(1);
        positions.begin(&Stretch { log, from: 0, until: None });
        assert_eq!(spans(&mut positions), []);
        positions.take(0);
        assert_eq!(spans(&mut positions), [(0, 1, vec![0])]);
    }

    #[test]
    fn a_log_is_quiet_when_it_stands_still_below_its_end() {
        let (mut positions, log) = reading(4, None);
        let extents = [Extent { topic: "t".into(), partition: 2, low: 0, high: 6 }];
        assert_eq!(positions.quiet(&extents), []);
        assert_eq!(positions.quiet(&extents), [(log.clone(), 4, 6)]);
        positions.take(4);
        assert_eq!(positions.quiet(&extents), []);
        positions.pass(&log, 5, 6);
        positions.quiet(&extents);
        assert_eq!(positions.quiet(&extents), []);
    }
}
