//! A catalogue of the synthetic sky, made of the truth of what was sent: so that matches can be scored.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use clap::Args;
use indicatif::HumanCount;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use xxhash_rust::xxh3::xxh3_64;

/// The column with an object's name at its survey.
pub(super) const NAME: &str = "object";
/// The columns of a catalogue: name, class, true place in degrees (J2000).
const COLUMNS: [&str; 4] = [NAME, "class", "ra_deg", "dec_deg"];
/// What has no place of its own in the sky.
const PLACELESS: [&str; 4] = ["asteroid", "satellite glint", "cosmic ray", "bad subtraction"];

const EXAMPLES: &str = "\
Example:
  fink start simulator --brokers localhost:9092 --topic t --count 10000 --truth truth.parquet
  fink simulator catalog truth.parquet sky.parquet --share 0.8

The catalogue has a row for each object that was seen and has a place of its own: columns object, class, ra_deg and dec_deg
(true place, J2000). Asteroids, satellites and artefacts have none. Declared in fink.toml it is matched as any other:

  [services]
  classes = [\"sky\"]
  [services.catalogues.sky]
  path = \"sky.parquet\"
  ra = \"ra_deg\"
  dec = \"dec_deg\"
  radius_arcsec = 1.5
  carry = [\"class\", \"object\"]

Then `fink simulator score truth.parquet --at HOST:PORT --catalog sky.parquet` says how well the services found it.";

/// What `fink simulator catalog` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CatalogArgs {
    /// The file that `fink start simulator --truth` wrote
    #[arg(value_name = "TRUTH")]
    truth: PathBuf,
    /// The catalogue to write, in Parquet
    #[arg(value_name = "FILE")]
    catalog: PathBuf,
    /// The part of the objects that it knows, from 0 to 1; which ones is a function of their names
    #[arg(long, value_name = "PART", default_value_t = 1.0, value_parser = part)]
    share: f64,
}

fn part(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err(format!("{part} is not between 0 and 1")) }
}

/// Makes a catalogue.
///
/// # Errors
/// When the truth can't be read, or the catalogue can't be written.
pub(super) fn make(args: &CatalogArgs) -> anyhow::Result<ExitCode> {
    let objects = objects(&args.truth)?;
    let seen = objects.len();
    let known: Vec<_> = objects.into_iter().filter(|(name, _)| is_known(name, args.share)).collect();
    write(&args.catalog, &known).with_context(|| format!("{} can't be written", args.catalog.display()))?;
    println!(
        "{} of {} objects that have a place are in {}",
        HumanCount(known.len() as u64),
        HumanCount(seen as u64),
        args.catalog.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Whether a catalogue that knows so large a part knows an object: a larger one knows all that a smaller one does.
fn is_known(name: &str, share: f64) -> bool {
    // 53 bits, as many as a double tells apart.
    let chance = (xxh3_64(name.as_bytes()) >> 11) as f64 / (1u64 << 53) as f64;
    chance < share
}

/// The objects of a truth that have a place of their own: class and place, by name.
fn objects(truth: &Path) -> anyhow::Result<BTreeMap<String, (String, [f64; 2])>> {
    let mut objects = BTreeMap::new();
    for batch in read(truth, &COLUMNS)? {
        let batch = batch.with_context(|| format!("{} can't be read", truth.display()))?;
        let (names, classes) = (batch[NAME].as_string::<i32>(), batch["class"].as_string::<i32>());
        let (ra, dec) = (batch["ra_deg"].as_primitive::<Float64Type>(), batch["dec_deg"].as_primitive::<Float64Type>());
        for row in 0..batch.num_rows() {
            if names.is_valid(row) && classes.is_valid(row) && !PLACELESS.contains(&classes.value(row)) {
                let of = || (classes.value(row).to_owned(), [ra.value(row), dec.value(row)]);
                objects.entry(names.value(row).to_owned()).or_insert_with(of);
            }
        }
    }
    Ok(objects)
}

/// The names that a catalogue of [`make`] has.
///
/// # Errors
/// When it can't be read.
pub(super) fn names(catalog: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for batch in read(catalog, &[NAME])? {
        let batch = batch.with_context(|| format!("{} can't be read", catalog.display()))?;
        names.extend(batch[NAME].as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(names)
}

fn read(path: &Path, columns: &[&str]) -> anyhow::Result<ParquetRecordBatchReader> {
    let place = || format!("{} can't be read", path.display());
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).with_context(place)?).with_context(place)?;
    for column in columns {
        ensure!(builder.schema().column_with_name(column).is_some(), "{} has no column {column}", path.display());
    }
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    builder.with_projection(mask).with_batch_size(8192).build().with_context(place)
}

fn write(path: &Path, objects: &[(String, (String, [f64; 2]))]) -> anyhow::Result<()> {
    let texts =
        |text: fn(&(String, (String, [f64; 2]))) -> &str| Arc::new(StringArray::from_iter_values(objects.iter().map(text))) as ArrayRef;
    let place = |axis: usize| Arc::new(objects.iter().map(|(_, (_, place))| Some(place[axis])).collect::<Float64Array>()) as ArrayRef;
    let values = [texts(|(name, _)| name), texts(|(_, (class, _))| class), place(0), place(1)];
    let batch = RecordBatch::try_from_iter(COLUMNS.into_iter().zip(values))?;
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_of_a_part_is_part_of_the_whole() {
        let names: Vec<String> = (0..10_000).map(|number| format!("ZTF26{number:07}")).collect();
        let known = |share: f64| names.iter().filter(|name| is_known(name, share)).collect::<BTreeSet<_>>();
        assert_eq!((known(0.0).len(), known(1.0).len()), (0, names.len()));
        assert!(known(0.3).is_subset(&known(0.8)));
        assert!((7_500..8_500).contains(&known(0.8).len()), "{}", known(0.8).len());
    }

    #[test]
    fn what_was_written_is_read_again_and_what_has_no_place_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let (truth, catalog) = (folder.path().join("truth.parquet"), folder.path().join("sky.parquet"));
        let object = |name: &str, class: &str, place| (name.to_owned(), (class.to_owned(), place));
        let all = [object("a", "RR Lyrae", [10.0, -5.0]), object("m", "asteroid", [11.0, 0.0]), object("z", "AGN", [359.9, 89.0])];
        write(&truth, &all).expect("written");
        make(&CatalogArgs { truth, catalog: catalog.clone(), share: 1.0 }).expect("made");
        assert_eq!(names(&catalog).expect("read"), BTreeSet::from(["a".to_owned(), "z".to_owned()]));
        assert_eq!(objects(&catalog).expect("read")["z"], ("AGN".to_owned(), [359.9, 89.0]));
        let error = read(&catalog, &["class", "redshift"]).expect_err("no such column").to_string();
        assert!(error.ends_with("sky.parquet has no column redshift"), "{error}");
    }
}
