//! Tables in FITS: the first binary table of a file (FITS Standard 4.0, section 7.3).

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

use super::{CatalogueError, missing};

/// Files come in blocks of this size.
const BLOCK: usize = 2880;
/// Headers come in lines of this size.
const CARD: usize = 80;

/// The columns of these names: one number or text a row; of columns that hold several numbers a row, the first.
///
/// # Errors
/// When the file is no FITS, holds no binary table, or lacks a column.
pub fn table(file: &[u8], wanted: &[&str]) -> Result<RecordBatch, CatalogueError> {
    let mut rest = file;
    loop {
        let (header, data) = header(rest)?;
        let bytes = header.data_bytes();
        if header.text("XTENSION").is_some_and(|kind| kind.trim() == "BINTABLE") {
            return binary(&header, data, wanted);
        }
        let padded = bytes.div_ceil(BLOCK) * BLOCK;
        rest = data.get(padded..).filter(|rest| !rest.is_empty()).ok_or_else(|| wrong("it holds no binary table"))?;
    }
}

fn wrong(reason: impl ToString) -> CatalogueError {
    CatalogueError::format("FITS file", reason)
}

/// A header's lines: keyword and value.
struct Header(Vec<(String, String)>);

impl Header {
    fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A value in quotes.
    fn text(&self, key: &str) -> Option<String> {
        let value = self.value(key)?.trim_start().strip_prefix('\'')?;
        // A quote within is written twice.
        let mut text = String::new();
        let mut letters = value.chars().peekable();
        while let Some(letter) = letters.next() {
            if letter == '\'' && letters.next_if_eq(&'\'').is_none() {
                break;
            }
            text.push(letter);
        }
        Some(text.trim_end().to_owned())
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.value(key)?.split('/').next()?.trim().parse().ok()
    }

    fn real(&self, key: &str) -> Option<f64> {
        self.value(key)?.split('/').next()?.trim().replace('D', "E").parse().ok()
    }

    /// Bytes of the data behind it, as its axes say.
    fn data_bytes(&self) -> usize {
        let axes = self.number("NAXIS").unwrap_or(0);
        if axes == 0 {
            return 0;
        }
        let points = (1..=axes).map(|axis| self.number(&format!("NAXIS{axis}")).unwrap_or(0)).fold(1, usize::saturating_mul);
        let bits: i64 = self.value("BITPIX").and_then(|v| v.split('/').next()?.trim().parse().ok()).unwrap_or(8);
        let width = usize::try_from(bits.unsigned_abs() / 8).unwrap_or(1);
        points.saturating_add(self.number("PCOUNT").unwrap_or(0)).saturating_mul(width)
    }
}

fn header(file: &[u8]) -> Result<(Header, &[u8]), CatalogueError> {
    let mut cards = Vec::new();
    for (index, card) in file.chunks_exact(CARD).enumerate() {
        let card: String = card.iter().map(|byte| char::from(*byte)).collect();
        if index == 0 && !card.starts_with("SIMPLE  =") && !card.starts_with("XTENSION=") {
            break;
        }
        let key = card[..8.min(card.len())].trim().to_owned();
        if key == "END" {
            let end = ((index + 1) * CARD).div_ceil(BLOCK) * BLOCK;
            return Ok((Header(cards), file.get(end..).unwrap_or(&[])));
        }
        if let Some(value) = card.get(8..).and_then(|rest| rest.strip_prefix("= ")) {
            cards.push((key, value.to_owned()));
        }
    }
    Err(wrong("its header does not end"))
}

/// A column of a binary table.
struct Column {
    name: String,
    offset: usize,
    count: usize,
    letter: u8,
    scale: f64,
    zero: f64,
    null: Option<i64>,
}

