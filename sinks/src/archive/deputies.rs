//! One committer for a cluster: the writers of all processes give their groups to the process that leads.
//!
//! ```text
//!  process 1: writers ─► Deputy ─ group, open, route ─► Clerk ─► Committer ─► ledger    process 0
//!                          ▲                                         │
//!                          └────── entry, durable, opened, routed ◄──┘
//! ```
//!
//! What crosses is light: closed files by name, spans, counts, schemas. The files themselves were stored by whoever wrote them.
//! A [`Deputy`] is to its process what the committer is to the leading one: it takes groups, keeps the ledger's state (it
//! is sent every entry, before anybody is told that it is durable), opens logs, and has schemas routed. All tables' shapes
//! are decided in one place, by the leader's [`Routes`]. A deputy that dies takes all with it: what was not acknowledged is
//! read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use crossbeam_channel::{Sender, bounded};
use fink_dataflow::alerts::{Form, Passed, Tally, WriterSchema};
use fink_dataflow::message::{Log, Mark};
use fink_dataflow::moment::Moment;
use fink_dataflow::ports::{Keeper, Stored};
use fink_dataflow::table::entry::{DataFile, Entry, State};
use serde::{Deserialize, Serialize};

use super::committer::{CommitStatus, Committer, Request};
use super::group::{Group, GroupSink};
use super::routes::{Decides, Decision, Routes};

/// What a deputy asks of the leading process; answered under its number.
#[derive(Debug, Deserialize, Serialize)]
pub struct Ask {
    /// Told apart from the deputy's others.
    number: u64,
    what: What,
}

#[derive(Debug, Deserialize, Serialize)]
enum What {
    Group(Closed),
    Open(Vec<(Log, i64)>),
    Route(Text),
}

/// What it hears.
#[derive(Debug, Deserialize, Serialize)]
pub enum Told {
    /// An entry is in the ledger.
    Entry(Arc<Entry>),
    /// The group of this number is durable.
    Durable(u64),
    /// The logs are open, or why not.
    Opened(u64, Result<(), String>),
    /// Where the schema goes, or why nowhere.
    Routed(u64, Result<Decision, String>),
}

/// A group on its way: what [`Group`] is without its `done`.
#[derive(Debug, Deserialize, Serialize)]
struct Closed {
    worker: usize,
    moment: Moment,
    passed: Vec<(Log, i64, i64, Tally, Option<Mark>)>,
    files: Vec<(Arc<str>, DataFile)>,
}

impl Closed {
    fn of(group: Group) -> (Self, Box<dyn FnOnce() + Send>) {
        let Group { worker, moment, passed, files, done } = group;
        let passed = passed.into_iter().map(|p| ((*p.log).clone(), p.span.start, p.span.end, p.tally, p.mark)).collect();
        (Self { worker, moment, passed, files }, done)
    }

    fn group(self, done: Box<dyn FnOnce() + Send>) -> Group {
        let Self { worker, moment, passed, files } = self;
        let of = |(log, start, end, tally, mark)| Passed { log: Arc::new(log), span: start..end, tally, mark };
        Group { worker, moment, passed: passed.into_iter().map(of).collect(), files, done }
    }
}

/// A writer's schema on its way.
#[derive(Debug, Deserialize, Serialize)]
struct Text {
    fingerprint: Arc<str>,
    json: Arc<str>,
    name: String,
    /// The columns, as an Arrow stream without batches.
    columns: Vec<u8>,
    /// Why it stands as raw datums, if it does.
    raw: Option<String>,
}

impl Text {
    fn of(schema: &WriterSchema) -> Result<Self, String> {
        let mut columns = Vec::new();
        let mut writer = StreamWriter::try_new(&mut columns, &schema.columns).map_err(|error| error.to_string())?;
        writer.finish().map_err(|error| error.to_string())?;
        drop(writer);
        let raw = match &schema.form {
            Form::Columns => None,
            Form::Raw(why) => Some(why.clone()),
        };
        let (fingerprint, json, name) = (Arc::clone(&schema.fingerprint), Arc::clone(&schema.json), schema.name.clone());
        Ok(Self { fingerprint, json, name, columns, raw })
    }

    fn schema(self) -> Result<WriterSchema, String> {
        let Self { fingerprint, json, name, columns, raw } = self;
        let reader = StreamReader::try_new(columns.as_slice(), None).map_err(|error| error.to_string())?;
        let columns: SchemaRef = Arc::new(Schema::clone(&reader.schema()));
        Ok(WriterSchema { fingerprint, json, name, columns, form: raw.map_or(Form::Columns, Form::Raw) })
    }
}

/// Sends what a deputy asks.
pub type Asks = Arc<dyn Fn(Ask) + Send + Sync>;
/// Sends what a deputy is told, to a process.
pub type Tells = Arc<dyn Fn(usize, Told) + Send + Sync>;

/// The committer as the other processes see it. Clones are the same.
#[derive(Clone)]
pub struct Deputy {
    asks: Asks,
    generation: u64,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    state: Arc<State>,
    numbers: u64,
    waiting: HashMap<u64, Waiter>,
    /// When a group of this process was last durable, in milliseconds since 1970 UTC.
    last_ms: Option<i64>,
}

