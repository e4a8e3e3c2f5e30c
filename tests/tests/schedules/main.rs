//! Random schedules: the spine of fink, driven step by step by a seed, over a Kafka and a store made up.
//!
//! Two layers. The first drives the lanes, the queue, the committer, the fence, the tables' and the ledger's rules, vacuum and
//! compaction, over a Kafka and a store made up ([`world`]): processes are killed, stopped and taken over, calls of the store
//! fail or lie, and in the end every offset must be in exactly one of rows, rejects, empty and hole. The second drives the real
//! timely graph on several workers that take turns ([`graph`]).
//!
//! No real clock, and no threads but those that take turns: all that is left to chance comes from the seed, so that a seed
//! that fails fails again. `docs/testing.md` says how to play one.
//!
//! | file | what it is |
//! |---|---|
//! | `chance` | numbers from a seed |
//! | `tasks` | tasks that take turns, and their time |
//! | `kafka`, `store` | what is made up |
//! | `process`, `reader`, `upkeep` | a process that writes the archive: the product's decisions, carried out by tasks |
//! | `world` | all of it, and who strikes it |
//! | `judge` | what must hold in the end |
//! | `baton` | timely's workers, one at a time |
//! | `graph`, `oracle` | the real graph, its inlets and desks, and what must come out |
//! | `answers` | its services: what they say of a Moment, in the midst of it |
#![allow(unreachable_pub, missing_docs, reason = "a test's own parts")]

mod answers;
mod baton;
mod chance;
mod graph;
mod judge;
mod kafka;
mod oracle;
mod process;
mod reader;
mod store;
mod tasks;
mod upkeep;
mod world;

use std::ops::Range;

#[cfg(debug_assertions)]
use fink_dataflow::rules::Rule;

/// The seeds to play: as many as `usually`, from 0 on, unless `FINK_SEED` and the variable `count` say otherwise.
fn seeds(count: &str, usually: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")));
    match (number("FINK_SEED"), number(count)) {
        (Some(seed), count) => seed..seed + count.unwrap_or(1),
        (None, count) => 0..count.unwrap_or(usually),
    }
}

/// Plays a seed; a failure is told with the command that plays it again.
fn must_hold<T>(test: &str, seed: u64, result: Result<T, String>) -> T {
    result.unwrap_or_else(|wrong| {
        panic!("seed {seed}: {wrong}\nto see it again: FINK_SEED={seed} cargo test -p fink-tests --test schedules {test} -- --nocapture")
    })
}

#[test]
fn every_offset_is_dealt_with_once() {
    let mut sum = world::Stats::default();
    let began = std::time::Instant::now();
    let seeds = seeds("FINK_SEEDS", 300);
    for seed in seeds.clone() {
        let (stats, _) = must_hold("every_offset_is_dealt_with_once", seed, world::play(seed));
        sum.add(&stats);
    }
    println!("{} seeds in {:.1} s: {sum:?}", seeds.end - seeds.start, began.elapsed().as_secs_f64());
    if seeds.end - seeds.start >= 300 {
        let reached =
            [sum.killed, sum.paused, sum.fenced, sum.held, sum.broken, sum.ambiguous, sum.compactions, sum.deleted, sum.cleaned, sum.holes];
        assert!(reached.iter().all(|count| *count > 0), "the schedules do not reach far: {sum:?}");
    }
}

#[test]
fn a_seed_is_played_the_same_again() {
    for seed in 0..20 {
        let (first, again) = (world::play(seed), world::play(seed));
        assert_eq!(first.map(|(_, digest)| digest), again.map(|(_, digest)| digest), "seed {seed}");
    }
}

#[test]
fn the_graph_gives_the_same_rows_and_answers_on_any_schedule() {
    let mut sum = graph::Stats::default();
    let began = std::time::Instant::now();
    let seeds = seeds("FINK_GRAPH_SEEDS", 100);
    for seed in seeds.clone() {
        let (stats, _) = must_hold("the_graph_gives_the_same_rows_and_answers_on_any_schedule", seed, graph::play(seed, None));
        sum.runs += stats.runs;
        sum.rolls += stats.rolls;
        sum.moments += stats.moments;
        sum.rows += stats.rows;
        sum.rejects += stats.rejects;
        sum.turns += stats.turns;
        sum.asked += stats.asked;
    }
    println!("{} seeds of the graph in {:.1} s: {sum:?}", seeds.end - seeds.start, began.elapsed().as_secs_f64());
    assert!(
        seeds.end - seeds.start < 50 || (sum.rolls > 50 && sum.runs > seeds.end && sum.rejects > 0),
        "the schedules do not reach far: {sum:?}"
    );
}

#[test]
fn a_seed_of_the_graph_is_played_the_same_again() {
    for seed in 0..10 {
        let (first, again) = (graph::play(seed, None), graph::play(seed, None));
        assert_eq!(first.map(|(_, digest)| digest), again.map(|(_, digest)| digest), "seed {seed}");
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_roll_that_never_comes_is_found_out() {
    graph_finds(Rule::Roll);
}

#[cfg(debug_assertions)]
#[test]
fn an_answer_that_comes_too_early_is_found_out() {
    graph_finds(Rule::Closed);
}

#[cfg(debug_assertions)]
fn graph_finds(rule: Rule) {
    let found = (0..SEEDS_TO_FIND).find_map(|seed| graph::play(seed, Some(rule)).err().map(|wrong| (seed, wrong)));
    let (seed, wrong) = found.unwrap_or_else(|| panic!("no seed finds that {rule:?} is off"));
    println!("{rule:?} off is found out by seed {seed}: {}", wrong.chars().take(300).collect::<String>());
}

/// Within so many seeds a broken rule must be found out: fewer than continuous integration plays.
#[cfg(debug_assertions)]
const SEEDS_TO_FIND: u64 = 500;

/// The seed at which a broken rule is found out.
#[cfg(debug_assertions)]
fn found_without(rule: Rule) -> Option<(u64, String)> {
    Rule::switch_off(Some(rule));
    let found = (0..SEEDS_TO_FIND).find_map(|seed| world::play(seed).err().map(|wrong| (seed, wrong)));
    Rule::switch_off(None);
    found
}

#[cfg(debug_assertions)]
#[test]
fn a_broken_rule_is_found_out() {
    for rule in [Rule::Coverage, Rule::Fence, Rule::Order, Rule::Sleep] {
        let (seed, wrong) = found_without(rule).unwrap_or_else(|| panic!("no seed finds that {rule:?} is off"));
        println!("{rule:?} off is found out by seed {seed}: {wrong}");
    }
}
