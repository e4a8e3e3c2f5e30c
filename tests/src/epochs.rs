//! The product's clock, live and late operators under a differential graph, on random schedules; and an oracle for them.
//!
//! Each published answer of each worker is compared with a recomputation over exactly those rows that its Moment
//! dominates and whose key the worker owns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use differential_dataflow::{AsCollection, Hashable};
use fink_dataflow::beats::{End, Pace, Seat, beats, live};
use fink_dataflow::budget::{Budget, Claim};
use fink_dataflow::late::{Close, LateSeat, late};
use fink_dataflow::publish::published;
use fink_dataflow::ticks::Ticks;
use fink_dataflow::{Chunk, Log, Message, Moment};
use fink_sources::queue::{Bounds, Inlet, Outlet, queue};
use serde_json::{Value, json};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{ConnectLoop, Feedback, Operator, Probe};
use timely::dataflow::{ProbeHandle, StreamVec};
use timely::order::PartialOrder;

use crate::template::Noise;

/// A row: a key and a value.
pub type Row = (u64, u64);

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// All chance comes from it.
    pub seed: u64,
    /// Keys.
    pub keys: u64,
    /// Rounds of the feeder: in each come live rows, and late ones now and then.
    pub rounds: u64,
    /// Live rows a round, at most (or exactly, where `steady`).
    pub live: u64,
    /// Late rows of a job, at most (or exactly, each round, where `steady`).
    pub late: u64,
    /// As many rows each round, instead of chance.
    pub steady: bool,
    /// Late rows come through the live lane instead: one epoch.
    pub one_lane: bool,
    /// The pause between two rounds.
    pub pace: Duration,
    /// The length of a tick.
    pub tick: Duration,
    /// When an epoch is asked to close.
    pub close: Close,
    /// Whether rows and answers are kept, to be checked.
    pub kept: bool,
}

impl Play {
    /// A short, random one.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let messages = [20, 200, 100_000][noise.below(3)];
        Self {
            seed,
            keys: 5 + below(&mut noise, 100),
            rounds: 60 + below(&mut noise, 100),
            live: 1 + below(&mut noise, 8),
            late: 1 + below(&mut noise, 150),
            steady: false,
            one_lane: false,
            pace: Duration::from_micros(200 + below(&mut noise, 800)),
            tick: Duration::from_micros(300 + below(&mut noise, 2_000)),
            close: Close { messages, ticks: 1 + below(&mut noise, 20) },
            kept: true,
        }
    }
}

/// An answer that a worker published: its updates, and the Moment at which it is exact.
pub type Answer = (usize, Option<Moment>, Vec<([u64; 3], isize)>);

/// What a process saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Rows and the Moments they entered at.
    pub rows: Vec<(Row, Moment)>,
    /// Answers, in order for each worker.
    pub answers: Vec<Answer>,
    /// Epochs that rolled in.
    pub rolls: u32,
}

impl Seen {
    /// For another process.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "rows": self.rows, "answers": self.answers, "rolls": self.rolls })
    }

    /// Of another process.
    #[must_use]
    pub fn from_json(mut value: Value) -> Self {
        let rows = serde_json::from_value(value["rows"].take()).expect("rows");
        let answers = serde_json::from_value(value["answers"].take()).expect("answers");
        Self { rows, answers, rolls: serde_json::from_value(value["rolls"].take()).expect("a number") }
    }
}

