//! The ledger's objects: entries put if absent under their numbers, snapshots of what they add up to, schemas, a heartbeat.
//!
//! ```text
//! _fink/entries/00000000000000000042.json      one Entry
//! _fink/snapshots/00000000000000000043.json    the State of the entries below 43
//! _fink/schemas/<fingerprint>.json             a writer's schema as it came
//! _fink/heartbeat.json                         rewritten by the writer while it lives
//! _fink/clock/…                                objects put to ask the store for the time
//! ```
//! A put that reports failure may have been done, and one that reports that the slot is taken may have met itself. So on *any*
//! error the slot is read back, and the entry's nonce tells ours from another's. An entry's number is its place in the order,
//! and the store lets one writer only have it: that is the whole of the protocol.
//!
//! Opening reads the newest snapshot and the entries after it, [`AHEAD`] at a time, until one is absent; entries are never
//! listed. With a snapshot every [`SNAPSHOT_EVERY`] entries that is at most 13 rounds of reads (a read from HDFS takes 5-10 ms,
//! so a fifth of a second), and the snapshots cost 1/200 of a small put per entry.
//!
//! Cleaning deletes from the oldest entry upwards, never one that the last snapshot but one does not hold. A slot that was
//! cleaned is absent, and a writer that slept through all of this could put its entry there: hence [`Put::Passed`].

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, FORMAT, Misfit, State};
use super::fault::failpoint;
use super::store::Archive;
use crate::rules::Rule;

/// After how many entries a snapshot is due.
pub const SNAPSHOT_EVERY: u64 = 200;
/// How many entries are read at once when the ledger is opened.
const AHEAD: usize = 16;
/// How often a put and its reading back are tried before the caller is asked.
const ATTEMPTS: u32 = 4;
/// The pause after the first attempt; it doubles from there on.
const PAUSE: Duration = Duration::from_millis(50);
/// How many snapshots are kept: the newest, and one to fall back on.
const SNAPSHOTS_KEPT: usize = 2;
/// How many objects one cleaning deletes at most.
const CLEANED_AT_ONCE: usize = 500;
/// A writer that put nothing for so long looks whether the ledger went on without it. Cleaning spares younger entries.
const SLEPT: Duration = Duration::from_secs(10);
/// The youngest age at which an entry may be cleaned.
const YOUNGEST_CLEANED: Duration = Duration::from_secs(60);

/// What became of a put.
#[derive(Clone, Debug, PartialEq)]
pub enum Put {
    /// The entry is in its slot.
    Done,
    /// Another entry is: its writer was first.
    Taken(Box<Entry>),
    /// The ledger went on to this number long ago and its slots were cleaned: whoever put this must stop.
    Passed(u64),
}

