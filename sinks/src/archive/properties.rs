//! How each column is written in Parquet, and what a file's statistics are.
//!
//! Cutouts are gzip already and nearly all of the bytes: they are copied, neither compressed nor counted. Floats are split
//! by byte. Statistics are kept for the few columns that people filter on.
//!
//! A row group has a cost for each of its columns, however few its rows. A file of few rows, which a compaction will
//! rewrite soon, is therefore written plainly ([`Grain::Fine`]).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, ConvertedType, Encoding, LogicalType, TimeUnit, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterPropertiesPtr};
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescriptor, ColumnPath, SchemaDescriptor};
use serde_json::{Map, Value};

/// Rows of a row group, at most.
pub const GROUP_ROWS_MAX: usize = 4096;
/// Bytes of a row group, at most.
pub const GROUP_BYTES_MAX: usize = 128 << 20;
/// Rows from which a file is worth the good form.
pub const COARSE_ROWS: usize = 256;

/// Columns that people filter on, wherever they stand outside of lists; in lower case.
const FILTERED: [&str; 34] = [
    "alertid",
    "band",
    "candid",
    "dec",
    "decl",
    "detector",
    "diaobjectid",
    "diasourceid",
    "drb",
    "epoch",
    "fid",
    "field",
    "filtername",
    "incarnation",
    "incarnation_fink",
    "jd",
    "magpsf",
    "midpointmjdtai",
    "midpointtai",
    "objectid",
    "observation_reason",
    "offset",
    "offset_fink",
    "partition",
    "partition_fink",
    "kafka_timestamp",
    "kafka_timestamp_fink",
    "psfflux",
    "ra",
    "rb",
    "ssobjectid",
    "tick",
    "topic",
    "visit",
];

/// How much effort a file is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Grain {
    /// Few rows, soon to be compacted: plain pages.
    Fine,
    /// Many rows, to stay: small on disk.
    Coarse,
}

/// How files with one set of columns are written.
#[derive(Debug)]
pub struct Layout {
    columns: SchemaRef,
    parquet: SchemaDescriptor,
    fine: WriterPropertiesPtr,
    coarse: WriterPropertiesPtr,
    /// Leaf columns with statistics, by index.
    filtered: Vec<usize>,
}

impl Layout {
    /// The layout for these columns.
    ///
    /// # Errors
    /// When Parquet has no such type.
    pub fn new(columns: &SchemaRef) -> Result<Self, ParquetError> {
        // Names of list elements as the Parquet standard has them.
        let parquet = ArrowSchemaConverter::new().with_coerce_types(true).convert(columns)?;
        let leaves = parquet.columns();
        let filtered = (0..leaves.len()).filter(|leaf| is_filtered(&leaves[*leaf])).collect();
        let fine = Arc::new(properties(&parquet, Grain::Fine));
        let coarse = Arc::new(properties(&parquet, Grain::Coarse));
        Ok(Self { columns: Arc::clone(columns), fine, coarse, parquet, filtered })
    }

    /// The same, with a Bloom filter for a column in each row group of files that stay: whether a value may be there.
    #[must_use]
    pub fn with_bloom(self, column: &str) -> Self {
        let path = ColumnPath::from(column.to_owned());
        let coarse = (*self.coarse).clone().into_builder().set_column_bloom_filter_enabled(path.clone(), true);
        let coarse = Arc::new(coarse.set_column_bloom_filter_max_ndv(path, GROUP_ROWS_MAX as u64).build());
        Self { coarse, ..self }
    }

    /// The columns in Arrow's types.
    #[must_use]
    pub fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    /// The columns in Parquet's types.
    #[must_use]
    pub fn parquet(&self) -> &SchemaDescriptor {
        &self.parquet
    }

    /// The writer's properties.
    #[must_use]
    pub fn properties(&self, grain: Grain) -> WriterPropertiesPtr {
        Arc::clone(match grain {
            Grain::Fine => &self.fine,
            Grain::Coarse => &self.coarse,
        })
    }