/// Runs it; `noted` hears of every roll (on the worker that published first).
#[must_use]
pub fn run(config: timely::Config, play: Play, noted: impl Fn(u32) + Send + Sync + 'static) -> Seen {
    let bounds = Bounds { chunks_per_worker: 1, ..Bounds::default() };
    let ((live_to, live_from), (late_to, late_from)) = (queue(bounds), queue(bounds));
    let (seen, end, budget) = (Arc::new(Mutex::new(Seen::default())), End::default(), Budget::new(48 << 20));
    // Processes of a cluster must not all make the same rows.
    let (process, threads) = match &config.communication {
        timely::CommunicationConfig::Cluster { process, threads, .. } => (*process as u64, *threads),
        _ => (0, usize::MAX),
    };
    let (over, kept, noted) = (end.clone(), seen.clone(), Arc::new(noted));
    let guards = timely::execute(config, move |worker| {
        let index = worker.index();
        let probe = ProbeHandle::new();
        let (seen, noted) = (kept.clone(), noted.clone());
        let seat = |inlet: &Inlet| Seat { inlet: inlet.clone(), budget: budget.clone(), index: index % threads };
        let late_seat = LateSeat { seat: seat(&late_from), close: play.close, yields: Arc::new(|| false) };
        worker.dataflow::<Moment, _, _>(|scope| {
            let left = ProbeHandle::new();
            let (asking, asks) = scope.feedback::<Vec<u32>>(());
            let pace = Pace {
                last: Moment::new(0, 4),
                ticks: Ticks::Every(play.tick),
                closed: probe.clone(),
                late: left.clone(),
                end: end.clone(),
            };
            let beats = beats(scope, asks, pace);
            let now = rows(live(scope, beats.clone(), seat(&live_from)), play.kept, &seen);
            let (before, asks) = late(scope, beats, late_seat);
            asks.connect_loop(asking);
            let before = rows(before.probe_with(&left), play.kept, &seen);
            let alerts = now.as_collection().concat(before.as_collection()).arrange_by_key_named("rows by key");
            let counts = alerts.reduce_abelian::<_, ValBuilder<_, _, _, _>, ValSpine<u64, Row, Moment, isize>, _, _>(
                "count and latest",
                |_key, values, out| {
                    let count: isize = values.iter().map(|(_, count)| count).sum();
                    let latest = values.iter().map(|(value, _)| **value).max().expect("a group has a row");
                    out.push(((count.unsigned_abs() as u64, latest), 1));
                },
                |buffer, key, updates| {
                    buffer.clear();
                    buffer.extend(updates.drain(..).map(|(value, time, change)| ((key.clone(), value), time, change)));
                },
            );
            let answers = counts.as_collection(|key, (count, latest)| [*key, *count, *latest]).inner;
            published(answers, move |moment, updates| {
                let mut seen = seen.lock().expect("no panic");
                if let Some(moment) = moment.filter(|moment| moment.epoch > seen.rolls) {
                    seen.rolls = moment.epoch;
                    noted(moment.epoch);
                }
                if play.kept {
                    seen.answers.push((index, moment, updates));
                }
            })
            .probe_with(&probe);
        });
        let deadline = Instant::now() + Duration::from_secs(300);
        while !probe.done() {
            worker.step_or_park(Some(Duration::from_millis(20)));
            assert!(Instant::now() < deadline, "stuck: {play:?}");
        }
    })
    .expect("workers start");
    // Now all processes are there.
    let feeder = thread::spawn(move || feed(play, process, live_to, late_to, &over));
    guards.join().into_iter().for_each(|worker| worker.expect("no worker panics"));
    feeder.join().expect("the feeder does not panic");
    std::mem::take(&mut *seen.lock().expect("no panic"))
}

/// Messages as rows with their times, which are kept for the oracle.
fn rows<'s>(
    chunks: StreamVec<'s, Moment, (Chunk, Arc<Claim>)>,
    kept: bool,
    seen: &Arc<Mutex<Seen>>,
) -> StreamVec<'s, Moment, (Row, Moment, isize)> {
    let seen = seen.clone();
    chunks.unary::<CapacityContainerBuilder<_>, _, _, _>(Pipeline, "rows", move |_, _| {
        move |input, output| {
            input.for_each_stamp(|stamp, chunks| {
                let moment = *stamp.stamp().iter().next().expect("a message has a Moment");
                let row = |message: &Message| {
                    let payload = message.payload.as_ref().expect("a payload");
                    let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().expect("eight bytes"));
                    (word(0), word(8))
                };
                let rows: Vec<Row> =
                    chunks.flat_map(|c| c.drain(..)).flat_map(|(c, _)| c.messages.iter().map(row).collect::<Vec<_>>()).collect();
                if kept {
                    seen.lock().expect("no panic").rows.extend(rows.iter().map(|row| (*row, moment)));
                }
                output.session(&stamp).give_iterator(rows.into_iter().map(|row| (row, moment, 1)));
            });
        }
    })
}

