//! Which table a writer's schema goes to: decided once and for ever, and replayable from the ledger's state.
//!
//! The first family of schemas that is seen takes `alerts`, others `alerts_<family>`. A schema goes to the newest table of
//! its family that can hold it, if need be after new nullable columns (also inside of structs and lists of structs). What
//! no table can take (a field with another type, names that differ by case) opens `alerts_<family>_2`, and so on. What
//! Delta can't hold at all goes to `alerts_raw`.
//!
//! A file has the columns of its own writer's schema: those that the table has besides are absent and read as null.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Fields, SchemaRef};
use delta_kernel::schema::StructType;
use fink_dataflow::alerts::{Form, WriterSchema};
use fink_dataflow::table::entry::{Route, State};
use serde::{Deserialize, Serialize};

use super::columns::Names;
use super::properties::Layout;
use super::types::{self, TypesError};
use crate::rejects;

/// The table of the first family.
pub const ALERTS: &str = "alerts";
/// The table of what Delta can't hold in columns.
pub const RAW: &str = "alerts_raw";

/// Why a schema found no table.
#[derive(Debug, thiserror::Error)]
#[error("no table for schema {fingerprint} of {name}: {source}")]
pub struct RouteError {
    /// The schema.
    pub fingerprint: Arc<str>,
    /// The record's full name.
    pub name: String,
    /// Why.
    #[source]
    pub source: TypesError,
}

/// Why a table can't have the columns that are declared for it.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// Delta has no such columns.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// It has others.
    #[error("table {0} has columns of these names and other types: columns are added, never changed; give the new ones another name")]
    Changed(Arc<str>),
}

/// How files of one writer's schema are written.
#[derive(Debug)]
pub struct TableShape {
    /// The table's folder in the archive.
    pub table: Arc<str>,
    /// What rows of this schema say in our column `schema_id`.
    pub schema_id: Arc<str>,
    /// The columns of the files: the survey's as this schema has them, then ours.
    pub columns: SchemaRef,
    /// The table's partition columns.
    pub partition_columns: Vec<String>,
    /// How the columns are written.
    pub layout: Layout,
}

/// What the ledger does not know yet of the tables that an entry touches.
#[derive(Debug, Default)]
pub struct Pending {
    /// Routes to these tables that no entry holds.
    pub routes: Vec<Route>,
    /// The schema (Delta's JSON) of each touched table that is new, or has new columns, with its partition columns.
    pub schemas: BTreeMap<Arc<str>, (String, Vec<String>)>,
}

/// Where a schema goes, as whoever decides for all has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Decision {
    /// The table.
    pub table: Arc<str>,
    /// The table's schema by then, as Delta's JSON.
    pub schema: String,
}

/// Who decides for all processes of a cluster where a schema goes.
pub trait Decides: Send + Sync {
    /// Decides, and returns when that is known.
    ///
    /// # Errors
    /// A text for a person, when no table can take it.
    fn decide(&self, schema: &WriterSchema) -> Result<Decision, String>;
}

/// The routes of a process; shared by its writers and its committer.
pub struct Routes {
    inner: Mutex<Inner>,
    /// Who decides; `None`: this process.
    decides: Option<Arc<dyn Decides>>,
}

struct Inner {
    routes: BTreeMap<Arc<str>, Route>,
    tables: BTreeMap<Arc<str>, Known>,
    /// Tables that hold no alerts: their schemas, and the same as Delta's JSON.
    others: BTreeMap<Arc<str>, (StructType, String)>,
    shapes: HashMap<Arc<str>, Arc<TableShape>>,
    /// The schemas met, as the surveys wrote them, by fingerprint.
    texts: HashMap<Arc<str>, Arc<str>>,
}

struct Known {
    schema: StructType,
    json: String,
    names: Names,
}

impl Routes {
    /// The routes that the ledger knows.
    ///
    /// # Errors
    /// When the state holds a table schema that is none.
    pub fn new(state: &State) -> Result<Self, TypesError> {
        let (mut tables, mut others) = (BTreeMap::new(), BTreeMap::new());
        for (table, known) in state.tables.iter().filter(|(table, _)| &***table != rejects::TABLE) {
            let schema = types::from_json(&known.schema)?;
            let Some(names) = Names::of_table(&schema) else {
                others.insert(Arc::clone(table), (schema, known.schema.clone()));
                continue;
            };
            tables.insert(Arc::clone(table), Known { schema, json: known.schema.clone(), names });
        }
        let (shapes, texts) = (HashMap::new(), HashMap::new());
        Ok(Self { inner: Mutex::new(Inner { routes: state.routes.clone(), tables, others, shapes, texts }), decides: None })
    }

    /// The same, where another process decides on schemas that are new: two that met the same at once might decide otherwise.
    ///
    /// # Errors
    /// As [`Routes::new`].
    pub fn decided_by(state: &State, decides: Arc<dyn Decides>) -> Result<Self, TypesError> {
        Ok(Self { decides: Some(decides), ..Self::new(state)? })
    }

