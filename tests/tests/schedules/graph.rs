//! The real graph (beats, live, late, decode, archive) under random schedules: its workers step one at a time, its inlets
//! and its writers' desks are played by the seed, and runs are broken off and begun again with another number of workers.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fink::graph::{Parts, probed};
use fink::observed::Observed;
use fink_dataflow::alerts::{AlertBatch, Decoded, Tally};
use fink_dataflow::beats::{End, Seat};
use fink_dataflow::budget::Budget;
use fink_dataflow::late::{Close, LateSeat, YIELD_SETTING};
use fink_dataflow::message::{Chunk, Log};
use fink_dataflow::ports::{Drawn, Inlet};
use fink_dataflow::rules::Rule;
use fink_dataflow::ticks::{Hand, Ticks};
use fink_dataflow::{Coverage, Moment};
use fink_sinks::archive::writer::{Desk, Task};
use timely::order::PartialOrder;
use timely::scheduling::SyncActivator;

use super::answers::Answers;
use super::baton::Baton;
use super::chance::Chance;
use super::oracle::{Oracle, Rows, note, oracle};

/// An inlet that the seed fills.
#[derive(Clone, Default)]
struct Feed(Arc<Mutex<(VecDeque<Chunk>, Vec<SyncActivator>, bool)>>);

impl Feed {
    fn push(&self, chunk: Chunk) {
        self.0.lock().expect("no panic").0.push_back(chunk);
        self.wake();
    }

    fn wake(&self) {
        self.0.lock().expect("no panic").1.iter().for_each(|waker| waker.activate().unwrap_or_default());
    }

    fn end(&self) {
        self.0.lock().expect("no panic").2 = true;
        self.wake();
    }

    fn is_empty(&self) -> bool {
        self.0.lock().expect("no panic").0.is_empty()
    }
}

impl Inlet for Feed {
    fn register(&self, _: usize, waker: SyncActivator) {
        self.0.lock().expect("no panic").1.push(waker);
    }

    fn draw(&self, _: usize) -> Drawn {
        let mut state = self.0.lock().expect("no panic");
        match state.0.pop_front() {
            Some(chunk) => Drawn::Chunk(chunk),
            None if state.2 => Drawn::Ended,
            None => Drawn::Nothing,
        }
    }
}

/// What one writer's desk has in hand.
struct Played {
    desk: Desk,
    late: bool,
    open: Vec<(u64, Moment, Vec<Decoded>)>,
}

/// What outlives a run: the ledger of this play.
#[derive(Default)]
struct Kept {
    covered: Coverage,
    rows: Rows,
    tallies: BTreeMap<Log, Tally>,
    alerts: Vec<AlertBatch>,
    moment: Moment,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub runs: u64,
    pub rolls: u64,
    pub moments: u64,
    pub rows: u64,
    pub rejects: u64,
    pub turns: u64,
    /// How often the services were asked for all they know.
    pub asked: u64,
}

/// A run of the graph.
struct Run<'o> {
    oracle: &'o Oracle,
    workers: usize,
    baton: Baton,
    hand: Hand,
    end: End,
    live: Feed,
    late: Feed,
    yields: Arc<AtomicBool>,
    desks: Vec<Played>,
    /// Each worker's frontier of what is durable, as last seen.
    frontiers: Arc<Mutex<Vec<Vec<Moment>>>>,
    done: Arc<Mutex<Vec<bool>>>,
    /// What is yet to be read, lane by lane.
    ahead: [Vec<(usize, Range<i64>)>; 2],
    /// The latest Moment that an earlier run made durable.
    began: Moment,
    last_live: Moment,
    last_late: u32,
    answers: Answers,
    stats: Stats,
    digest: DefaultHasher,
}

