//! What decoding makes of messages: alerts as Arrow batches, rejects, and an account of every message.

use std::ops::{AddAssign, Range};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::budget::Claim;
use crate::message::{Log, Mark, Message};

/// How many messages of a span became what. `messages` is always the sum of the three that follow it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Messages that a consumer could see.
    pub messages: u64,
    /// Messages that became rows of an alert table.
    pub archived: u64,
    /// Messages that went whole to the rejects.
    pub rejected: u64,
    /// Messages that decoded to no record at all.
    pub empty: u64,
    /// Rows of alert tables; more than `archived` where messages hold several records.
    pub rows: u64,
    /// Bytes of keys and payloads.
    pub bytes: u64,
}

impl Tally {
    /// Whether every message is accounted for once.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.messages == self.archived + self.rejected + self.empty
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.archived += other.archived;
        self.rejected += other.rejected;
        self.empty += other.empty;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// A span that was dealt with, whole.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The log.
    pub log: Arc<Log>,
    /// The offsets passed over.
    pub span: Range<i64>,
    /// What became of its messages.
    pub tally: Tally,
    /// Its last message, if it had one.
    pub mark: Option<Mark>,
}

/// How the rows of one writer's schema stand in the archive.
#[derive(Debug)]
pub struct WriterSchema {
    /// The first 32 hex digits of the SHA-256 of `json`.
    pub fingerprint: Arc<str>,
    /// The writer's schema as the survey wrote it.
    pub json: Arc<str>,
    /// The record's full name, such as `ztf.alert` or `lsst.v10_0.alert`.
    pub name: String,
    /// The record's columns in types that Delta can hold, all nullable; for a [`Form::Raw`] schema one binary column, `datum`.
    pub columns: SchemaRef,
    /// Whether the record stands in columns of its own.
    pub form: Form,
}

/// How a record is archived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Form {
    /// Field by field.
    Columns,
    /// As its Avro datum, since Delta can't hold the schema, for this reason.
    Raw(String),
}

/// Where one row comes from.
#[derive(Clone, Debug)]
pub struct Place {
    /// The message's log.
    pub log: Arc<Log>,
    /// The message's offset.
    pub offset: i64,
    /// The record's index in its message.
    pub record: i32,
    /// The message's timestamp, in milliseconds since 1970 UTC.
    pub timestamp_ms: Option<i64>,
    /// When the source took the message, in microseconds since 1970 UTC.
    pub received_us: i64,
}

/// Decoded records of one writer's schema.
#[derive(Clone, Debug)]
pub struct AlertBatch {
    /// The writer's schema.
    pub schema: Arc<WriterSchema>,
    /// The records, with exactly `schema.columns`.
    pub rows: RecordBatch,
    /// Where each row comes from.
    pub places: Vec<Place>,
    /// Each row's observing night: the local date at which it began, in days since 1970; `None` where the alert has no
    /// time, or an absurd one.
    pub nights: Vec<Option<i32>>,
    /// The latest time of observation of its rows, in milliseconds since 1970 UTC; `None`: not known, or not looked for.
    pub observed_ms: Option<i64>,
}

/// A message that can't be decoded, whole, and why.
#[derive(Clone, Debug)]
pub struct Reject {
    /// The message's log.
    pub log: Arc<Log>,
    /// The message.
    pub message: Message,
    /// When the source took it, in microseconds since 1970 UTC.
    pub received_us: i64,
    /// What kind of fault, in one word of a short list (`truncated`, `garbled`, `schema-unknown`, …).
    pub fault: &'static str,
    /// What was wrong, for a person.
    pub reason: String,
}

/// What became of some chunks: spans, alerts and rejects that stand or fall together.
#[derive(Clone, Default)]
pub struct Decoded {
    /// The spans, in the order they were read.
    pub passed: Vec<Passed>,
    /// The alerts, by writer's schema.
    pub alerts: Vec<AlertBatch>,
    /// What could not be decoded.
    pub rejects: Vec<Reject>,
    /// The bytes in flight that these hold.
    pub claims: Vec<Arc<Claim>>,
}
