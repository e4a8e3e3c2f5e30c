//! Rows of some objects only: which of a file's row groups may hold them, and which rows are looked at.
//!
//! The table of light rows stands in the order of objects, file by file: what a row group's statistics and its Bloom filter say
//! leaves one or two groups of a file for an object. Other tables are in no such order and have no such column; their rows are
//! all read, and whoever asked takes those that it wants.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use fink_dataflow::table::light;
use fink_dataflow::table::object::Object;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use serde_json::Value;

use super::select::texts;

/// Rows of which objects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Objects {
    /// All.
    #[default]
    All,
    /// Those whose names are in a range; those without a name, if it has no begin.
    Between {
        /// From this name on.
        from: Option<Arc<str>>,
        /// Up to this name, which is not in it.
        until: Option<Arc<str>>,
    },
    /// Those of these names.
    Named(Arc<BTreeSet<String>>),
}

impl Objects {
    /// Whether an object's rows are selected.
    #[must_use]
    pub fn take(&self, name: Option<&str>) -> bool {
        match (self, name) {
            (Self::All, _) => true,
            (Self::Between { from, .. }, None) => from.is_none(),
            (Self::Between { from, until }, Some(name)) => {
                from.as_deref().is_none_or(|from| from <= name) && until.as_deref().is_none_or(|until| name < until)
            }
            (Self::Named(_), None) => false,
            (Self::Named(names), Some(name)) => names.contains(name),
        }
    }

    /// Whether rows of which the least and the greatest name are these may be of objects that are selected.
    fn within(&self, least: &str, greatest: &str) -> bool {
        match self {
            Self::All => true,
            Self::Between { from, until } => {
                from.as_deref().is_none_or(|from| from <= greatest) && until.as_deref().is_none_or(|until| least < until)
            }
            Self::Named(names) => names.range::<str, _>((Bound::Included(least), Bound::Included(greatest))).next().is_some(),
        }
    }

    /// Whether a file of the table of light rows may hold rows of objects that are selected, by its statistics (Delta's, as JSON).
    /// Where these say nothing, it may.
    pub(super) fn may_be_in(&self, stats: &str) -> bool {
        // Rows without a name are in no bounds.
        let nameless = matches!(self, Self::All | Self::Between { from: None, .. });
        let Ok(stats) = serde_json::from_str::<Value>(stats) else { return true };
        texts(&stats, light::OBJECT).is_none_or(|(least, greatest)| nameless || self.within(least, greatest))
    }

    /// What of a file of the table of light rows is read.
    ///
    /// # Errors
    /// When its Bloom filters can't be read.
    pub(super) async fn narrow(
        &self,
        mut builder: ParquetRecordBatchStreamBuilder<Object>,
    ) -> Result<ParquetRecordBatchStreamBuilder<Object>, ParquetError> {
        let Some(column) = builder.schema().fields().iter().position(|field| field.name() == light::OBJECT) else { return Ok(builder) };
        let leaf = builder.parquet_schema().columns().iter().position(|leaf| leaf.name() == light::OBJECT);
        let (Some(leaf), false) = (leaf, *self == Self::All) else { return Ok(builder) };
        let mut groups = Vec::new();
        for group in 0..builder.metadata().num_row_groups() {
            let bounds = bounds(builder.metadata().row_group(group), leaf);
            if bounds.as_ref().is_some_and(|(least, greatest)| !self.within(least, greatest)) {
                continue;
            }
            if let Self::Named(names) = self
                && let Some(filter) = builder.get_row_group_column_bloom_filter(group, leaf).await?
            {
                let (least, greatest) = bounds.unwrap_or_default();
                let mut may = if greatest.is_empty() { names.iter().collect::<Vec<_>>() } else { names.range(least..=greatest).collect() };
                may.retain(|name| filter.check(&name.as_str()));
                if may.is_empty() {
                    continue;
                }
            }
            groups.push(group);
        }
        let wanted = self.clone();
        let mask = ProjectionMask::roots(builder.parquet_schema(), [column]);
        let takes = ArrowPredicateFn::new(mask, move |names: RecordBatch| wanted.takes(&names));
        Ok(builder.with_row_groups(groups).with_row_filter(RowFilter::new(vec![Box::new(takes)])))
    }

    fn takes(&self, names: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let names = cast(names.column(0), &DataType::Utf8)?;
        let names = names.as_string::<i32>();
        Ok((0..names.len()).map(|row| Some(self.take(names.is_valid(row).then(|| names.value(row))))).collect())
    }
}

/// The least and the greatest name of a row group, where both are known as they are and none is missing.
fn bounds(group: &RowGroupMetaData, leaf: usize) -> Option<(String, String)> {
    let Statistics::ByteArray(stats) = group.column(leaf).statistics()? else { return None };
    let whole = stats.null_count_opt() == Some(0) && stats.min_is_exact() && stats.max_is_exact();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    if !whole {
        return None;
    }
    Some((text(stats.min_bytes_opt()?)?, text(stats.max_bytes_opt()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_taken_by_name_and_by_range() {
        let some = Objects::Named(Arc::new(["b".to_owned(), "d".to_owned()].into()));
        assert!(some.take(Some("b")) && !some.take(Some("c")) && !some.take(None));
        assert!(some.within("a", "b") && some.within("c", "e") && !some.within("bb", "c"));
        let range = |from: Option<&str>, until: Option<&str>| Objects::Between { from: from.map(Into::into), until: until.map(Into::into) };
        // Together they take each once.
        for name in [None, Some("a"), Some("m"), Some("mm"), Some("z")] {
            let parts = [range(None, Some("m")), range(Some("m"), Some("n")), range(Some("n"), None)];
            assert_eq!(parts.iter().filter(|part| part.take(name)).count(), 1, "{name:?}");
        }
        assert!(range(None, Some("m")).within("a", "z") && !range(None, Some("m")).within("m", "z"));
        assert!(!range(Some("m"), None).within("a", "l") && range(Some("m"), None).within("a", "m"));
        let stats = r#"{"minValues": {"objectId": "c"}, "maxValues": {"objectId": "c3"}}"#;
        assert!(!some.may_be_in(stats) && !range(Some("m"), None).may_be_in(stats) && range(Some("c1"), None).may_be_in(stats));
        assert!(some.may_be_in("{}") && range(None, Some("a")).may_be_in(stats), "its rows without a name");
    }
}