enum Waiter {
    Group(Box<dyn FnOnce() + Send>),
    Open(Sender<Result<(), String>>),
    Route(Sender<Result<Decision, String>>),
}

impl Deputy {
    /// A deputy that goes on from this state, the one that the leading process goes on from.
    #[must_use]
    pub fn new(state: State, asks: Asks) -> Self {
        let (generation, state) = (state.generation, Arc::new(state));
        Self { asks, generation, inner: Arc::new(Mutex::new(Inner { state, numbers: 0, waiting: HashMap::new(), last_ms: None })) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, what: What, waiter: Waiter) {
        let mut inner = self.inner();
        inner.numbers += 1;
        let number = inner.numbers;
        inner.waiting.insert(number, waiter);
        // Sent under the lock, so that groups go out in the order of their numbers.
        (self.asks)(Ask { number, what });
    }

    /// Takes what the leading process says.
    ///
    /// # Errors
    /// When it can't be: the process must end before it does harm.
    pub fn told(&self, told: Told) -> Result<(), String> {
        let mut inner = self.inner();
        let number = match &told {
            // One that was put while this process read the ledger is known already.
            Told::Entry(entry) if entry.number < inner.state.next => return Ok(()),
            Told::Entry(entry) => {
                return Arc::make_mut(&mut inner.state).apply(entry).map_err(|misfit| misfit.to_string());
            }
            Told::Durable(number) | Told::Opened(number, _) | Told::Routed(number, _) => *number,
        };
        let waiter = inner.waiting.remove(&number);
        if matches!(told, Told::Durable(_)) {
            inner.last_ms = Some(chrono::Utc::now().timestamp_millis());
        }
        drop(inner);
        match (told, waiter) {
            (Told::Durable(_), Some(Waiter::Group(done))) => done(),
            // Whoever asked may have gone.
            (Told::Opened(_, result), Some(Waiter::Open(answer))) => drop(answer.send(result)),
            (Told::Routed(_, result), Some(Waiter::Route(answer))) => drop(answer.send(result)),
            (told, _) => return Err(format!("nobody asked for {told:?}")),
        }
        Ok(())
    }

    /// All that is durable, as far as this process was told.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.inner().state)
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> CommitStatus {
        let inner = self.inner();
        let last_entry = inner.state.next.checked_sub(1);
        let (waiting, last_commit_ms) = (inner.waiting.len(), inner.last_ms);
        CommitStatus { generation: self.generation, last_entry, last_commit_ms, waiting, ..CommitStatus::default() }
    }
}

impl GroupSink for Deputy {
    fn commit(&self, group: Group) {
        let (closed, done) = Closed::of(group);
        self.ask(What::Group(closed), Waiter::Group(done));
    }
}

impl Decides for Deputy {
    fn decide(&self, schema: &WriterSchema) -> Result<Decision, String> {
        let (answer, answered) = bounded(1);
        self.ask(What::Route(Text::of(schema)?), Waiter::Route(answer));
        answered.recv().unwrap_or_else(|_| Err("the leading process is gone".to_owned()))
    }
}

impl Keeper for Deputy {
    fn stored(&self, log: &Log) -> Option<Stored> {
        self.state().stored(log)
    }

    fn incarnation(&self, source: &str, topic: &str) -> Option<u32> {
        self.state().incarnation(source, topic)
    }

    fn topics(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.state().topics()
    }

    fn open(&self, origins: &[(Log, i64)]) -> Result<(), String> {
        let (answer, answered) = bounded(1);
        self.ask(What::Open(origins.to_vec()), Waiter::Open(answer));
        answered.recv().unwrap_or_else(|_| Err("the leading process is gone".to_owned()))
    }
}

/// Does at the leading process what deputies ask. Clones are the same.
#[derive(Clone)]
pub struct Clerk {
    committer: Committer,
    routes: Arc<Routes>,
    tells: Tells,
}

impl Clerk {
    /// A clerk of this committer and its routes.
    #[must_use]
    pub fn new(committer: Committer, routes: Arc<Routes>, tells: Tells) -> Self {
        Self { committer, routes, tells }
    }

    /// Takes what the deputy of a process asks; returns at once.
    ///
    /// # Errors
    /// When no thread can be had for what takes long.
    pub fn asked(&self, from: usize, ask: Ask) -> std::io::Result<()> {
        let (tells, number) = (Arc::clone(&self.tells), ask.number);
        match ask.what {
            What::Group(closed) => self.committer.commit(closed.group(Box::new(move || tells(from, Told::Durable(number))))),
            What::Route(text) => tells(from, Told::Routed(number, self.route(text))),
            What::Open(origins) => {
                let committer = self.committer.clone();
                std::thread::Builder::new().name("fink-opens".to_owned()).spawn(move || {
                    let opened = committer.request(Request::Open(origins)).map_err(|refusal| refusal.to_string());
                    tells(from, Told::Opened(number, opened));
                })?;
            }
        }
        Ok(())
    }

    fn route(&self, text: Text) -> Result<Decision, String> {
        let shape = self.routes.route(&text.schema()?).map_err(|error| error.to_string())?;
        let schema = self.routes.schema(&shape.table).ok_or_else(|| format!("no table {}", shape.table))?;
        Ok(Decision { table: Arc::clone(&shape.table), schema })
    }
}

#[cfg(test)]
#[path = "deputies_tests.rs"]
mod tests;
