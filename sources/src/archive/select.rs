//! Which rows of an archive, and which of their columns.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use fink_dataflow::Coverage;
use serde_json::Value;

pub use super::sought::Objects;

/// Which columns.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wanted {
    /// All but those that hold bytes: no cutouts.
    #[default]
    Light,
    /// All.
    All,
}

/// Which rows; by default all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection {
    /// Those of these observing nights, in days since 1970; rows without a night are of none.
    pub nights: Option<RangeInclusive<i32>>,
    /// Those of this topic.
    pub topic: Option<String>,
    /// Those of these offsets, in whatever partition.
    pub offsets: Option<Range<i64>>,
    /// Those of these messages.
    pub within: Option<Arc<Coverage>>,
    /// Those of files of these nights; as `nights`, for nights that are no range.
    pub some_nights: Option<Arc<BTreeSet<i32>>>,
    /// Light rows of these objects; of other tables all.
    pub objects: Objects,
}

impl Selection {
    /// Whether a night's rows are selected.
    #[must_use]
    pub fn nights_of(&self, night: Option<i32>) -> bool {
        self.nights.as_ref().is_none_or(|nights| night.is_some_and(|night| nights.contains(&night)))
            && self.some_nights.as_ref().is_none_or(|nights| night.is_some_and(|night| nights.contains(&night)))
    }

    /// Whether a message's rows are selected.
    #[must_use]
    pub fn takes(&self, topic: &str, offset: i64) -> bool {
        self.topic.as_ref().is_none_or(|wanted| wanted == topic) && self.offsets.as_ref().is_none_or(|wanted| wanted.contains(&offset))
    }

    /// Whether every message's rows are.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.topic.is_none() && self.offsets.is_none() && self.within.is_none()
    }

    /// Whether a file may hold rows of the messages that are selected, by its statistics (Delta's, as JSON) of these columns:
    /// topic, partition and offset. Where these say nothing, it may.
    #[must_use]
    pub fn may_be_in(&self, stats: &str, [topic, partition, offset]: [&str; 3]) -> bool {
        let Some(within) = &self.within else { return true };
        let Ok(stats) = serde_json::from_str::<Value>(stats) else { return true };
        let bounds = |column: &str| (&stats["minValues"][column], &stats["maxValues"][column]);
        let numbers = |column| {
            let (least, greatest) = bounds(column);
            Some(least.as_i64()?..=greatest.as_i64()?)
        };
        let Some(offsets) = numbers(offset) else { return true };
        let partitions = numbers(partition);
        let topics = texts(&stats, topic).filter(|(least, greatest)| least == greatest).map(|(least, _)| least);
        within.iter().any(|(log, wanted)| {
            let span = *offsets.start()..offsets.end().saturating_add(1);
            topics.is_none_or(|topic| *topic == *log.topic)
                && partitions.as_ref().is_none_or(|partitions| partitions.contains(&i64::from(log.partition)))
                && wanted.gaps(span.clone()) != [span]
        })
    }
}

/// The least and the greatest text of a column, by a file's statistics. A long text's greatest value may be cut short, and is then no
/// bound for it.
pub(super) fn texts<'s>(stats: &'s Value, column: &str) -> Option<(&'s str, &'s str)> {
    let bound = |values: &str| stats[values][column].as_str().filter(|text| text.len() < 32);
    bound("minValues").zip(bound("maxValues"))
}

/// Whether a column holds bytes, at any depth.
#[must_use]
pub fn holds_bytes(field: &Field) -> bool {
    fn of(kind: &DataType) -> bool {
        match kind {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => true,
            DataType::Struct(fields) => fields.iter().any(|field| of(field.data_type())),
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => of(item.data_type()),
            _ => false,
        }
    }
    of(field.data_type())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Fields;
    use fink_dataflow::Log;

    use super::*;

    #[test]
    fn selects_nights_topics_and_offsets() {
        let all = Selection::default();
        assert!(all.takes_all() && all.nights_of(None) && all.takes("t", 7));
        let some = Selection { nights: Some(10..=12), topic: Some("t".to_owned()), offsets: Some(5..9), ..Selection::default() };
        assert!(some.nights_of(Some(12)) && !some.nights_of(Some(13)) && !some.nights_of(None));
        assert!(some.takes("t", 8) && !some.takes("t", 9) && !some.takes("u", 8));
    }

    #[test]
    fn files_are_left_out_by_what_their_statistics_say() {
        let mut within = Coverage::default();
        within.insert(&Log::new("s", "t", 0, 3), 10..20);
        let some = Selection { within: Some(Arc::new(within)), ..Selection::default() };
        let may = |topics: [&str; 2], partitions: [i32; 2], offsets: [i64; 2]| {
            let bounds =
                |index: usize| serde_json::json!({"topic": topics[index], "partition": partitions[index], "offset": offsets[index]});
            let stats = serde_json::json!({"numRecords": 5, "minValues": bounds(0), "maxValues": bounds(1)}).to_string();
            some.may_be_in(&stats, ["topic", "partition", "offset"])
        };
        assert!(may(["t", "t"], [3, 3], [0, 10]) && may(["t", "t"], [0, 9], [19, 40]) && may(["a", "z"], [3, 3], [0, 90]));
        assert!(!may(["t", "t"], [3, 3], [0, 9]) && !may(["t", "t"], [3, 3], [20, 90]));
        assert!(!may(["t", "t"], [4, 9], [0, 90]) && !may(["u", "u"], [3, 3], [0, 90]));
        assert!(some.may_be_in("{}", ["topic", "partition", "offset"]) && some.may_be_in("", ["a", "b", "c"]));
        assert!(!some.takes_all());
    }

    #[test]
    fn cutouts_hold_bytes_and_light_curves_do_not() {
        let stamp = Fields::from(vec![Field::new("fileName", DataType::Utf8, true), Field::new("stampData", DataType::Binary, true)]);
        let point = Fields::from(vec![Field::new("jd", DataType::Float64, true)]);
        assert!(holds_bytes(&Field::new("cutoutScience", DataType::Struct(stamp), true)));
        let points = DataType::List(Field::new("item", DataType::Struct(point), true).into());
        assert!(!holds_bytes(&Field::new("prv_candidates", points, true)));
    }
}
