//! How messages wrap their datums: Avro's object container, Confluent's framing, or not at all; told apart per message.

use std::io::Read;

use bytes::Bytes;

use super::fault::{CODEC, EMPTY, Fault, GARBLED, TOO_LARGE};
use super::wire::Cursor;

/// The most that the blocks of one message may inflate to, together.
pub const INFLATED_BYTES_MAX: usize = 128 << 20;

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;

/// A message's envelope.
#[derive(Debug)]
pub enum Envelope<'a> {
    /// Avro's object container, with the writer's schema inside.
    Container(Container<'a>),
    /// Confluent's framing: a zero byte, a schema id, one datum.
    Framed {
        /// The schema's id in the registry.
        id: u32,
        /// The datum.
        datum: &'a [u8],
    },
    /// Neither: one datum, if its topic has a schema.
    Bare,
}

/// An object container whose header was read.
#[derive(Debug)]
pub struct Container<'a> {
    /// The writer's schema as JSON.
    pub schema: &'a [u8],
    codec: &'a [u8],
    sync: &'a [u8],
    body: usize,
}

/// One block of datums.
#[derive(Clone, Debug)]
pub struct Block {
    /// How many records it says to hold.
    pub count: usize,
    /// The datums, one after another.
    pub data: Bytes,
}

/// The id of a message in Confluent's framing.
#[must_use]
pub fn framed_id(payload: &[u8]) -> Option<u32> {
    match payload {
        [0, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// Tells a message's envelope and reads its header.
///
/// # Errors
/// When it is empty, or a container's header is wrong.
pub fn open(payload: &[u8]) -> Result<Envelope<'_>, Fault> {
    if payload.is_empty() {
        return Err(Fault::new(EMPTY, "the message has no bytes"));
    }
    if payload.starts_with(MAGIC) {
        return container(payload).map(Envelope::Container);
    }
    Ok(match framed_id(payload) {
        Some(id) => Envelope::Framed { id, datum: &payload[5..] },
        None => Envelope::Bare,
    })
}

fn container(payload: &[u8]) -> Result<Container<'_>, Fault> {
    let mut cursor = Cursor::new(payload);
    cursor.take(MAGIC.len(), "the magic")?;
    let (mut schema, mut codec) = (None, &b"null"[..]);
    loop {
        let count = cursor.long("the container's header")?;
        if count == 0 {
            break;
        }
        if count < 0 {
            // A negative count is followed by the size of its entries in bytes.
            cursor.long("the container's header")?;
        }
        // Each entry takes bytes, so a count that lies ends with them.
        for _ in 0..count.unsigned_abs() {
            let key = cursor.bytes("the container's header")?;
            let value = cursor.bytes("the container's header")?;
            match key {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = value,
                _ => {}
            }
        }
    }
    let sync = cursor.take(SYNC_BYTES, "the container's header")?;
    let schema = schema.ok_or_else(|| Fault::new(GARBLED, "the container's header has no schema"))?;
    Ok(Container { schema, codec, sync, body: cursor.position() })
}

impl Container<'_> {
    /// The blocks of the container that `payload` is, inflated; none at all is legal.
    ///
    /// # Errors
    /// When a block is truncated, garbled, not followed by the sync marker, or inflates beyond the maximum.
    pub fn blocks(&self, payload: &Bytes) -> Result<Vec<Block>, Fault> {
        let mut cursor = Cursor::new(payload);
        cursor.take(self.body, "the container's header")?;
        let mut blocks = Vec::new();
        let mut room = INFLATED_BYTES_MAX;
        while cursor.remaining() > 0 {
            let count = cursor.long("a block's count")?;
            let count = usize::try_from(count).map_err(|_| Fault::garbled(format!("a block of {count} records")))?;
            let size = cursor.length("a block")?;
            let start = cursor.position();
            cursor.take(size, "a block")?;
            if cursor.take(SYNC_BYTES, "a block's sync marker")? != self.sync {
                return Err(Fault::garbled("a block is not followed by the sync marker"));
            }
            let data = match self.codec {
                b"null" => payload.slice(start..start + size),
                codec => inflate(codec, &payload[start..start + size], room)?.into(),
            };
            room = room.checked_sub(data.len()).ok_or_else(too_large)?;
            blocks.push(Block { count, data });
        }
        Ok(blocks)
    }
}

fn too_large() -> Fault {
    Fault::new(TOO_LARGE, format!("holds more than {INFLATED_BYTES_MAX} bytes"))
}

fn inflate(codec: &[u8], packed: &[u8], room: usize) -> Result<Vec<u8>, Fault> {
    match codec {
        b"deflate" => read(flate2::bufread::DeflateDecoder::new(packed), room),
        b"zstandard" => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(|e| Fault::garbled(format!("zstandard: {e}")))?;
            // The window is memory that a few bytes can ask for.
            decoder.window_log_max(27).map_err(|e| Fault::garbled(format!("zstandard: {e}")))?;
            read(decoder, room)
        }
        b"snappy" => unsnap(packed, room),
        other => Err(Fault::new(CODEC, format!("the container is compressed with {:?}", String::from_utf8_lossy(other)))),
    }
}

fn read(decoder: impl Read, room: usize) -> Result<Vec<u8>, Fault> {
    let mut data = Vec::new();
    // One byte more than there is room for tells what fits from what does not.
    let mut bounded = decoder.take(room as u64 + 1);
    bounded.read_to_end(&mut data).map_err(|e| Fault::garbled(format!("a block does not inflate: {e}")))?;
    if data.len() > room { Err(too_large()) } else { Ok(data) }
}

/// Snappy's raw format, followed by the big-endian CRC-32 of the data.
fn unsnap(packed: &[u8], room: usize) -> Result<Vec<u8>, Fault> {
    let garbled = |e: snap::Error| Fault::garbled(format!("a block does not inflate: {e}"));
    let Some((packed, crc)) = packed.split_last_chunk::<4>() else { return Err(Fault::truncated("a block's checksum")) };
    if snap::raw::decompress_len(packed).map_err(garbled)? > room {
        return Err(too_large());
    }
    // The raw format can't grow a byte into more than a 64-byte copy of three bytes: a longer promise is a lie.
    let data = snap::raw::Decoder::new().decompress_vec(packed).map_err(garbled)?;
    if crc32fast::hash(&data) == u32::from_be_bytes(*crc) { Ok(data) } else { Err(Fault::garbled("a block's checksum is wrong")) }
}
