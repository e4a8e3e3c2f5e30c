//! Tables of a maintained answer over several lives of a process: at every entry of the ledger, the sum of differences is the
//! batch answer at the Moment published, whatever was killed, merged or consolidated meanwhile.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use differential_dataflow::AsCollection;
use fink_dataflow::Moment;
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::table::ledger::Ledger;
use fink_dataflow::table::store::{Archive, wait};
use timely::dataflow::operators::vec::UnorderedInput;
use timely::order::PartialOrder;

use super::seat::locked;
use super::store::Files;
use super::table::{folder, with_own};
use super::{Output, Outputs, OutputsOptions, OutputsParts, Seat};
use crate::archive::committer::{CommitOptions, Committer, CompactionOptions};
use crate::archive::routes::Routes;

/// What comes: a key and a value.
type Record = (i64, i64);
/// What is maintained: by key, how many values there are and the greatest.
type Answer = (i64, i64, i64);

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Columns of a release: a later one may have more.
fn answers(more: bool) -> Output<Answer> {
    let field = |name: &str, kind| Field::new(name, kind, true);
    let mut fields = vec![field("key", DataType::Int64), field("count", DataType::Int64), field("most", DataType::Int64)];
    if more {
        fields.push(field("word", DataType::Utf8));
    }
    Output::new("answers", Fields::from(fields), move |rows: &[Answer]| {
        let column = |of: fn(&Answer) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(of))) };
        let mut columns = vec![column(|row| row.0), column(|row| row.1), column(|row| row.2)];
        if more {
            columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|row| format!("{}", row.1 % 3)))));
        }
        columns
    })
    .unwrap()
}

/// Each key as often as it came.
fn keys() -> Output<i64> {
    Output::new("keys", vec![Field::new("key", DataType::Int64, true)], |rows: &[i64]| {
        vec![Arc::new(Int64Array::from(rows.to_vec())) as ArrayRef]
    })
    .unwrap()
}

fn batch<'a>(records: impl Iterator<Item = &'a Record>) -> (HashMap<Vec<i64>, i64>, HashMap<Vec<i64>, i64>) {
    let (mut by_key, mut keys) = (BTreeMap::<i64, Vec<i64>>::new(), HashMap::new());
    for (key, value) in records {
        by_key.entry(*key).or_default().push(*value);
        *keys.entry(vec![*key]).or_insert(0) += 1;
    }
    let of = |(key, values): (i64, Vec<i64>)| (vec![key, values.len() as i64, *values.iter().max().unwrap()], 1);
    (by_key.into_iter().map(of).collect(), keys)
}

/// What came in one life of the process, and when.
#[derive(Default)]
struct Life {
    generation: u64,
    entered: Vec<(Record, Moment)>,
    /// Nothing came but what was there before.
    idle: bool,
}

/// One life: what is known enters as late data, new records as live and late ones.
struct Play<'a> {
    archive: &'a Archive,
    workers: usize,
    /// Known before.
    past: &'a [Record],
    new: u64,
    output: Output<Answer>,
    options: OutputsOptions,
}

/// What a life left running.
struct Left {
    committer: Committer,
    outputs: Arc<Outputs>,
    guards: timely::communication::WorkerGuards<()>,
    /// Workers go on, with all of their capabilities, until it is set.
    end: Arc<AtomicBool>,
}