/// Why the ledger can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store failed.
    #[error("the ledger at {place} can't {action} {path}")]
    Store {
        /// The archive.
        place: String,
        /// What was tried.
        action: &'static str,
        /// The object.
        path: String,
        /// What the store said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// Whether an entry is in its slot can't be told.
    #[error("whether entry {number} was put can't be told yet: the store neither took it nor said who did; try the same entry again")]
    Unclear {
        /// The entry.
        number: u64,
        /// The last thing that the store said.
        #[source]
        source: object_store::Error,
    },
    /// An object is not what it should be.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// An entry does not follow those before it.
    #[error("the ledger contradicts itself")]
    Misfit(#[from] Misfit),
}

/// The ledger of an archive. Holds no state of the archive's: see [`State`].
#[derive(Debug)]
pub struct Ledger {
    archive: Archive,
    /// When the last put or opening that succeeded *began*, as time since boot with sleep: no later slot is older than that.
    awake: Mutex<Duration>,
}

#[derive(Serialize, Deserialize)]
struct Heartbeat {
    generation: u64,
}

/// Read first of any object: what comes after it may be of a newer release.
#[derive(Deserialize)]
struct Format {
    format: u32,
    #[serde(alias = "next")]
    number: u64,
}

impl Ledger {
    /// Opens the ledger: the newest snapshot that is whole, and the entries after it.
    ///
    /// # Errors
    /// When the store fails, or what it holds is damaged or written by a newer release.
    pub async fn open(archive: &Archive) -> Result<(Self, State), LedgerError> {
        let ledger = Self { archive: archive.clone(), awake: Mutex::new(since_boot()) };
        let state = ledger.read().await?;
        Ok((ledger, state))
    }

    /// The state that the ledger adds up to now.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub async fn read(&self) -> Result<State, LedgerError> {
        let mut state = self.newest_snapshot().await?.unwrap_or_default();
        self.follow(&mut state).await?;
        Ok(state)
    }

    /// Adds to `state` the entries that come after it.
    ///
    /// # Errors
    /// As [`Ledger::open`]; the entries before the one that failed are in `state`.
    pub async fn follow(&self, state: &mut State) -> Result<(), LedgerError> {
        let mut entries = futures::stream::iter(state.next..).map(|number| self.entry(number)).buffered(AHEAD);
        while let Some(entry) = entries.next().await {
            let Some(entry) = entry? else { break };
            state.apply(&entry)?;
        }
        Ok(())
    }

    async fn newest_snapshot(&self) -> Result<Option<State>, LedgerError> {
        let mut damage = None;
        // Listed again when all that were listed are gone: a writer went on and cleaned them.
        for _ in 0..ATTEMPTS {
            let snapshots = self.numbered("snapshots").await?;
            if snapshots.is_empty() {
                return damage.map_or(Ok(None), Err);
            }
            for (_, meta) in snapshots.into_iter().rev() {
                match self.get(&meta.location).await? {
                    None => {}
                    Some(bytes) => match parse(&meta.location, &bytes) {
                        Ok(state) => return Ok(Some(state)),
                        Err(error @ LedgerError::Misfit(_)) => return Err(error),
                        Err(error) => {
                            tracing::warn!(path = %meta.location, %error, "snapshot is damaged, the one before is used");
                            damage = Some(error);
                        }
                    },
                }
            }
            if damage.is_some() {
                break;
            }
        }
        // Without any whole snapshot the entries from 0 on may still all be there.
        match (self.entry(0).await?, damage) {
            (Some(_), _) | (None, None) => Ok(None),
            (None, Some(error)) => Err(error),
        }
    }

    /// Puts an entry under its number, if that is free.
    ///
    /// # Errors
    /// [`LedgerError::Unclear`] when it can't be told whether the entry is there: the caller tries *the same* entry again, or
    /// stops; it must not put another under this number.
    pub async fn put(&self, entry: &Entry) -> Result<Put, LedgerError> {
        let path = self.path("entries", entry.number);
        let body = Bytes::from(serde_json::to_vec(entry).expect("an entry is plain data"));
        let (mut pause, began) = (PAUSE, since_boot());
        for attempt in 1.. {
            let failed = match self.archive.create(&path, PutPayload::from_bytes(body.clone())).await {
                Ok(()) => return self.done(entry.number, began).await,
                Err(error) => error,
            };
            match self.entry(entry.number).await {
                Ok(Some(there)) if there.nonce == entry.nonce => return self.done(entry.number, began).await,
                Ok(Some(there)) => return Ok(Put::Taken(Box::new(there))),
                Err(error @ (LedgerError::Damaged { .. } | LedgerError::Misfit(_))) => return Err(error),
                _ if attempt == ATTEMPTS => return Err(LedgerError::Unclear { number: entry.number, source: failed }),
                _ => tracing::warn!(number = entry.number, attempt, error = %failed, "entry was not put, tried again"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    /// After an entry is in its slot: whether the slot was the next one, and not one cleaned long ago.
    async fn done(&self, number: u64, began: Duration) -> Result<Put, LedgerError> {
        failpoint("ledger-put");
        let awake = *self.awake.lock().unwrap_or_else(PoisonError::into_inner);
        if slept(since_boot().saturating_sub(awake))
            && let Some(passed) = self.passed(number).await?
        {
            return Ok(Put::Passed(passed));
        }
        *self.awake.lock().unwrap_or_else(PoisonError::into_inner) = began;
        Ok(Put::Done)
    }

    /// The newest snapshot's number, if it holds entry `number` already: where that entry is absent, it was cleaned.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn passed(&self, number: u64) -> Result<Option<u64>, LedgerError> {
        let newest = self.numbered("snapshots").await?.last().map(|(next, _)| *next);
        Ok(newest.filter(|next| *next > number))
    }

    /// The entry of a number; `None` where there is none (yet, or any more).
    ///
    /// # Errors
    /// When the store fails, or the entry is damaged or of a newer release.
    pub async fn entry(&self, number: u64) -> Result<Option<Entry>, LedgerError> {
        let path = self.path("entries", number);
        let Some(bytes) = self.get(&path).await? else { return Ok(None) };
        let entry: Entry = parse(&path, &bytes)?;
        if entry.number != number {
            return Err(LedgerError::Damaged { path: path.to_string(), reason: format!("it says that it is entry {}", entry.number) });
        }
        Ok(Some(entry))
    }

    /// Puts a snapshot of `state`. Whoever does writes the same: it is a function of the entries.
    ///
    /// # Errors
    /// When the store fails; nothing is lost then, the next opening reads more entries.
    pub async fn snapshot(&self, state: &State) -> Result<(), LedgerError> {
        let body = serde_json::to_vec(state).expect("a state is plain data");
        self.write(&self.path("snapshots", state.next), body.into()).await
    }

    /// Deletes entries below `keep_from`, and snapshots but the newest two, that are older than `older_than` by the store's
    /// clock: from the oldest upwards, at most a few hundred at a time. Returns how many; 500 or more: call again.
    ///
    /// # Errors
    /// When the store fails; what was deleted is deleted.
    pub async fn clean(&self, keep_from: u64, older_than: Duration) -> Result<usize, LedgerError> {
        let mut snapshots = self.numbered("snapshots").await?;
        let Some(keep_from) = kept_from(keep_from, snapshots.iter().map(|(next, _)| *next)) else { return Ok(0) };
        snapshots.truncate(snapshots.len() - SNAPSHOTS_KEPT);
        let entries = self.numbered("entries").await?.into_iter().filter(|(number, _)| *number < keep_from);
        let now = self.clock().await?;
        let age = chrono::TimeDelta::from_std(cleaned_age(older_than)).unwrap_or(chrono::TimeDelta::MAX);
        let old = |(_, meta): &(u64, ObjectMeta)| now - meta.last_modified > age;
        let doomed: Vec<Path> = entries.chain(snapshots).filter(old).map(|(_, meta)| meta.location).take(CLEANED_AT_ONCE).collect();
        let count = doomed.len();
        for path in doomed {
            match self.archive.within(self.archive.store().delete(&path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.failed("delete", &path, source)),
            }
        }
        Ok(count)
    }

    /// Keeps the text of a writer's schema. Texts of one fingerprint are the same.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_schema(&self, fingerprint: &str, json: &str) -> Result<(), LedgerError> {
        let path = self.archive.path(&format!("_fink/schemas/{fingerprint}.json"));
        if self.get(&path).await?.is_some_and(|there| there == json.as_bytes()) {
            return Ok(());
        }
        self.write(&path, json.as_bytes().to_vec().into()).await
    }

    /// The text of a writer's schema, where it is kept.
    ///
    /// # Errors
    /// When the store fails, or the text is damaged.
    pub async fn schema(&self, fingerprint: &str) -> Result<Option<String>, LedgerError> {
        let path = self.archive.path(&format!("_fink/schemas/{fingerprint}.json"));
        let Some(bytes) = self.get(&path).await? else { return Ok(None) };
        let damaged = |e: std::string::FromUtf8Error| LedgerError::Damaged { path: path.to_string(), reason: e.to_string() };
        String::from_utf8(bytes.to_vec()).map(Some).map_err(damaged)
    }

    /// Says that the writer of `generation` lives.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn heartbeat(&self, generation: u64) -> Result<(), LedgerError> {
        let body = serde_json::to_vec(&Heartbeat { generation }).expect("a heartbeat is plain data");
        self.write(&self.archive.path("_fink/heartbeat.json"), body.into()).await
    }

    /// How old the last heartbeat is by the store's clock; `None`: there was none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn heartbeat_age(&self) -> Result<Option<Duration>, LedgerError> {
        let path = self.archive.path("_fink/heartbeat.json");
        let beat = match self.archive.within(self.archive.store().head(&path)).await {
            Ok(meta) => meta.last_modified,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(self.failed("read", &path, source)),
        };
        Ok(Some((self.clock().await? - beat).to_std().unwrap_or_default()))
    }

    async fn clock(&self) -> Result<chrono::DateTime<chrono::Utc>, LedgerError> {
        self.archive.clock().await.map_err(|source| self.failed("ask the time at", &self.archive.path("_fink/clock"), source))
    }

    fn path(&self, kind: &str, number: u64) -> Path {
        self.archive.path(&format!("_fink/{kind}/{number:020}.json"))
    }

    async fn get(&self, path: &Path) -> Result<Option<Bytes>, LedgerError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.archive.read(path).await {
                Ok(bytes) => return Ok(bytes),
                Err(source) if attempt == ATTEMPTS => return Err(self.failed("read", path, source)),
                Err(error) => tracing::debug!(%path, attempt, %error, "read failed, tried again"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    async fn write(&self, path: &Path, body: Bytes) -> Result<(), LedgerError> {
        let put = self.archive.within(self.archive.store().put(path, PutPayload::from_bytes(body))).await;
        put.map(|_| ()).map_err(|source| self.failed("write", path, source))
    }

    /// The objects of a kind with their numbers, in order.
    async fn numbered(&self, kind: &str) -> Result<Vec<(u64, ObjectMeta)>, LedgerError> {
        let folder = self.archive.path(&format!("_fink/{kind}"));
        let listing = self.archive.store().list(Some(&folder)).try_collect::<Vec<_>>();
        let listed = self.archive.within(listing).await.map_err(|source| self.failed("list", &folder, source))?;
        let number = |meta: &ObjectMeta| meta.location.filename()?.strip_suffix(".json")?.parse().ok();
        let mut found: Vec<(u64, ObjectMeta)> = listed.into_iter().filter_map(|meta| Some((number(&meta)?, meta))).collect();
        found.sort_unstable_by_key(|(number, _)| *number);
        Ok(found)
    }

    fn failed(&self, action: &'static str, path: &Path, source: object_store::Error) -> LedgerError {
        LedgerError::Store { place: self.archive.place(), action, path: path.to_string(), source: Box::new(source) }
    }
}

/// Whether a writer whose last put that succeeded began so long before its present one ended may have slept through a
/// cleaning: then it looks whether the ledger went on without it.
#[must_use]
pub fn slept(since: Duration) -> bool {
    since > SLEPT && Rule::Sleep.holds()
}

/// The oldest entry that a cleaning spares, of a ledger with these snapshots (in order): all from `keep_from` on, and all
/// that the last snapshot but one does not hold. `None`: nothing is cleaned.
pub fn kept_from(keep_from: u64, snapshots: impl ExactSizeIterator<Item = u64>) -> Option<u64> {
    let fallback = snapshots.len().checked_sub(SNAPSHOTS_KEPT)?;
    snapshots.skip(fallback).next().map(|next| keep_from.min(next))
}

/// The age from which on an object may be cleaned that is not needed: longer than a writer may sleep without noticing.
#[must_use]
pub fn cleaned_age(older_than: Duration) -> Duration {
    older_than.max(YOUNGEST_CLEANED)
}

/// Time since boot, with the time that the machine slept.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path, bytes: &[u8]) -> Result<T, LedgerError> {
    let damaged = |e: serde_json::Error| LedgerError::Damaged { path: path.to_string(), reason: e.to_string() };
    let Format { format, number } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(Misfit::Format { number, format }.into());
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

#[cfg(test)]
mod tests;