fn columns(header: &Header) -> Result<Vec<Column>, CatalogueError> {
    let mut offset = 0;
    let fields = header.number("TFIELDS").ok_or_else(|| wrong("it does not say how many columns there are"))?;
    (1..=fields)
        .map(|n| {
            let form = header.text(&format!("TFORM{n}")).ok_or_else(|| wrong(format!("column {n} has no form")))?;
            let digits = form.bytes().take_while(u8::is_ascii_digit).count();
            let count = if digits == 0 { 1 } else { form[..digits].parse().map_err(wrong)? };
            let letter = *form.as_bytes().get(digits).ok_or_else(|| wrong(format!("column {n} has no form")))?;
            let bytes = if letter == b'X' { usize::div_ceil(count, 8) } else { width(letter).saturating_mul(count) };
            let key = |key: &str| format!("{key}{n}");
            let column = Column {
                name: header.text(&key("TTYPE")).unwrap_or_default(),
                offset,
                count,
                letter,
                scale: header.real(&key("TSCAL")).unwrap_or(1.0),
                zero: header.real(&key("TZERO")).unwrap_or(0.0),
                null: header.value(&key("TNULL")).and_then(|v| v.split('/').next()?.trim().parse().ok()),
            };
            offset += bytes;
            Ok(column)
        })
        .collect()
}

/// Bytes of one element.
fn width(letter: u8) -> usize {
    match letter {
        b'L' | b'A' | b'B' => 1,
        b'I' => 2,
        b'J' | b'E' => 4,
        b'K' | b'D' | b'C' | b'P' => 8,
        b'M' | b'Q' => 16,
        _ => 0,
    }
}

fn binary(header: &Header, data: &[u8], wanted: &[&str]) -> Result<RecordBatch, CatalogueError> {
    let (length, rows) = (header.number("NAXIS1").unwrap_or(0), header.number("NAXIS2").unwrap_or(0));
    let columns = columns(header)?;
    let table = length.checked_mul(rows).and_then(|bytes| data.get(..bytes)).ok_or_else(|| wrong("its table is cut off"))?;
    let mut found: Vec<(&str, ArrayRef)> = Vec::new();
    for name in wanted {
        if found.iter().any(|(known, _)| known == name) {
            continue;
        }
        let column = columns.iter().find(|c| c.name == *name);
        let column = column.ok_or_else(|| missing(name, columns.iter().map(|c| c.name.as_str())))?;
        if column.offset + width(column.letter) * column.count > length {
            return Err(wrong(format!("column '{name}' ends beyond its row")));
        }
        let cells = (0..rows).map(|row| &table[row * length + column.offset..]);
        found.push((name, values(column, cells)?));
    }
    RecordBatch::try_from_iter_with_nullable(found.into_iter().map(|(name, column)| (name, column, true))).map_err(wrong)
}

fn values<'d>(column: &Column, cells: impl Iterator<Item = &'d [u8]>) -> Result<ArrayRef, CatalogueError> {
    fn first<const N: usize>(cell: &[u8]) -> [u8; N] {
        *cell.first_chunk().expect("columns end within their row")
    }
    let scaled = |value: f64| value * column.scale + column.zero;
    let plain = column.scale == 1.0 && column.zero == 0.0;
    let integer = |cell: &[u8]| match column.letter {
        b'B' => i64::from(cell[0]),
        b'I' => i64::from(i16::from_be_bytes(first(cell))),
        b'J' => i64::from(i32::from_be_bytes(first(cell))),
        _ => i64::from_be_bytes(first(cell)),
    };
    let integer = |cell: &[u8]| Some(integer(cell)).filter(|value| column.null != Some(*value));
    Ok(match column.letter {
        _ if column.count == 0 => Arc::new(StringArray::from_iter(cells.map(|_| None::<&str>))),
        b'A' => Arc::new(StringArray::from_iter(cells.map(|cell| {
            let text: String = cell[..column.count].iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect();
            Some(text.trim_end().to_owned())
        }))),
        b'D' => Arc::new(Float64Array::from_iter(cells.map(|cell| Some(scaled(f64::from_be_bytes(first(cell))))))),
        b'E' => Arc::new(Float64Array::from_iter(cells.map(|cell| Some(scaled(f64::from(f32::from_be_bytes(first(cell)))))))),
        b'B' | b'I' | b'J' | b'K' if plain => Arc::new(Int64Array::from_iter(cells.map(integer))),
        #[expect(clippy::cast_precision_loss, reason = "a scaled number is a real one")]
        b'B' | b'I' | b'J' | b'K' => Arc::new(Float64Array::from_iter(cells.map(|cell| integer(cell).map(|v| scaled(v as f64))))),
        other => return Err(wrong(format!("column '{}' has the form '{}'", column.name, char::from(other)))),
    })
}
