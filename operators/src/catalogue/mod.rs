//! Catalogues: from a file's bytes to rows with a place, a radius and what they tell.
//!
//! | module | what it is |
//! |---|---|
//! | [`parquet`], [`csv`], [`fits`], [`votable`] | tables of each format, as Arrow batches |
//! | [`angle`] | degrees and sexagesimal |
//! | [`change`] | what a new version of a catalogue changes, row by row |
//! | [`packed`] | rows as Parquet of our own, to be kept |
//!
//! Nothing here opens a file: who does hands the bytes over.

pub mod angle;
pub mod change;
pub mod csv;
pub mod fits;
pub mod packed;
pub mod parquet;
pub mod votable;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use bytes::Bytes;
use fink_dataflow::detection::{Real, Real32};
use serde::{Deserialize, Serialize};

use crate::crossmatch::sky::moved;

/// A catalogue's number. Those whose types are classes come first, and of these the one that counts most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct CatalogueId(u16);

impl CatalogueId {
    /// Numbers are below this.
    pub const END: u16 = 1 << 15;

    /// A catalogue whose types are classes: the lower its number, the more it counts.
    #[must_use]
    pub const fn typed(number: u16) -> Self {
        Self(number % Self::END)
    }

    /// A catalogue that says nothing of classes.
    #[must_use]
    pub const fn untyped(number: u16) -> Self {
        Self(Self::END + number % Self::END)
    }

    /// Whether its types are classes.
    #[must_use]
    pub const fn is_typed(self) -> bool {
        self.0 < Self::END
    }
}

impl std::fmt::Display for CatalogueId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a catalogue's file is to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The catalogue.
    pub id: CatalogueId,
    /// The file's format.
    pub format: Format,
    /// The column of right ascension.
    pub ra: String,
    /// The column of declination.
    pub dec: String,
    /// What they are written in.
    pub position: PositionFormat,
    /// How near an object must be, in arcseconds.
    pub radius_arcsec: f64,
    /// The columns that a match tells, as text; the first is its type.
    pub carry: Vec<String>,
    /// Where proper motion stands, if it is to be followed.
    pub motion: Option<MotionColumns>,
}

/// A file's format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated text whose first line names the columns.
    Csv,
    /// The first binary table of a FITS file.
    Fits,
    /// The first table of a VOTable, as `TABLEDATA`.
    VoTable,
}

/// What positions are written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PositionFormat {
    /// Both in degrees.
    Degrees,
    /// Right ascension in hours, minutes and seconds, declination in degrees, minutes and seconds.
    Sexagesimal,
}

/// The columns of proper motion.
#[derive(Clone, Debug, PartialEq)]
pub struct MotionColumns {
    /// In right ascension, times the cosine of the declination; milliarcseconds a year.
    pub ra: String,
    /// In declination; milliarcseconds a year.
    pub dec: String,
    /// The Julian year of the positions.
    pub epoch: f64,
}

/// A proper motion.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Motion {
    /// In right ascension, times the cosine of the declination; milliarcseconds a year.
    pub ra: Real,
    /// In declination; milliarcseconds a year.
    pub dec: Real,
    /// When the row is where it says: modified Julian date.
    pub mjd: Real,
}

/// Motion is followed for so many years from its epoch; then the row stands still.
const MOTION_YEARS_MAX: f64 = 60.0;
const DAYS_A_YEAR: f64 = 365.25;
/// 2000-01-01 12:00.
const MJD_2000: f64 = 51_544.5;

/// A catalogue's row.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Row {
    /// The catalogue.
    pub catalogue: CatalogueId,
    /// The row's number in it, from 0.
    pub number: u32,
    /// Right ascension, ICRS, degrees.
    pub ra_deg: Real,
    /// Declination, ICRS, degrees.
    pub dec_deg: Real,
    /// How near an object must be.
    pub radius_arcsec: Real32,
    /// How it moves.
    pub motion: Option<Box<Motion>>,
    /// What a match tells: equal lists are shared.
    pub carried: Arc<[Box<str>]>,
}

impl Row {
    /// Where the row is at a time, in degrees.
    #[must_use]
    pub fn at(&self, mjd: f64) -> (f64, f64) {
        let here = (self.ra_deg.0, self.dec_deg.0);
        self.motion.as_deref().map_or(here, |motion| {
            let years = ((mjd - motion.mjd.0) / DAYS_A_YEAR).clamp(-MOTION_YEARS_MAX, MOTION_YEARS_MAX);
            if years.is_nan() { here } else { moved(here.0, here.1, motion.ra.0, motion.dec.0, years) }
        })
    }

    /// The radius of the disc, around the place that the row says, out of which nothing can ever match it.
    #[must_use]
    pub fn reach_arcsec(&self) -> f64 {
        let motion = self.motion.as_deref().map_or(0.0, |m| m.ra.0.hypot(m.dec.0) / 1_000.0 * MOTION_YEARS_MAX);
        f64::from(self.radius_arcsec.0) + motion
    }
}

/// Why a catalogue can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file is not what it is said to be.
    #[error("not a {format}: {reason}")]
    Format {
        /// What it should be.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// There is no such column.
    #[error("no column '{name}'; there are: {columns}")]
    Column {
        /// The name asked for.
        name: String,
        /// Those that there are.
        columns: String,
    },
    /// It has more rows than can be numbered.
    #[error("more than 4,294,967,295 rows")]
    TooLong,
}

impl CatalogueError {
    fn format(format: &'static str, reason: impl ToString) -> Self {
        Self::Format { format, reason: reason.to_string() }
    }
}

