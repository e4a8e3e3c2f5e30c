//! The tables of answers as each entry of the ledger left them, and what they should hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type};
use fink::services::answers::{date, survey};
use fink_dataflow::Moment;
use fink_dataflow::detection::{Real, Real32, SurveyId};
use fink_dataflow::table::entry::DataFile;
use fink_dataflow::table::store::wait;
use fink_dataflow::table::{Archive, Ledger};
use fink_operators::monitor::Counter;
use fink_operators::surveys;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value, json};

use crate::reference::Reference;

/// The tables.
pub const TABLES: [&str; 5] = ["objects", "matches", "associations", "classes", "counts"];

/// Rows of a table, as JSON, and how often each is there.
pub type Held = HashMap<String, i64>;

/// The tables after a publication.
pub struct Published<'a> {
    /// The Moment of which they are said to be exact.
    pub moment: Moment,
    /// The generation that published it.
    pub generation: u64,
    /// What they hold.
    pub tables: &'a BTreeMap<String, Held>,
}

/// What was met on the way.
#[derive(Debug, Default)]
pub struct Met {
    pub publications: usize,
    pub merges: usize,
    /// The generations that published.
    pub generations: std::collections::BTreeSet<u64>,
}

/// Goes through a ledger, and shows the tables after each publication. Whatever else is done to them must change no sum.
pub fn follow(archive: &Archive, mut look: impl FnMut(&Published<'_>)) -> Met {
    let there = archive.clone();
    let (ledger, state) = wait(async move { Ledger::open(&there).await }).expect("a ledger");
    let ledger = Arc::new(ledger);
    let mut tables: BTreeMap<String, Held> = TABLES.iter().map(|name| ((*name).to_owned(), Held::new())).collect();
    let mut files = HashMap::<String, Vec<(String, i64)>>::new();
    let (mut met, mut last) = (Met::default(), Moment::default());
    for number in 0..state.next {
        let reading = Arc::clone(&ledger);
        let entry = wait(async move { reading.entry(number).await }).expect("read").expect("entries are not cleaned so soon");
        let published = entry.note.strip_prefix("services at Moment ");
        let mut touched = false;
        for change in &entry.tables {
            let Some(name) = change.table.strip_prefix("services/") else { continue };
            touched = true;
            let before = tables[name].clone();
            let held = tables.get_mut(name).expect("one of ours");
            let path = |file: &str| format!("{}/{file}", change.table);
            for removed in &change.removes {
                let rows = files.remove(&path(&removed.path)).expect("it was there");
                rows.into_iter().for_each(|(row, diff)| add(held, row, -diff));
            }
            for file in &change.adds {
                let rows = read(archive, &path(&file.path), file);
                rows.iter().for_each(|(row, diff)| add(held, row.clone(), *diff));
                files.insert(path(&file.path), rows);
            }
            assert_eq!(change.data_change, published.is_some());
            assert!(published.is_some() || *held == before, "entry {number} ({}) changes what {name} holds", entry.note);
        }
        if let Some(moment) = published {
            let (epoch, tick) = moment.split_once('.').expect("a Moment");
            let moment = Moment::new(epoch.parse().expect("an epoch"), tick.parse().expect("a tick"));
            assert!(touched && moment.epoch >= last.epoch && moment.tick > last.tick, "{moment} after {last}");
            last = moment;
            met.publications += 1;
            met.generations.insert(entry.generation);
            look(&Published { moment, generation: entry.generation, tables: &tables });
        } else if touched {
            met.merges += 1;
        }
    }
    met
}

fn add(held: &mut Held, row: String, diff: i64) {
    let count = held.entry(row.clone()).or_insert(0);
    *count += diff;
    if *count == 0 {
        held.remove(&row);
    }
}

fn read(archive: &Archive, path: &str, file: &DataFile) -> Vec<(String, i64)> {
    let (store, path) = (Arc::clone(archive.store()), archive.path(path));
    let bytes = wait(async move { store.get(&path).await.expect("it is stored").bytes().await.expect("it is read") });
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).expect("parquet").build().expect("parquet") {
        let batch = batch.expect("rows");
        let diffs = batch.column_by_name("diff").expect("a difference").as_primitive::<Int64Type>().clone();
        rows.extend((0..batch.num_rows()).map(|row| (text(&batch, row), diffs.value(row))));
    }
    assert_eq!(rows.len() as u64, file.rows);
    rows
}

/// A row without what says when it was published.
fn text(batch: &RecordBatch, row: usize) -> String {
    let mut all = Map::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if !["epoch", "tick", "diff"].contains(&field.name().as_str()) {
            all.insert(field.name().clone(), cell(column, row));
        }
    }
    Value::Object(all).to_string()
}

fn cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float32 => single(Real32(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Date32 => date(column.as_primitive::<Date32Type>().value(row)).into(),
        DataType::List(_) => {
            let list = column.as_list::<i32>().value(row);
            (0..list.len()).map(|element| cell(&list, element)).collect()
        }
        DataType::Struct(fields) => {
            let inner = column.as_struct();
            let of = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| (field.name().clone(), cell(inner.column(index), row));
            Value::Object(fields.iter().enumerate().map(of).collect())
        }
        other => panic!("a column of {other}"),
    }
}

fn real(value: Real) -> Value {
    value.some().map_or(Value::Null, Value::from)
}

fn single(value: Real32) -> Value {
    value.some().map_or(Value::Null, |value| json!(value.to_string().parse::<f64>().expect("a number")))
}