    /// Delta's statistics of a file, as JSON.
    #[must_use]
    pub fn stats(&self, file: &ParquetMetaData) -> String {
        let rows = file.file_metadata().num_rows();
        let mut parts = [Map::new(), Map::new(), Map::new()];
        for leaf in &self.filtered {
            let descriptor = &self.parquet.columns()[*leaf];
            let groups = file.row_groups().iter().map(|group| Some((group.column(*leaf).statistics()?, group.num_rows().unsigned_abs())));
            let Some(stats) = groups.collect::<Option<Vec<_>>>() else { continue };
            let nulls: Option<u64> = stats.iter().map(|(group, _)| group.null_count_opt()).sum();
            let bounds = bounds(&stats, descriptor);
            let found = [bounds.as_ref().map(|b| b.0.clone()), bounds.map(|b| b.1), nulls.map(Value::from)];
            for (part, value) in parts.iter_mut().zip(found) {
                if let Some(value) = value {
                    put(part, descriptor.path().parts(), value);
                }
            }
        }
        let mut all = Map::new();
        all.insert("numRecords".into(), rows.into());
        for (name, part) in ["minValues", "maxValues", "nullCount"].into_iter().zip(parts) {
            all.insert(name.into(), Value::Object(part));
        }
        Value::Object(all).to_string()
    }
}

fn is_filtered(leaf: &ColumnDescriptor) -> bool {
    let parts = leaf.path().parts();
    let plain = leaf.max_rep_level() == 0 && parts.len() <= 2;
    plain && parts.last().is_some_and(|name| FILTERED.contains(&name.to_lowercase().as_str()))
}

fn properties(schema: &SchemaDescriptor, grain: Grain) -> WriterProperties {
    let base = WriterProperties::builder()
        .set_created_by(concat!("fink ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_statistics_enabled(EnabledStatistics::None)
        .set_coerce_types(true)
        .set_max_row_group_row_count(None)
        .set_offset_index_disabled(grain == Grain::Fine);
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd"));
    let base = match grain {
        Grain::Fine => base.set_compression(Compression::UNCOMPRESSED).set_dictionary_enabled(false),
        Grain::Coarse => base.set_compression(zstd),
    };
    schema.columns().iter().fold(base, |base, leaf| column(base, leaf, grain)).build()
}

fn column(base: WriterPropertiesBuilder, leaf: &ColumnDescriptor, grain: Grain) -> WriterPropertiesBuilder {
    let path = leaf.path().clone();
    let base = match (is_filtered(leaf), grain) {
        (true, Grain::Fine) => base.set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk),
        (true, Grain::Coarse) => base.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page),
        (false, _) => base,
    };
    let opaque = leaf.physical_type() == Type::BYTE_ARRAY && !is_text(leaf);
    match (leaf.physical_type(), grain) {
        (_, Grain::Fine) => base,
        (Type::BYTE_ARRAY, _) if opaque => {
            base.set_column_dictionary_enabled(path.clone(), false).set_column_compression(path, Compression::UNCOMPRESSED)
        }
        (Type::FLOAT | Type::DOUBLE, _) => {
            base.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT)
        }
        _ => base,
    }
}

fn is_text(leaf: &ColumnDescriptor) -> bool {
    matches!(leaf.logical_type_ref(), Some(LogicalType::String)) || leaf.converted_type() == ConvertedType::UTF8
}

