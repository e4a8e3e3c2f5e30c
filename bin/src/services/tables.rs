//! What the services keep as tables of the archive: their columns, and which collections fill them.
//!
//! | table | a row | by |
//! |---|---|---|
//! | `services/objects` | an object | `survey`, `objectId` |
//! | `services/matches` | a catalogue's row at an object's place | `survey`, `objectId`, `catalogue`, `row` |
//! | `services/associations` | another survey's object there | `survey`, `objectId`, `other_survey`, `other_objectId` |
//! | `services/classes` | from which alert on an object is taken for what | `survey`, `objectId`, `since_mjd_tai`, `alert` |
//! | `services/counts` | alerts by night and counter, as many as `diff` | all columns |
//!
//! Columns have the names of the answers over HTTP, and their units.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use differential_dataflow::VecCollection;
use fink_dataflow::Moment;
use fink_dataflow::detection::{Band, LogRef, ObjectId, Real, Real32, SurveyId};
use fink_operators::catalogue::CatalogueId;
use fink_operators::classify::history::Classes;
use fink_operators::classify::rules::Rule;
use fink_operators::crossmatch::{Association, Match};
use fink_operators::monitor::Counter;
use fink_operators::objects::summary::{BandSummary, Colour, Measure, Position};
use fink_operators::objects::{ByObject, Summary};
use fink_operators::surveys;
use fink_sinks::outputs::{Output, Seat};

use super::Class;
use super::catalogues::Names;

/// A collection of a worker.
type Rows<'s, R> = VecCollection<'s, Moment, R, isize>;

/// Where a worker keeps its answers as tables.
#[derive(Clone)]
pub struct Tables {
    /// The outputs' seat.
    pub seat: Seat,
    /// What the catalogues are called.
    pub names: Names,
}

impl Tables {
    /// Keeps the objects.
    pub fn objects(&self, summaries: &ByObject<'_, Moment, Summary>) {
        let rows = summaries.clone().as_collection(|object, summary| ObjectRow {
            object: *object,
            times: [summary.first_mjd_tai, summary.last_mjd_tai],
            counts: [summary.detections, summary.limits, summary.forced, summary.alerts],
            position: summary.position,
            bands: summary.bands.clone(),
            colour: summary.colour,
        });
        self.seat.table(&objects(), rows);
    }

    /// Keeps what stands at the objects' places.
    pub fn matches(&self, found: Rows<'_, (ObjectId, Match)>) {
        self.seat.table(&matches(self.names.clone()), found);
    }

    /// Keeps which objects of different surveys are one.
    pub fn associations(&self, found: Rows<'_, (ObjectId, Association)>) {
        self.seat.table(&associations(), found);
    }

    /// Keeps what the objects are taken for.
    pub fn classes(&self, classes: Rows<'_, (ObjectId, Classes)>) {
        let rows = classes.flat_map(|(object, Classes { history, .. })| {
            let last = history.len().saturating_sub(1);
            history.into_iter().enumerate().map(move |(index, change)| ClassRow {
                object,
                since_mjd_tai: change.mjd_tai,
                alert: change.alert,
                class: change.class(),
                rule: change.rule,
                row: change.row,
                current: index == last,
            })
        });
        self.seat.table(&classes_of(self.names.clone()), rows);
    }

    /// Keeps the counts: each row as often as there are alerts.
    pub fn counts(&self, counts: Rows<'_, Count>) {
        self.seat.table(&counts_of(), counts);
    }
}

/// What alerts are counted by.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Count {
    /// Alerts of a night under a counter.
    Counter(Option<i32>, Counter),
    /// Alerts of a night that are taken for something, duplicates not counted.
    Class(i32, Class),
}

/// An object, without what the rules see of its alerts.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
struct ObjectRow {
    object: ObjectId,
    /// First and last.
    times: [Real; 2],
    /// Detections, limits, forced measurements and alerts.
    counts: [u32; 4],
    position: Option<Position>,
    bands: Box<[BandSummary]>,
    colour: Option<Colour>,
}

/// From an alert on, an object is taken for something.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
struct ClassRow {
    object: ObjectId,
    since_mjd_tai: Real,
    alert: i64,
    class: Arc<str>,
    rule: Rule,
    row: Option<(CatalogueId, u32)>,
    current: bool,
}

