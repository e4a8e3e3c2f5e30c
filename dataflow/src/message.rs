//! Logs, messages, and the chunks in which sources hand messages over.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One ordered log of messages: a partition of a topic at one source, in one life of that topic.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Log {
    /// The source's identity: `kafka:<cluster id>`, `simulator:<seed>:<start>`, `files:<folder's identity>`.
    pub source: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// 0, and one more each time that the topic was accepted as new (`--new-incarnation`).
    pub incarnation: u32,
    /// The partition's number.
    pub partition: i32,
}

impl Log {
    /// The log of these four.
    #[must_use]
    pub fn new(source: &str, topic: &str, incarnation: u32, partition: i32) -> Self {
        Self { source: source.into(), topic: topic.into(), incarnation, partition }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)?;
        if self.incarnation > 0 {
            write!(f, "#{}", self.incarnation)?;
        }
        Ok(())
    }
}

/// One message as the source gave it; cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its offset in the log.
    pub offset: i64,
    /// The source's own timestamp, in milliseconds since 1970 UTC.
    pub timestamp_ms: Option<i64>,
    /// The message's key.
    pub key: Option<Bytes>,
    /// The message's value; `None` is a tombstone.
    pub payload: Option<Bytes>,
}

impl Message {
    /// Bytes of key and payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.payload.as_ref().map_or(0, Bytes::len)
    }
}

/// The last message of a span, kept so that a source can tell at its next start that the log is still the same one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The message's offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970 UTC.
    pub timestamp_ms: Option<i64>,
    /// xxh3-64 of its payload (0 for a tombstone).
    pub hash: u64,
}

/// A run of consecutive messages of one log, and the span that the source passed over to read them.
///
/// Every message's offset lies in `span`; offsets of the span without a message hold none that a consumer can see.
/// A chunk without messages is still progress: markers and compacted records were passed.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Where the messages come from.
    pub log: Arc<Log>,
    /// The offsets passed over.
    pub span: Range<i64>,
    /// The messages, in order of offset.
    pub messages: Vec<Message>,
    /// When the source took the last of them, in microseconds since 1970 UTC: the `ingest_time` of their rows.
    pub received_us: i64,
}

impl Chunk {
    /// Bytes of all keys and payloads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(Message::bytes).sum()
    }
}
