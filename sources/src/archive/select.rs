//! Which rows of an archive, and which of their columns.

use std::ops::{Range, RangeInclusive};

use arrow::datatypes::{DataType, Field};

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
}

impl Selection {
    /// Whether a night's rows are selected.
    #[must_use]
    pub fn nights_of(&self, night: Option<i32>) -> bool {
        self.nights.as_ref().is_none_or(|nights| night.is_some_and(|night| nights.contains(&night)))
    }

    /// Whether a message's rows are selected.
    #[must_use]
    pub fn takes(&self, topic: &str, offset: i64) -> bool {
        self.topic.as_ref().is_none_or(|wanted| wanted == topic) && self.offsets.as_ref().is_none_or(|wanted| wanted.contains(&offset))
    }

    /// Whether every message's rows are.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.topic.is_none() && self.offsets.is_none()
    }
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

    use super::*;

    #[test]
    fn selects_nights_topics_and_offsets() {
        let all = Selection::default();
        assert!(all.takes_all() && all.nights_of(None) && all.takes("t", 7));
        let some = Selection { nights: Some(10..=12), topic: Some("t".to_owned()), offsets: Some(5..9) };
        assert!(some.nights_of(Some(12)) && !some.nights_of(Some(13)) && !some.nights_of(None));
        assert!(some.takes("t", 8) && !some.takes("t", 9) && !some.takes("u", 8));
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
