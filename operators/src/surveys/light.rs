//! From decoded batches to light rows, by a survey's table of differences.

use std::sync::Arc;

use arrow::array::StructArray;
use fink_dataflow::alerts::{AlertBatch, Place};
use fink_dataflow::detection::{Address, Band, Detection, Kind, LightAlert, LogRef, ObjectId, Point, Real, Real32, Traits, Unit};

use super::columns::{Column, Ranges, Record, whole};
use super::{Scale, Survey, TAI_MINUS_UTC_S};

/// How a survey's alerts become light rows. Where several names are given, the first that a schema has is meant: so one
/// table reads all versions of it.
#[derive(Debug)]
pub struct Light {
    /// The objects that an alert may be about, by preference.
    pub objects: &'static [Field],
    /// The alert's own point.
    pub own: Points,
    /// The earlier points that an alert repeats.
    pub histories: &'static [Points],
    /// The visit.
    pub visit: Visit,
    /// What the values of the band's field mean.
    pub bands: &'static [(&'static str, Band)],
    /// What rules ask of each row.
    pub traits: fn(&Record<'_>, usize) -> Vec<Traits>,
}

/// A field of a record.
#[derive(Debug)]
pub struct Field {
    /// The record's path.
    pub record: &'static [&'static str],
    /// The field's names.
    pub names: &'static [&'static str],
}

/// The visit's field.
#[derive(Debug)]
pub struct Visit {
    /// Where it is.
    pub field: Field,
    /// What its number is divided by, to leave out detector and quadrant.
    pub divisor: i64,
}

/// A record, or a list of records, that are points of a light curve.
#[derive(Debug)]
pub struct Points {
    /// Where: the record's name, or the list's.
    pub at: &'static str,
    /// What the points are; detections without a number of their own are limits.
    pub kind: Kind,
    /// The points' numbers.
    pub ids: &'static [&'static str],
    /// The numbers of limits.
    pub limit_ids: &'static [&'static str],
    /// The time.
    pub times: &'static [&'static str],
    /// The time's scale.
    pub scale: Scale,
    /// Right ascension, degrees.
    pub ra: &'static [&'static str],
    /// Declination, degrees.
    pub dec: &'static [&'static str],
    /// The band.
    pub band: &'static [&'static str],
    /// The brightness.
    pub brightness: Brightness,
    /// The limit, in the unit of the brightness.
    pub limit: &'static [&'static str],
    /// How real it is.
    pub score: &'static [&'static str],
    /// Whether it is brighter, or fainter, than its template.
    pub sign: Sign,
}

/// Where the brightness stands, and in what unit.
#[derive(Debug)]
pub enum Brightness {
    /// Value and error in magnitudes.
    Magnitude(&'static [&'static str], &'static [&'static str]),
    /// Value and error in nanojansky.
    NanoJansky(&'static [&'static str], &'static [&'static str]),
    /// Value and error in counts of an image, and the magnitude of one count.
    Counts(&'static [&'static str], &'static [&'static str], &'static [&'static str]),
}

/// Which way a difference goes.
#[derive(Debug)]
pub enum Sign {
    /// The field says whether it is brighter.
    Positive(&'static [&'static str]),
    /// The field says whether it is fainter; without it, the flux does.
    Negative(&'static [&'static str]),
}

/// An alert that has no light row, and why.
#[derive(Clone, Debug)]
pub struct Unlit {
    /// Where it stands.
    pub place: Place,
    /// Its observing night, in days since 1970.
    pub night: Option<i32>,
    /// Why, for a person.
    pub reason: &'static str,
}

/// All alerts of a batch, for one reason.
pub(super) fn unlit(batch: &AlertBatch, reason: &'static str) -> Vec<Unlit> {
    let all = batch.places.iter().zip(&batch.nights);
    all.map(|(place, night)| Unlit { place: place.clone(), night: *night, reason }).collect()
}

/// Numbers that stand for none where a survey writes magnitudes or counts. Among fluxes they are fluxes.
const NONE: [f32; 2] = [-999.0, -99_999.0];

