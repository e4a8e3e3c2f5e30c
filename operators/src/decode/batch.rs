//! Datums of one writer's schema into one Arrow batch, and out of it exactly those that fail alone.
//!
//! A bad datum poisons the batch that it is decoded with, at once or only when the batch is finished; a decoder that met
//! one is thrown away. So the datums are kept until the batch is done; after a failure they are decoded again without
//! the one that failed, or in halves where nobody knows which it was, until what fails has failed alone in a fresh
//! decoder. Rejection is thereby a function of bytes, schema and version, and not of a message's neighbours.
//!
//! As arrow-avro does it, decoding takes any number but 0 as true, any branch but the null's as the other one of two, and
//! does not compare a block's size in bytes with its items: what it decodes, another reader might not.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryBuilder, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::error::ArrowError;
use arrow_avro::errors::AvroError;
use arrow_avro::reader::Decoder;
use bytes::Bytes;
use fink_dataflow::alerts::WriterSchema;

use super::envelope::Block;
use super::fault::{Fault, GARBLED, TOO_LARGE};
use super::fit::fit_all;
use super::guard::guarded;
use super::schema::{Columns, Understood, understand};
use super::walk::walk;
use super::wire::Cursor;
use crate::surveys::{Sight, night, sight};

/// Columns of one message beyond which it is walked first, to be sure.
const DECODED_BYTES_SURE: u64 = 256 << 20;
/// Columns of one message beyond which it is rejected.
const DECODED_BYTES_MAX: u64 = 1 << 30;
/// Records that a message may hold if they take no bytes.
const BYTELESS_MAX: usize = 1024;

/// The datums of one message.
#[derive(Debug)]
pub(super) enum Datums {
    /// One, in these bytes.
    One(Bytes),
    /// Those of a container's blocks.
    Blocks(Vec<Block>),
}

impl Datums {
    /// How many there are said to be.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Blocks(blocks) => blocks.iter().map(|b| b.count).fold(0, usize::saturating_add),
        }
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(datum) => datum.len(),
            Self::Blocks(blocks) => blocks.iter().map(|b| b.data.len()).sum(),
        }
    }

    /// Calls `each` with what is left of each block, for each of its datums; it returns the datum's length.
    fn each(&self, mut each: impl FnMut(&Bytes, usize) -> Result<usize, Fault>) -> Result<(), Fault> {
        let mut block = |count: usize, data: &Bytes| {
            let mut at = 0;
            for _ in 0..count {
                at += each(data, at)?;
            }
            if at == data.len() { Ok(()) } else { Err(Fault::garbled(format!("{} bytes are left over", data.len() - at))) }
        };
        match self {
            Self::One(datum) => block(1, datum),
            Self::Blocks(blocks) => blocks.iter().try_for_each(|b| block(b.count, &b.data)),
        }
    }
}

/// What became of some messages: batches of consecutive ones, and those that fail.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) good: Vec<(Range<usize>, RecordBatch)>,
    pub(super) bad: Vec<(usize, Fault)>,
}

/// The decoder of one writer's schema.
pub(super) struct Writer {
    understood: Understood,
    sight: Option<Sight>,
    decoder: Option<Decoder>,
}

/// A failure, and whose it was, if that is known.
struct Failure {
    at: Option<usize>,
    fault: Fault,
}

impl Writer {
    pub(super) fn new(json: &str) -> Result<Self, Fault> {
        let understood = understand(json)?;
        let sight = understood.columns.as_ref().and_then(|_| sight(&understood.schema.name, &understood.schema.columns));
        Ok(Self { understood, sight, decoder: None })
    }

    pub(super) fn schema(&self) -> &Arc<WriterSchema> {
        &self.understood.schema
    }

    /// Whether a message may hold so many datums in so many bytes.
    pub(super) fn plausible(&self, datums: &Datums) -> Result<(), Fault> {
        let least = self.understood.columns.as_ref().map_or(0, |c| c.bytes_min);
        let block = |count: usize, bytes: usize| {
            let most = if least == 0 { BYTELESS_MAX.max(bytes) } else { bytes / least };
            let sane = count <= most && (count > 0 || bytes == 0);
            if sane { Ok(()) } else { Err(Fault::garbled(format!("{count} records in {bytes} bytes"))) }
        };
        match datums {
            // One that is too short fails as what it is.
            Datums::One(_) => Ok(()),
            Datums::Blocks(blocks) => blocks.iter().try_for_each(|b| block(b.count, b.data.len())),
        }
    }

    /// Decodes some messages.
    pub(super) fn decode(&mut self, messages: &[Datums]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut waiting = vec![0..messages.len()];
        while let Some(range) = waiting.pop().filter(|r| !r.is_empty()) {
            let fresh = self.decoder.is_none();
            let Failure { at, fault } = match self.attempt(&messages[range.clone()]) {
                Ok(batch) => {
                    outcome.good.push((range, batch));
                    continue;
                }
                Err(failure) => failure,
            };
            self.decoder = None;
            let Range { start, end } = range;
            match at {
                _ if end - start == 1 && fresh => outcome.bad.push((start, self.explain(&messages[start], fault))),
                _ if end - start == 1 => waiting.push(start..end),
                // Whose fault it was is tried alone; empty ranges are left out, since they would end the loop.
                Some(at) => waiting
                    .extend([start + at + 1..end, start + at..start + at + 1, start..start + at].into_iter().filter(|r| !r.is_empty())),
                None => waiting.extend([start + (end - start) / 2..end, start..start + (end - start) / 2]),
            }
        }
        outcome
    }

