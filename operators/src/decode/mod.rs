//! Messages into Arrow batches, once; what can't be decoded goes whole to the rejects.
//!
//! | module | what it is |
//! |---|---|
//! | [`envelope`] | how messages wrap their datums |
//! | [`wire`] | Avro's primitive encodings |
//! | [`avro`] | a schema as a graph of types |
//! | [`schema`] | a writer's schema as columns that Delta can hold |
//! | `batch` | datums of one schema into one batch, and out of it those that fail |
//! | [`fit`] | what is left to do after arrow-avro |
//! | `guard` | a panic costs one message |
//! | [`walk`] | a datum's shape, without decoding it |
//! | [`book`] | schemas by id and by topic |
//! | [`folder`] | schemas that are split over files |
//! | [`fault`] | why a message can't be decoded |
//!
//! Invariants: every message is archived whole, rejected whole, or holds no record, and its span's tally says which;
//! what becomes of a message depends on its bytes and the book alone, never on its neighbours; no I/O, no clock.

pub mod avro;
mod batch;
pub mod book;
pub mod envelope;
pub mod fault;
pub mod fit;
pub mod folder;
mod guard;
mod operator;
pub mod schema;
pub mod walk;
pub mod wire;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use fink_dataflow::alerts::{AlertBatch, Decoded, Passed, Place, Reject, Tally};
use fink_dataflow::budget::Claim;
use fink_dataflow::message::Mark;
use fink_dataflow::table::fault::failpoint_on;
use fink_dataflow::{Chunk, Log, Message};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use batch::{Datums, Writer};
use envelope::{Envelope, open};
use fault::{CRASHED, EMPTY, ENVELOPE, SCHEMA_INVALID, SCHEMA_UNKNOWN};

pub use book::{Entry, SchemaBook};
pub use fault::Fault;
pub use guard::decoding;
pub use operator::decode;

/// Rows of a batch, about: what its columns hold in cache.
const ROWS: usize = 256;
/// Bytes of datums of a batch, about.
const BYTES: usize = 32 << 20;
/// Writers' schemas that a worker remembers; each may hold a megabyte of empty columns.
const WRITERS_MAX: usize = 32;

/// A worker's decoder.
pub struct Decode {
    book: Arc<SchemaBook>,
    writers: Vec<Pen>,
    /// Writers by the hash of their schema's bytes; schemas that are none too.
    known: HashMap<u128, Result<usize, Fault>>,
    /// Writers by registry id.
    ids: HashMap<u32, usize>,
    /// The writer that was last asked for by its schema's bytes.
    last: usize,
}

/// A writer and what waits for it.
struct Pen {
    writer: Writer,
    waiting: Vec<Datums>,
    /// Whose datums these are: indices of chunk and message.
    owners: Vec<(usize, usize)>,
    rows: usize,
    bytes: usize,
}

impl Decode {
    /// A decoder that looks schemas up in `book`.
    #[must_use]
    pub fn new(book: Arc<SchemaBook>) -> Self {
        Self { book, writers: Vec::new(), known: HashMap::new(), ids: HashMap::new(), last: 0 }
    }

    /// Decodes some chunks as one batch a writer's schema.
    pub fn decode(&mut self, chunks: Vec<(Chunk, Arc<Claim>)>) -> Decoded {
        let (chunks, claims): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        if self.known.len() > WRITERS_MAX {
            (self.writers, self.known, self.ids) = Default::default();
        }
        let mut account = Account::new(&chunks);
        for (c, chunk) in chunks.iter().enumerate() {
            let bare = self.book.bare(&chunk.log.topic);
            for (m, message) in chunk.messages.iter().enumerate() {
                match self.sort(message, bare.as_deref()) {
                    Ok((_, datums)) if datums.count() == 0 => account.passed[c].tally.empty += 1,
                    Ok((writer, datums)) => {
                        let pen = &mut self.writers[writer];
                        pen.rows += datums.count();
                        pen.bytes += datums.bytes();
                        pen.waiting.push(datums);
                        pen.owners.push((c, m));
                        if pen.rows >= ROWS || pen.bytes >= BYTES {
                            pen.flush(&mut account);
                        }
                    }
                    Err(fault) => account.reject(c, m, fault),
                }
            }
        }
        self.writers.iter_mut().for_each(|pen| pen.flush(&mut account));
        Decoded { passed: account.passed, alerts: account.alerts, rejects: account.rejects, claims }
    }