/// Fills the queues, round by round, and ends them.
fn feed(play: Play, process: u64, live: Outlet, late: Outlet, end: &End) {
    let mut noise = Noise::new(play.seed ^ (process << 32) ^ 0x5eed);
    let log = Arc::new(Log::new("play", "rows", 0, 0));
    let mut next = 0_i64;
    let mut send = |to: &Outlet, count: u64, noise: &mut Noise| {
        for part in (0..count).step_by(64) {
            let mut row = |offset: i64| {
                let value = if play.steady { offset.unsigned_abs() % 8 } else { offset.unsigned_abs() << 1 | process };
                let payload = [below(noise, play.keys).to_le_bytes(), value.to_le_bytes()].concat();
                Message { offset, timestamp_ms: None, key: None, payload: Some(Bytes::from(payload)) }
            };
            let span = next..next + i64::try_from(64.min(count - part)).expect("small");
            next = span.end;
            let messages = span.clone().map(&mut row).collect();
            let mut back = Some(Chunk { log: log.clone(), span, messages, received_us: 0 });
            while let Some(chunk) = back.take() {
                back = to.send(chunk, Duration::from_secs(1)).err();
            }
        }
    };
    for _ in 0..play.rounds {
        let before = if play.one_lane { &live } else { &late };
        if play.steady {
            send(&live, play.live, &mut noise);
            send(before, play.late, &mut noise);
        } else {
            let count = below(&mut noise, play.live + 1);
            send(&live, count, &mut noise);
            if below(&mut noise, 4) == 0 {
                let count = 1 + below(&mut noise, play.late);
                send(before, count, &mut noise);
            }
        }
        thread::sleep(play.pace);
    }
    drop((live, late));
    end.come();
}

/// A number below `end`.
fn below(noise: &mut Noise, end: u64) -> u64 {
    noise.bits() % end.max(1)
}

/// What a check saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    /// Rows.
    pub rows: usize,
    /// Answers that were recomputed.
    pub answers: usize,
    /// Of these, answers while late rows were there already that they must not show.
    pub hidden: usize,
}

/// Compares all answers of all processes with a recomputation.
///
/// # Errors
/// Which answer is wrong.
pub fn check(seen: &[Seen], peers: usize) -> Result<Checked, String> {
    let rows: Vec<(Row, Moment)> = seen.iter().flat_map(|seen| seen.rows.iter().copied()).collect();
    let mut checked = Checked { rows: rows.len(), ..Checked::default() };
    for worker in 0..peers {
        let mine: Vec<_> = rows.iter().filter(|((key, _), _)| key.hashed() as usize % peers == worker).copied().collect();
        let (mut answer, mut last) = (HashMap::<[u64; 3], isize>::new(), None::<Option<Moment>>);
        for (_, moment, updates) in seen.iter().flat_map(|seen| &seen.answers).filter(|(of, _, _)| *of == worker) {
            for (data, change) in updates {
                *answer.entry(*data).or_default() += change;
            }
            answer.retain(|_, count| *count != 0);
            if let (Some(Some(last)), Some(moment)) = (last, moment)
                && !last.less_equal(moment)
            {
                return Err(format!("worker {worker}: {moment} after {last}"));
            }
            last = Some(*moment);
            let within = |time: &Moment| moment.is_none_or(|moment| time.less_equal(&moment));
            if answer != counted(mine.iter().filter(|(_, time)| within(time)).map(|(row, _)| row)) {
                return Err(format!("worker {worker}: the answer at {moment:?} is wrong"));
            }
            checked.answers += 1;
            checked.hidden += usize::from(moment.is_some_and(|m| mine.iter().any(|(_, time)| time.tick <= m.tick && time.epoch > m.epoch)));
        }
        if last != Some(None) {
            return Err(format!("worker {worker} published no last answer"));
        }
    }
    Ok(checked)
}

/// The answer over some rows, the slow way.
fn counted<'r>(rows: impl Iterator<Item = &'r Row>) -> HashMap<[u64; 3], isize> {
    let mut keys = HashMap::<u64, (u64, u64)>::new();
    for (key, value) in rows {
        let (count, latest) = keys.entry(*key).or_default();
        (*count, *latest) = (*count + 1, (*latest).max(*value));
    }
    keys.into_iter().map(|(key, (count, latest))| ([key, count, latest], 1)).collect()
}
