//! Alerts made up for tests.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use bytes::Bytes;
use fink_dataflow::alerts::{AlertBatch, Decoded, Form, Passed, Place, Reject, Tally, WriterSchema};
use fink_dataflow::message::{Log, Message};
use fink_dataflow::table::entry::{DataFile, FORMAT_PLAIN, State, TableState};
use fink_dataflow::table::store::{Archive, wait};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::routes::Routes;

pub(super) fn structure(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect())
}

pub(super) fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", of, true)))
}

/// A schema, whose fingerprint is made of its columns.
pub(super) fn schema(name: &str, fields: &[(&str, DataType)]) -> Arc<WriterSchema> {
    let columns = Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Fields>()));
    let hash = xxhash_rust::xxh3::xxh3_128(format!("{name} {columns:?}").as_bytes());
    let fingerprint = format!("{hash:032x}").into();
    Arc::new(WriterSchema { fingerprint, json: "{}".into(), name: name.to_owned(), columns, form: Form::Columns })
}

/// Like ZTF's: an id, a struct, a list of structs and a cutout; with one more field in each, if asked.
pub(super) fn ztf(more: bool) -> Arc<WriterSchema> {
    let mut candidate = vec![("jd", DataType::Float64), ("fid", DataType::Int32)];
    let mut previous = vec![("jd", DataType::Float64)];
    let mut fields = vec![("objectId", DataType::Utf8), ("candid", DataType::Int64)];
    if more {
        candidate.insert(1, ("magpsf", DataType::Float64));
        previous.push(("fid", DataType::Int32));
        fields.insert(1, ("publisher", DataType::Utf8));
    }
    fields.push(("candidate", structure(&candidate)));
    fields.push(("prv_candidates", list(structure(&previous))));
    fields.push(("cutout", structure(&[("stampData", DataType::Binary)])));
    schema("ztf.alert", &fields)
}

fn column(kind: &DataType, ids: &[i64], cutout: usize) -> ArrayRef {
    match kind {
        DataType::Utf8 => Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("ZTF{id:08}")))),
        DataType::Int64 => Arc::new(Int64Array::from_iter_values(ids.iter().copied())),
        DataType::Int32 => Arc::new(Int32Array::from_iter(ids.iter().map(|id| (id % 5 != 0).then_some((id % 3) as i32)))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(ids.iter().map(|id| (id % 7 != 0).then_some(*id as f64 + 0.5)))),
        DataType::Binary => Arc::new(BinaryArray::from_iter_values(ids.iter().map(|id| vec![(id % 251) as u8; cutout]))),
        DataType::Struct(fields) => {
            let arrays = fields.iter().map(|field| column(field.data_type(), ids, cutout)).collect();
            Arc::new(StructArray::new(fields.clone(), arrays, None))
        }
        DataType::List(element) => {
            let inner: Vec<i64> = ids.iter().flat_map(|id| (0..id % 4).map(move |n| id * 10 + n)).collect();
            let offsets = OffsetBuffer::from_lengths(ids.iter().map(|id| (id % 4) as usize));
            let values = column(element.data_type(), &inner, cutout);
            Arc::new(ListArray::new(Arc::clone(element), offsets, values, None))
        }
        other => new_null_array(other, ids.len()),
    }
}

pub(super) fn log() -> Arc<Log> {
    Arc::new(Log::new("kafka:test", "ztf.night-1", 0, 3))
}

/// Rows for these offsets; the night of each is told by `night`.
pub(super) fn batch(schema: &Arc<WriterSchema>, offsets: &[i64], cutout: usize, night: impl Fn(i64) -> Option<i32>) -> AlertBatch {
    let columns = schema.columns.fields().iter().map(|field| column(field.data_type(), offsets, cutout)).collect();
    let rows = RecordBatch::try_new(Arc::clone(&schema.columns), columns).expect("made to fit");
    let log = log();
    let place = |offset: &i64| Place {
        log: Arc::clone(&log),
        offset: *offset,
        record: 0,
        timestamp_ms: Some(1_780_000_000_000 + offset),
        received_us: 1_780_000_000_000_999,
    };
    AlertBatch {
        schema: Arc::clone(schema),
        rows,
        places: offsets.iter().map(place).collect(),
        nights: offsets.iter().map(|offset| night(*offset)).collect(),
        observed_ms: None,
    }
}

pub(super) fn reject(offset: i64) -> Reject {
    let message = Message { offset, timestamp_ms: Some(1_780_000_000_000), key: None, payload: Some(Bytes::from_static(b"Obj?")) };
    Reject { log: log(), message, received_us: 1, fault: "garbled", reason: "not what it says".to_owned() }
}

/// A batch with its span, as decoding gives it.
pub(super) fn decoded(alerts: Vec<AlertBatch>, rejects: Vec<Reject>) -> Decoded {
    let offsets =
        || alerts.iter().flat_map(|batch| batch.places.iter().map(|place| place.offset)).chain(rejects.iter().map(|r| r.message.offset));
    let span = offsets().min().unwrap_or(0)..offsets().max().map_or(1, |last| last + 1);
    let (archived, rejected) = (offsets().count() as u64 - rejects.len() as u64, rejects.len() as u64);
    let tally = Tally { messages: archived + rejected, archived, rejected, rows: archived, ..Tally::default() };
    Decoded { passed: vec![Passed { log: log(), span, tally, mark: None }], alerts, rejects, claims: Vec::new() }
}

/// All rows of a stored file.
pub(super) fn read(archive: &Archive, table: &str, file: &DataFile) -> Vec<RecordBatch> {
    let (store, path) = (Arc::clone(archive.store()), archive.path(&format!("{table}/{}", file.path)));
    let bytes = wait(async move { store.get(&path).await.expect("it is stored").bytes().await.expect("it is read") });
    assert_eq!(bytes.len() as u64, file.size);
    let rows: Vec<RecordBatch> = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .expect("parquet")
        .build()
        .expect("parquet")
        .map(|batch| batch.expect("rows"))
        .collect();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, file.rows);
    rows
}

/// The offsets in a stored file, in order.
pub(super) fn offsets(archive: &Archive, table: &str, file: &DataFile) -> Vec<i64> {
    let column = |batch: &RecordBatch| -> Vec<i64> {
        let array = batch.column_by_name("offset").expect("ours").as_any().downcast_ref::<Int64Array>().expect("a long").clone();
        array.values().to_vec()
    };
    read(archive, table, file).iter().flat_map(column).collect()
}

/// The state after an entry that touched these tables took what was pending.
pub(super) fn commit(routes: &Routes, state: &mut State, tables: &[&str]) {
    let touched: Vec<Arc<str>> = tables.iter().map(|table| Arc::from(*table)).collect();
    let pending = routes.pending(state, &touched);
    assert_eq!(state.format, FORMAT_PLAIN);
    state.routes.extend(pending.routes.into_iter().map(|route| (Arc::clone(&route.fingerprint), route)));
    for (table, (schema, partition_columns)) in pending.schemas {
        state.tables.insert(table, TableState { last: 0, schema, partition_columns, rows: 0 });
    }
}