    /// Opens a message: whose datums it holds.
    fn sort(&mut self, message: &Message, bare: Option<&str>) -> Result<(usize, Datums), Fault> {
        let payload = message.payload.as_ref().ok_or_else(|| Fault::new(EMPTY, "the message has no payload"))?;
        if let Some(reason) = self.book.condemned(payload) {
            return Err(Fault::new(CRASHED, &*reason));
        }
        failpoint_on("decode", payload);
        let (writer, datums) = match (open(payload)?, bare) {
            (Envelope::Container(container), _) => (self.writer(container.schema)?, Datums::Blocks(container.blocks(payload)?)),
            (Envelope::Framed { .. } | Envelope::Bare, Some(json)) => (self.writer(json.as_bytes())?, Datums::One(payload.clone())),
            (Envelope::Framed { id, datum }, None) => (self.writer_of_id(id)?, Datums::One(payload.slice_ref(datum))),
            (Envelope::Bare, None) => {
                return Err(Fault::new(ENVELOPE, "neither a container nor framed, and its topic has no schema configured"));
            }
        };
        self.writers[writer].writer.plausible(&datums)?;
        Ok((writer, datums))
    }

    fn writer_of_id(&mut self, id: u32) -> Result<usize, Fault> {
        if let Some(writer) = self.ids.get(&id) {
            return Ok(*writer);
        }
        let Some(Entry::Known(json)) = self.book.id(id) else {
            return Err(Fault::new(SCHEMA_UNKNOWN, format!("no schema has the id {id}")));
        };
        let writer = self.writer(json.as_bytes())?;
        self.ids.insert(id, writer);
        Ok(writer)
    }

    /// The writer of a schema: mostly the last one again, which comparing tells at half the cost of a hash.
    fn writer(&mut self, json: &[u8]) -> Result<usize, Fault> {
        let is = |writers: &[Pen], writer: usize| writers.get(writer).is_some_and(|pen| pen.writer.schema().json.as_bytes() == json);
        if is(&self.writers, self.last) {
            return Ok(self.last);
        }
        let hash = xxh3_128(json);
        match self.known.get(&hash) {
            Some(Ok(writer)) if is(&self.writers, *writer) => {
                self.last = *writer;
                return Ok(*writer);
            }
            Some(Err(fault)) => return Err(fault.clone()),
            _ => {}
        }
        let text = std::str::from_utf8(json).map_err(|e| Fault::new(SCHEMA_INVALID, format!("the schema is not UTF-8: {e}")));
        let writer = text.and_then(Writer::new).map(|writer| {
            self.writers.push(Pen { writer, waiting: Vec::new(), owners: Vec::new(), rows: 0, bytes: 0 });
            self.last = self.writers.len() - 1;
            self.last
        });
        self.known.insert(hash, writer.clone());
        writer
    }
}

impl Pen {
    fn flush(&mut self, account: &mut Account<'_>) {
        let (waiting, owners) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.owners));
        (self.rows, self.bytes) = (0, 0);
        let outcome = self.writer.decode(&waiting);
        for (range, rows) in outcome.good {
            let mut places = Vec::with_capacity(rows.num_rows());
            for (owner, datums) in owners[range.clone()].iter().zip(&waiting[range]) {
                account.archive(*owner, datums.count(), &mut places);
            }
            let (nights, observed_ms) = self.writer.times(&rows);
            account.alerts.push(AlertBatch { schema: Arc::clone(self.writer.schema()), rows, places, nights, observed_ms });
        }
        for (index, fault) in outcome.bad {
            let (chunk, message) = owners[index];
            account.reject(chunk, message, fault);
        }
    }
}