impl Survey {
    /// The light rows of a batch, and the alerts that have none: without an object, an id, a time or a place.
    #[must_use]
    pub fn light_rows(&self, batch: &AlertBatch) -> (Vec<LightAlert>, Vec<Unlit>) {
        let rows: StructArray = whole(&batch.rows);
        let record = Record::of(&rows);
        let light = self.light;
        let objects: Vec<_> = light.objects.iter().filter_map(|f| Some((record.at(f.record)?, f.names))).collect();
        let objects: Vec<_> = objects.iter().map(|(record, names)| (record, record.column(names))).collect();
        let Some(own) = record.at(&[light.own.at]) else {
            return (Vec::new(), unlit(batch, "its schema has no record of the survey's alerts"));
        };
        let own = Reader::new(&light.own, own);
        let histories: Vec<_> = light
            .histories
            .iter()
            .filter_map(|points| record.list(points.at).map(|(ranges, items)| (ranges, Reader::new(points, items))))
            .collect();
        let visits = record.at(light.visit.field.record).map_or(Column::None, |r| r.column(light.visit.field.names));
        let mut traits = (light.traits)(&record, batch.places.len()).into_iter();
        let (mut lit, mut unlit) = (Vec::with_capacity(batch.places.len()), Vec::new());
        for (row, place) in batch.places.iter().enumerate() {
            let traits = traits.next().expect("traits of every row");
            let object = objects.iter().find_map(|(record, names)| self.object(record, *names, row));
            let result = match (object, own.own(light.bands, row)) {
                (None, _) => Err("it names no object"),
                (_, Err(reason)) => Err(reason),
                (Some(object), Ok(point)) => Ok((object, point)),
            };
            match result {
                Ok((object, point)) => lit.push(LightAlert {
                    object,
                    detection: Detection { point, traits, address: address(place) },
                    visit: visits.long(row).map_or(-1, |visit| visit.div_euclid(light.visit.divisor)),
                    night: batch.nights[row],
                    history: history(&histories, light.bands, row),
                }),
                Err(reason) => unlit.push(Unlit { place: place.clone(), night: batch.nights[row], reason }),
            }
        }
        (lit, unlit)
    }

    fn object(&self, record: &Record<'_>, names: Column<'_>, row: usize) -> Option<ObjectId> {
        if !record.is_there(row) {
            return None;
        }
        match names.long(row) {
            Some(0) => None,
            Some(number) => ObjectId::new(self.id, &number.to_string()),
            None => ObjectId::new(self.id, names.text(row)?),
        }
    }
}

/// Where an alert stands.
pub(super) fn address(place: &Place) -> Address {
    Address { log: LogRef::from(Arc::clone(&place.log)), offset: place.offset, record: place.record }
}

fn history(histories: &[(Ranges<'_>, Reader<'_>)], bands: &[(&str, Band)], row: usize) -> Vec<Point> {
    let mut points = Vec::with_capacity(histories.iter().map(|(ranges, _)| ranges.range(row).len()).sum());
    for (ranges, reader) in histories {
        points.extend(ranges.range(row).filter_map(|item| reader.point(bands, item)));
    }
    points
}

/// The columns of some points.
struct Reader<'a> {
    points: &'static Points,
    record: Record<'a>,
    id: Column<'a>,
    limit_id: Column<'a>,
    time: Column<'a>,
    ra: Column<'a>,
    dec: Column<'a>,
    band: Column<'a>,
    value: Column<'a>,
    error: Column<'a>,
    zero_point: Column<'a>,
    limit: Column<'a>,
    score: Column<'a>,
    sign: Column<'a>,
    unit: Unit,
}

