//! Catalogues while services run: which there are, how their rows come into the graph, and since when they count.
//!
//! ```text
//!  fink.toml ──────────────┐
//!                          ├─► feed: reads files, finds out what changed ─► pieces ─► late ─► cross-match
//!  archive: declarations ──┘     │                                                     │
//!    (fink catalog add …)        └──────────────► register ◄── at which Moments ◄──────┘
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | [`declared`] | the catalogues that are declared in an archive, one declaration after another |
//! | [`feed`] | the thread that brings rows into the graph |
//! | [`register`] | what the catalogues are called, and since which Moment each counts |
//!
//! A change of a catalogue is late data that belongs together: it comes in pieces, an epoch ahead of live data, and rolls in
//! whole. So an answer knows all of a change or nothing of it, and live alerts do not wait for it.

pub mod declared;
pub mod feed;
pub mod register;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use fink_operators::catalogue::{Catalogue, CatalogueId, Format, Layout, read};

use register::Register;

/// A catalogue in a file, and how it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogueFile {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// How it is read.
    pub layout: Layout,
}

/// The format that a file's name tells.
#[must_use]
pub fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "parquet" => Some(Format::Parquet),
        "csv" => Some(Format::Csv),
        "fits" | "fit" => Some(Format::Fits),
        "vot" | "votable" | "xml" => Some(Format::VoTable),
        _ => None,
    }
}

impl CatalogueFile {
    /// Reads it.
    ///
    /// # Errors
    /// When it can't be read: which it is, and why.
    pub fn read(&self) -> anyhow::Result<Catalogue> {
        let Self { name, path, layout } = self;
        let bytes = std::fs::read(path).with_context(|| format!("catalogue {name}: {} can't be read", path.display()))?;
        read(Bytes::from(bytes), layout).with_context(|| format!("catalogue {name}: {}", path.display()))
    }
}

/// What the catalogues are called, and their columns.
#[derive(Clone, Default)]
pub struct Names {
    register: Register,
    /// Whether classes are told.
    pub classify: bool,
}

impl Names {
    /// The names that a register knows.
    #[must_use]
    pub fn new(register: &Register, classify: bool) -> Self {
        Self { register: register.clone(), classify }
    }

    /// A catalogue's name; its number where it is not known.
    #[must_use]
    pub fn of(&self, id: CatalogueId) -> String {
        self.register.name(id).map_or_else(|| id.to_string(), |(name, _)| name.to_string())
    }

    /// The columns that it tells.
    #[must_use]
    pub fn columns(&self, id: CatalogueId) -> Arc<[String]> {
        self.register.name(id).map_or_else(Arc::default, |(_, columns)| columns)
    }
}