impl Run<'_> {
    /// A turn of the schedule.
    fn turn(&mut self, chance: &mut Chance, kept: &mut Kept) -> Result<(), String> {
        self.stats.turns += 1;
        match chance.below(12) {
            0 | 1 => self.feed(chance),
            2 => self.hand.tick(chance.pick(&[1, 1, 1, 2, 5])),
            3 | 4 => {
                let which = usize::try_from(chance.below(self.desks.len() as u64)).expect("small");
                self.write(which)?;
            }
            5 => {
                let which = usize::try_from(chance.below(self.desks.len() as u64)).expect("small");
                let few = chance.permille(500);
                self.acknowledge(which, if few { 1 } else { usize::MAX }, kept)?;
            }
            6 if chance.permille(150) => {
                let was = self.yields.fetch_xor(true, Ordering::Relaxed);
                if was {
                    self.late.wake();
                }
            }
            _ => self.step(usize::try_from(chance.below(self.workers as u64)).expect("small"))?,
        }
        Ok(())
    }

    /// Some more of a log comes, in a batch of whatever size.
    fn feed(&mut self, chance: &mut Chance) {
        let lane = usize::try_from(chance.below(2)).expect("small");
        let ahead = &mut self.ahead[lane];
        if ahead.is_empty() {
            return;
        }
        let which = usize::try_from(chance.below(ahead.len() as u64)).expect("small");
        let (log, span) = &mut ahead[which];
        let to = span.end.min(span.start + chance.between(1, 30).cast_signed());
        let taken = span.start..to;
        span.start = to;
        let (of, messages) = &self.oracle.logs[*log];
        let messages = messages.iter().filter(|message| taken.contains(&message.offset)).cloned().collect();
        let chunk = Chunk { log: of.clone(), span: taken, messages, received_us: 0 };
        if span.is_empty() {
            ahead.swap_remove(which);
        }
        if lane == 0 { &self.live } else { &self.late }.push(chunk);
    }

    fn step(&mut self, worker: usize) -> Result<(), String> {
        self.baton.step(worker);
        let frontier = self.frontiers.lock().expect("no panic")[worker].clone();
        (worker, &frontier).hash(&mut self.digest);
        for played in &self.desks {
            for (_, moment, _) in &played.open {
                passes(&frontier, *moment)?;
            }
        }
        Ok(())
    }

    /// A writer takes what its operator has asked for.
    fn write(&mut self, which: usize) -> Result<(), String> {
        let played = &mut self.desks[which];
        let Some(Task::Take(number, moment, decoded)) = played.desk.next() else { return Ok(()) };
        (which, number, moment).hash(&mut self.digest);
        self.stats.moments += 1;
        if played.open.last().is_some_and(|(last, ..)| *last + 1 != number) {
            return Err(format!("writer {which} is given {number} out of order"));
        }
        if played.late {
            self.last_late = self.last_late.max(moment.epoch);
        } else {
            if !(self.last_live.less_equal(&moment) || moment.less_equal(&self.last_live)) {
                return Err(format!("live Moments are no chain: {moment} and {}", self.last_live));
            }
            self.last_live = self.last_live.max(moment);
        }
        self.answers.came(moment, &decoded);
        played.open.push((number, moment, decoded));
        if moment.tick <= self.began.tick {
            return Err(format!("{moment} is not after {}, which an earlier run made durable", self.began));
        }
        for frontier in self.frontiers.lock().expect("no panic").iter() {
            passes(frontier, moment)?;
        }
        Ok(())
    }

    /// The first so many of what a writer has in hand become durable.
    fn acknowledge(&mut self, which: usize, count: usize, kept: &mut Kept) -> Result<(), String> {
        let played = &mut self.desks[which];
        let group: Vec<_> = played.open.drain(..count.min(played.open.len())).collect();
        let (Some(first), Some(last)) = (group.first().map(|part| part.0), group.last().map(|part| part.0)) else { return Ok(()) };
        for (_, moment, decoded) in &group {
            for part in decoded {
                for passed in &part.passed {
                    if kept.covered.insert(&passed.log, passed.span.clone()) != (passed.span.end - passed.span.start).unsigned_abs() {
                        return Err(format!("{} {:?} is covered twice", passed.log, passed.span));
                    }
                    *kept.tallies.entry((*passed.log).clone()).or_default() += passed.tally;
                }
                note(part, &mut kept.rows)?;
                kept.alerts.extend(part.alerts.iter().cloned());
            }
            kept.moment = Moment::new(kept.moment.epoch.max(moment.epoch), kept.moment.tick.max(moment.tick));
        }
        played.desk.durable(first..last + 1);
        Ok(())
    }

    /// The services are asked for all they know.
    fn ask(&mut self, chance: &mut Chance) -> Result<(), String> {
        let (baton, workers) = (self.baton.clone(), self.workers as u64);
        let step = || baton.step(usize::try_from(chance.below(workers)).expect("small"));
        self.stats.asked += u64::from(self.answers.ask(step)?);
        Ok(())
    }

    /// Everybody goes on until nothing is left to do.
    fn settle(&mut self, kept: &mut Kept, turns: usize) -> Result<(), String> {
        for _ in 0..turns {
            self.hand.tick(1);
            for worker in 0..self.workers {
                self.step(worker)?;
            }
            for which in 0..self.desks.len() {
                self.write(which)?;
                self.write(which)?;
                self.acknowledge(which, usize::MAX, kept)?;
            }
        }
        Ok(())
    }

    /// All comes in and becomes durable, late data rolls in, and the graph ends.
    fn finish(&mut self, chance: &mut Chance, kept: &mut Kept) -> Result<(), String> {
        if self.yields.swap(false, Ordering::Relaxed) {
            self.late.wake();
        }
        while !(self.ahead.iter().all(Vec::is_empty) && self.live.is_empty() && self.late.is_empty()) {
            self.feed(chance);
            self.settle(kept, 1)?;
        }
        // Within this time the last late rows must have become part of the live answer.
        self.settle(kept, 60)?;
        let (log, _) = &self.oracle.logs[0];
        self.live.push(Chunk { log: log.clone(), span: 0..0, messages: Vec::new(), received_us: 0 });
        self.settle(kept, 10)?;
        if self.last_live.epoch < self.last_late {
            return Err(format!(
                "late data of epoch {} never became part of the live answers, which are at {}",
                self.last_late, self.last_live
            ));
        }
        self.stats.rolls += u64::from(self.last_live.epoch);
        self.ask(chance)?;
        self.answers.judge()?;
        self.live.end();
        self.late.end();
        self.end.come();
        for _ in 0..200 {
            self.settle(kept, 1)?;
            if self.done.lock().expect("no panic").iter().all(|done| *done) {
                return Ok(());
            }
        }
        Err("the graph does not end".to_owned())
    }
}

