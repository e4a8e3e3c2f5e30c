//! Schemas by id: whoever reads makes sure that they are known before a chunk that needs them goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fink_dataflow::message::Chunk;
use tracing::{info, warn};

/// What is known of a schema's id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ensured {
    /// Its schema is in the book.
    Known,
    /// There is none, and has not been for long enough: its messages are to be rejected.
    Unknown,
    /// Not known yet: wait and ask again. Says why.
    Later(String),
}

/// Makes sure that schemas are known. Never blocks: who must ask a server does so elsewhere, and says [`Ensured::Later`].
pub trait Schemas: Send + Sync {
    /// Makes sure of the schema `id` that a message of `topic` names.
    fn ensure(&self, topic: &str, id: u32) -> Ensured;

    /// Sees each chunk once its schemas are known, before it goes on to be decoded; may take its time with messages that are
    /// under suspicion.
    fn screen(&self, _chunk: &Chunk) {}
}

/// The ids that the messages of a chunk name, where they are framed as Confluent's (`0x00`, then the id, big-endian).
#[must_use]
pub fn ids(chunk: &Chunk) -> BTreeSet<u32> {
    let framed = chunk.messages.iter().filter_map(|message| match message.payload.as_deref() {
        Some([0, a, b, c, d, ..]) => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    });
    framed.collect()
}

/// No schemas by id: for topics whose messages carry theirs, or that have one by configuration.
pub struct NoSchemas;

impl Schemas for NoSchemas {
    fn ensure(&self, _topic: &str, _id: u32) -> Ensured {
        Ensured::Unknown
    }
}

/// Where schemas are kept for those who decode.
pub trait Book: Send + Sync {
    /// Whether the schema of `id` is in.
    fn has(&self, id: u32) -> bool;
    /// Puts the schema of `id` in, as JSON.
    fn known(&self, id: u32, json: &str);
    /// Notes that nobody knows `id`.
    fn unknown(&self, id: u32);
    /// Whether the messages of a topic name no ids: they are bare datums, and what looks like a frame is their first field.
    fn is_bare(&self, _topic: &str) -> bool {
        false
    }
}

/// What a lookup found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    /// The schema, as JSON, with all that it refers to inlined.
    Schema(String),
    /// Where we looked, there is no such id.
    Denied,
    /// We could not look, for this reason.
    Failed(String),
}

/// Somewhere to look schemas up; may block.
pub trait Lookup: Send {
    /// Looks `id` up.
    fn find(&mut self, id: u32) -> Found;
}

/// [`Schemas`] that asks a [`Lookup`] on a thread of its own, and fills a [`Book`].
pub struct Resolver {
    shared: Arc<Shared>,
    book: Arc<dyn Book>,
}

struct Shared {
    state: Mutex<Pending>,
    wake: Condvar,
    /// How long an id may be denied before it counts as unknown; also how long until an unknown one is asked for again.
    patience: Duration,
}

#[derive(Default)]
struct Pending {
    /// Ids asked for, when first, and what came of it last.
    wanted: BTreeMap<u32, Wanted>,
    ended: bool,
}

struct Wanted {
    denied_since: Option<Instant>,
    /// When to ask for it next.
    due: Instant,
    reason: String,
    unknown: bool,
}

impl Resolver {
    /// A resolver with its thread.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(mut lookup: Box<dyn Lookup>, book: Arc<dyn Book>, patience: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), patience });
        let (theirs, their_book) = (shared.clone(), book.clone());
        std::thread::Builder::new().name("schemas".into()).spawn(move || {
            while let Some(id) = theirs.next() {
                let found = lookup.find(id);
                theirs.settle(id, found, &*their_book);
            }
        })?;
        Ok(Self { shared, book })
    }
}

