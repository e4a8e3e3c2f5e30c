//! The ledger under every fault of its store, in races, and against the plain sum of its entries.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::table::fault::{Call, Fault, Kind};
use crate::table::store::wait;
use crate::table::testing::{Place, empty, fence, live, memory, places};

/// Runs on the stores' runtime, as the program does.
fn run<F: Future<Output = ()> + Send + 'static>(future: F) {
    wait(future);
}

async fn fill(ledger: &Ledger, state: &mut State, count: u64) {
    for _ in 0..count {
        let entry = live(state, 3);
        assert_eq!(ledger.put(&entry).await.expect("the store works"), Put::Done);
        state.apply(&entry).expect("it follows");
    }
}

async fn opened(place: &Place) -> (Ledger, State) {
    let (ledger, mut state) = Ledger::open(&place.archive).await.expect("it opens");
    let entry = fence(&state);
    assert_eq!(ledger.put(&entry).await.expect("the store works"), Put::Done);
    state.apply(&entry).expect("it follows");
    (ledger, state)
}

#[test]
fn what_was_put_is_what_is_read() {
    for place in places() {
        run(async move {
            let (ledger, mut state) = opened(&place).await;
            fill(&ledger, &mut state, 20).await;
            assert_eq!(Ledger::open(&place.archive).await.expect("it opens").1, state);
            ledger.snapshot(&state).await.expect("the store works");
            fill(&ledger, &mut state, 20).await;
            assert_eq!(Ledger::open(&place.archive).await.expect("it opens").1, state);
            assert_eq!(ledger.entry(41).await.expect("the store works"), None);
            ledger.put_schema("abc", r#"{"type":"string"}"#).await.expect("the store works");
            assert_eq!(ledger.schema("abc").await.expect("the store works").as_deref(), Some(r#"{"type":"string"}"#));
            assert_eq!(ledger.schema("other").await.expect("the store works"), None);
        });
    }
}

#[test]
fn any_fault_of_a_put_leaves_the_entry_there_once() {
    for kind in Kind::ALL {
        for place in places() {
            run(async move {
                let (ledger, mut state) = opened(&place).await;
                // Each of the first three puts goes wrong, and once the reading back does too.
                for (reads, puts) in [(0, 1), (1, 1), (0, 2)] {
                    for (call, times) in [(Call::Put, puts), (Call::Get, reads)] {
                        place.store.plan(Fault { call, path: "entries/".into(), from: 0, times, kind });
                    }
                    fill(&ledger, &mut state, 1).await;
                    place.store.heal();
                }
                fill(&ledger, &mut state, 2).await;
                assert!(place.store.struck() >= 3);
                assert_eq!(Ledger::open(&place.archive).await.expect("it opens").1, state, "{kind:?}");
            });
        }
    }
}

#[test]
fn what_can_not_be_told_is_said_and_the_same_entry_can_be_put_again() {
    for kind in [Kind::Fails, Kind::Lies] {
        let place = memory();
        run(async move {
            let (ledger, mut state) = opened(&place).await;
            let entry = live(&state, 5);
            for call in [Call::Put, Call::Get] {
                place.store.plan(Fault { call, path: "entries/".into(), from: 0, times: u64::MAX, kind });
            }
            assert!(matches!(ledger.put(&entry).await, Err(LedgerError::Unclear { number: 1, .. })));
            place.store.heal();
            assert_eq!(ledger.put(&entry).await.expect("the store works"), Put::Done);
            state.apply(&entry).expect("it follows");
            assert_eq!(ledger.read().await.expect("the store works"), state);
        });
    }
}

#[test]
fn a_lost_race_is_told_with_the_winner_even_when_reported_as_a_failure() {
    for kind in Kind::ALL {
        let place = memory();
        run(async move {
            let (ledger, state) = opened(&place).await;
            let (winner, loser) = (live(&state, 1), live(&state, 2));
            assert_eq!(ledger.put(&winner).await.expect("the store works"), Put::Done);
            place.store.plan(Fault { call: Call::Put, path: "entries/".into(), from: 0, times: 1, kind });
            assert_eq!(ledger.put(&loser).await.expect("the store works"), Put::Taken(Box::new(winner.clone())));
            assert_eq!(ledger.entry(winner.number).await.expect("the store works"), Some(winner));
        });
    }
}

#[test]
fn of_six_racing_writers_one_wins_each_slot() {
    const WRITERS: usize = 6;
    const SLOTS: u64 = 40;
    for place in places() {
        run(async move {
            let ledger = Arc::new(opened(&place).await.0);
            let writers = (0..WRITERS).map(|_| {
                let ledger = ledger.clone();
                tokio::spawn(async move {
                    let mut state = ledger.read().await.expect("the store works");
                    let mut won = 0;
                    while state.next <= SLOTS {
                        let entry = live(&state, 1);
                        let there = match ledger.put(&entry).await.expect("the store works") {
                            Put::Done => {
                                won += 1;
                                entry
                            }
                            Put::Taken(other) => *other,
                            Put::Passed(_) => unreachable!("nothing was cleaned"),
                        };
                        state.apply(&there).expect("it follows");
                    }
                    (won, state)
                })
            });
            let ends = futures::future::join_all(writers.collect::<Vec<_>>()).await;
            let ends: Vec<(u64, State)> = ends.into_iter().map(|end| end.expect("no writer panicked")).collect();
            assert_eq!(ends.iter().map(|(won, _)| won).sum::<u64>(), SLOTS);
            let state = ledger.read().await.expect("the store works");
            assert!(ends.iter().all(|(_, end)| *end == state));
            assert_eq!(state.coverage.len(), SLOTS);
        });
    }
}

#[test]
fn cleaning_spares_what_is_young_and_what_a_snapshot_needs() {
    for place in places() {
        run(async move {
            let (ledger, mut state) = opened(&place).await;
            for _ in 0..3 {
                fill(&ledger, &mut state, 10).await;
                ledger.snapshot(&state).await.expect("the store works");
            }
            fill(&ledger, &mut state, 5).await;
            assert_eq!(ledger.clean(u64::MAX, Duration::ZERO).await.expect("the store works"), 0, "all is young");
            place.store.age(Duration::from_secs(3600));
            // Entries 0 to 20 and the first of three snapshots; the second needs those from 21 on.
            assert_eq!(ledger.clean(u64::MAX, Duration::from_secs(60)).await.expect("the store works"), 22);
            assert_eq!(ledger.clean(u64::MAX, Duration::from_secs(60)).await.expect("the store works"), 0);
            assert_eq!(ledger.entry(20).await.expect("the store works"), None);
            assert!(ledger.entry(21).await.expect("the store works").is_some());
            assert_eq!(ledger.read().await.expect("the store works"), state);
            // The newest snapshot is lost: the one before and the entries after it still add up to the same.
            let newest = ledger.path("snapshots", 31);
            place.archive.store().put(&newest, PutPayload::from_static(b"{\"format\":1,")).await.expect("the store works");
            assert_eq!(ledger.read().await.expect("the store works"), state);
        });
    }
}

#[test]
fn a_writer_that_slept_until_its_slot_was_cleaned_is_told() {
    let place = memory();
    run(async move {
        let (sleeper, state) = opened(&place).await;
        let (ledger, mut newer) = Ledger::open(&place.archive).await.expect("it opens");
        for _ in 0..3 {
            fill(&ledger, &mut newer, 10).await;
            ledger.snapshot(&newer).await.expect("the store works");
        }
        place.store.age(Duration::from_secs(3600));
        ledger.clean(u64::MAX, Duration::ZERO).await.expect("the store works");
        *sleeper.awake.lock().expect("no holder panicked") = Duration::ZERO;
        assert_eq!(sleeper.put(&live(&state, 1)).await.expect("the store works"), Put::Passed(31));
        assert_eq!(ledger.read().await.expect("the store works"), newer);
    });
}

#[test]
fn a_newer_release_and_damage_are_told_apart() {
    let place = memory();
    run(async move {
        let (ledger, state) = opened(&place).await;
        let mut entry = live(&state, 1);
        entry.format = FORMAT + 1;
        assert_eq!(ledger.put(&entry).await.expect("the store works"), Put::Done);
        assert!(matches!(ledger.read().await, Err(LedgerError::Misfit(Misfit::Format { number: 1, .. }))));
        place.archive.store().put(&ledger.path("entries", 1), PutPayload::from_static(b"{}")).await.expect("the store works");
        assert!(matches!(ledger.read().await, Err(LedgerError::Damaged { .. })));
    });
}

#[test]
fn a_heartbeat_ages_by_the_stores_clock() {
    for place in places() {
        run(async move {
            let (ledger, _) = Ledger::open(&place.archive).await.expect("it opens");
            assert_eq!(ledger.heartbeat_age().await.expect("the store works"), None);
            ledger.heartbeat(1).await.expect("the store works");
            let now = ledger.heartbeat_age().await.expect("the store works").expect("there was one");
            place.store.age(Duration::from_secs(100));
            let aged = ledger.heartbeat_age().await.expect("the store works").expect("there was one");
            assert!(aged >= now + Duration::from_secs(99), "{now:?} {aged:?}");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever the mix of entries, snapshots and takeovers: read from any snapshot, the sum is that of all entries.
    #[test]
    fn a_snapshot_and_the_entries_after_it_are_all_entries(steps in prop::collection::vec((0u8..4, 1i64..9), 1..60)) {
        run(async move {
            let place = memory();
            let (ledger, mut state) = opened(&place).await;
            let mut all = vec![ledger.entry(0).await.expect("the store works").expect("it was put")];
            for (kind, count) in steps {
                let entry = match kind {
                    0 => { ledger.snapshot(&state).await.expect("the store works"); continue; }
                    1 => fence(&state),
                    2 => empty(&state),
                    _ => live(&state, count),
                };
                assert_eq!(ledger.put(&entry).await.expect("the store works"), Put::Done);
                state.apply(&entry).expect("it follows");
                all.push(entry);
            }
            let mut sum = State::default();
            all.iter().for_each(|entry| sum.apply(entry).expect("it follows"));
            assert_eq!(&sum, &state);
            assert_eq!(&Ledger::open(&place.archive).await.expect("it opens").1, &sum);
        });
    }
}
