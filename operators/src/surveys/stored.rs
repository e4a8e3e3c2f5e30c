//! Light rows as they are stored: columns that every reader of Parquet understands, and back.
//!
//! A row stands for one archived alert. One that has no light row has its reason (`unlit`) and no object. What is not known is
//! null. Rows come by object, then time; points that repeat what stands there already are left out ([`thin`]).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use fink_dataflow::alerts::{AlertBatch, Place, WriterSchema};
use fink_dataflow::detection::{Band, Detection, Enriched, Kind, LightAlert, ObjectId, Point, Real, Real32, Traits, Unit};
use fink_dataflow::table::light;

use super::columns::{Column, Record, whole};
use super::light::{Unlit, address};
use super::{SURVEYS, of_id};

/// The column that rows stand in order of, and are looked up by.
pub const OBJECT: &str = light::OBJECT;

/// An alert's light row, or why it has none, and where it comes from.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The row.
    pub row: Result<LightAlert, Unlit>,
    /// Where the alert comes from.
    pub place: Place,
}

/// The light rows of a batch, with the places of its alerts.
#[must_use]
pub fn rows(batch: &AlertBatch) -> Vec<Stored> {
    let (lit, unlit) = super::light_rows(batch);
    let (mut lit, mut unlit) = (lit.into_iter().peekable(), unlit.into_iter());
    let all = batch.places.iter().map(|place| {
        let is_lit = lit.peek().is_some_and(|alert| {
            let own = &alert.detection.address;
            (own.offset, own.record) == (place.offset, place.record) && **own.log.log() == *place.log
        });
        // Both come in the order of the batch's rows.
        let row = if is_lit { lit.next().map(Ok) } else { unlit.next().map(Err) };
        Stored { row: row.expect("each alert has a light row or a reason"), place: place.clone() }
    });
    all.collect()
}

/// Brings rows into their order, and leaves out the points that an object has anyway: copies of what an alert of its own brought,
/// and of what an alert before repeats. Of an object that has all of its rows here, no answer changes.
pub fn thin(rows: &mut [Stored]) {
    rows.sort_by(|a, b| {
        let key = |stored: &Stored| {
            let alert = stored.row.as_ref().ok();
            let own = alert.map(|alert| (alert.object, alert.detection.point.mjd_tai, alert.detection.point.id));
            (own, Arc::clone(&stored.place.log), stored.place.offset, stored.place.record)
        };
        key(a).cmp(&key(b))
    });
    for rows in rows.chunk_by_mut(|a, b| object(a) == object(b)) {
        let own: HashSet<i64> = rows.iter().filter_map(|stored| Some(stored.row.as_ref().ok()?.detection.point.id)).collect();
        let mut known: HashSet<Point> = HashSet::new();
        for alert in rows.iter_mut().filter_map(|stored| stored.row.as_mut().ok()) {
            alert.history.retain(|point| !(point.kind == Kind::Detection && own.contains(&point.id)) && known.insert(*point));
        }
    }
}

fn object(stored: &Stored) -> Option<ObjectId> {
    stored.row.as_ref().ok().map(|alert| alert.object)
}

const POINT: [(&str, DataType); 11] = [
    ("mjd_tai", DataType::Float64),
    ("ra_deg", DataType::Float64),
    ("dec_deg", DataType::Float64),
    ("value", DataType::Float32),
    ("error", DataType::Float32),
    ("limit", DataType::Float32),
    ("score", DataType::Float32),
    ("band", DataType::Utf8),
    ("unit", DataType::Utf8),
    ("negative", DataType::Boolean),
    ("id", DataType::Int64),
];

fn fields(names: &[(&str, DataType)]) -> Vec<Field> {
    names.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect()
}

fn history_fields() -> Fields {
    [vec![Field::new("kind", DataType::Utf8, true)], fields(&POINT)].concat().into()
}

fn history_item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(history_fields()), true))
}

fn columns() -> SchemaRef {
    let traits = [
        ("visit", DataType::Int64),
        ("age_days", DataType::Float64),
        ("detections", DataType::Int32),
        ("drb", DataType::Float32),
        ("classtar", DataType::Float32),
        ("roid", DataType::Int32),
        ("tracklet", DataType::Boolean),
        ("cdsxmatch", DataType::Utf8),
        ("mulens", DataType::Float64),
        ("snn_snia_vs_nonia", DataType::Float64),
        ("snn_sn_vs_all", DataType::Float64),
        ("rf_snia_vs_nonia", DataType::Float64),
        ("rf_kn_vs_nonkn", DataType::Float64),
        ("unlit", DataType::Utf8),
    ];
    let names = [(OBJECT, DataType::Utf8), ("survey", DataType::Utf8)];
    let history = Field::new("history", DataType::List(history_item()), true);
    Arc::new(Schema::new([fields(&names), fields(&POINT), fields(&traits), vec![history]].concat()))
}

