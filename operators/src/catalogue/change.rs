//! What a new version of a catalogue changes, row by row.
//!
//! A row is known by its number for as long as it is there, so that what did not change is not said again: a file's next version
//! may have rows between others, or in another order. So numbers are not lines: only of a first version they are.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::Row;

/// A row that comes (1) or goes (-1).
pub type Change = (Row, i8);

/// What a row says, whatever its number.
fn content(a: &Row, b: &Row) -> Ordering {
    (a.ra_deg, a.dec_deg, &a.motion).cmp(&(b.ra_deg, b.dec_deg, &b.motion)).then_with(|| a.carried.cmp(&b.carried))
}

/// Gives the rows of a new version the numbers by which the old version, in order of numbers, knows them: equal ones keep
/// theirs; one that stands at the line of a row that is gone takes its number; others get new ones, from `next` on.
/// Returns the rows in order of numbers, and the next number that is free.
#[must_use]
pub fn renumber(old: &[Row], new: Vec<Row>, next: u32) -> (Vec<Row>, u32) {
    let mut known: Vec<&Row> = old.iter().collect();
    known.sort_unstable_by(|a, b| content(a, b).then_with(|| a.number.cmp(&b.number)));
    let mut rows = new;
    rows.sort_unstable_by(|a, b| content(a, b).then_with(|| a.number.cmp(&b.number)));
    let (mut gone, mut fresh) = (BTreeSet::new(), Vec::new());
    let mut known = known.into_iter().peekable();
    for (index, row) in rows.iter_mut().enumerate() {
        while let Some(before) = known.next_if(|before| content(before, row) == Ordering::Less) {
            gone.insert(before.number);
        }
        match known.next_if(|same| content(same, row) == Ordering::Equal) {
            Some(same) => row.number = same.number,
            None => fresh.push(index),
        }
    }
    gone.extend(known.map(|row| row.number));
    fresh.sort_unstable_by_key(|index| rows[*index].number);
    let mut next = next;
    for index in fresh {
        let row = &mut rows[index];
        if !gone.remove(&row.number) {
            row.number = next;
            next = next.saturating_add(1);
        }
    }
    rows.sort_unstable_by_key(|row| row.number);
    (rows, next)
}

/// What makes `new` of `old`; both are in order of numbers.
#[must_use]
pub fn difference(old: &[Row], new: &[Row]) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.number.cmp(&b.number),
        };
        let (before, after) = (old.next_if(|_| order.is_le()), new.next_if(|_| order.is_ge()));
        if before != after {
            changes.extend(before.map(|row| (row.clone(), -1)));
            changes.extend(after.map(|row| (row.clone(), 1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use fink_dataflow::detection::{Real, Real32};
    use proptest::prelude::*;

    use super::super::CatalogueId;
    use super::*;

    fn row(number: u32, what: u8) -> Row {
        let (ra_deg, carried) = (Real(f64::from(what / 4)), Arc::new([what.to_string().into()]));
        let catalogue = CatalogueId::typed(1);
        Row { catalogue, number, ra_deg, dec_deg: Real(0.0), radius_arcsec: Real32(1.0), motion: None, carried }
    }

    /// A file's rows: some say the same.
    fn file() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..12, 0..15)
    }

    fn rows(file: &[u8]) -> Vec<Row> {
        (0..).zip(file).map(|(number, what)| row(number, *what)).collect()
    }

    proptest! {
        #[test]
        fn versions_differ_by_no_more_than_they_must(files in prop::collection::vec(file(), 1..5)) {
            let mut now = rows(&files[0]);
            let mut next = now.len() as u32;
            for file in &files[1..] {
                let (new, free) = renumber(&now, rows(file), next);
                let mut held: BTreeMap<Row, i32> = now.iter().map(|row| (row.clone(), 1)).collect();
                let changes = difference(&now, &new);
                changes.iter().for_each(|(row, change)| *held.entry(row.clone()).or_insert(0) += i32::from(*change));
                held.retain(|_, count| *count != 0);
                prop_assert!(held.values().all(|count| *count == 1));
                let numbers: BTreeSet<u32> = held.keys().map(|row| row.number).collect();
                prop_assert_eq!(numbers.len(), held.len(), "a number is one row's");
                prop_assert!(numbers.iter().all(|number| *number < free));
                let mut said: Vec<&str> = held.keys().map(|row| &*row.carried[0]).collect();
                let mut wanted: Vec<String> = file.iter().map(u8::to_string).collect();
                said.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(said, wanted);
                // No row goes and comes again, saying the same.
                let of = |sign: i8| changes.iter().filter(move |(_, change)| *change == sign).map(|(row, _)| row.carried.clone());
                let gone: BTreeSet<_> = of(-1).collect();
                prop_assert!(of(1).all(|came| !gone.contains(&came)), "{:?}", changes);
                (now, next) = (new, free);
            }
        }
    }

    #[test]
    fn a_row_between_others_is_one_change_and_a_changed_one_keeps_its_number() {
        let (old, inserted, changed) = (rows(&[1, 2, 3]), rows(&[1, 9, 2, 3]), rows(&[1, 7, 3]));
        let (new, next) = renumber(&old, inserted, 3);
        assert_eq!((difference(&old, &new), next), (vec![(row(3, 9), 1)], 4));
        let (new, next) = renumber(&old, changed, 3);
        assert_eq!((difference(&old, &new), next), (vec![(row(1, 2), -1), (row(1, 7), 1)], 3));
    }
}
