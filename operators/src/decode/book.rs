//! The schemas that messages name but do not carry: by registry id, and by topic for bare datums.
//!
//! The source side fills the book before it hands a chunk over (it alone may ask a registry or read a folder); the
//! workers only look up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fink_dataflow::Chunk;
use xxhash_rust::xxh3::xxh3_128;

use super::envelope::framed_id;

/// What is known of a schema id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// Its schema, as JSON.
    Known(Arc<str>),
    /// Nobody has a schema of this id: messages that name it are rejected.
    Unknown,
}

/// Schemas by id and by topic, shared by sources and workers.
#[derive(Debug, Default)]
pub struct SchemaBook {
    ids: RwLock<BTreeMap<u32, Entry>>,
    bare: RwLock<BTreeMap<Arc<str>, Arc<str>>>,
    /// Payloads that are not to be decoded, by their hash, and why.
    condemned: RwLock<BTreeMap<u128, Arc<str>>>,
    condemns: AtomicBool,
}

impl SchemaBook {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters the schema of an id; an id once known keeps its first schema, as in a registry.
    pub fn know(&self, id: u32, json: &str) {
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        let entry = ids.entry(id).or_insert(Entry::Unknown);
        if *entry == Entry::Unknown {
            *entry = Entry::Known(json.into());
        }
    }

    /// Enters that nobody has a schema of this id; what is known stays known.
    pub fn deny(&self, id: u32) {
        self.ids.write().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(Entry::Unknown);
    }

    /// What is known of an id; `None`: nobody has asked yet.
    #[must_use]
    pub fn id(&self, id: u32) -> Option<Entry> {
        self.ids.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Sets the schema of the bare datums of a topic, or, for `*`, of all that have none of their own.
    pub fn set_bare(&self, topic: &str, json: &str) {
        self.bare.write().unwrap_or_else(PoisonError::into_inner).insert(topic.into(), json.into());
    }

    /// The schema of the bare datums of a topic.
    #[must_use]
    pub fn bare(&self, topic: &str) -> Option<Arc<str>> {
        let bare = self.bare.read().unwrap_or_else(PoisonError::into_inner);
        bare.get(topic).or_else(|| bare.get("*")).cloned()
    }

    /// Enters that a payload kills the process that decodes it.
    pub fn condemn(&self, payload: &[u8], reason: &str) {
        self.condemned.write().unwrap_or_else(PoisonError::into_inner).insert(xxh3_128(payload), reason.into());
        self.condemns.store(true, Ordering::Release);
    }

    /// Why a payload is not to be decoded, if it is not.
    #[must_use]
    pub fn condemned(&self, payload: &[u8]) -> Option<Arc<str>> {
        // Hardly ever is there any, and hashing all payloads would cost what decoding does.
        if !self.condemns.load(Ordering::Acquire) {
            return None;
        }
        self.condemned.read().unwrap_or_else(PoisonError::into_inner).get(&xxh3_128(payload)).cloned()
    }

    /// The ids that messages of `chunk` name and that are not in the book yet. A topic of bare datums names none: what
    /// looks like a frame there is the first field.
    #[must_use]
    pub fn missing(&self, chunk: &Chunk) -> BTreeSet<u32> {
        if self.bare(&chunk.log.topic).is_some() {
            return BTreeSet::new();
        }
        let ids = self.ids.read().unwrap_or_else(PoisonError::into_inner);
        let named = chunk.messages.iter().filter_map(|m| framed_id(m.payload.as_deref()?));
        named.filter(|id| !ids.contains_key(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fink_dataflow::{Log, Message};

    use super::*;

    fn chunk(payloads: &[&'static [u8]]) -> Chunk {
        let messages = payloads
            .iter()
            .zip(0..)
            .map(|(p, offset)| Message { offset, timestamp_ms: None, key: None, payload: Some(Bytes::from_static(p)) })
            .collect();
        Chunk { log: Arc::new(Log::new("kafka:x", "lsst", 0, 0)), span: 0..9, messages, received_us: 0 }
    }

    #[test]
    fn tells_which_ids_are_still_to_be_asked_for() {
        let book = SchemaBook::new();
        let chunk = chunk(&[&[0, 0, 0, 2, 192, 7], &[0, 0, 0, 2, 193, 7], b"Obj\x01...", &[0, 0]]);
        assert_eq!(book.missing(&chunk), BTreeSet::from([704, 705]));
        book.know(704, "\"string\"");
        book.deny(705);
        assert!(book.missing(&chunk).is_empty());
        assert_eq!(book.id(705), Some(Entry::Unknown));
        book.know(705, "\"bytes\"");
        book.deny(705);
        assert_eq!(book.id(705), Some(Entry::Known("\"bytes\"".into())));
    }

    #[test]
    fn a_payload_is_condemned_by_its_bytes() {
        let book = SchemaBook::new();
        assert_eq!(book.condemned(b"deadly"), None);
        book.condemn(b"deadly", "it killed");
        assert_eq!((book.condemned(b"deadly").as_deref(), book.condemned(b"harmless")), (Some("it killed"), None));
    }

    #[test]
    fn a_topic_of_bare_datums_names_no_ids() {
        let book = SchemaBook::new();
        book.set_bare("lsst", "\"string\"");
        assert!(book.missing(&chunk(&[&[0, 0, 0, 2, 192, 7]])).is_empty());
    }
}