/// What became of the messages of some chunks.
struct Account<'c> {
    chunks: &'c [Chunk],
    passed: Vec<Passed>,
    alerts: Vec<AlertBatch>,
    rejects: Vec<Reject>,
}

impl<'c> Account<'c> {
    fn new(chunks: &'c [Chunk]) -> Self {
        let passed = chunks.iter().map(|chunk| Passed {
            log: Arc::clone(&chunk.log),
            span: chunk.span.clone(),
            tally: Tally { messages: chunk.messages.len() as u64, bytes: chunk.bytes() as u64, ..Tally::default() },
            mark: chunk.messages.last().map(mark),
        });
        Self { chunks, passed: passed.collect(), alerts: Vec::new(), rejects: Vec::new() }
    }

    fn archive(&mut self, (chunk, message): (usize, usize), records: usize, places: &mut Vec<Place>) {
        let tally = &mut self.passed[chunk].tally;
        tally.archived += 1;
        tally.rows += records as u64;
        let chunk = &self.chunks[chunk];
        let message = &chunk.messages[message];
        places.extend((0..).take(records).map(|record| Place {
            log: Arc::clone(&chunk.log),
            offset: message.offset,
            record,
            timestamp_ms: message.timestamp_ms,
            received_us: chunk.received_us,
        }));
    }

    fn reject(&mut self, chunk: usize, message: usize, fault: Fault) {
        self.passed[chunk].tally.rejected += 1;
        let chunk = &self.chunks[chunk];
        // Of its own: it may wait for long, and the source's memory is not to wait with it.
        let message = &chunk.messages[message];
        let payload = message.payload.as_deref().map(Bytes::copy_from_slice);
        self.rejects.push(Reject {
            log: Arc::clone(&chunk.log),
            message: Message { payload, ..message.clone() },
            received_us: chunk.received_us,
            fault: fault.word,
            reason: fault.reason,
        });
    }
}

/// The mark of a message.
#[must_use]
pub fn mark(message: &Message) -> Mark {
    let hash = message.payload.as_ref().map_or(0, |payload| xxh3_64(payload));
    Mark { offset: message.offset, timestamp_ms: message.timestamp_ms, hash }
}

/// Decodes messages one by one, as a child process does to find out which one kills it.
pub struct Alone {
    decoder: Decode,
}

impl Alone {
    /// A decoder that looks schemas up in `book`.
    #[must_use]
    pub fn new(book: Arc<SchemaBook>) -> Self {
        Self { decoder: Decode::new(book) }
    }

    /// Decodes one message on its own. Returns its rows.
    ///
    /// # Errors
    /// The fault for which it is rejected.
    pub fn decode(&mut self, payload: Bytes, topic: &str) -> Result<u64, Fault> {
        let decoded = self.whole(payload, topic);
        match decoded.rejects.into_iter().next() {
            Some(reject) => Err(Fault::new(reject.fault, reject.reason)),
            None => Ok(decoded.passed[0].tally.rows),
        }
    }

    /// Decodes one message on its own. Returns its rows, or the reject that it is.
    pub fn whole(&mut self, payload: Bytes, topic: &str) -> Decoded {
        let log = Arc::new(Log::new("", topic, 0, 0));
        let message = Message { offset: 0, timestamp_ms: None, key: None, payload: Some(payload) };
        let claim = fink_dataflow::budget::Budget::new(1).take(0);
        let chunk = Chunk { log, span: 0..1, messages: vec![message], received_us: 0 };
        self.decoder.decode(vec![(chunk, Arc::new(claim))])
    }
}

/// Decodes one message on its own, in a fresh decoder. Returns its rows.
///
/// # Errors
/// The fault for which it is rejected.
pub fn decode_alone(payload: Bytes, topic: &str, book: Arc<SchemaBook>) -> Result<u64, Fault> {
    Alone::new(book).decode(payload, topic)
}