/// The schema of stored light rows.
#[must_use]
pub fn schema() -> Arc<WriterSchema> {
    Arc::new(light::schema(columns()))
}

/// Rows of one night as a batch of [`schema`].
///
/// # Errors
/// When there is more than a batch can hold (2 GiB of text).
pub fn store(schema: &Arc<WriterSchema>, rows: &[Stored], night: Option<i32>) -> Result<AlertBatch, ArrowError> {
    let lit = || rows.iter().map(|stored| stored.row.as_ref().ok());
    let texts = |of: fn(&LightAlert) -> Option<&str>| -> ArrayRef { Arc::new(lit().map(|alert| of(alert?)).collect::<StringArray>()) };
    let traits = |of: fn(&Traits) -> Real| -> ArrayRef {
        Arc::new(lit().map(|alert| of(&alert?.detection.traits).some()).collect::<Float64Array>())
    };
    let singles = |of: fn(&Traits) -> Real32| -> ArrayRef {
        Arc::new(lit().map(|alert| of(&alert?.detection.traits).some()).collect::<Float32Array>())
    };
    let ints =
        |of: fn(&Traits) -> i32| -> ArrayRef { Arc::new(lit().map(|alert| Some(of(&alert?.detection.traits))).collect::<Int32Array>()) };
    let scores = |of: fn(&Enriched) -> Real| -> ArrayRef {
        Arc::new(lit().map(|alert| of(alert?.detection.traits.enriched.as_ref()?).some()).collect::<Float64Array>())
    };
    let histories = || lit().map(|alert| alert.map_or(&[][..], |alert| &alert.history));
    let points = || histories().flatten();
    let kinds: ArrayRef = Arc::new(StringArray::from_iter_values(points().map(|point| point.kind.word())));
    let history: Vec<ArrayRef> = std::iter::once(kinds).chain(self::points(points().map(Some))).collect();
    let history = StructArray::try_new(history_fields(), history, None)?;
    let history = ListArray::try_new(history_item(), OffsetBuffer::from_lengths(histories().map(<[Point]>::len)), Arc::new(history), None)?;
    let reasons: StringArray = rows.iter().map(|stored| stored.row.as_ref().err().map(|unlit| unlit.reason)).collect();
    let columns: Vec<ArrayRef> =
        [texts(|alert| Some(alert.object.name())), texts(|alert| of_id(alert.object.survey).map(|survey| survey.name))]
            .into_iter()
            .chain(self::points(lit().map(|alert| Some(&alert?.detection.point))))
            .chain([
                Arc::new(lit().map(|alert| Some(alert?.visit)).collect::<Int64Array>()) as ArrayRef,
                traits(|traits| traits.age_days),
                ints(|traits| traits.detections),
                singles(|traits| traits.drb),
                singles(|traits| traits.classtar),
                ints(|traits| traits.roid.into()),
                Arc::new(lit().map(|alert| Some(alert?.detection.traits.tracklet)).collect::<BooleanArray>()),
                texts(|alert| alert.detection.traits.enriched.as_ref().map(|enriched| &*enriched.cdsxmatch)),
                scores(|enriched| enriched.mulens),
                scores(|enriched| enriched.snn_snia_vs_nonia),
                scores(|enriched| enriched.snn_sn_vs_all),
                scores(|enriched| enriched.rf_snia_vs_nonia),
                scores(|enriched| enriched.rf_kn_vs_nonkn),
                Arc::new(reasons),
                Arc::new(history),
            ])
            .collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema.columns), columns)?;
    let places = rows.iter().map(|stored| stored.place.clone()).collect();
    Ok(AlertBatch { schema: Arc::clone(schema), rows: batch, places, nights: vec![night; rows.len()], observed_ms: None })
}

/// Points as columns, in the order of [`POINT`].
fn points<'p>(points: impl Iterator<Item = Option<&'p Point>> + Clone) -> [ArrayRef; 11] {
    let double = |of: fn(&Point) -> Real| -> ArrayRef { Arc::new(points.clone().map(|p| of(p?).some()).collect::<Float64Array>()) };
    let single = |of: fn(&Point) -> Real32| -> ArrayRef { Arc::new(points.clone().map(|p| of(p?).some()).collect::<Float32Array>()) };
    [
        double(|p| p.mjd_tai),
        double(|p| p.ra_deg),
        double(|p| p.dec_deg),
        single(|p| p.value),
        single(|p| p.error),
        single(|p| p.limit),
        single(|p| p.score),
        Arc::new(points.clone().map(|p| Some(char::from(p?.band.0).to_string())).collect::<StringArray>()),
        Arc::new(points.clone().map(|p| Some(unit(p?.unit))).collect::<StringArray>()),
        Arc::new(points.clone().map(|p| Some(p?.negative)).collect::<BooleanArray>()),
        Arc::new(points.map(|p| Some(p?.id)).collect::<Int64Array>()),
    ]
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Magnitude => "mag",
        Unit::NanoJansky => "nJy",
    }
}