/// A catalogue's rows, and how many had no place on the sky.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Those with a place, in the file's order.
    pub rows: Vec<Row>,
    /// How many had none.
    pub placeless: usize,
}

/// Reads a catalogue.
///
/// # Errors
/// When the file is not of its format, or lacks a column.
pub fn read(file: Bytes, layout: &Layout) -> Result<Catalogue, CatalogueError> {
    let mut wanted = vec![layout.ra.as_str(), layout.dec.as_str()];
    wanted.extend(layout.carry.iter().map(String::as_str));
    wanted.extend(layout.motion.iter().flat_map(|m| [m.ra.as_str(), m.dec.as_str()]));
    let batches = match layout.format {
        Format::Parquet => parquet::tables(file, &wanted)?,
        Format::Csv => vec![csv::table(&file, &wanted)?],
        Format::Fits => vec![fits::table(&file, &wanted)?],
        Format::VoTable => vec![votable::table(&file, &wanted)?],
    };
    let mut catalogue = Catalogue::default();
    let mut shared = Shared::default();
    let mut number = 0;
    for batch in &batches {
        number = append(&mut catalogue, &mut shared, number, batch, layout)?;
    }
    Ok(catalogue)
}

/// The columns of these names, or which of them is missing.
fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, CatalogueError> {
    batch.column_by_name(name).ok_or_else(|| missing(name, batch.schema_ref().fields().iter().map(|f| f.name().as_str())))
}

fn missing<'n>(name: &str, columns: impl Iterator<Item = &'n str>) -> CatalogueError {
    CatalogueError::Column { name: name.to_owned(), columns: columns.take(40).collect::<Vec<_>>().join(", ") }
}

fn append(catalogue: &mut Catalogue, shared: &mut Shared, first: u32, batch: &RecordBatch, layout: &Layout) -> Result<u32, CatalogueError> {
    let angles = |name: &str, hours: bool| angles(column(batch, name)?, layout.position, hours);
    let (ra, dec) = (angles(&layout.ra, true)?, angles(&layout.dec, false)?);
    let carried = layout.carry.iter().map(|name| texts(column(batch, name)?)).collect::<Result<Vec<_>, _>>()?;
    let motion = layout.motion.as_ref();
    let motion = motion.map(|m| Ok::<_, CatalogueError>((numbers(column(batch, &m.ra)?)?, numbers(column(batch, &m.dec)?)?, m.epoch)));
    let motion = motion.transpose()?;
    let end = u32::try_from(batch.num_rows()).ok().and_then(|rows| first.checked_add(rows)).ok_or(CatalogueError::TooLong)?;
    #[expect(clippy::cast_possible_truncation, reason = "a radius")]
    let radius_arcsec = Real32(layout.radius_arcsec as f32);
    let mut key: Vec<Box<str>> = Vec::new();
    for (row, number) in (first..end).enumerate() {
        let on_sky = ra[row].is_finite() && (-90.0..=90.0).contains(&dec[row]);
        if !on_sky {
            catalogue.placeless += 1;
            continue;
        }
        key.clear();
        key.extend(carried.iter().map(|column| if column.is_valid(row) { column.value(row).trim().into() } else { "".into() }));
        let carried = shared.of(&key);
        let motion = motion.as_ref().and_then(|(pm_ra, pm_dec, epoch)| {
            let mjd = Real(MJD_2000 + (epoch - 2000.0) * DAYS_A_YEAR);
            let motion = Motion { ra: Real(pm_ra[row]), dec: Real(pm_dec[row]), mjd };
            (motion.ra.0.is_finite() && motion.dec.0.is_finite()).then(|| Box::new(motion))
        });
        let ra_deg = Real(ra[row].rem_euclid(360.0));
        catalogue.rows.push(Row { catalogue: layout.id, number, ra_deg, dec_deg: Real(dec[row]), radius_arcsec, motion, carried });
    }
    Ok(end)
}

/// Lists of what rows carry: equal ones are one.
#[derive(Default)]
struct Shared(HashSet<Arc<[Box<str>]>>);

impl Shared {
    fn of(&mut self, list: &[Box<str>]) -> Arc<[Box<str>]> {
        if let Some(known) = self.0.get(list) {
            return Arc::clone(known);
        }
        let list: Arc<[Box<str>]> = list.into();
        self.0.insert(Arc::clone(&list));
        list
    }
}

/// A column as numbers; NaN where there is none.
fn numbers(column: &ArrayRef) -> Result<Vec<f64>, CatalogueError> {
    let column = cast(column, &DataType::Float64).map_err(|e| CatalogueError::format("column of numbers", e))?;
    let column = arrow::array::AsArray::as_primitive::<Float64Type>(&column);
    Ok(column.iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// A column as text.
fn texts(column: &ArrayRef) -> Result<StringArray, CatalogueError> {
    let column = cast(column, &DataType::Utf8).map_err(|e| CatalogueError::format("column of text", e))?;
    Ok(arrow::array::AsArray::as_string::<i32>(&column).clone())
}

fn angles(column: &ArrayRef, format: PositionFormat, hours: bool) -> Result<Vec<f64>, CatalogueError> {
    let is_text = matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match format {
        PositionFormat::Degrees if !is_text => numbers(column),
        PositionFormat::Degrees => Ok(texts(column)?.iter().map(|text| text.and_then(angle::degrees).unwrap_or(f64::NAN)).collect()),
        PositionFormat::Sexagesimal => {
            let unit = if hours { 15.0 } else { 1.0 };
            Ok(texts(column)?.iter().map(|text| text.and_then(angle::sexagesimal).map_or(f64::NAN, |value| value * unit)).collect())
        }
    }
}
