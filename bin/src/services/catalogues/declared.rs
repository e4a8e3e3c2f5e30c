//! The catalogues that are declared in an archive.
//!
//! ```text
//! _fink/catalogues/00000000000000000007.json    a Declaration: all catalogues, as of the seventh change
//! _fink/catalogues/rows/<uuid>.parquet          rows of a version, or what a version changed
//! ```
//!
//! They live in the archive, since all processes that answer for it must have the same, on whatever machine, and since they
//! outlive the file that they were made of: what counts are the rows that lie here. Each change is a new declaration, put if
//! absent under the next number: of two commands at a time one has to look again. The archive's writer takes no part in it
//! and its generation is not asked: nothing of what is archived depends on a catalogue.

use std::collections::BTreeSet;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use chrono::TimeDelta;
use fink_dataflow::detection::Real32;
use fink_dataflow::table::Archive;
use fink_dataflow::table::store::wait;
use fink_operators::catalogue::change::{Change, difference, renumber};
use fink_operators::catalogue::packed::{Form, pack, unpack};
use fink_operators::catalogue::{Catalogue, CatalogueId, Row};
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use crate::config::keys::CatalogueSection;

/// The version of the declarations' own format.
const FORMAT: u32 = 1;
/// Declarations, and the rows they name, that stay when later ones are there: a process may be a few behind.
const KEPT: u64 = 16;
/// Rows that no declaration names may be about to be declared for so long.
const YOUNG: TimeDelta = TimeDelta::hours(1);
const FOLDER: &str = "_fink/catalogues";
/// Numbers of catalogues of the configuration are below this, of those that are declared here not.
pub const FIRST_ID: u16 = 1 << 14;

/// All catalogues that are declared, as of a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Declaration {
    /// The format's version.
    pub format: u32,
    /// How many changes there were.
    pub number: u64,
    /// Whose it is.
    pub nonce: String,
    /// When it was put, by the clock of who put it, in milliseconds since 1970 UTC.
    pub declared_ms: i64,
    /// What changed, for a person: `add gcvs`.
    pub change: String,
    /// The number of the next catalogue.
    pub next_id: u16,
    /// The catalogues, in the order in which they were declared.
    pub catalogues: Vec<Declared>,
}

/// A declared catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its number: another when what its columns mean has changed.
    pub id: CatalogueId,
    /// How its file is read.
    pub reading: CatalogueSection,
    /// Whether its first carried column is a class.
    pub classes: bool,
    /// The change that made it what it is.
    pub version: u64,
    /// Its rows.
    pub rows: u64,
    /// Lines of its file that have no place on the sky.
    pub without_place: u64,
    /// The number of its next new row.
    pub next_row: u32,
    /// Where its rows are.
    pub file: String,
    /// What changed since the version before, if there is one.
    pub changes: Option<Changes>,
}

/// What a version changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// The version before.
    pub since: u64,
    /// How many rows came.
    pub came: u64,
    /// How many went.
    pub went: u64,
    /// Where they are.
    pub file: String,
    /// What rows that went had in common.
    pub id: CatalogueId,
    /// The same: how near an object had to be.
    pub radius_arcsec: f64,
}

/// A catalogue's file as it was read.
pub struct Read {
    /// How.
    pub reading: CatalogueSection,
    /// Whether its first carried column is a class.
    pub classes: bool,
    /// What it holds.
    pub found: Catalogue,
}

impl Declared {
    /// What its rows have in common.
    #[must_use]
    pub fn form(&self) -> Form {
        form(self.id, self.reading.radius_arcsec)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a radius")]
fn form(catalogue: CatalogueId, radius_arcsec: f64) -> Form {
    Form { catalogue, radius_arcsec: Real32(radius_arcsec as f32) }
}

impl Declaration {
    /// A catalogue by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Declared> {
        self.catalogues.iter().find(|declared| declared.name == name)
    }

    fn files(&self) -> impl Iterator<Item = &str> {
        self.catalogues.iter().flat_map(|d| [Some(d.file.as_str()), d.changes.as_ref().map(|c| c.file.as_str())]).flatten()
    }
}

/// The declarations of an archive.
#[derive(Clone)]
pub struct Declarations {
    archive: Archive,
}

impl Declarations {
    /// Those of this archive.
    #[must_use]
    pub fn of(archive: &Archive) -> Self {
        Self { archive: archive.clone() }
    }