    /// Gives a table that holds no alerts these columns, beside those that it had before. Returns the columns of its files;
    /// it is not partitioned.
    ///
    /// # Errors
    /// When Delta has no such columns, or the table has others of these names.
    pub fn declare(&self, table: &Arc<str>, columns: &Fields) -> Result<SchemaRef, DeclareError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let new = types::of_columns(columns)?;
        let (schema, json) = match inner.others.get(table) {
            Some((known, json)) => {
                let merged = types::merge(known, &new).ok_or_else(|| DeclareError::Changed(Arc::clone(table)))?;
                // Unchanged schemas keep their text, whoever wrote it.
                let json = if merged == *known { json.clone() } else { types::to_json(&merged)? };
                (merged, json)
            }
            None => (new.clone(), types::to_json(&new)?),
        };
        let columns = Arc::new(types::file_schema(&schema, &[])?);
        inner.others.insert(Arc::clone(table), (schema, json));
        Ok(columns)
    }

    /// Where the rows of a schema go, and how they are written. The first call for a schema decides.
    ///
    /// # Errors
    /// When the schema has columns that Delta can't hold: its decoder should have made it [`Form::Raw`].
    pub fn route(&self, schema: &WriterSchema) -> Result<Arc<TableShape>, RouteError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = inner.shapes.get(&schema.fingerprint) {
            return Ok(Arc::clone(shape));
        }
        let failed = |source| RouteError { fingerprint: Arc::clone(&schema.fingerprint), name: schema.name.clone(), source };
        if let Some(decides) = &self.decides {
            // Also of one that the ledger routes already: its table may have grown since.
            let decision = decides.decide(schema).map_err(TypesError::Delta).map_err(failed)?;
            inner.adopt(schema, decision).map_err(failed)?;
        }
        let shape = Arc::new(inner.decide(schema).map_err(failed)?);
        inner.shapes.insert(Arc::clone(&schema.fingerprint), Arc::clone(&shape));
        inner.texts.insert(Arc::clone(&schema.fingerprint), Arc::clone(&schema.json));
        Ok(shape)
    }

    /// Has rows of this schema go to a table of its own, which no alert is routed to, with a Bloom filter for a column.
    ///
    /// # Errors
    /// When the table has other columns.
    pub fn keep(&self, table: &str, schema: &WriterSchema, bloom: &str) -> Result<(), RouteError> {
        let failed = |source| RouteError { fingerprint: Arc::clone(&schema.fingerprint), name: schema.name.clone(), source };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = types::of_columns(schema.columns.fields()).map_err(failed)?;
        let other = || failed(TypesError::Delta(format!("table {table} has other columns")));
        let known = inner.fit(table, &columns, schema).map_err(failed)?.ok_or_else(other)?;
        let files = known.names.file_schema(schema.columns.fields());
        let layout = Layout::new(&files).map_err(|error| failed(TypesError::Delta(error.to_string())))?.with_bloom(bloom);
        let shape = TableShape {
            table: table.into(),
            schema_id: Arc::clone(&schema.fingerprint),
            columns: files,
            partition_columns: known.names.partition_columns(),
            layout,
        };
        inner.tables.insert(table.into(), known);
        inner.shapes.insert(Arc::clone(&schema.fingerprint), Arc::new(shape));
        Ok(())
    }

    /// The text of a schema that was met by this process.
    #[must_use]
    pub fn text(&self, fingerprint: &str) -> Option<Arc<str>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).texts.get(fingerprint).cloned()
    }

    /// A table's schema, as Delta's JSON.
    #[must_use]
    pub fn schema(&self, table: &str) -> Option<String> {
        if table == rejects::TABLE {
            return Some(rejects::schema_json());
        }
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let other = || inner.others.get(table).map(|(_, json)| json.clone());
        inner.tables.get(table).map(|known| known.json.clone()).or_else(other)
    }

    /// What an entry that touches these tables must carry besides its files. Ask it after the groups were closed whose
    /// files it adds, and apply the entry to the state before asking again.
    #[must_use]
    pub fn pending<'a>(&self, state: &State, touched: impl IntoIterator<Item = &'a Arc<str>>) -> Pending {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let touched: BTreeSet<&Arc<str>> = touched.into_iter().collect();
        let routes = inner.routes.values().filter(|route| touched.contains(&route.table) && !state.routes.contains_key(&route.fingerprint));
        let mut pending = Pending { routes: routes.cloned().collect(), schemas: BTreeMap::new() };
        for table in touched {
            let (json, partition_columns) = match inner.tables.get(table) {
                Some(known) => (known.json.clone(), known.names.partition_columns()),
                None if &**table == rejects::TABLE => (rejects::schema_json(), rejects::partition_columns()),
                None => match inner.others.get(table) {
                    Some((_, json)) => (json.clone(), Vec::new()),
                    None => continue,
                },
            };
            if state.tables.get(table).is_none_or(|is| is.schema != json) {
                pending.schemas.insert(Arc::clone(table), (json, partition_columns));
            }
        }
        pending
    }
}