impl<'a> Reader<'a> {
    fn new(points: &'static Points, record: Record<'a>) -> Self {
        let column = |names| record.column(names);
        let (value, error, zero_point, unit) = match points.brightness {
            Brightness::Magnitude(value, error) => (column(value), column(error), Column::None, Unit::Magnitude),
            Brightness::NanoJansky(value, error) => (column(value), column(error), Column::None, Unit::NanoJansky),
            Brightness::Counts(value, error, zero) => (column(value), column(error), column(zero), Unit::NanoJansky),
        };
        Self {
            id: column(points.ids),
            limit_id: column(points.limit_ids),
            time: column(points.times),
            ra: column(points.ra),
            dec: column(points.dec),
            band: column(points.band),
            limit: column(points.limit),
            score: column(points.score),
            sign: column(match points.sign {
                Sign::Positive(names) | Sign::Negative(names) => names,
            }),
            points,
            record,
            value,
            error,
            zero_point,
            unit,
        }
    }

    /// The alert's own point, or why it has none.
    fn own(&self, bands: &[(&str, Band)], row: usize) -> Result<Point, &'static str> {
        let point = self.point(bands, row).ok_or("it has no id or no time")?;
        if point.kind != Kind::Detection {
            return Err("it has no id");
        }
        let on_sky = point.ra_deg.0.is_finite() && (-90.0..=90.0).contains(&point.dec_deg.0);
        if on_sky { Ok(point) } else { Err("it has no place on the sky") }
    }

    fn point(&self, bands: &[(&str, Band)], row: usize) -> Option<Point> {
        if !self.record.is_there(row) {
            return None;
        }
        let fluxes = matches!(self.points.brightness, Brightness::NanoJansky(..));
        let single = |column: &Column<'_>| Real32::from(column.single(row).filter(|v| fluxes || !NONE.contains(v)));
        let (mut value, mut error) = (single(&self.value), single(&self.error));
        if let Brightness::Counts(..) = self.points.brightness {
            // A count is worth 10^((31.4 - zero point) / 2.5) nanojansky.
            let worth = self.zero_point.double(row).filter(|z| *z > 0.0).map(|z| 10f64.powf((31.4 - z) / 2.5));
            #[expect(clippy::cast_possible_truncation, reason = "rounded to what a row has room for")]
            let scaled = |v: Real32| Real32::from(v.some().zip(worth).map(|(v, worth)| (f64::from(v) * worth) as f32));
            (value, error) = (scaled(value), scaled(error));
        }
        let limit = single(&self.limit);
        let (kind, id) = match (self.points.kind, self.id.long(row)) {
            (Kind::Forced, _) if value.some().is_none() => return None,
            (kind, Some(id)) => (kind, id),
            // What has no number of its own was not seen.
            (Kind::Detection, None) if limit.some().is_some() => (Kind::Limit, self.limit_id.long(row)?),
            _ => return None,
        };
        let sign = self.sign.flag(row);
        let negative = match self.points.sign {
            Sign::Positive(_) => sign == Some(false),
            Sign::Negative(_) => sign.unwrap_or(false),
        };
        Some(Point {
            kind,
            id,
            mjd_tai: Real(self.points.scale.mjd_tai(self.time.double(row).filter(|t| t.is_finite())?)),
            ra_deg: Real::from(self.ra.double(row)),
            dec_deg: Real::from(self.dec.double(row)),
            value,
            error,
            limit,
            score: single(&self.score),
            band: self.band(bands, row),
            unit: self.unit,
            negative: negative || (self.unit == Unit::NanoJansky && value.0 < 0.0),
        })
    }

    fn band(&self, bands: &[(&str, Band)], row: usize) -> Band {
        let known = |word: &str| bands.iter().find(|(name, _)| *name == word).map_or(Band::UNKNOWN, |(_, band)| *band);
        match (self.band.text(row), self.band.long(row)) {
            (Some(text), _) => known(text),
            (None, Some(digit @ 0..=9)) => known(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"][digit.unsigned_abs() as usize]),
            _ => Band::UNKNOWN,
        }
    }
}

impl Scale {
    /// A time of this scale as modified Julian date of TAI.
    #[must_use]
    pub fn mjd_tai(self, time: f64) -> f64 {
        match self {
            Self::JdUtc => (time - 2_400_000.5) + TAI_MINUS_UTC_S / 86_400.0,
            Self::MjdTai => time,
        }
    }
}
