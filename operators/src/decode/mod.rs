//! Messages into Arrow batches, once; what can't be decoded goes whole to the rejects.

pub mod book;
pub mod envelope;
pub mod fault;
mod operator;
pub mod wire;

use std::sync::Arc;

use fink_dataflow::Chunk;
use fink_dataflow::alerts::Decoded;
use fink_dataflow::budget::Claim;

pub use book::{Entry, SchemaBook};
pub use fault::Fault;
pub use operator::decode;

/// A worker's decoder.
pub struct Decode {
    #[expect(dead_code, reason = "used as soon as schemas are")]
    book: Arc<SchemaBook>,
}

impl Decode {
    /// A decoder that looks schemas up in `book`.
    #[must_use]
    pub fn new(book: Arc<SchemaBook>) -> Self {
        Self { book }
    }

    /// Decodes some chunks as one batch.
    pub fn decode(&mut self, chunks: Vec<(Chunk, Arc<Claim>)>) -> Decoded {
        let _ = chunks;
        Decoded::default()
    }
}

/// Whether this thread is decoding now: a panic hook lets such a panic unwind, since it costs one message only.
#[must_use]
pub fn decoding() -> bool {
    false
}