impl Schemas for Resolver {
    fn ensure(&self, topic: &str, id: u32) -> Ensured {
        if self.book.has(id) || self.book.is_bare(topic) {
            return Ensured::Known;
        }
        let mut state = self.shared.lock();
        if let Some(wanted) = state.wanted.get(&id) {
            return if wanted.unknown { Ensured::Unknown } else { Ensured::Later(wanted.reason.clone()) };
        }
        // Between the two looks it may have come in.
        if self.book.has(id) {
            return Ensured::Known;
        }
        let reason = format!("schema {id} of {topic} is being asked for");
        state.wanted.insert(id, Wanted { denied_since: None, due: Instant::now(), reason: reason.clone(), unknown: false });
        self.shared.wake.notify_one();
        Ensured::Later(reason)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next id to ask for, when it is due; `None` at the end.
    fn next(&self) -> Option<u32> {
        let mut state = self.lock();
        while !state.ended {
            let now = Instant::now();
            let first = state.wanted.iter().min_by_key(|(_, wanted)| wanted.due).map(|(id, wanted)| (*id, wanted.due));
            state = match first {
                Some((id, due)) if due <= now => return Some(id),
                Some((_, due)) => self.wake.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        None
    }

    fn settle(&self, id: u32, found: Found, book: &dyn Book) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(wanted) = state.wanted.get_mut(&id) else { return };
        match found {
            Found::Schema(json) => {
                book.known(id, &json);
                state.wanted.remove(&id);
                info!(id, "schema found");
            }
            Found::Denied => {
                let since = *wanted.denied_since.get_or_insert(now);
                wanted.reason = format!("schema {id} is not in the registry");
                wanted.due = now + Duration::from_secs(1).min(self.patience);
                if now - since >= self.patience {
                    if !wanted.unknown {
                        warn!(id, patience_s = self.patience.as_secs(), "schema is unknown: its messages are rejected");
                        book.unknown(id);
                    }
                    wanted.unknown = true;
                    wanted.due = now + self.patience.max(Duration::from_secs(1));
                }
            }
            Found::Failed(reason) => {
                if wanted.reason != reason {
                    warn!(id, reason, "schema could not be asked for, trying again");
                }
                // While it can't be asked for, it is not denied.
                wanted.denied_since = None;
                wanted.reason = reason;
                wanted.due = now + Duration::from_secs(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[derive(Default)]
    struct Shelf(Mutex<BTreeMap<u32, Option<String>>>);

    impl Book for Shelf {
        fn has(&self, id: u32) -> bool {
            matches!(self.0.lock().expect("lock").get(&id), Some(Some(_)))
        }
        fn known(&self, id: u32, json: &str) {
            self.0.lock().expect("lock").insert(id, Some(json.into()));
        }
        fn unknown(&self, id: u32) {
            self.0.lock().expect("lock").entry(id).or_default();
        }
        fn is_bare(&self, topic: &str) -> bool {
            topic == "bare"
        }
    }

    struct Script(mpsc::Receiver<Found>);

    impl Lookup for Script {
        fn find(&mut self, _id: u32) -> Found {
            self.0.recv().unwrap_or(Found::Failed("script is over".into()))
        }
    }

    fn wait_for(resolver: &Resolver, wanted: &Ensured) {
        while resolver.ensure("t", 7) != *wanted {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_registry_that_is_away_makes_it_wait_and_one_that_denies_for_long_makes_it_unknown() {
        let (say, script) = mpsc::channel();
        let book = Arc::new(Shelf::default());
        let resolver = Resolver::start(Box::new(Script(script)), book.clone(), Duration::ZERO).expect("thread");
        assert_eq!(resolver.ensure("bare", 7), Ensured::Known, "what looks like an id there is none, and nobody is asked");
        assert!(matches!(resolver.ensure("t", 7), Ensured::Later(_)));
        say.send(Found::Failed("away".into())).expect("script");
        wait_for(&resolver, &Ensured::Later("away".into()));
        say.send(Found::Denied).expect("script");
        wait_for(&resolver, &Ensured::Unknown);
        assert_eq!(book.0.lock().expect("lock").get(&7), Some(&None));
        say.send(Found::Schema("\"int\"".into())).expect("script");
        wait_for(&resolver, &Ensured::Known);
        assert_eq!(book.0.lock().expect("lock").get(&7), Some(&Some("\"int\"".into())));
    }
}
