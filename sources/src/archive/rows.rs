//! A table's files as alert batches: whose the columns are, and where each row comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use chrono::{Datelike, NaiveDate};
use fink_dataflow::alerts::{AlertBatch, Form, Place, WriterSchema};
use fink_dataflow::table::entry::{DataFile, Route};
use fink_dataflow::table::light;
use fink_dataflow::table::store::wait;
use fink_dataflow::table::{Ledger, marks};
use fink_dataflow::{Intervals, Log};

use super::select::{Selection, Wanted, holds_bytes};

/// Our columns that a row's place is made of.
const OWN: [&str; 9] = ["source", "topic", "incarnation", "partition", "offset", "record", "kafka_timestamp", "ingest_time", "schema_id"];
/// Our columns that a night is made of; files do not hold them.
const NIGHT: [&str; 3] = ["year", "month", "day"];

/// How a table's rows are laid out.
pub(super) struct Layout {
    pub(super) table: Arc<str>,
    own: [String; 9],
    night: [String; 3],
}

impl Layout {
    /// Of a table's schema as Delta's JSON; `None` where our columns are not marked in it.
    pub(super) fn of(table: &Arc<str>, schema: &str) -> Option<Self> {
        let schema: serde_json::Value = serde_json::from_str(schema).ok()?;
        let (mut own, mut night) = (<[String; 9]>::default(), <[String; 3]>::default());
        for (ours, name) in OWN.iter().chain(&NIGHT).zip(own.iter_mut().chain(&mut night)) {
            *name = marks::marked(&schema, ours)?.to_owned();
        }
        Some(Self { table: table.clone(), own, night })
    }

    /// Our columns that a file's statistics bound: topic, partition and offset.
    pub(super) fn bounded(&self) -> [&str; 3] {
        [&self.own[1], &self.own[3], &self.own[4]]
    }

    /// The observing night of a file's rows, in days since 1970.
    pub(super) fn night(&self, file: &DataFile) -> Option<i32> {
        let value = |name: &String| file.partition.iter().find(|(column, _)| column == name)?.1.as_ref()?.parse::<i32>().ok();
        let [year, month, day] = &self.night;
        let date = NaiveDate::from_ymd_opt(value(year)?, value(month)?.try_into().ok()?, value(day)?.try_into().ok()?)?;
        Some(date.num_days_from_ce() - NaiveDate::from_ymd_opt(1970, 1, 1)?.num_days_from_ce())
    }

    /// The columns of a file to read, by index. Where all of the survey's hold bytes (a raw datum), they are read.
    pub(super) fn columns(&self, file: &Schema, wanted: Wanted) -> Vec<usize> {
        let ours = |index: usize| self.own.contains(file.field(index).name());
        let light = |index: usize| wanted == Wanted::All || !holds_bytes(file.field(index));
        let all = 0..file.fields().len();
        let any = all.clone().any(|index| !ours(index) && light(index));
        all.filter(|index| ours(*index) || light(*index) || !any).collect()
    }

    /// A batch's selected rows, by writer's schema.
    pub(super) fn alerts(
        &self,
        batch: &RecordBatch,
        file: &DataFile,
        selection: &Selection,
        shelf: &mut Shelf,
    ) -> Result<Vec<AlertBatch>, ArrowError> {
        let mut places = Places::of(batch, &self.own)?;
        let selected;
        let batch = if selection.takes_all() {
            batch
        } else {
            let takes = places.selected(selection);
            if !takes.contains(&true) {
                return Ok(Vec::new());
            }
            selected = filter_record_batch(batch, &BooleanArray::from(takes))?;
            places = Places::of(&selected, &self.own)?;
            &selected
        };
        let survey: Vec<usize> = (0..batch.num_columns()).filter(|i| !self.own.contains(batch.schema().field(*i).name())).collect();
        let rows = batch.project(&survey)?;
        let night = self.night(file);
        let mut alerts = Vec::new();
        for (id, wanted) in places.by_schema() {
            let schema = shelf.schema(&id, rows.schema_ref())?;
            let part = match &wanted {
                None => rows.clone(),
                Some(indices) => arrow::compute::take_record_batch(&rows, indices)?,
            };
            let from: Vec<usize> = match &wanted {
                None => (0..rows.num_rows()).collect(),
                Some(indices) => indices.values().iter().map(|index| *index as usize).collect(),
            };
            // The schema's own columns: those of the batch, whatever else a file of the same table holds.
            let part = part.with_schema(schema.columns.clone())?;
            let nights = vec![night; part.num_rows()];
            alerts.push(AlertBatch { schema, rows: part, places: places.at(&from), nights, observed_ms: None });
        }
        Ok(alerts)
    }
}

/// Where the rows of a batch come from.
struct Places {
    source: StringArray,
    topic: StringArray,
    schema_id: StringArray,
    incarnation: Vec<i32>,
    partition: Vec<i32>,
    offset: Vec<i64>,
    record: Vec<i32>,
    timestamp_us: Vec<Option<i64>>,
    received_us: Vec<i64>,
}