    /// The last one; an empty one where nothing was ever declared.
    ///
    /// # Errors
    /// When the archive can't be read.
    pub fn last(&self) -> anyhow::Result<Declaration> {
        let numbers = self.numbers()?;
        let Some(last) = numbers.last() else { return Ok(Declaration { format: FORMAT, next_id: FIRST_ID, ..Declaration::default() }) };
        self.next(*last)?.with_context(|| format!("{}: declaration {last} of catalogues was there and is gone", self.archive))
    }

    /// The declaration of this number, if it is there.
    ///
    /// # Errors
    /// When the archive can't be read, or a later release wrote it.
    pub fn next(&self, number: u64) -> anyhow::Result<Option<Declaration>> {
        let Some(bytes) = self.get(&path_of(number))? else { return Ok(None) };
        let place = || format!("{}/{}", self.archive, path_of(number));
        let declaration: Declaration = serde_json::from_slice(&bytes).with_context(|| format!("{} is no declaration", place()))?;
        if declaration.format > FORMAT {
            bail!("{} is of a later release: format {}, known is {FORMAT}", place(), declaration.format);
        }
        Ok(Some(declaration))
    }

    /// All rows of a catalogue, in order of their numbers.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn rows(&self, of: &Declared) -> anyhow::Result<Vec<Row>> {
        let changes = self.unpack(&of.name, &of.file, of.form(), of.form())?;
        Ok(changes.into_iter().map(|(row, _)| row).collect())
    }

    /// What makes `new` of `old`, which is the same catalogue or none.
    ///
    /// # Errors
    /// When rows can't be read.
    pub fn changes(&self, old: Option<&Declared>, new: Option<&Declared>) -> anyhow::Result<Vec<Change>> {
        match (old, new) {
            (Some(old), Some(new)) if old.version == new.version => Ok(Vec::new()),
            (Some(old), Some(new)) => match new.changes.as_ref().filter(|changes| changes.since == old.version) {
                Some(changes) => self.unpack(&new.name, &changes.file, new.form(), form(changes.id, changes.radius_arcsec)),
                None => Ok(difference(&self.rows(old)?, &self.rows(new)?)),
            },
            (old, new) => {
                Ok(difference(&old.map_or(Ok(Vec::new()), |old| self.rows(old))?, &new.map_or(Ok(Vec::new()), |new| self.rows(new))?))
            }
        }
    }

    /// What `name` is after its file was read so: its rows are put, and the declaration is made that only has to be put.
    ///
    /// # Errors
    /// When rows can't be read or put.
    pub fn draft(&self, last: &Declaration, name: &str, read: Read) -> anyhow::Result<Declaration> {
        let mut next = last.clone();
        let old = last.find(name);
        let Read { reading, classes, found: Catalogue { rows, placeless } } = read;
        let columns = reading.carry.len();
        // What matches tell is read by the catalogue's number: other columns are another's.
        let same = old.filter(|old| old.reading.carry == reading.carry && old.classes == classes);
        let id = match same {
            Some(old) => old.id,
            None if next.next_id >= CatalogueId::END => bail!("no number is left for another catalogue"),
            None => {
                next.next_id += 1;
                if classes { CatalogueId::typed(next.next_id - 1) } else { CatalogueId::untyped(next.next_id - 1) }
            }
        };
        let Form { catalogue, radius_arcsec } = form(id, reading.radius_arcsec);
        let rows: Vec<Row> = rows.into_iter().map(|row| Row { catalogue, radius_arcsec, ..row }).collect();
        let before = old.map(|old| self.rows(old)).transpose()?.unwrap_or_default();
        let free = old.map_or_else(|| rows.last().map_or(0, |row| row.number.saturating_add(1)), |old| old.next_row);
        let (rows, next_row) = if old.is_some() { renumber(&before, rows, free) } else { (rows, free) };
        let changes = match old {
            None => None,
            Some(old) => {
                let changes = difference(&before, &rows);
                let came = changes.iter().filter(|(_, change)| *change > 0).count() as u64;
                let went = changes.len() as u64 - came;
                let file = self.put_rows(&changes, columns.max(old.reading.carry.len()))?;
                Some(Changes { since: old.version, came, went, file, id: old.id, radius_arcsec: old.reading.radius_arcsec })
            }
        };
        let all: Vec<Change> = rows.into_iter().map(|row| (row, 1)).collect();
        let declared = Declared {
            name: name.to_owned(),
            id,
            version: last.number + 1,
            rows: all.len() as u64,
            without_place: placeless as u64,
            next_row,
            file: self.put_rows(&all, columns)?,
            changes,
            reading,
            classes,
        };
        match next.catalogues.iter_mut().find(|each| each.name == name) {
            Some(there) => *there = declared,
            None => next.catalogues.push(declared),
        }
        Ok(next)
    }

