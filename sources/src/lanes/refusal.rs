//! Why a source may not be read.

use std::sync::Arc;

/// Why nothing may be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The log ends before what is stored of it.
    #[error(
        "{topic}/{partition} ends at offset {high}, but was read up to {stored}: the topic was recreated or truncated; \
         --new-incarnation reads it as a new one"
    )]
    Shrunk {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset after its last.
        high: i64,
        /// The offset up to which it is stored.
        stored: i64,
    },
    /// The last message stored is another one now.
    #[error(
        "{topic}/{partition} holds another message at offset {offset} than was read there: the topic was recreated; \
         --new-incarnation reads it as a new one"
    )]
    Differs {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset of the mark.
        offset: i64,
    },
    /// The topic is stored from another source.
    #[error("{topic} was read from {stored}, and this is {source_now}: another cluster; --new-incarnation reads it beside the other")]
    Elsewhere {
        /// The topic.
        topic: Arc<str>,
        /// The source stored.
        stored: Arc<str>,
        /// The source now.
        source_now: Arc<str>,
    },
    /// No origin was given for a partition.
    #[error("no offset was given for {topic}/{partition}")]
    NoOffset {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// The origin given is past the log's end.
    #[error("{topic}/{partition} ends at offset {high}, before {offset} where reading should begin")]
    PastEnd {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset given.
        offset: i64,
        /// The offset after the log's last.
        high: i64,
    },
}