/// The columns of a table, by name.
fn fields(columns: &[(&str, DataType)]) -> Fields {
    columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect()
}

fn named<R>(name: &str, columns: &[(&str, DataType)], make: impl Fn(&[R]) -> Vec<ArrayRef> + Send + Sync + 'static) -> Output<R> {
    Output::new(name, fields(columns), make).expect("our outputs are named as outputs are, by test")
}

fn texts<R, S: AsRef<str>>(rows: &[R], of: impl Fn(&R) -> Option<S>) -> ArrayRef {
    Arc::new(StringArray::from_iter(rows.iter().map(of)))
}

fn ints<R>(rows: &[R], of: impl Fn(&R) -> Option<i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter(rows.iter().map(of)))
}

fn longs<R>(rows: &[R], of: impl Fn(&R) -> Option<i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(rows.iter().map(of)))
}

/// Doubles; what is not known is null.
fn doubles<R>(rows: &[R], of: impl Fn(&R) -> Option<Real>) -> ArrayRef {
    let known = |row| of(row).and_then(|value| value.some()).filter(|value| value.is_finite());
    Arc::new(Float64Array::from_iter(rows.iter().map(known)))
}

/// Singles; what is not known is null.
fn singles<R>(rows: &[R], of: impl Fn(&R) -> Option<Real32>) -> ArrayRef {
    let known = |row| of(row).and_then(|value| value.some()).filter(|value| value.is_finite());
    Arc::new(Float32Array::from_iter(rows.iter().map(known)))
}

fn count(number: u32) -> Option<i32> {
    Some(i32::try_from(number).unwrap_or(i32::MAX))
}

fn survey(id: SurveyId) -> Option<String> {
    Some(surveys::of_id(id).map_or_else(|| id.0.to_string(), |survey| survey.name.to_owned()))
}

fn letter(band: Band) -> Option<String> {
    Some(char::from(band.0).to_string())
}

/// Lists of as many elements as told.
fn lists(elements: ArrayRef, lengths: impl Iterator<Item = usize>) -> ArrayRef {
    let element = Arc::new(Field::new("element", elements.data_type().clone(), true));
    Arc::new(ListArray::new(element, OffsetBuffer::from_lengths(lengths), elements, None))
}

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

fn objects() -> Output<ObjectRow> {
    let columns = [
        ("survey", DataType::Utf8),
        ("objectId", DataType::Utf8),
        ("ra_deg", DataType::Float64),
        ("dec_deg", DataType::Float64),
        ("scatter_arcsec", DataType::Float32),
        ("first_mjd_tai", DataType::Float64),
        ("last_mjd_tai", DataType::Float64),
        ("detections", DataType::Int32),
        ("limits", DataType::Int32),
        ("forced", DataType::Int32),
        ("alerts", DataType::Int32),
        ("colour_blue", DataType::Utf8),
        ("colour_red", DataType::Utf8),
        ("colour_mjd_tai", DataType::Float64),
        ("colour_magnitude", DataType::Float32),
        ("colour_error", DataType::Float32),
        ("bands", list_of(DataType::Struct(band_fields()))),
    ];
    named("objects", &columns, |rows: &[ObjectRow]| {
        let [first, last] = [0, 1].map(|index| doubles(rows, |row| Some(row.times[index])));
        let [detections, limits, forced, alerts] = [0, 1, 2, 3].map(|index| ints(rows, |row| count(row.counts[index])));
        let bands: Vec<BandSummary> = rows.iter().flat_map(|row| row.bands.iter().copied()).collect();
        vec![
            texts(rows, |row| survey(row.object.survey)),
            texts(rows, |row| Some(row.object.name().to_owned())),
            doubles(rows, |row| Some(row.position?.ra_deg)),
            doubles(rows, |row| Some(row.position?.dec_deg)),
            singles(rows, |row| Some(row.position?.scatter_arcsec)),
            first,
            last,
            detections,
            limits,
            forced,
            alerts,
            texts(rows, |row| letter(row.colour?.blue)),
            texts(rows, |row| letter(row.colour?.red)),
            doubles(rows, |row| Some(row.colour?.mjd_tai)),
            singles(rows, |row| Some(row.colour?.magnitude)),
            singles(rows, |row| Some(row.colour?.error)),
            lists(band_columns(&bands), rows.iter().map(|row| row.bands.len())),
        ]
    })
}