fn put(into: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            into.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = into.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// The least and the greatest value over the row groups; `None` where one can't be said.
fn bounds(groups: &[(&Statistics, u64)], leaf: &ColumnDescriptor) -> Option<(Value, Value)> {
    macro_rules! over {
        ($kind:path, $value:expr) => {{
            let (mut least, mut greatest) = (None, None);
            for (group, rows) in groups {
                let $kind(stats) = group else { return None };
                // Without bounds are a group of nulls only, and one of NaNs.
                let (Some(low), Some(high)) = (stats.min_opt(), stats.max_opt()) else {
                    if stats.null_count_opt()? < *rows {
                        return None;
                    }
                    continue;
                };
                if least.is_none_or(|least| low < least) {
                    least = Some(low)
                }
                if greatest.is_none_or(|greatest| high > greatest) {
                    greatest = Some(high)
                }
            }
            let value = $value;
            Some((value(least?, false)?, value(greatest?, true)?))
        }};
    }
    match groups.first()?.0 {
        Statistics::Boolean(_) => over!(Statistics::Boolean, |v: &bool, _| Some(Value::from(*v))),
        Statistics::Int32(_) if matches!(leaf.logical_type_ref(), None | Some(LogicalType::Integer { .. })) => {
            over!(Statistics::Int32, |v: &i32, _| Some(Value::from(*v)))
        }
        Statistics::Int64(_) => {
            let kind = leaf.logical_type_ref();
            over!(Statistics::Int64, |v: &i64, up| integer(*v, kind, up))
        }
        Statistics::Float(_) => over!(Statistics::Float, |v: &f32, _| finite(f64::from(*v))),
        Statistics::Double(_) => over!(Statistics::Double, |v: &f64, _| finite(*v)),
        Statistics::ByteArray(_) if is_text(leaf) => {
            over!(Statistics::ByteArray, |v: &parquet::data_type::ByteArray, _| v.as_utf8().ok().map(Value::from))
        }
        _ => None,
    }
}

/// JSON has no infinity; without a bound nothing is skipped.
fn finite(value: f64) -> Option<Value> {
    value.is_finite().then(|| value.into())
}

/// A whole number, or a timestamp in milliseconds, which is what Delta keeps: rounded down, or up.
fn integer(value: i64, kind: Option<&LogicalType>, up: bool) -> Option<Value> {
    match kind {
        None | Some(LogicalType::Integer { .. }) => Some(value.into()),
        Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::MICROS => {
            let ms = if up { value.checked_add(999)?.div_euclid(1000) } else { value.div_euclid(1000) };
            let time = chrono::DateTime::from_timestamp_millis(ms)?;
            Some(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into())
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray};
    use arrow::datatypes::Field;

    use super::super::encode::Encoder;
    use super::*;

    fn batch(candid: Vec<Option<i64>>, ra: Vec<Option<f64>>) -> RecordBatch {
        let rows = candid.len();
        let ra: ArrayRef = Arc::new(Float64Array::from(ra));
        let other: ArrayRef = Arc::new(Float64Array::from(vec![1.0; rows]));
        let fields = vec![Field::new("ra", ra.data_type().clone(), true), Field::new("other", ra.data_type().clone(), true)];
        let times = TimestampMicrosecondArray::from_iter_values((0..rows).map(|n| 1_780_000_000_000_001 + n as i64)).with_timezone("UTC");
        let columns: [(&str, ArrayRef); 4] = [
            ("candid", Arc::new(Int64Array::from(candid))),
            ("objectId", Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("é{}", "x".repeat(n * 100)))))),
            ("candidate", Arc::new(StructArray::new(fields.into(), vec![ra, other], None))),
            ("kafka_timestamp", Arc::new(times)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).expect("made to fit")
    }

    #[test]
    fn statistics_bound_all_row_groups_and_leave_out_what_json_cannot_say() {
        let first = batch(vec![Some(7), None], vec![Some(f64::NAN), Some(3.0)]);
        let second = batch(vec![None, None], vec![Some(-1.0), None]);
        for grain in [Grain::Fine, Grain::Coarse] {
            let layout = Layout::new(&first.schema()).expect("parquet has these");
            let mut encoder = Encoder::new(&layout, grain).expect("a file");
            encoder.write(&first).expect("it fits");
            encoder.flush().expect("a row group");
            encoder.write(&second).expect("it fits");
            let stats: Value = serde_json::from_str(&layout.stats(&encoder.finish().expect("a file").1)).expect("json");
            assert_eq!(stats["numRecords"], 4);
            assert_eq!((&stats["minValues"]["candid"], &stats["maxValues"]["candid"]), (&7.into(), &7.into()));
            assert_eq!((&stats["nullCount"]["candid"], &stats["nullCount"]["candidate"]["ra"]), (&3.into(), &1.into()));
            assert_eq!((&stats["minValues"]["candidate"]["ra"], &stats["maxValues"]["candidate"]["ra"]), (&(-1.0).into(), &3.0.into()));
            assert!(stats["minValues"]["candidate"].get("other").is_none(), "nobody filters on it");
            assert_eq!(stats["minValues"]["kafka_timestamp"], "2026-05-28T20:26:40.000Z");
            assert_eq!(stats["maxValues"]["kafka_timestamp"], "2026-05-28T20:26:40.001Z");
            let longest = stats["maxValues"]["objectId"].as_str().expect("a text");
            assert!(longest.len() <= 64 && longest > format!("é{}", "x".repeat(100)).as_str(), "cut short, and rounded up: {longest}");
        }
        for unsayable in [f64::INFINITY, f64::NAN] {
            let batch = batch(vec![Some(1)], vec![Some(unsayable)]);
            let layout = Layout::new(&batch.schema()).expect("parquet has these");
            let mut encoder = Encoder::new(&layout, Grain::Fine).expect("a file");
            encoder.write(&batch).expect("it fits");
            let stats: Value = serde_json::from_str(&layout.stats(&encoder.finish().expect("a file").1)).expect("json");
            assert!(stats["maxValues"].get("candidate").is_none(), "{stats}");
        }
    }
}