/// Whether what is open at `moment` is still ahead of the frontier.
fn passes(frontier: &[Moment], moment: Moment) -> Result<(), String> {
    if frontier.iter().any(|open| open.less_equal(&moment)) {
        return Ok(());
    }
    Err(format!("the durable frontier {frontier:?} has passed {moment}, which is not durable"))
}

/// Plays a seed: runs of the graph, the last to its end. Returns what happened, and a digest of it.
///
/// # Errors
/// What must never happen, and did.
pub fn play(seed: u64, broken: Option<Rule>) -> Result<(Stats, u64), String> {
    let mut chance = Chance::new(seed ^ 0x6EAF);
    let oracle = oracle(&mut chance);
    let (mut kept, mut stats) = (Kept::default(), Stats::default());
    let mut digest = DefaultHasher::new();
    for crash in [chance.permille(500), chance.permille(300), false] {
        run(&oracle, &mut chance, &mut kept, &mut stats, &mut digest, (broken, crash))?;
        if !crash {
            break;
        }
    }
    if kept.rows != oracle.rows {
        let missing = oracle.rows.iter().find(|(key, text)| kept.rows.get(key) != Some(text));
        return Err(format!("other rows than decoded at once: {missing:?}, {} of {}", kept.rows.len(), oracle.rows.len()));
    }
    if kept.tallies != oracle.tallies {
        return Err(format!("counted {:?}, there are {:?}", kept.tallies, oracle.tallies));
    }
    stats.rows = kept.rows.len() as u64;
    stats.rejects = kept.rows.keys().filter(|key| key.2 < 0).count() as u64;
    Ok((stats, digest.finish()))
}