fn band_fields() -> Fields {
    fields(&[
        ("band", DataType::Utf8),
        ("detections", DataType::Int32),
        ("latest_mjd_tai", DataType::Float64),
        ("latest_magnitude", DataType::Float32),
        ("latest_error", DataType::Float32),
        ("peak_mjd_tai", DataType::Float64),
        ("peak_magnitude", DataType::Float32),
        ("peak_error", DataType::Float32),
        ("rise_mag_per_day", DataType::Float32),
        ("rise_error", DataType::Float32),
        ("decline_mag_per_day", DataType::Float32),
        ("decline_error", DataType::Float32),
    ])
}

fn band_columns(bands: &[BandSummary]) -> ArrayRef {
    let measure = |of: fn(&BandSummary) -> Measure| -> [ArrayRef; 3] {
        [
            doubles(bands, |band| Some(of(band).mjd_tai)),
            singles(bands, |band| Some(of(band).magnitude)),
            singles(bands, |band| Some(of(band).error)),
        ]
    };
    let mut columns = vec![texts(bands, |band| letter(band.band)), ints(bands, |band| count(band.detections))];
    columns.extend(measure(|band| band.latest));
    columns.extend(measure(|band| band.peak));
    columns.extend([
        singles(bands, |band| Some(band.rise.mag_per_day)),
        singles(bands, |band| Some(band.rise.error)),
        singles(bands, |band| Some(band.decline.mag_per_day)),
        singles(bands, |band| Some(band.decline.error)),
    ]);
    Arc::new(StructArray::new(band_fields(), columns, None))
}

fn matches(names: Names) -> Output<(ObjectId, Match)> {
    let columns = [
        ("survey", DataType::Utf8),
        ("objectId", DataType::Utf8),
        ("catalogue", DataType::Utf8),
        ("row", DataType::Int64),
        ("separation_arcsec", DataType::Float64),
        ("carried", list_of(DataType::Utf8)),
    ];
    named("matches", &columns, move |rows: &[(ObjectId, Match)]| {
        let carried = StringArray::from_iter_values(rows.iter().flat_map(|(_, found)| found.carried.iter()));
        vec![
            texts(rows, |(object, _)| survey(object.survey)),
            texts(rows, |(object, _)| Some(object.name().to_owned())),
            texts(rows, |(_, found)| Some(names.of(found.catalogue))),
            longs(rows, |(_, found)| Some(i64::from(found.number))),
            doubles(rows, |(_, found)| Some(found.separation_arcsec)),
            lists(Arc::new(carried), rows.iter().map(|(_, found)| found.carried.len())),
        ]
    })
}

fn associations() -> Output<(ObjectId, Association)> {
    let columns = [
        ("survey", DataType::Utf8),
        ("objectId", DataType::Utf8),
        ("other_survey", DataType::Utf8),
        ("other_objectId", DataType::Utf8),
        ("separation_arcsec", DataType::Float64),
    ];
    named("associations", &columns, |rows: &[(ObjectId, Association)]| {
        vec![
            texts(rows, |(object, _)| survey(object.survey)),
            texts(rows, |(object, _)| Some(object.name().to_owned())),
            texts(rows, |(_, found)| survey(found.other.survey)),
            texts(rows, |(_, found)| Some(found.other.name().to_owned())),
            doubles(rows, |(_, found)| Some(found.separation_arcsec)),
        ]
    })
}

fn classes_of(names: Names) -> Output<ClassRow> {
    let columns = [
        ("survey", DataType::Utf8),
        ("objectId", DataType::Utf8),
        ("since_mjd_tai", DataType::Float64),
        ("alert", DataType::Int64),
        ("class", DataType::Utf8),
        ("rule", DataType::Utf8),
        ("catalogue", DataType::Utf8),
        ("row", DataType::Int64),
        ("current", DataType::Boolean),
    ];
    named("classes", &columns, move |rows: &[ClassRow]| {
        vec![
            texts(rows, |row| survey(row.object.survey)),
            texts(rows, |row| Some(row.object.name().to_owned())),
            doubles(rows, |row| Some(row.since_mjd_tai)),
            longs(rows, |row| Some(row.alert)),
            texts(rows, |row| Some(Arc::clone(&row.class))),
            texts(rows, |row| Some(format!("{:?}", row.rule).to_lowercase())),
            texts(rows, |row| row.row.map(|(catalogue, _)| names.of(catalogue))),
            longs(rows, |row| row.row.map(|(_, number)| i64::from(number))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.current)))),
        ]
    })
}

