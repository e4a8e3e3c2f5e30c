//! A datum made a message.

use std::fmt;
use std::str::FromStr;

use super::datum::write_long;
use crate::simulator::dice::Dice;

/// How an alert is made a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// An Avro object container with its schema, as ZTF sends.
    Container,
    /// Confluent's framing, as LSST sends: a zero byte, the schema's id in a registry (big-endian), the datum.
    Confluent,
    /// A bare datum: who reads it knows the schema.
    Datum,
}

impl Framing {
    fn word(self) -> &'static str {
        match self {
            Self::Container => "ocf",
            Self::Confluent => "confluent",
            Self::Datum => "datum",
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Framing {
    type Err = UnknownFraming;
    fn from_str(word: &str) -> Result<Self, UnknownFraming> {
        [Self::Container, Self::Confluent, Self::Datum]
            .into_iter()
            .find(|framing| framing.word() == word)
            .ok_or_else(|| UnknownFraming(word.to_owned()))
    }
}

/// Not a framing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("framing {0:?} is neither ocf, confluent nor datum")]
pub struct UnknownFraming(pub String);

/// Bytes of a container's sync marker.
const SYNC: usize = 16;

/// What goes around the datums of one stream.
#[derive(Clone, Debug)]
pub struct Frame {
    before: Vec<u8>,
    framing: Framing,
}

impl Frame {
    /// The frame of datums of `schema`; a container's sync marker is a function of `seed`, Confluent's framing needs the
    /// schema's id.
    #[must_use]
    pub fn new(framing: Framing, schema: &str, schema_id: u32, seed: u64) -> Self {
        let before = match framing {
            Framing::Container => container_header(schema, seed),
            Framing::Confluent => [&[0][..], &schema_id.to_be_bytes()].concat(),
            Framing::Datum => Vec::new(),
        };
        Self { before, framing }
    }

    /// The message of a datum.
    #[must_use]
    pub fn message(&self, datum: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.before.len() + datum.len() + SYNC + 12);
        message.extend_from_slice(&self.before);
        if self.framing == Framing::Container {
            write_long(&mut message, 1);
            write_long(&mut message, datum.len() as i64);
        }
        message.extend_from_slice(datum);
        if self.framing == Framing::Container {
            message.extend_from_slice(&self.before[self.before.len() - SYNC..]);
        }
        message
    }
}

/// The header of an Avro object container of codec null.
fn container_header(schema: &str, seed: u64) -> Vec<u8> {
    let mut header = b"Obj\x01".to_vec();
    let pairs = [("avro.codec", "null"), ("avro.schema", schema)];
    write_long(&mut header, pairs.len() as i64);
    for text in pairs.into_iter().flat_map(|(key, value)| [key, value]) {
        write_long(&mut header, text.len() as i64);
        header.extend_from_slice(text.as_bytes());
    }
    write_long(&mut header, 0);
    let mut dice = Dice::new(&[seed]);
    header.extend_from_slice(&dice.bits().to_le_bytes());
    header.extend_from_slice(&dice.bits().to_le_bytes());
    header
}
