//! The live lane's thread, which also looks how far the source reaches, plans, and opens logs in the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use fink_dataflow::message::Log;
use fink_dataflow::ports::{Extent, Keeper, Source, SourceError};
use tracing::{info, warn};

use super::Settings;
use super::lane::LaneRun;
use super::shared::note_caught_up;
use crate::lanes::{Answer, Ask, Lane, Lanes, Plan, Sight};
use crate::progress::ReaderState;

/// The thread's own state.
pub(super) struct Live {
    pub(super) source: Box<dyn Source>,
    pub(super) keeper: Arc<dyn Keeper>,
    pub(super) settings: Settings,
    pub(super) run: LaneRun,
}

impl Live {
    /// Reads until it is told to stop; an error is a reason to give up.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let mut begun = false;
        let mut looked = Instant::now();
        while !self.run.shared.stopping() {
            let round = if !begun {
                self.look()
            } else if looked.elapsed() >= self.settings.refresh {
                let look = self.look().map(|()| self.tell_durable());
                // Noted after the look, failed or not: one that takes long must not be followed by the next at once, or nothing
                // would be read in between.
                looked = Instant::now();
                look
            } else {
                self.run.read(&mut *self.source)
            };
            begun |= round.is_ok();
            self.run.settle(round)?;
        }
        Ok(())
    }

    /// Looks how far the logs reach now, and takes up those that are new.
    fn look(&mut self) -> Result<(), SourceError> {
        if self.run.shared.lanes().is_none() {
            let identity = self.source.identity()?;
            self.run.shared.progress().source = Some(identity.clone());
            let lanes = Lanes::new(identity, self.settings.rules.clone(), &self.keeper.topics());
            *self.run.shared.lanes() = Some(lanes);
        }
        let extents = self.source.extents()?;
        if let Some(lanes) = &mut *self.run.shared.lanes() {
            lanes.await_logs(self.source.away());
            lanes.await_topics(&self.source.absent());
            if self.source.suspects() {
                lanes.suspect();
            }
        }
        let (sights, asks) = {
            let lanes = self.run.shared.lanes();
            let Some(lanes) = &*lanes else { return Ok(()) };
            let sights: Vec<Sight> = extents.into_iter().map(|extent| sight(&*self.keeper, lanes.source(), extent)).collect();
            let asks = lanes.asks(&sights);
            (sights, asks)
        };
        let answers = answer(&mut *self.source, asks)?;
        let planned = self.run.shared.lanes().as_mut().map(|lanes| lanes.plan(&sights, &answers));
        if let Some(plan) = planned {
            self.carry_out(plan.map_err(|refusal| SourceError::Stop(refusal.to_string()))?)?;
        }
        self.note_extents(&sights);
        match self.source.absent().as_slice() {
            absent @ [_, ..] if self.run.shared.lanes().as_ref().is_some_and(|lanes| lanes.logs().next().is_none()) => {
                Err(SourceError::Retry(format!("kafka has no {}", absent.join(", "))))
            }
            _ => Ok(()),
        }
    }

    fn carry_out(&mut self, plan: Plan) -> Result<(), SourceError> {
        for notice in &plan.notices {
            warn!("{notice}");
        }
        if !plan.opens.is_empty() {
            self.keeper.open(&plan.opens).map_err(SourceError::Stop)?;
            plan.opens.iter().for_each(|(log, origin)| info!(%log, origin, "log opened"));
        }
        let mut late = Vec::new();
        {
            let lanes = self.run.shared.lanes();
            let mut progress = self.run.shared.progress();
            for (lane, stretch) in plan.reads {
                let entry = progress.logs.entry(stretch.log.clone()).or_default();
                match lane {
                    Lane::Live => {
                        (entry.begun, entry.position) = (stretch.from, stretch.from);
                        self.run.pending.push(stretch);
                    }
                    Lane::Backlog => {
                        entry.backlog = lanes.as_ref().map_or(0, |lanes| lanes.left(&stretch.log, stretch.from));
                        info!(log = %stretch.log, from = stretch.from, offsets = entry.backlog, "backlog beside live");
                        late.push(stretch);
                    }
                }
            }
            progress.goals.get_or_insert_default().extend(plan.goals.iter().map(|(log, high)| ((**log).clone(), *high)));
            if progress.state == ReaderState::Starting {
                progress.state = ReaderState::Reading;
            }
        }
        for (log, hole) in plan.holes {
            self.run.shared.note_hole(&log, hole);
        }
        self.run.shared.hand(late);
        Ok(())
    }

    fn note_extents(&self, sights: &[Sight]) {
        let lanes = self.run.shared.lanes();
        let mut progress = self.run.shared.progress();
        progress.looked_ms = Some(chrono::Utc::now().timestamp_millis());
        let known: Vec<Arc<Log>> = progress.logs.keys().cloned().collect();
        for log in known {
            let Some(sight) = sights.iter().find(|s| s.extent.topic == log.topic && s.extent.partition == log.partition) else { continue };
            let entry = progress.logs.entry(log).or_default();
            if entry.messages == 0
                && let Some((mark, time_ms)) = sight.stored.as_ref().and_then(|s| s.mark).and_then(|mark| Some((mark, mark.timestamp_ms?)))
            {
                // Of an earlier run: until when is archived what this one goes on after.
                entry.trail.note(mark.offset + 1, time_ms);
            }
            entry.low = sight.extent.low;
            entry.high = sight.extent.high.max(entry.position);
        }
        if let Some(lanes) = &*lanes {
            note_caught_up(lanes, &mut progress);
        }
    }

    /// Tells the source what is durable: the end of what is covered without a gap from the origin on.
    fn tell_durable(&mut self) {
        let logs: Vec<Arc<Log>> = self.run.shared.lanes().iter().flat_map(|lanes| lanes.logs().cloned().collect::<Vec<_>>()).collect();
        for log in logs {
            let Some(stored) = self.keeper.stored(&log) else { continue };
            let end = stored.covered.end().unwrap_or(stored.origin);
            self.source.durable(&log, stored.first_missing(end));
        }
    }
}

