//! Why a message can't be decoded.

/// What kind of fault, in one word of a short list, and what was wrong, for a person.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// One of the words below.
    pub word: &'static str,
    /// What was wrong.
    pub reason: String,
}

/// No payload, or one of zero bytes.
pub const EMPTY: &str = "empty";
/// It ends before what it promises.
pub const TRUNCATED: &str = "truncated";
/// Its bytes contradict its schema or its envelope.
pub const GARBLED: &str = "garbled";
/// It holds, or would inflate to, more than a message may.
pub const TOO_LARGE: &str = "too-large";
/// It, or its schema, nests deeper than anything sensible.
pub const TOO_DEEP: &str = "too-deep";
/// Its container is compressed in a way that we don't read.
pub const CODEC: &str = "codec-unknown";
/// Nobody has its schema.
pub const SCHEMA_UNKNOWN: &str = "schema-unknown";
/// Its schema is not one of Avro's.
pub const SCHEMA_INVALID: &str = "schema-invalid";
/// It has no envelope, and its topic has no schema configured.
pub const ENVELOPE: &str = "envelope-unknown";
/// Decoding it panicked.
pub const CRASHED: &str = "crashed";

impl Fault {
    /// A fault of this word and reason.
    pub fn new(word: &'static str, reason: impl Into<String>) -> Self {
        Self { word, reason: reason.into() }
    }

    pub(crate) fn truncated(what: &str) -> Self {
        Self::new(TRUNCATED, format!("ends within {what}"))
    }

    pub(crate) fn garbled(reason: impl Into<String>) -> Self {
        Self::new(GARBLED, reason)
    }
}
