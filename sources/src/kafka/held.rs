//! A message of our own, without a copy of what is large in it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fink_dataflow::message::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use self_cell::self_cell;

use super::health::Health;
use super::positions::Incoming;

/// Payloads from this size on stay in the client's memory, bytes. Smaller ones are copied: each would hold the whole answer of
/// the broker that it came in, a megabyte and more.
const HELD_FROM: usize = 16 << 10;

self_cell! {
    /// A message in its client's memory, and the client, which lives for as long.
    pub(super) struct Held {
        owner: Arc<BaseConsumer<Health>>,
        #[covariant]
        dependent: BorrowedMessage,
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.borrow_dependent().payload().unwrap_or_default()
    }
}

impl Held {
    /// The client's next message.
    pub(super) fn poll(client: &Arc<BaseConsumer<Health>>, wait: Duration) -> Option<Result<Self, KafkaError>> {
        let polled = Self::try_new(client.clone(), |client| match client.poll(wait) {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(Some(error)),
            None => Err(None),
        });
        polled.map_or_else(|none| none.map(Err), |held| Some(Ok(held)))
    }
}

impl Incoming for Held {
    fn place(&self) -> (&str, i32, i64) {
        let message = self.borrow_dependent();
        (message.topic(), message.partition(), message.offset())
    }

    fn owned(self) -> Message {
        let message = self.borrow_dependent();
        let (offset, timestamp_ms) = (message.offset(), message.timestamp().to_millis());
        let key = message.key().map(Bytes::copy_from_slice);
        let payload = match message.payload() {
            Some(payload) if payload.len() >= HELD_FROM => Some(Bytes::from_owner(self)),
            payload => payload.map(Bytes::copy_from_slice),
        };
        Message { offset, timestamp_ms, key, payload }
    }
}
