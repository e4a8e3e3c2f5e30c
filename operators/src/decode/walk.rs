//! A walk over a datum without decoding it: whether it is what its schema says, and how much memory its columns would
//! take. Slower than decoding, so it is done only where arrow-avro does not decode (raw datums), or where a large message
//! could take far more memory decoded than it has bytes.

use super::avro::{Graph, Id, Node};
use super::fault::{Fault, TOO_DEEP, TOO_LARGE};
use super::wire::Cursor;

/// How deep values may nest; recursive schemas have no bound of their own.
const DEPTH_MAX: u32 = 128;
/// Values that may be visited beyond a number for each byte: types without bytes (null, empty records) can be many.
const STEPS: usize = 1 << 20;

/// Walks the next datum of `cursor`. Returns about how many bytes its columns would take; `widths` gives what an absent
/// value of a type takes.
///
/// # Errors
/// When the bytes contradict the schema, end early, or hold too much.
pub fn walk(graph: &Graph, widths: &[u64], cursor: &mut Cursor<'_>) -> Result<u64, Fault> {
    let steps = STEPS + 8 * cursor.remaining();
    let mut walk = Walk { graph, widths, steps, weight: 0 };
    walk.value(graph.root, cursor, 0)?;
    Ok(walk.weight)
}

struct Walk<'g> {
    graph: &'g Graph,
    widths: &'g [u64],
    steps: usize,
    weight: u64,
}

/// What blocks hold.
#[derive(Clone, Copy, PartialEq)]
enum Entries {
    Items,
    Pairs,
}

impl Walk<'_> {
    fn value(&mut self, id: Id, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(TOO_DEEP, format!("values nest deeper than {DEPTH_MAX}")));
        }
        self.steps = self.steps.checked_sub(1).ok_or_else(|| Fault::new(TOO_LARGE, "holds more values than its bytes can stand for"))?;
        self.weight += 8;
        match self.graph.node(id) {
            Node::Null => {}
            Node::Boolean => drop(cursor.take(1, "a boolean")?),
            Node::Int(_) => drop(cursor.int("an int")?),
            Node::Long(_) => drop(cursor.long("a long")?),
            Node::Float => drop(cursor.take(4, "a float")?),
            Node::Double => drop(cursor.take(8, "a double")?),
            Node::Bytes(_) => self.weight += cursor.bytes("bytes")?.len() as u64,
            Node::String => {
                let text = cursor.bytes("a string")?;
                self.weight += text.len() as u64;
                std::str::from_utf8(text).map_err(|e| Fault::garbled(format!("a string is not UTF-8: {e}")))?;
            }
            Node::Fixed(size, _) => self.weight += cursor.take(*size, "a fixed value")?.len() as u64,
            Node::Enum(symbols) => {
                let index = cursor.int("an enum")?;
                if usize::try_from(index).ok().and_then(|i| symbols.get(i)).is_none() {
                    return Err(Fault::garbled(format!("an enum has the index {index} of {}", symbols.len())));
                }
            }
            Node::Record(fields) => {
                for (_, field) in fields {
                    self.value(*field, cursor, depth + 1)?;
                }
            }
            Node::Union(branches) => {
                let index = cursor.long("a union")?;
                let branch = usize::try_from(index).ok().and_then(|i| branches.get(i));
                let branch = branch.ok_or_else(|| Fault::garbled(format!("a union has the branch {index} of {}", branches.len())))?;
                if *self.graph.node(*branch) == Node::Null {
                    self.weight += branches.iter().map(|b| self.widths.get(*b).copied().unwrap_or(0)).sum::<u64>();
                }
                self.value(*branch, cursor, depth + 1)?;
            }
            Node::Array(items) => self.blocks(Entries::Items, *items, cursor, depth)?,
            Node::Map(values) => self.blocks(Entries::Pairs, *values, cursor, depth)?,
        }
        Ok(())
    }

    fn blocks(&mut self, entries: Entries, values: Id, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), Fault> {
        loop {
            let count = cursor.long("a block's count")?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                cursor.length("a block")?;
            }
            for _ in 0..count.unsigned_abs() {
                if entries == Entries::Pairs {
                    let key = cursor.bytes("a map's key")?;
                    self.weight += key.len() as u64 + 8;
                    std::str::from_utf8(key).map_err(|e| Fault::garbled(format!("a map's key is not UTF-8: {e}")))?;
                }
                self.value(values, cursor, depth + 1)?;
            }
        }
    }
}