fn sight(keeper: &dyn Keeper, source: &Arc<str>, extent: Extent) -> Sight {
    let incarnation = keeper.incarnation(source, &extent.topic);
    let stored = incarnation.and_then(|incarnation| {
        keeper.stored(&Log { source: source.clone(), topic: extent.topic.clone(), incarnation, partition: extent.partition })
    });
    Sight { extent, incarnation, stored }
}

/// Asks the source; all marks at once, since each costs it a seek.
fn answer(source: &mut dyn Source, asks: Vec<Ask>) -> Result<BTreeMap<Ask, Answer>, SourceError> {
    let mut answers = BTreeMap::new();
    let mut marks = Vec::new();
    for ask in asks {
        match &ask {
            Ask::Mark(topic, partition, offset) => marks.push((topic.clone(), *partition, *offset)),
            Ask::OffsetAt(topic, partition, time) => {
                let offset = source.offset_at(topic, *partition, *time)?;
                answers.insert(ask, Answer::Offset(offset));
            }
        }
    }
    if !marks.is_empty() {
        let read = source.marks(&marks)?;
        for ((topic, partition, offset), mark) in marks.into_iter().zip(read) {
            answers.insert(Ask::Mark(topic, partition, offset), Answer::Mark(mark));
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use fink_dataflow::message::{Chunk, Mark, Message};
    use fink_dataflow::ports::{Drawn, Inlet as _, Stored, Stretch};

    use super::super::Reader;
    use super::*;
    use crate::lanes::{Origin, Rules};
    use crate::schemas::{Ensured, NoSchemas, Schemas};

    /// A log that grows by one offset at each read, and takes long to say how far it reaches. Pausing it fails at first.
    #[derive(Default)]
    struct Slow {
        next: i64,
        paused: bool,
        pauses: u32,
    }

    impl Source for Slow {
        fn identity(&mut self) -> Result<Arc<str>, SourceError> {
            Ok("slow:1".into())
        }
        fn extents(&mut self) -> Result<Vec<Extent>, SourceError> {
            std::thread::sleep(Duration::from_millis(30));
            Ok(vec![Extent { topic: "t".into(), partition: 0, low: 0, high: self.next }])
        }
        fn offset_at(&mut self, _: &str, _: i32, _: i64) -> Result<i64, SourceError> {
            Ok(0)
        }
        fn mark(&mut self, _: &str, _: i32, _: i64) -> Result<Option<Mark>, SourceError> {
            Ok(None)
        }
        fn read(&mut self, _: &[Stretch]) -> Result<(), SourceError> {
            Ok(())
        }
        fn pause(&mut self, _: &Log, paused: bool) -> Result<(), SourceError> {
            self.pauses += 1;
            if self.pauses % 2 == 1 {
                return Err(SourceError::Retry("not now".into()));
            }
            self.paused = paused;
            Ok(())
        }
        fn poll(&mut self, _: Duration) -> Result<Option<Chunk>, SourceError> {
            if self.paused {
                return Ok(None);
            }
            let (log, span) = (Arc::new(Log::new("slow:1", "t", 0, 0)), self.next..self.next + 1);
            let payload = Some(vec![0, 0, 0, 0, 7, 1].into());
            let message = Message { offset: self.next, timestamp_ms: None, key: None, payload };
            self.next += 1;
            Ok(Some(Chunk { log, span, messages: vec![message], received_us: 0 }))
        }
    }

    struct Nothing;

    impl Keeper for Nothing {
        fn stored(&self, _: &Log) -> Option<Stored> {
            None
        }
        fn incarnation(&self, _: &str, _: &str) -> Option<u32> {
            None
        }
        fn topics(&self) -> Vec<(Arc<str>, Arc<str>)> {
            Vec::new()
        }
        fn open(&self, _: &[(Log, i64)]) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_source_that_takes_long_to_look_at_is_read_in_between() {
        let rules = Rules { origin: Origin::Earliest, ..Rules::default() };
        let settings = Settings { rules, refresh: Duration::from_millis(10), ..Settings::default() };
        let (reader, inlet) = Reader::start(Box::<Slow>::default(), Arc::new(Nothing), Arc::new(NoSchemas), settings).expect("thread");
        let began = Instant::now();
        let mut drawn = 0;
        while drawn < 20 {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing is read: {:?}", reader.progress());
            match inlet.draw(0) {
                Drawn::Chunk(_) => drawn += 1,
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        reader.join();
    }

    /// Knows a schema only after it was asked a few times.
    #[derive(Default)]
    struct Late(AtomicU32);

    impl Schemas for Late {
        fn ensure(&self, _: &str, _: u32) -> Ensured {
            if self.0.fetch_add(1, Ordering::Relaxed) < 5 { Ensured::Later("asked".into()) } else { Ensured::Known }
        }
    }

    #[test]
    fn a_pause_that_fails_loses_no_message_and_does_not_last_for_ever() {
        let rules = Rules { origin: Origin::Earliest, ..Rules::default() };
        let settings = Settings { rules, ..Settings::default() };
        let (reader, inlet) = Reader::start(Box::<Slow>::default(), Arc::new(Nothing), Arc::<Late>::default(), settings).expect("thread");
        let began = Instant::now();
        let mut next = 0;
        while next < 100 {
            assert!(began.elapsed() < Duration::from_secs(60), "after {next}: {:?}", reader.progress());
            match inlet.draw(0) {
                Drawn::Chunk(chunk) => {
                    assert_eq!(chunk.span.start, next, "what came before was lost");
                    next = chunk.span.end;
                }
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        reader.join();
    }
}