impl Places {
    fn of(batch: &RecordBatch, own: &[String; 9]) -> Result<Self, ArrowError> {
        let column = |index: usize, kind: DataType| {
            let missing = || ArrowError::SchemaError(format!("no column {}", own[index]));
            cast(batch.column_by_name(&own[index]).ok_or_else(missing)?, &kind)
        };
        let text = |index| Ok::<_, ArrowError>(column(index, DataType::Utf8)?.as_string::<i32>().clone());
        let int = |index| Ok::<_, ArrowError>(column(index, DataType::Int32)?.as_primitive::<Int32Type>().values().to_vec());
        let time = |index| {
            let kind = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            Ok::<_, ArrowError>(column(index, kind)?.as_primitive::<TimestampMicrosecondType>().clone())
        };
        let (timestamps, received) = (time(6)?, time(7)?);
        Ok(Self {
            source: text(0)?,
            topic: text(1)?,
            incarnation: int(2)?,
            partition: int(3)?,
            offset: column(4, DataType::Int64)?.as_primitive::<Int64Type>().values().to_vec(),
            record: int(5)?,
            timestamp_us: timestamps.iter().collect(),
            received_us: received.values().to_vec(),
            schema_id: text(8)?,
        })
    }

    /// The rows of each writer's schema; `None`: all.
    fn by_schema(&self) -> Vec<(String, Option<UInt32Array>)> {
        let mut by_id = BTreeMap::<&str, Vec<u32>>::new();
        for (row, id) in (0..).zip(self.schema_id.iter()) {
            by_id.entry(id.unwrap_or_default()).or_default().push(row);
        }
        let only = by_id.len() == 1;
        by_id.into_iter().map(|(id, rows)| (id.to_owned(), (!only).then(|| UInt32Array::from(rows)))).collect()
    }

    /// Which rows are selected.
    fn selected(&self, selection: &Selection) -> Vec<bool> {
        // The logs met, and what is selected of each.
        let mut logs: Vec<(Log, Option<&Intervals>)> = Vec::new();
        let mut takes = |row: usize| {
            let Some(within) = &selection.within else { return true };
            let known = logs.iter().rposition(|(log, _)| self.is_of(row, log)).unwrap_or_else(|| {
                let log = self.log(row);
                let wanted = within.get(&log);
                logs.push((log, wanted));
                logs.len() - 1
            });
            logs[known].1.is_some_and(|wanted| wanted.contains(self.offset[row]))
        };
        (0..self.offset.len()).map(|row| selection.takes(self.topic.value(row), self.offset[row]) && takes(row)).collect()
    }

    fn is_of(&self, row: usize, log: &Log) -> bool {
        (log.partition, log.incarnation) == (self.partition[row], self.incarnation[row].cast_unsigned())
            && *log.topic == *self.topic.value(row)
            && *log.source == *self.source.value(row)
    }

    fn log(&self, row: usize) -> Log {
        Log::new(self.source.value(row), self.topic.value(row), self.incarnation[row].cast_unsigned(), self.partition[row])
    }

    /// The places of some rows.
    fn at(&self, rows: &[usize]) -> Vec<Place> {
        let mut logs: Vec<Arc<Log>> = Vec::new();
        let mut place = |row: &usize| {
            let row = *row;
            // Rows of a log stand in runs, or are of few logs in turn.
            let log = match logs.iter().rev().find(|log| self.is_of(row, log)) {
                Some(log) => log.clone(),
                None => {
                    logs.push(Arc::new(self.log(row)));
                    logs[logs.len() - 1].clone()
                }
            };
            let timestamp_ms = self.timestamp_us[row].map(|us| us / 1_000);
            Place { log, offset: self.offset[row], record: self.record[row], timestamp_ms, received_us: self.received_us[row] }
        };
        rows.iter().map(&mut place).collect()
    }
}

/// The writers' schemas that were met, with the columns that are read of them.
pub(super) struct Shelf {
    ledger: Arc<Ledger>,
    routes: BTreeMap<Arc<str>, Route>,
    schemas: Vec<(String, Arc<WriterSchema>)>,
}

impl Shelf {
    pub(super) fn new(ledger: Arc<Ledger>, routes: BTreeMap<Arc<str>, Route>) -> Self {
        Self { ledger, routes, schemas: Vec::new() }
    }

    /// Takes routes that it did not know.
    pub(super) fn learn(&mut self, routes: &[Route]) {
        self.routes.extend(routes.iter().map(|route| (route.fingerprint.clone(), route.clone())));
    }

    /// The schema whose fingerprint begins with `id`, with these columns.
    fn schema(&mut self, id: &str, columns: &SchemaRef) -> Result<Arc<WriterSchema>, ArrowError> {
        if let Some((_, schema)) = self.schemas.iter().find(|(known, schema)| known == id && schema.columns.fields() == columns.fields()) {
            return Ok(schema.clone());
        }
        let schema = Arc::new(if id == light::SCHEMA { light::schema(columns.clone()) } else { self.written(id, columns)? });
        self.schemas.push((id.to_owned(), schema.clone()));
        Ok(schema)
    }

    /// The schema of an alert's writer, as the ledger keeps it.
    fn written(&self, id: &str, columns: &SchemaRef) -> Result<WriterSchema, ArrowError> {
        let unknown = || ArrowError::SchemaError(format!("no writer's schema has the id {id}"));
        let route = self.routes.values().find(|route| route.fingerprint.starts_with(id) && !id.is_empty()).ok_or_else(unknown)?;
        let (ledger, fingerprint) = (self.ledger.clone(), route.fingerprint.clone());
        let text = wait(async move { ledger.schema(&fingerprint).await });
        let json = text.map_err(|error| ArrowError::ExternalError(Box::new(error)))?.ok_or_else(unknown)?;
        let form = if &*route.table == "alerts_raw" { Form::Raw("archived as its datum".to_owned()) } else { Form::Columns };
        let (fingerprint, name, columns) = (route.fingerprint.clone(), route.name.clone(), columns.clone());
        Ok(WriterSchema { fingerprint, json: json.into(), name, columns, form })
    }
}