/// One run, until it is broken off or done.
fn run(
    oracle: &Oracle,
    chance: &mut Chance,
    kept: &mut Kept,
    stats: &mut Stats,
    digest: &mut DefaultHasher,
    (broken, crash): (Option<Rule>, bool),
) -> Result<(), String> {
    let workers = chance.pick(&[1usize, 2, 2, 4]);
    let (answers, seats) = Answers::begin(workers, &kept.alerts);
    let seats = Mutex::new(seats);
    let mut run = Run {
        oracle,
        workers,
        baton: Baton::new(),
        hand: Hand::default(),
        end: End::default(),
        live: Feed::default(),
        late: Feed::default(),
        yields: Arc::default(),
        desks: Vec::new(),
        frontiers: Arc::new(Mutex::new(vec![vec![Moment::default()]; workers])),
        done: Arc::new(Mutex::new(vec![false; workers])),
        ahead: divide(oracle, chance, &kept.covered),
        began: kept.moment,
        last_live: Moment::default(),
        last_late: 0,
        answers,
        stats: Stats { runs: stats.runs + 1, ..*stats },
        digest: DefaultHasher::new(),
    };
    let (budget, last) = (Budget::new(usize::try_from(chance.between(500, 20_000)).expect("small")), kept.moment);
    let close = Close { messages: usize::try_from(chance.between(1, 60)).expect("small"), ticks: chance.between(1, 8) };
    let mut handles = Vec::new();
    for _ in 0..workers {
        let ((live, live_desk), (late, late_desk)) = (Desk::new(), Desk::new());
        run.desks.push(Played { desk: live_desk, late: false, open: Vec::new() });
        run.desks.push(Played { desk: late_desk, late: true, open: Vec::new() });
        handles.push(Mutex::new(Some((live, late))));
    }
    let guards = {
        let (baton, hand, end, live, late) = (run.baton.clone(), run.hand.clone(), run.end.clone(), run.live.clone(), run.late.clone());
        let (frontiers, done, yields, book) = (run.frontiers.clone(), run.done.clone(), run.yields.clone(), oracle.book.clone());
        let mut config = timely::Config::process(workers);
        // Who yields is woken when it need not any more; a timer would make schedules differ by the machine's pace.
        config.worker.set(YIELD_SETTING.to_owned(), Duration::from_secs(1 << 30));
        timely::execute(config, move |worker| {
            #[cfg(debug_assertions)]
            Rule::switch_off(broken);
            #[cfg(not(debug_assertions))]
            assert!(broken.is_none(), "a released program's rules can't be switched off");
            let index = worker.index();
            let yields: Arc<dyn Fn() -> bool + Send + Sync> = {
                let yields = yields.clone();
                Arc::new(move || yields.load(Ordering::Relaxed))
            };
            let seat = |inlet: &Feed| Seat { inlet: inlet.clone(), budget: budget.clone(), index };
            let (writer, late_writer) = handles[index].lock().expect("no panic").take().expect("each worker is built once");
            let late_seat = LateSeat { seat: seat(&late), close, yields: yields.clone() };
            let parts = Parts {
                seat: seat(&live),
                writer,
                late: vec![(late_seat, late_writer)],
                services: Some(seats.lock().expect("no panic").parts(index, &budget, close, &yields)),
                book: book.clone(),
                observed: Observed::default(),
                last,
                ticks: Ticks::ByHand(hand.clone()),
                end: end.clone(),
            };
            let (mut parts, mut probes) = (Some(parts), None);
            baton.play(index, || {
                if let Some(parts) = parts.take() {
                    probes = Some(probed(worker, parts));
                }
                worker.step();
                let probes = probes.as_mut().expect("built at the first turn");
                probes.desk.iter_mut().for_each(fink::services::desk::Desk::attend);
                let probe = &probes.durable;
                frontiers.lock().expect("no panic")[index] = probe.with_frontier(|frontier| frontier.to_vec());
                done.lock().expect("no panic")[index] = probe.done();
            });
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        })
        .map_err(|error| format!("no workers: {error}"))?
    };
    #[cfg(debug_assertions)]
    Rule::switch_off(broken);
    let result = conduct(&mut run, chance, kept, crash);
    #[cfg(debug_assertions)]
    Rule::switch_off(None);
    run.baton.over();
    drop(guards);
    run.digest.finish().hash(digest);
    *stats = run.stats;
    result
}

fn conduct(run: &mut Run<'_>, chance: &mut Chance, kept: &mut Kept, crash: bool) -> Result<(), String> {
    // Built in order: what a worker may send another waits for it there.
    for worker in 0..run.workers {
        run.step(worker)?;
    }
    for _ in 0..chance.between(50, 400) {
        run.turn(chance, kept)?;
        if chance.permille(8) {
            run.ask(chance)?;
        }
    }
    if crash { Ok(()) } else { run.finish(chance, kept) }
}

/// Divides what is missing between the lanes: what lies below a border is late.
fn divide(oracle: &Oracle, chance: &mut Chance, covered: &Coverage) -> [Vec<(usize, Range<i64>)>; 2] {
    let mut lanes = [Vec::new(), Vec::new()];
    for (index, (log, messages)) in oracle.logs.iter().enumerate() {
        let end = messages.last().map_or(0, |last| last.offset + 1);
        let border = chance.below(end.unsigned_abs() + 1).cast_signed();
        for gap in covered.get(log).cloned().unwrap_or_default().gaps(0..end) {
            let (below, above) = (gap.start..gap.end.min(border), gap.start.max(border)..gap.end);
            if !below.is_empty() {
                lanes[1].push((index, below));
            }
            if !above.is_empty() {
                lanes[0].push((index, above));
            }
        }
    }
    lanes
}
