//! A note in the archive of where a process began, by which the next one knows how often processes died there.
//!
//! `_fink/death.json` is put at each start and deleted at an end in order; nothing is written in between. A log that two
//! processes in a row left where they found it, and died, is under suspicion. (It may be innocent: then a stretch of it is
//! decoded a little slower.)

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use fink_dataflow::Log;
use fink_dataflow::table::store::{Archive, wait};
use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

/// How many offsets of a log are under suspicion, from the first that is not covered: more than were in flight when the
/// process died, at 2 kB a message.
pub const SUSPECTED: i64 = 200_000;
/// After so many deaths at one place.
const DEATHS: u32 = 2;
/// How long the store may take; without a note a message that kills only kills once more.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process's note.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Note {
    generation: u64,
    logs: Vec<(Log, Place)>,
}

/// Where a log stood when the process started.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Place {
    /// The first offset that was not covered.
    first: i64,
    /// How many processes in a row died with the log there.
    deaths: u32,
}

/// This process's note; dropping it says that the process ended in order.
pub struct Deaths {
    archive: Archive,
    generation: u64,
}

impl Deaths {
    /// Reads the note of the process before, leaves one, and tells which offsets are under suspicion. `firsts` are the first
    /// offsets of each log that are not covered.
    #[must_use]
    pub fn note(archive: &Archive, generation: u64, firsts: &[(Log, i64)]) -> (Self, BTreeMap<Log, Range<i64>>) {
        let before = read(archive);
        let places: Vec<(Log, Place)> = firsts.iter().map(|(log, first)| (log.clone(), place(before.as_ref(), log, *first))).collect();
        let suspected = places.iter().filter(|(_, place)| place.deaths >= DEATHS);
        let suspects = suspected.map(|(log, place)| (log.clone(), place.first..place.first.saturating_add(SUSPECTED))).collect();
        let body = serde_json::to_vec(&Note { generation, logs: places }).expect("a note is plain data");
        let (to, path) = (archive.clone(), path(archive));
        let put = wait(async move { tokio::time::timeout(PATIENCE, to.store().put(&path, PutPayload::from(body))).await });
        if !matches!(put, Ok(Ok(_))) {
            warn!("can't note in the archive where this process begins: a message that kills it will not be known for that");
        }
        (Self { archive: archive.clone(), generation }, suspects)
    }
}

impl Drop for Deaths {
    fn drop(&mut self) {
        // A successor's note is not ours to take away.
        if read(&self.archive).is_none_or(|note| note.generation != self.generation) {
            return;
        }
        let (at, path) = (self.archive.clone(), path(&self.archive));
        if !matches!(wait(async move { tokio::time::timeout(PATIENCE, at.store().delete(&path)).await }), Ok(Ok(()))) {
            debug!("the note of this process is not deleted: its end counts as a death");
        }
    }
}

/// How it stands with a log, after the process died that left `before`; if none did, nobody died.
fn place(before: Option<&Note>, log: &Log, first: i64) -> Place {
    let deaths = before.map_or(0, |note| {
        let there = note.logs.iter().find(|(noted, place)| noted == log && place.first == first);
        1 + there.map_or(0, |(_, place)| place.deaths)
    });
    Place { first, deaths }
}

fn path(archive: &Archive) -> object_store::path::Path {
    archive.path("_fink/death.json")
}

fn read(archive: &Archive) -> Option<Note> {
    let (from, path) = (archive.clone(), path(archive));
    let got = wait(async move { tokio::time::timeout(PATIENCE, async { from.store().get(&path).await?.bytes().await }).await });
    serde_json::from_slice(&got.ok()?.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(partition: i32) -> Log {
        Log::new("kafka:x", "t", 0, partition)
    }

    fn start(archive: &Archive, generation: u64, firsts: [i64; 2]) -> (Deaths, Vec<i32>) {
        let (deaths, suspects) = Deaths::note(archive, generation, &[(log(0), firsts[0]), (log(1), firsts[1])]);
        assert!(suspects.iter().all(|(log, offsets)| offsets.start == firsts[usize::try_from(log.partition).unwrap()]));
        (deaths, suspects.into_keys().map(|log| log.partition).collect())
    }

    #[test]
    fn two_deaths_in_one_place_make_it_suspect() {
        let archive = Archive::in_memory();
        let mut dead = Vec::new();
        let mut dies = |generation, firsts| {
            let (deaths, suspects) = start(&archive, generation, firsts);
            dead.push(deaths);
            suspects
        };
        assert_eq!(dies(1, [0, 0]), [0; 0], "nobody died yet");
        assert_eq!(dies(2, [5, 0]), [0; 0], "one process died since");
        assert_eq!(dies(3, [5, 3]), [0]);
        assert_eq!(dies(4, [9, 3]), [1]);
        std::mem::forget(dead);
    }

    #[test]
    fn an_end_in_order_forgets_the_deaths_and_a_successors_note_stays() {
        let archive = Archive::in_memory();
        std::mem::forget(start(&archive, 1, [0, 0]).0);
        let (overtaken, suspects) = start(&archive, 2, [0, 0]);
        assert_eq!(suspects, [0; 0]);
        let (ends, suspects) = start(&archive, 3, [0, 0]);
        assert_eq!(suspects, [0, 1]);
        drop(overtaken);
        assert!(read(&archive).is_some_and(|note| note.generation == 3));
        drop(ends);
        assert!(read(&archive).is_none());
        assert_eq!(start(&archive, 4, [0, 0]).1, [0; 0]);
    }
}