    /// Puts what follows on `last`, with the change it is. `false`: another was put before; look again.
    ///
    /// # Errors
    /// When the archive can't be written.
    pub fn put(&self, last: &Declaration, next: Declaration, change: &str) -> anyhow::Result<bool> {
        let (number, nonce) = (last.number + 1, nonce());
        let next = Declaration {
            format: FORMAT,
            number,
            nonce: nonce.clone(),
            declared_ms: chrono::Utc::now().timestamp_millis(),
            change: change.to_owned(),
            ..next
        };
        let body = PutPayload::from(serde_json::to_vec_pretty(&next)?);
        let (store, path) = (self.archive.store().clone(), self.archive.path(&path_of(number)));
        match wait(async move { store.put_opts(&path, body, PutMode::Create.into()).await }) {
            Ok(_) => {}
            // After an error the put may have happened all the same: what is there says whose it is.
            Err(error) => match self.next(number)? {
                Some(there) if there.nonce == nonce => {}
                Some(_) => return Ok(false),
                None => return Err(anyhow!(error).context(format!("{}: the declaration can't be put", self.archive))),
            },
        }
        if let Err(error) = self.tidy(number) {
            tracing::warn!(%error, "rows of old versions of catalogues are still there");
        }
        Ok(true)
    }

    /// Deletes what only older declarations name.
    fn tidy(&self, last: u64) -> anyhow::Result<()> {
        let (mut named, mut old) = (BTreeSet::new(), Vec::new());
        for number in self.numbers()? {
            if number + KEPT <= last {
                old.push(self.archive.path(&path_of(number)));
            } else if let Some(declaration) = self.next(number)? {
                named.extend(declaration.files().map(|file| self.archive.path(&format!("{FOLDER}/rows/{file}"))));
            }
        }
        let archive = self.archive.clone();
        wait(async move {
            let now = archive.clock().await?;
            let rows: Vec<_> = archive.store().list(Some(&archive.path(&format!("{FOLDER}/rows")))).try_collect().await?;
            let unnamed = rows.into_iter().filter(|file| !named.contains(&file.location) && now - file.last_modified > YOUNG);
            for path in unnamed.map(|file| file.location).chain(old) {
                match archive.store().delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn numbers(&self) -> anyhow::Result<Vec<u64>> {
        let archive = self.archive.clone();
        let listed = wait(async move { archive.store().list_with_delimiter(Some(&archive.path(FOLDER))).await });
        let listed = listed.with_context(|| format!("{}: the declared catalogues can't be listed", self.archive))?;
        let number = |name: &str| name.strip_suffix(".json")?.parse().ok();
        let mut numbers: Vec<u64> = listed.objects.iter().filter_map(|object| number(object.location.filename()?)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn get(&self, path: &str) -> anyhow::Result<Option<Bytes>> {
        let (store, at) = (self.archive.store().clone(), self.archive.path(path));
        match wait(async move { store.get(&at).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(anyhow!(error).context(format!("{}/{path} can't be read", self.archive))),
        }
    }

    fn unpack(&self, name: &str, file: &str, new: Form, old: Form) -> anyhow::Result<Vec<Change>> {
        let path = format!("{FOLDER}/rows/{file}");
        let bytes = self.get(&path)?.with_context(|| format!("catalogue {name}: {}/{path} is gone", self.archive))?;
        unpack(bytes, new, old).with_context(|| format!("catalogue {name}: {}/{path}", self.archive))
    }

    fn put_rows(&self, changes: &[Change], columns: usize) -> anyhow::Result<String> {
        let file = format!("{}.parquet", nonce());
        let (store, path) = (self.archive.store().clone(), self.archive.path(&format!("{FOLDER}/rows/{file}")));
        let body = PutPayload::from(pack(changes, columns)?);
        wait(async move { store.put(&path, body).await }).with_context(|| format!("{}: the rows can't be put", self.archive))?;
        Ok(file)
    }
}

fn path_of(number: u64) -> String {
    format!("{FOLDER}/{number:020}.json")
}

fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