fn counts_of() -> Output<Count> {
    let columns = [
        ("night", DataType::Date32),
        ("kind", DataType::Utf8),
        ("survey", DataType::Utf8),
        ("class", DataType::Utf8),
        ("band", DataType::Utf8),
        ("visit", DataType::Int64),
        ("source", DataType::Utf8),
        ("topic", DataType::Utf8),
        ("incarnation", DataType::Int32),
        ("partition", DataType::Int32),
    ];
    named("counts", &columns, |rows: &[Count]| {
        let counter = |row: &Count| match row {
            Count::Counter(_, counter) => Some(counter.clone()),
            Count::Class(..) => None,
        };
        let log = |row: &Count| match counter(row) {
            Some(Counter::Partition(log) | Counter::Unlit(log)) => Some(log),
            _ => None,
        };
        let night = |row: &Count| match row {
            Count::Counter(night, _) => *night,
            Count::Class(night, _) => Some(*night),
        };
        let kind = |row: &Count| match counter(row) {
            Some(Counter::Partition(_)) => "partition",
            Some(Counter::Unlit(_)) => "unlit",
            Some(Counter::Band(..)) => "band",
            Some(Counter::Visit(..)) => "visit",
            None => "class",
        };
        let of_survey = |row: &Count| match row {
            Count::Counter(_, Counter::Band(id, _) | Counter::Visit(id, _)) | Count::Class(_, (id, _)) => survey(*id),
            Count::Counter(..) => None,
        };
        let class = |row: &Count| match row {
            Count::Class(_, (_, class)) => Some(class.to_string()),
            Count::Counter(..) => None,
        };
        let band = |row: &Count| match counter(row) {
            Some(Counter::Band(_, band)) => letter(band),
            _ => None,
        };
        let visit = |row: &Count| match counter(row) {
            Some(Counter::Visit(_, visit)) => Some(visit),
            _ => None,
        };
        let text = |of: fn(&LogRef) -> &str| texts(rows, move |row| log(row).map(|log| of(&log).to_owned()));
        vec![
            Arc::new(Date32Array::from_iter(rows.iter().map(night))),
            texts(rows, |row| Some(kind(row))),
            texts(rows, of_survey),
            texts(rows, class),
            texts(rows, band),
            longs(rows, visit),
            text(|log| &log.log().source),
            text(|log| &log.log().topic),
            ints(rows, |row| Some(log(row)?.log().incarnation.cast_signed())),
            ints(rows, |row| Some(log(row)?.log().partition)),
        ]
    })
}

#[cfg(test)]
mod tests {
    use fink_dataflow::Log;

    use super::*;

    #[test]
    fn each_table_has_its_columns_of_rows_and_of_none() {
        assert_eq!(objects().batch(&[]).expect("fits").num_rows(), 0);
        assert_eq!(matches(Names::default()).batch(&[]).expect("fits").num_rows(), 0);
        assert_eq!(associations().batch(&[]).expect("fits").num_rows(), 0);
        assert_eq!(classes_of(Names::default()).batch(&[]).expect("fits").num_rows(), 0);
        let log = LogRef::from(Arc::new(Log::new("kafka:x", "t", 0, 3)));
        let rows = [
            Count::Counter(Some(20_780), Counter::Partition(log)),
            Count::Counter(None, Counter::Visit(SurveyId(1), 7)),
            Count::Class(20_780, (SurveyId(1), "SN candidate".into())),
        ];
        let batch = counts_of().batch(&rows).expect("fits");
        let nulls: Vec<usize> = batch.columns().iter().map(|column| column.null_count()).collect();
        assert_eq!(nulls, [1, 0, 1, 2, 3, 2, 2, 2, 2, 2]);
    }
}