    /// Decodes messages as one batch.
    fn attempt(&mut self, messages: &[Datums]) -> Result<RecordBatch, Failure> {
        let Self { understood, decoder, .. } = self;
        let at = Cell::new(None);
        let result = guarded(|| match &understood.columns {
            Some(columns) => columns_of(understood, columns, decoder, messages, &at),
            None => raw_of(understood, messages, &at),
        });
        result.map_err(|fault| Failure { at: at.get(), fault })
    }

    /// A fault in better words, if a walk finds it too: arrow-avro does not always say what ended where.
    fn explain(&self, datums: &Datums, fault: Fault) -> Fault {
        let walked = datums.each(|data, from| {
            let mut cursor = Cursor::new(&data[from..]);
            walk(&self.understood.graph, &[], &mut cursor)?;
            Ok(cursor.position())
        });
        if fault.word == GARBLED { walked.err().unwrap_or(fault) } else { fault }
    }

    /// The observing night of each row, and the latest time of observation, in milliseconds since 1970 UTC.
    pub(super) fn times(&self, rows: &RecordBatch) -> (Vec<Option<i32>>, Option<i64>) {
        let Some(sight) = &self.sight else { return (vec![None; rows.num_rows()], None) };
        let mut column = rows.column(sight.path[0]);
        let mut outer = Vec::new();
        for index in &sight.path[1..] {
            outer.extend(column.nulls().cloned());
            column = column.as_struct().column(*index);
        }
        let times = column.as_primitive::<Float64Type>();
        let mut latest = None::<i64>;
        let night_of = |row: usize| {
            let there = times.is_valid(row) && outer.iter().all(|nulls| nulls.is_valid(row));
            let unix_s = there.then(|| sight.scale.unix_s(times.value(row)))?;
            let night = night(unix_s, sight.survey.longitude_deg)?;
            latest = latest.max(Some((unix_s * 1e3) as i64));
            Some(night)
        };
        let nights = (0..rows.num_rows()).map(night_of).collect();
        (nights, latest)
    }
}

fn columns_of(
    understood: &Understood,
    columns: &Columns,
    decoder: &mut Option<Decoder>,
    messages: &[Datums],
    at: &Cell<Option<usize>>,
) -> Result<RecordBatch, Fault> {
    let decoder = match decoder {
        Some(decoder) => decoder,
        none => none.insert(columns.decoder().map_err(|e| Fault::garbled(e.to_string()))?),
    };
    let mut rows = 0;
    for (index, datums) in messages.iter().enumerate() {
        at.set(Some(index));
        weigh(understood, columns, datums)?;
        datums.each(|data, from| decoder.decode(&data[from..]).map_err(|e| fault_of(&e)))?;
        rows += datums.count();
    }
    at.set(None);
    let batch = decoder.flush().map_err(|e| fault_of(&e))?;
    let batch = batch.filter(|b| b.num_rows() == rows).ok_or_else(|| Fault::garbled("not as many rows as records"))?;
    let schema = &understood.schema.columns;
    let fitted = fit_all(&columns.fits, schema.fields(), batch.columns(), rows);
    let fitted = fitted.and_then(|fitted| RecordBatch::try_new(Arc::clone(schema), fitted));
    fitted.map_err(|e: ArrowError| Fault::garbled(e.to_string()))
}

/// Refuses a message whose columns would take too much memory; an honest one is not even looked at.
fn weigh(understood: &Understood, columns: &Columns, datums: &Datums) -> Result<(), Fault> {
    let width = columns.widths[understood.graph.root];
    let most = (datums.count() as u64).saturating_mul(width).saturating_add((datums.bytes() as u64).saturating_mul(columns.swell));
    if most <= DECODED_BYTES_SURE {
        return Ok(());
    }
    let mut weight = 0;
    datums.each(|data, from| {
        let mut cursor = Cursor::new(&data[from..]);
        weight += walk(&understood.graph, &columns.widths, &mut cursor)?;
        if weight > DECODED_BYTES_MAX {
            return Err(Fault::new(TOO_LARGE, format!("would take more than {DECODED_BYTES_MAX} bytes of columns")));
        }
        Ok(cursor.position())
    })
}

fn raw_of(understood: &Understood, messages: &[Datums], at: &Cell<Option<usize>>) -> Result<RecordBatch, Fault> {
    let mut column = BinaryBuilder::new();
    for (index, datums) in messages.iter().enumerate() {
        at.set(Some(index));
        datums.each(|data, from| {
            let mut cursor = Cursor::new(&data[from..]);
            walk(&understood.graph, &[], &mut cursor)?;
            column.append_value(&data[from..from + cursor.position()]);
            Ok(cursor.position())
        })?;
    }
    at.set(None);
    let columns = Arc::clone(&understood.schema.columns);
    RecordBatch::try_new(columns, vec![Arc::new(column.finish())]).map_err(|e| Fault::garbled(e.to_string()))
}

fn fault_of(error: &AvroError) -> Fault {
    match error {
        AvroError::EOF(_) | AvroError::NeedMoreData(_) => Fault::truncated("a record"),
        other => Fault::garbled(other.to_string()),
    }
}