impl Left {
    /// Until the tables are exact at a Moment, or can't be.
    fn catch_up(&self) {
        while self.outputs.stand().moment.is_none() && self.outputs.stand().failed.is_empty() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// As a process ends that is asked to.
    fn stop(self) {
        self.end.store(true, Ordering::SeqCst);
        self.guards.join().into_iter().for_each(|ended| ended.unwrap());
        assert!(self.outputs.stop(Duration::from_secs(60)), "it ends");
        self.committer.stop().unwrap();
    }

    /// As one ends that is killed: another has taken the archive, and nothing that this one does counts any more.
    fn kill(self) {
        self.end.store(true, Ordering::SeqCst);
        self.guards.join().into_iter().for_each(|ended| ended.unwrap());
    }
}

fn options(dice: &mut Dice) -> OutputsOptions {
    let every = Duration::from_millis(dice.below(20));
    let look = Duration::from_millis(2);
    OutputsOptions { every, look, held_max: 100_000, file_rows: 7, consolidate_rows: 40 }
}

fn commit_options() -> CommitOptions {
    let compaction = CompactionOptions { fan_in: 3, every: Duration::from_millis(7), ..CompactionOptions::default() };
    CommitOptions { take_over: true, vacuum_every: None, compaction: Some(compaction), ..CommitOptions::default() }
}

fn play(Play { archive, workers, past, new, output, options }: Play<'_>, dice: &mut Dice) -> (Life, Left) {
    let (committer, before, routes) = Committer::start(archive.clone(), commit_options()).unwrap();
    let read = Arc::new(Mutex::new(None::<Moment>));
    let complete = {
        let read = Arc::clone(&read);
        Box::new(move |moment: Moment| locked(&read).is_some_and(|past| past.less_equal(&moment)))
    };
    let parts = OutputsParts { archive: archive.clone(), committer: committer.clone(), routes, workers, complete };
    let outputs = Arc::new(Outputs::start(parts, options).unwrap());

    // What enters at which tick; the last ticks are empty, so that all rolls in.
    let mut now = Moment::new(before.moment.epoch, before.moment.tick + 1);
    let mut ticks: Vec<(Moment, Vec<(Record, Moment)>)> = Vec::new();
    for _ in 0..8 {
        ticks.push((now, Vec::new()));
        now = Moment::new(now.epoch + u32::from(dice.below(3) == 0), now.tick + 1 + dice.below(3));
    }
    ticks.extend([(Moment::new(now.epoch + 1, now.tick), Vec::new()), (Moment::new(now.epoch + 1, now.tick + 1), Vec::new())]);
    let mut enter = |record: Record, late: bool, dice: &mut Dice| {
        let (now, entered) = &mut ticks[dice.below(8) as usize];
        let at = Moment::new(now.epoch + u32::from(late), now.tick);
        entered.push((record, at));
        at
    };
    let (mut known, mut entered) = (None::<Moment>, Vec::new());
    for record in past {
        let at = enter(*record, true, dice);
        use differential_dataflow::lattice::Lattice;
        known = Some(known.map_or(at, |known| known.join(&at)));
        entered.push((*record, at));
    }
    for _ in 0..new {
        let record = (dice.below(9) as i64, dice.below(1_000) as i64);
        let late = dice.below(3) == 0;
        let at = enter(record, late, dice);
        entered.push((record, at));
    }
    *locked(&read) = Some(known.unwrap_or_default());

    let (ticks, end) = (Arc::new(ticks), Arc::new(AtomicBool::new(false)));
    let seats: Vec<Seat> = (0..workers).map(|index| outputs.seat(index)).collect();
    let pauses: Vec<u64> = (0..ticks.len() * workers).map(|_| dice.below(6)).collect();
    let guards = {
        let end = Arc::clone(&end);
        timely::execute(timely::Config::process(workers), move |worker| {
            let (index, peers) = (worker.index(), worker.peers());
            let seat = seats[index].clone();
            let (mut input, mut capability) = worker.dataflow::<Moment, _, _>(|scope| {
                let ((input, capability), stream) = scope.new_unordered_input::<(Record, Moment, isize)>();
                let records = stream.as_collection();
                let answers = records.clone().reduce(|_, values, out| {
                    let count: isize = values.iter().map(|(_, times)| times).sum();
                    out.push(((count as i64, *values[values.len() - 1].0), 1));
                });
                seat.table(&output, answers.map(|(key, (count, most))| (key, count, most)));
                seat.table(&keys(), records.map(|(key, _)| key));
                (input, Some(capability))
            });
            for (number, (now, entered)) in ticks.iter().enumerate() {
                let held = capability.as_mut().unwrap();
                held.downgrade(now);
                for (at, (record, moment)) in entered.iter().enumerate() {
                    if at % peers == index {
                        input.activate().session(&held.delayed(moment)).give((*record, *moment, 1));
                    }
                }
                held.downgrade(&Moment::new(now.epoch, now.tick + 1));
                let until = Instant::now() + Duration::from_millis(pauses[number * peers + index]);
                while Instant::now() < until {
                    worker.step_or_park(Some(Duration::from_millis(1)));
                }
            }
            while !end.load(Ordering::SeqCst) {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
            capability = None;
            drop(capability);
        })
        .unwrap()
    };
    let life = Life { generation: before.generation, idle: new == 0, entered };
    (life, Left { committer, outputs, guards, end })
}

/// The rows of files, summed by content.
fn sums(archive: &Archive, table: &str, width: usize, files: &BTreeMap<String, DataFile>) -> (HashMap<Vec<i64>, i64>, Moment) {
    let fields: Fields = ["key", "count", "most"][..width].iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
    let routes = Routes::new(&Default::default()).unwrap();
    let columns = routes.declare(&table.into(), &with_own(&fields)).unwrap();
    let reader = Files::new(archive.clone(), table.into(), columns, 0, Default::default()).unwrap();
    let (mut sums, mut last) = (HashMap::new(), Moment::default());
    for file in files.values() {
        let mut take = |rows: super::store::Rows| {
            for row in 0..rows.diffs.len() {
                let content = rows.rows.columns().iter().map(|column| column.as_primitive::<Int64Type>().value(row)).collect();
                *sums.entry(content).or_insert(0) += rows.diffs[row];
                last = last.max(rows.moments[row]);
            }
            Ok(())
        };
        reader.read(file, &mut take).unwrap();
    }
    sums.retain(|_, sum| *sum != 0);
    (sums, last)
}

/// What was found on the way through a ledger.
#[derive(Debug, Default)]
struct Found {
    publications: usize,
    compactions: usize,
    consolidations: usize,
    idle: usize,
}

/// Looks at the tables as each entry left them.
fn judge(archive: &Archive, lives: &[Life]) -> Found {
    let there = archive.clone();
    let (ledger, state) = wait(async move { Ledger::open(&there).await }).unwrap();
    let ledger = Arc::new(ledger);
    let mut live = BTreeMap::<Arc<str>, BTreeMap<String, DataFile>>::new();
    let (mut found, mut last, mut expected) = (Found::default(), Moment::default(), Default::default());
    for number in 0..state.next {
        let reading = Arc::clone(&ledger);
        let entry = wait(async move { reading.entry(number).await }).unwrap().unwrap();
        for change in &entry.tables {
            let files = live.entry(change.table.clone()).or_default();
            change.removes.iter().for_each(|removed| assert!(files.remove(&removed.path).is_some(), "it was there"));
            files.extend(change.adds.iter().map(|file| (file.path.clone(), file.clone())));
        }
        let life = lives.iter().find(|life| life.generation == entry.generation).unwrap();
        if let Some(moment) = entry.note.strip_prefix("services at Moment ") {
            let (epoch, tick) = moment.split_once('.').unwrap();
            let moment = Moment::new(epoch.parse().unwrap(), tick.parse().unwrap());
            assert!(last != moment && last.less_equal(&moment), "{moment} after {last}");
            assert!(!entry.tables.is_empty() && entry.tables.iter().all(|change| change.data_change));
            last = moment;
            expected = batch(life.entered.iter().filter(|(_, at)| at.less_equal(&moment)).map(|(record, _)| record));
            found.publications += 1;
            found.idle += usize::from(life.idle);
        }
        found.compactions += usize::from(entry.note.starts_with("compaction"));
        found.consolidations += usize::from(entry.note.starts_with("consolidation"));
        for (name, width, expected) in [("answers", 3, &expected.0), ("keys", 1, &expected.1)] {
            let (sums, newest) = sums(archive, &folder(name), width, live.entry(folder(name)).or_default());
            assert_eq!(sums, *expected, "{name} at entry {number} ({})", entry.note);
            assert!(newest.less_equal(&last));
        }
    }
    found
}

/// Several lives; some are killed, and what they had not made durable comes again.
fn lives(seed: u64, workers: usize) -> Found {
    let mut dice = Dice(seed);
    let archive = Archive::in_memory();
    let (mut all, mut past, mut killed): (Vec<Life>, Vec<Record>, Option<Left>) = (Vec::new(), Vec::new(), None);
    for number in 0..5 {
        // The last two change nothing.
        let new = if number < 3 { 20 + dice.below(60) } else { 0 };
        let options = options(&mut dice);
        let (life, left) = play(Play { archive: &archive, workers, past: &past, new, output: answers(false), options }, &mut dice);
        killed.take().into_iter().for_each(Left::kill);
        past = life.entered.iter().map(|(record, _)| *record).collect();
        all.push(life);
        std::thread::sleep(Duration::from_millis(dice.below(120)));
        if number < 3 && dice.below(2) == 0 {
            killed = Some(left);
        } else {
            left.catch_up();
            left.stop();
        }
    }
    let found = judge(&archive, &all);
    assert!(found.publications > 0, "seed {seed}: nothing was published");
    found
}

#[test]
fn the_sum_of_differences_is_the_batch_answer_at_every_entry() {
    let mut sum = Found::default();
    for (seed, workers) in (0..12).zip([1, 2, 4].into_iter().cycle()) {
        let found = lives(seed, workers);
        sum.publications += found.publications;
        sum.compactions += found.compactions;
        sum.consolidations += found.consolidations;
        sum.idle = sum.idle.max(found.idle);
    }
    println!("{sum:?}");
    // One at the most: what the life before left unsaid. The one after it has nothing to say.
    assert!(sum.idle <= 1, "an answer that did not change was published again: {sum:?}");
}

/// Plays one life to its end, and returns what its outputs say.
fn whole(archive: &Archive, past: &[Record], output: Output<Answer>, held_max: usize) -> (Life, super::Stand) {
    let mut dice = Dice(7);
    let options = OutputsOptions { held_max, every: Duration::ZERO, ..options(&mut dice) };
    let (life, left) = play(Play { archive, workers: 2, past, new: 0, output, options }, &mut dice);
    let outputs = Arc::clone(&left.outputs);
    left.catch_up();
    left.stop();
    (life, outputs.stand())
}

#[test]
fn an_output_that_holds_too_much_is_given_up_and_the_next_start_publishes_the_difference() {
    let archive = Archive::in_memory();
    let past: Vec<Record> = (0..300).map(|n| (n % 50, n)).collect();
    let (first, stand) = whole(&archive, &past, answers(false), 3);
    assert!(stand.failed.iter().any(|(name, why)| name == "answers" && why.contains("more than 3")), "{stand:?}");
    assert!(stand.lines().iter().any(|line| line.contains("answers is not written any more")));
    let (second, stand) = whole(&archive, &past, answers(false), 100_000);
    assert!(stand.failed.is_empty() && stand.rows >= 50, "{stand:?}");
    judge(&archive, &[first, second]);
}

#[test]
fn what_came_and_went_is_left_out_when_it_is_half_of_a_table() {
    let archive = Archive::in_memory();
    let past: Vec<Record> = (0..300).map(|n| (n % 50, n)).collect();
    let (first, _) = whole(&archive, &past, answers(false), 100_000);
    // Each answer changes: what it was stands twice in the table then, and is no part of it.
    let more: Vec<Record> = past.iter().copied().chain((0..50).map(|n| (n, 1_000))).collect();
    let (second, _) = whole(&archive, &more, answers(false), 100_000);
    let (third, _) = whole(&archive, &more, answers(false), 100_000);
    let found = judge(&archive, &[first, second, third]);
    assert!(found.publications == 2 && found.consolidations > 0, "{found:?}");
}

#[test]
fn columns_are_added_and_never_changed() {
    let archive = Archive::in_memory();
    let past: Vec<Record> = (0..30).map(|n| (n % 5, n)).collect();
    let (first, stand) = whole(&archive, &past, answers(false), 1_000);
    assert_eq!((stand.failed.len(), stand.publications), (0, 1), "{stand:?}");
    let (second, stand) = whole(&archive, &past, answers(true), 1_000);
    // Five rows go, and come with what they say more.
    assert_eq!((stand.failed.len(), stand.rows), (0, 10), "{stand:?}");
    let changed = Output::new("answers", vec![Field::new("key", DataType::Utf8, true)], |rows: &[Answer]| {
        vec![Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0.to_string()))) as ArrayRef]
    });
    let (third, stand) = whole(&archive, &past, changed.unwrap(), 1_000);
    assert!(stand.failed.iter().any(|(name, why)| name == "answers" && why.contains("never changed")), "{stand:?}");
    judge(&archive, &[first, second, third]);
}

