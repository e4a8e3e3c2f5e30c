//! How a writer takes an archive, as state machines without threads, clock or store: the fence, and what a table lacks.

use fink_dataflow::table::entry::{Entry, Misfit, State, Writer};
use fink_dataflow::table::ledger::Put;

/// How often the fence is put before the store is given up.
const FENCE_ATTEMPTS: u32 = 20;

/// Puts the fence: the entry from which on no older generation's fits.
pub struct Taking {
    state: State,
    me: Writer,
    nonce: String,
    /// The generation that wrote before.
    before: u64,
    written_ms: i64,
    attempts: u32,
}

/// How a put of the fence ended.
#[derive(Debug)]
pub enum FenceEnd {
    /// It was told.
    Told(Put),
    /// It can't be told.
    Unclear,
}

/// What comes after a put of the fence.
#[derive(Debug)]
pub enum After {
    /// The archive is ours.
    Ours(Box<State>),
    /// Put [`Taking::entry`] again, which may be another now.
    Again,
    /// The ledger went on long ago: read it anew, and begin anew.
    Reread,
    /// Another writer was faster; who, where it is known.
    Lost(Option<Writer>),
    /// The store is given up.
    GivenUp,
}

impl Taking {
    /// `me` takes the archive of this state. No other taker, in any process, may have the same `nonce`.
    #[must_use]
    pub fn new(state: State, me: Writer, nonce: String, written_ms: i64) -> Self {
        Self { before: state.generation, state, me, nonce, written_ms, attempts: 0 }
    }

    /// The fence to put.
    #[must_use]
    pub fn entry(&self) -> Entry {
        let Self { state, me, .. } = self;
        Entry {
            generation: state.generation + 1,
            fence: Some(me.clone()),
            note: "start".to_owned(),
            ..Entry::after(state, format!("{}-{}", self.nonce, state.next), self.written_ms)
        }
    }

    /// What comes after the put of [`Taking::entry`] that ended so.
    ///
    /// # Errors
    /// When what the ledger holds does not follow what it held.
    pub fn step(&mut self, end: FenceEnd) -> Result<After, Misfit> {
        self.attempts += 1;
        Ok(match end {
            FenceEnd::Told(Put::Done) => {
                self.state.apply(&self.entry())?;
                After::Ours(Box::new(std::mem::take(&mut self.state)))
            }
            // The writer before us is at work still; it is about to stop. What it put in our place comes first.
            FenceEnd::Told(Put::Taken(other)) if other.fence.is_none() && other.generation == self.before => {
                self.state.apply(&other)?;
                After::Again
            }
            FenceEnd::Told(Put::Taken(other)) => After::Lost(other.fence),
            FenceEnd::Told(Put::Passed(_)) => After::Reread,
            FenceEnd::Unclear if self.attempts < FENCE_ATTEMPTS => After::Again,
            FenceEnd::Unclear => After::GivenUp,
        })
    }

    /// The state was read anew. Where another has taken the archive meanwhile, it is not the one that was judged.
    #[must_use]
    pub fn reread(&mut self, state: State) -> After {
        if state.generation != self.before {
            return After::Lost(state.writer);
        }
        self.state = state;
        After::Again
    }
}

/// Why a table and the ledger tell different stories.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Astray {
    /// The entry of the ledger that is needed next, or missing.
    pub needed: Option<u64>,
    /// What is wrong.
    pub why: &'static str,
}

/// Finds the entries that a table lacks: from the last that touched it back to the one that it has taken.
pub struct Lacking {
    table: std::sync::Arc<str>,
    applied: Option<u64>,
    at: Option<u64>,
    found: Vec<Entry>,
}

impl Lacking {
    /// The table that the ledger says entry `last` touched last, and that has taken `applied`.
    #[must_use]
    pub fn new(table: std::sync::Arc<str>, last: u64, applied: Option<u64>) -> Self {
        Self { table, applied, at: Some(last), found: Vec::new() }
    }

    /// The number of the entry to read next; `None`: all are found.
    ///
    /// # Errors
    /// When the table has taken what the ledger does not lead to.
    pub fn next(&self) -> Result<Option<u64>, Astray> {
        if self.at == self.applied {
            return Ok(None);
        }
        let Some(number) = self.at else { return Err(Astray { needed: None, why: "the ledger knows no such entry of this table" }) };
        if self.applied.is_some_and(|applied| applied > number) {
            let why = "the table is ahead of the ledger: was the ledger put back from a copy?";
            return Err(Astray { needed: Some(number), why });
        }
        Ok(Some(number))
    }

    /// Takes the entry that was read; `None`: there is none.
    ///
    /// # Errors
    /// When it is gone, or does not touch the table.
    pub fn take(&mut self, entry: Option<Entry>) -> Result<(), Astray> {
        let needed = self.at;
        let entry = entry.ok_or(Astray { needed, why: "that entry is gone: was the table put back from a copy?" })?;
        let change = entry.tables.iter().find(|change| change.table == self.table);
        self.at = change.ok_or(Astray { needed, why: "that entry does not touch the table" })?.previous;
        self.found.push(entry);
        Ok(())
    }

    /// What was found, in the order in which the table must take it.
    #[must_use]
    pub fn found(self) -> Vec<Entry> {
        self.found.into_iter().rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(pid: u32) -> Writer {
        Writer { host: "h".to_owned(), boot: "b".to_owned(), pid, started: 1 }
    }

    /// The state after `pid` took over from `state`.
    fn taken(state: &State, pid: u32) -> State {
        let mut taking = Taking::new(state.clone(), writer(pid), format!("n{pid}"), 0);
        match taking.step(FenceEnd::Told(Put::Done)) {
            Ok(After::Ours(state)) => *state,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_slept_while_another_took_over_does_not_push_it_aside() {
        let first = taken(&State::default(), 1);
        let mut taking = Taking::new(first.clone(), writer(2), "n2".to_owned(), 0);
        assert!(matches!(taking.step(FenceEnd::Told(Put::Passed(9))), Ok(After::Reread)));
        let second = taken(&first, 3);
        assert!(matches!(taking.reread(second), After::Lost(Some(by)) if by == writer(3)));
        assert!(matches!(taking.reread(first), After::Again));
    }

    #[test]
    fn what_the_writer_before_put_in_our_place_comes_first() {
        let first = taken(&State::default(), 1);
        let mut taking = Taking::new(first.clone(), writer(2), "n2".to_owned(), 0);
        let more = Entry { number: first.next, generation: 1, nonce: "x".to_owned(), fence: None, ..taking.entry() };
        assert!(matches!(taking.step(FenceEnd::Told(Put::Taken(Box::new(more)))), Ok(After::Again)));
        assert_eq!((taking.entry().number, taking.entry().generation), (2, 2));
        let other = taking.entry();
        assert!(matches!(taking.step(FenceEnd::Told(Put::Taken(Box::new(other)))), Ok(After::Lost(Some(_)))));
    }
}
