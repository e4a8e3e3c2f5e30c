//! How a table's schema tells our columns from the survey's, whatever their names.

use serde_json::Value;

/// The key under which a Delta field's metadata says which of our columns it is.
pub const MARK: &str = "fink.column";

/// The table of what could not be archived as an alert.
pub const REJECTS: &str = "rejects";

/// Where the tables of what services answer lie, below the archive.
pub const OUTPUTS: &str = "services/";

/// Whether a table holds what a service answers, and no alerts.
#[must_use]
pub fn is_output(table: &str) -> bool {
    table.starts_with(OUTPUTS)
}

/// The name of our column `ours` in a table of this schema (Delta's JSON); `None` where none is marked so.
#[must_use]
pub fn marked<'s>(schema: &'s Value, ours: &str) -> Option<&'s str> {
    let mut fields = schema["fields"].as_array()?.iter();
    fields.find(|field| field["metadata"][MARK] == ours)?["name"].as_str()
}