/// What the tables should hold; catalogues have no names here but their numbers.
pub fn expected(all: &Reference) -> BTreeMap<String, Held> {
    let mut tables: BTreeMap<String, Held> = TABLES.iter().map(|name| ((*name).to_owned(), Held::new())).collect();
    let mut give = |table: &str, row: Value, count: i64| add(tables.get_mut(table).expect("one of ours"), row.to_string(), count);
    for object in all.objects.values() {
        let (survey_name, id, s) = (survey(&object.id), object.id.name(), &object.summary);
        let bands: Vec<Value> = s.bands.iter().map(band).collect();
        let place = s.position;
        let row = json!({
            "survey": survey_name, "objectId": id,
            "ra_deg": place.map_or(Value::Null, |p| real(p.ra_deg)), "dec_deg": place.map_or(Value::Null, |p| real(p.dec_deg)),
            "scatter_arcsec": place.map_or(Value::Null, |p| single(p.scatter_arcsec)),
            "first_mjd_tai": real(s.first_mjd_tai), "last_mjd_tai": real(s.last_mjd_tai),
            "detections": s.detections, "limits": s.limits, "forced": s.forced, "alerts": s.alerts,
            "colour_blue": s.colour.map(|c| char::from(c.blue.0)), "colour_red": s.colour.map(|c| char::from(c.red.0)),
            "colour_mjd_tai": s.colour.map_or(Value::Null, |c| real(c.mjd_tai)),
            "colour_magnitude": s.colour.map_or(Value::Null, |c| single(c.magnitude)),
            "colour_error": s.colour.map_or(Value::Null, |c| single(c.error)),
            "bands": bands,
        });
        give("objects", row, 1);
        for other in &object.associations {
            let row = json!({
                "survey": survey_name, "objectId": id, "other_survey": survey(&other.other), "other_objectId": other.other.name(),
                "separation_arcsec": real(other.separation_arcsec),
            });
            give("associations", row, 1);
        }
        let Some(classes) = &object.classes else { continue };
        for found in &classes.matches {
            let carried: Vec<String> = found.carried.iter().map(ToString::to_string).collect();
            let row = json!({
                "survey": survey_name, "objectId": id, "catalogue": found.catalogue.to_string(), "row": found.number,
                "separation_arcsec": real(found.separation_arcsec), "carried": carried,
            });
            give("matches", row, 1);
        }
        for (index, change) in classes.history.iter().enumerate() {
            let row = json!({
                "survey": survey_name, "objectId": id, "since_mjd_tai": real(change.mjd_tai), "alert": change.alert,
                "class": &*change.class(), "rule": format!("{:?}", change.rule).to_lowercase(),
                "catalogue": change.row.map(|(catalogue, _)| catalogue.to_string()), "row": change.row.map(|(_, number)| number),
                "current": index + 1 == classes.history.len(),
            });
            give("classes", row, 1);
        }
    }
    let survey_of = |id: SurveyId| surveys::of_id(id).expect("a survey").name;
    for (night, counts) in &all.nights {
        let row = |of: Value| {
            let mut row = json!({
                "night": night.map(date), "kind": null, "survey": null, "class": null, "band": null, "visit": null, "source": null,
                "topic": null, "incarnation": null, "partition": null,
            });
            row.as_object_mut().expect("an object").extend(of.as_object().expect("an object").clone());
            row
        };
        for (counter, count) in &counts.counters {
            let of = match counter {
                Counter::Partition(log) | Counter::Unlit(log) => json!({
                    "kind": if matches!(counter, Counter::Unlit(_)) { "unlit" } else { "partition" },
                    "source": &*log.log().source, "topic": &*log.log().topic, "incarnation": log.log().incarnation,
                    "partition": log.log().partition,
                }),
                Counter::Band(id, band) => json!({ "kind": "band", "survey": survey_of(*id), "band": char::from(band.0) }),
                Counter::Visit(id, visit) => json!({ "kind": "visit", "survey": survey_of(*id), "visit": visit }),
            };
            give("counts", row(of), *count as i64);
        }
        for ((id, class), count) in &counts.classes {
            give("counts", row(json!({ "kind": "class", "survey": survey_of(*id), "class": &**class })), *count as i64);
        }
    }
    tables
}

fn band(of: &fink_operators::objects::summary::BandSummary) -> Value {
    json!({
        "band": char::from(of.band.0), "detections": of.detections,
        "latest_mjd_tai": real(of.latest.mjd_tai), "latest_magnitude": single(of.latest.magnitude), "latest_error": single(of.latest.error),
        "peak_mjd_tai": real(of.peak.mjd_tai), "peak_magnitude": single(of.peak.magnitude), "peak_error": single(of.peak.error),
        "rise_mag_per_day": single(of.rise.mag_per_day), "rise_error": single(of.rise.error),
        "decline_mag_per_day": single(of.decline.mag_per_day), "decline_error": single(of.decline.error),
    })
}

/// Says which rows differ, few of them.
pub fn same(held: &BTreeMap<String, Held>, expected: &BTreeMap<String, Held>, when: &str) {
    for (name, held) in held {
        let expected = &expected[name];
        let more = held.iter().filter(|(row, count)| expected.get(*row) != Some(count)).take(3);
        let less = expected.iter().filter(|(row, count)| held.get(*row) != Some(count)).take(3);
        let (more, less): (Vec<_>, Vec<_>) = (more.collect(), less.collect());
        assert!(more.is_empty() && less.is_empty(), "{name} {when}: it holds {more:#?}, and should {less:#?}");
    }
}
