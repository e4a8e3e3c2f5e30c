//! The table of light rows: what of the archive it holds, so that history is read from it and from the alerts, each row once.
//!
//! A roll takes the rows of all messages that are dealt with, are no rejects, and are not in the table yet; its entry says
//! which they are ([`super::entry::Entry::light`]). A message that is in it stays what it is: what was archived is never
//! rejected later, and what was empty never archived. A reject that is decoded after all is not in it, and is taken by the next
//! roll.

use arrow::datatypes::SchemaRef;

use super::entry::State;
use crate::alerts::{Form, WriterSchema};
use crate::coverage::Coverage;

/// The table's folder in the archive. Light rows that a release makes otherwise than those before it go to another.
pub const TABLE: &str = "detections";

/// The column of an object's name, in the order of which a file's rows stand; null where an alert has no light row.
pub const OBJECT: &str = "objectId";

/// What stands for the fingerprint of a writer's schema where a row is a light row.
pub const SCHEMA: &str = "fink.detection.1";

/// Light rows with these columns, as alerts of one schema.
#[must_use]
pub fn schema(columns: SchemaRef) -> WriterSchema {
    WriterSchema { fingerprint: SCHEMA.into(), json: "".into(), name: SCHEMA.to_owned(), columns, form: Form::Columns }
}

/// The messages that are dealt with and that the table does not hold: those of alerts that have yet to be rolled into it, of
/// rejects, and empty ones among them.
#[must_use]
pub fn lacking(state: &State) -> Coverage {
    state.coverage.clone().without(&state.light)
}

/// Archived rows that the table does not hold.
#[must_use]
pub fn rows_lacking(state: &State) -> u64 {
    let archived: u64 = state.logs.values().map(|log| log.tally.rows).sum();
    let held = state.tables.get(TABLE).map_or(0, |table| table.rows.unsigned_abs());
    archived.saturating_sub(held)
}
