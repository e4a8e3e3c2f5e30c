//! Decoding as an operator.

use std::sync::Arc;

use fink_dataflow::alerts::Decoded;
use fink_dataflow::budget::Claim;
use fink_dataflow::{Chunk, Moment};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use super::{Decode, SchemaBook};

/// How many messages one [`Decoded`] stands for, about: what a decoder's columns hold in cache, and what a late reader
/// of the budget gets back at once.
const MESSAGES: usize = 256;
/// How many bytes one [`Decoded`] stands for, about.
const BYTES: usize = 32 << 20;

/// Decodes all that came in one activation together, in batches of about 256 messages or 32 MB.
pub fn decode<'s>(input: StreamVec<'s, Moment, (Chunk, Arc<Claim>)>, book: Arc<SchemaBook>) -> StreamVec<'s, Moment, Decoded> {
    input.unary::<CapacityContainerBuilder<_>, _, _, _>(Pipeline, "Decode", |_capability, _info| {
        let mut decoder = Decode::new(book);
        move |input, output| {
            input.for_each_stamp(|stamp, data| {
                let mut session = output.session(&stamp);
                let mut group = Vec::new();
                let (mut messages, mut bytes) = (0, 0);
                for (chunk, claim) in data.flat_map(|container| container.drain(..)) {
                    let (more, size) = (chunk.messages.len(), chunk.bytes());
                    if !group.is_empty() && (messages + more > MESSAGES || bytes + size > BYTES) {
                        session.give(decoder.decode(std::mem::take(&mut group)));
                        (messages, bytes) = (0, 0);
                    }
                    messages += more;
                    bytes += size;
                    group.push((chunk, claim));
                }
                if !group.is_empty() {
                    session.give(decoder.decode(group));
                }
            });
        }
    })
}