#[test]
fn nothing_is_published_that_the_archive_does_not_hold() {
    let archive = Archive::in_memory();
    let (committer, _, routes) = Committer::start(archive.clone(), commit_options()).unwrap();
    let parts = OutputsParts { archive: archive.clone(), committer: committer.clone(), routes, workers: 1, complete: Box::new(|_| true) };
    let options = OutputsOptions { every: Duration::ZERO, look: Duration::from_millis(1), ..OutputsOptions::default() };
    let outputs = Arc::new(Outputs::start(parts, options).unwrap());
    let held = Arc::new(AtomicBool::new(true));
    let (seat, watched, let_go) = (outputs.seat(0), Arc::clone(&outputs), Arc::clone(&held));
    timely::execute_directly(move |worker| {
        let (mut input, mut live, slow, mut watch) = worker.dataflow::<Moment, _, _>(|scope| {
            use timely::dataflow::operators::Probe;
            let ((input, live), stream) = scope.new_unordered_input::<(i64, Moment, isize)>();
            let ((_, slow), durable) = scope.new_unordered_input::<()>();
            seat.table(&keys(), stream.as_collection());
            let (probe, _) = durable.probe();
            (input, live, slow, seat.durable(probe))
        });
        input.activate().session(&live).give((5, Moment::new(0, 0), 1));
        live.downgrade(&Moment::new(0, 9));
        let mut slow = Some(slow);
        let mut look = |held: bool| {
            for _ in 0..100 {
                worker.step_or_park(Some(Duration::from_millis(1)));
                watch.note();
            }
            assert_eq!(watched.stand().publications == 0, held, "{:?}", watched.stand());
        };
        look(true);
        if let Some(slow) = &mut slow {
            slow.downgrade(&Moment::new(0, 4));
        }
        look(false);
        assert_eq!(watched.stand().moment.as_deref(), Some("0.3"));
        let_go.store(false, Ordering::SeqCst);
    });
    assert!(!held.load(Ordering::SeqCst));
    assert!(outputs.stop(Duration::from_secs(10)));
    committer.stop().unwrap();
}