impl Inner {
    /// Takes over what was decided elsewhere.
    fn adopt(&mut self, schema: &WriterSchema, decision: Decision) -> Result<(), TypesError> {
        let Decision { table, schema: json } = decision;
        let is = types::from_json(&json)?;
        let names = Names::of_table(&is).ok_or_else(|| TypesError::Delta(format!("table {table} lacks columns of ours")))?;
        self.tables.insert(Arc::clone(&table), Known { schema: is, json, names });
        let route = Route { fingerprint: Arc::clone(&schema.fingerprint), name: schema.name.clone(), table };
        self.routes.insert(Arc::clone(&schema.fingerprint), route);
        Ok(())
    }

    fn decide(&mut self, schema: &WriterSchema) -> Result<TableShape, TypesError> {
        let columns = types::of_columns(schema.columns.fields())?;
        let stored = self.routes.get(&schema.fingerprint).map(|route| Arc::clone(&route.table));
        let (table, known) = match &schema.form {
            Form::Raw(_) => {
                let table: Arc<str> = RAW.into();
                let known = self.fit(&table, &columns, schema)?.expect("raw rows have the same columns always");
                (table, known)
            }
            Form::Columns => self.find(stored, schema, &columns)?,
        };
        let shape = TableShape {
            table: Arc::clone(&table),
            schema_id: schema.fingerprint.get(..16).unwrap_or(&schema.fingerprint).into(),
            columns: known.names.file_schema(schema.columns.fields()),
            partition_columns: known.names.partition_columns(),
            layout: Layout::new(&known.names.file_schema(schema.columns.fields())).map_err(|e| TypesError::Delta(e.to_string()))?,
        };
        self.tables.insert(Arc::clone(&table), known);
        let route = Route { fingerprint: Arc::clone(&schema.fingerprint), name: schema.name.clone(), table };
        self.routes.entry(Arc::clone(&schema.fingerprint)).or_insert(route);
        Ok(shape)
    }

    /// The table that takes these columns, and what it is afterwards.
    fn find(&self, stored: Option<Arc<str>>, schema: &WriterSchema, columns: &StructType) -> Result<(Arc<str>, Known), TypesError> {
        if let Some(table) = stored {
            if let Some(known) = self.fit(&table, columns, schema)? {
                return Ok((table, known));
            }
            // Can't be: a route is stored in the same entry as the table's schema that fits it.
            return Err(TypesError::Delta(format!("table {table}, which it was routed to, can't hold it")));
        }
        let family = family(&schema.name);
        let base: Arc<str> =
            if self.has(ALERTS) && !self.holds(ALERTS, &family) { format!("{ALERTS}_{family}").into() } else { ALERTS.into() };
        let numbered = |n: usize| -> Arc<str> { if n == 1 { Arc::clone(&base) } else { format!("{ALERTS}_{family}_{n}").into() } };
        let count = (1..).take_while(|n| self.has(&numbered(*n))).count();
        for table in (1..=count).rev().map(numbered).filter(|table| &**table != RAW && self.holds(table, &family)) {
            if let Some(known) = self.fit(&table, columns, schema)? {
                return Ok((table, known));
            }
        }
        let table = (count + 1..).map(numbered).find(|table| &**table != RAW).expect("names do not run out");
        let known = self.fit(&table, columns, schema)?.expect("a new table takes any columns");
        Ok((table, known))
    }

    fn has(&self, table: &str) -> bool {
        table == RAW || self.tables.contains_key(table)
    }

    /// Whether a table was opened for a family.
    fn holds(&self, table: &str, of: &str) -> bool {
        self.routes.values().any(|route| &*route.table == table && family(&route.name) == of)
    }

    /// What `table` is with these columns; `None` where it can't take them.
    fn fit(&self, table: &str, columns: &StructType, schema: &WriterSchema) -> Result<Option<Known>, TypesError> {
        let Some(known) = self.tables.get(table) else {
            let names = Names::beside(schema.columns.fields());
            let all = types::with_own(columns, &names)?;
            return Ok(Some(Known { json: types::to_json(&all)?, schema: all, names }));
        };
        if columns.fields().any(|field| known.names.has(field.name())) {
            return Ok(None);
        }
        let survey = types::without_own(&known.schema)?;
        let Some(merged) = types::merge(&survey, columns) else { return Ok(None) };
        let names = known.names.clone();
        // Unchanged schemas keep their text, whoever wrote it.
        if merged == survey {
            return Ok(Some(Known { schema: known.schema.clone(), json: known.json.clone(), names }));
        }
        let all = types::with_own(&merged, &names)?;
        Ok(Some(Known { json: types::to_json(&all)?, schema: all, names }))
    }
}

/// The family of a record: its namespace's first part, else its own name, as a name for a folder.
fn family(name: &str) -> String {
    let first = name.split('.').find(|part| !part.is_empty()).unwrap_or("unnamed");
    let clean: String = first.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).take(64).collect();
    clean
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
