//! Catalogues' files as rows: what the configuration declares, read at the start.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use fink_operators::catalogue::{CatalogueId, Format, Layout, Row, read};

use super::answers::nameless;

/// A declared catalogue.
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
pub fn format_of(path: &std::path::Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "parquet" => Some(Format::Parquet),
        "csv" => Some(Format::Csv),
        "fits" | "fit" => Some(Format::Fits),
        "vot" | "votable" | "xml" => Some(Format::VoTable),
        _ => None,
    }
}

/// Reads all catalogues.
///
/// # Errors
/// When one can't be read; which, and why.
pub fn load(files: &[CatalogueFile]) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for CatalogueFile { name, path, layout } in files {
        let bytes = std::fs::read(path).with_context(|| format!("catalogue {name}: {} can't be read", path.display()))?;
        let found = read(Bytes::from(bytes), layout).with_context(|| format!("catalogue {name}: {}", path.display()))?;
        tracing::info!(catalogue = name, rows = found.rows.len(), without_place = found.placeless, "catalogue read");
        rows.extend(found.rows);
    }
    Ok(rows)
}

/// What the catalogues are called, and their columns.
#[derive(Clone, Debug, Default)]
pub struct Names {
    catalogues: Arc<[(CatalogueId, String, Vec<String>)]>,
    /// Whether classes are told.
    pub classify: bool,
}

impl Names {
    /// The names of these.
    #[must_use]
    pub fn new(files: &[CatalogueFile], classify: bool) -> Self {
        let name = |file: &CatalogueFile| (file.layout.id, file.name.clone(), file.layout.carry.clone());
        Self { catalogues: files.iter().map(name).collect(), classify }
    }

    fn find(&self, id: CatalogueId) -> Option<&(CatalogueId, String, Vec<String>)> {
        self.catalogues.iter().find(|(known, ..)| *known == id)
    }

    /// A catalogue's name.
    #[must_use]
    pub fn of(&self, id: CatalogueId) -> String {
        self.find(id).map_or_else(|| nameless(id), |(_, name, _)| name.clone())
    }

    /// The columns that it tells.
    #[must_use]
    pub fn columns(&self, id: CatalogueId) -> &[String] {
        self.find(id).map_or(&[], |(.., columns)| columns)
    }
}