/// The light rows of a batch of stored ones.
pub(super) fn load(batch: &AlertBatch) -> (Vec<LightAlert>, Vec<Unlit>) {
    let rows: StructArray = whole(&batch.rows);
    let record = Record::of(&rows);
    let column = |name| record.column(&[name]);
    let (object, survey, own) = (column(OBJECT), column("survey"), Reader::new(&record));
    let history = record.list("history").map(|(ranges, items)| (ranges, items.column(&["kind"]), Reader::new(&items)));
    let (visit, age, detections) = (column("visit"), column("age_days"), column("detections"));
    let (drb, classtar, roid, tracklet) = (column("drb"), column("classtar"), column("roid"), column("tracklet"));
    let cdsxmatch = column("cdsxmatch");
    let scores = ["mulens", "snn_snia_vs_nonia", "snn_sn_vs_all", "rf_snia_vs_nonia", "rf_kn_vs_nonkn"].map(column);
    let (mut lit, mut unlit) = (Vec::with_capacity(batch.places.len()), Vec::new());
    for (row, place) in batch.places.iter().enumerate() {
        let name = survey.text(row).and_then(|name| SURVEYS.iter().find(|survey| survey.name == name));
        let id = name.zip(object.text(row)).and_then(|(survey, name)| ObjectId::new(survey.id, name));
        let Some(object) = id else {
            unlit.push(Unlit { place: place.clone(), night: batch.nights[row], reason: "it has no light row" });
            continue;
        };
        let score = |which: usize| Real::from(scores[which].double(row));
        let enriched = cdsxmatch.text(row).map(|cdsxmatch| Enriched {
            cdsxmatch: cdsxmatch.into(),
            mulens: score(0),
            snn_snia_vs_nonia: score(1),
            snn_sn_vs_all: score(2),
            rf_snia_vs_nonia: score(3),
            rf_kn_vs_nonkn: score(4),
        });
        let traits = Traits {
            age_days: Real::from(age.double(row)),
            detections: int(&detections, row),
            drb: Real32::from(drb.single(row)),
            classtar: Real32::from(classtar.single(row)),
            roid: u8::try_from(int(&roid, row)).unwrap_or(0),
            tracklet: tracklet.flag(row).unwrap_or(false),
            enriched: enriched.map(Arc::new),
        };
        let detection = Detection { point: own.point(Kind::Detection, row), traits, address: address(place) };
        let repeated = history.iter().flat_map(|(ranges, kinds, points)| {
            ranges.range(row).map(|item| {
                let kind = match kinds.text(item) {
                    Some("limit") => Kind::Limit,
                    Some("forced") => Kind::Forced,
                    _ => Kind::Detection,
                };
                points.point(kind, item)
            })
        });
        let (visit, night) = (visit.long(row).unwrap_or(-1), batch.nights[row]);
        lit.push(LightAlert { object, detection, visit, night, history: repeated.collect() });
    }
    (lit, unlit)
}

fn int(column: &Column<'_>, row: usize) -> i32 {
    column.long(row).and_then(|number| number.try_into().ok()).unwrap_or(-1)
}

/// The columns of points.
struct Reader<'a>([Column<'a>; 11]);

impl<'a> Reader<'a> {
    fn new(record: &Record<'a>) -> Self {
        Self(POINT.map(|(name, _)| record.column(&[name])))
    }

    fn point(&self, kind: Kind, row: usize) -> Point {
        let [mjd_tai, ra_deg, dec_deg, value, error, limit, score, band, unit, negative, id] = &self.0;
        let letter = band.text(row).and_then(|text| text.chars().next()).and_then(|letter| u8::try_from(u32::from(letter)).ok());
        Point {
            kind,
            id: id.long(row).unwrap_or(0),
            mjd_tai: Real::from(mjd_tai.double(row)),
            ra_deg: Real::from(ra_deg.double(row)),
            dec_deg: Real::from(dec_deg.double(row)),
            value: Real32::from(value.single(row)),
            error: Real32::from(error.single(row)),
            limit: Real32::from(limit.single(row)),
            score: Real32::from(score.single(row)),
            band: letter.map_or(Band::UNKNOWN, Band),
            unit: if unit.text(row) == Some("nJy") { Unit::NanoJansky } else { Unit::Magnitude },
            negative: negative.flag(row).unwrap_or(false),
        }
    }
}
