//! Times and counts of an arrangement in few bytes.
//!
//! What an arrangement has forgotten the order of stands at one time, and most values are there once: eight and sixteen bytes a
//! value would say so again and again.

use differential_dataflow::trace::implementations::containers::BatchContainer;

/// Times of which mostly all are one: then it is kept once.
pub enum Times<T> {
    /// So often the same; none where there are none.
    Same(Option<T>, usize),
    /// One after another.
    Each(Vec<T>),
}

impl<T> Default for Times<T> {
    fn default() -> Self {
        Self::Same(None, 0)
    }
}

impl<T: Ord + Clone + 'static> BatchContainer for Times<T> {
    type Owned = T;
    type ReadItem<'a> = &'a T;

    fn into_owned(item: &T) -> T {
        item.clone()
    }
    fn push_ref(&mut self, item: &T) {
        self.push_own(item);
    }
    fn push_own(&mut self, item: &T) {
        match self {
            Self::Each(times) => times.push(item.clone()),
            Self::Same(Some(time), count) if time == item => *count += 1,
            Self::Same(Some(time), count) => {
                let mut times = vec![time.clone(); *count];
                times.push(item.clone());
                *self = Self::Each(times);
            }
            Self::Same(none, count) => (*none, *count) = (Some(item.clone()), 1),
        }
    }
    fn clear(&mut self) {
        *self = Self::default();
    }
    fn with_capacity(_size: usize) -> Self {
        Self::default()
    }
    fn merge_capacity(_one: &Self, _other: &Self) -> Self {
        Self::default()
    }
    fn reborrow<'b, 'a: 'b>(item: &'a T) -> &'b T {
        item
    }
    fn index(&self, index: usize) -> &T {
        match self {
            Self::Each(times) => &times[index],
            Self::Same(time, count) => {
                assert!(index < *count, "there are {count} times");
                time.as_ref().expect("there are some")
            }
        }
    }
    fn len(&self) -> usize {
        match self {
            Self::Each(times) => times.len(),
            Self::Same(_, count) => *count,
        }
    }
}

/// Counts, of which mostly all are small.
pub enum Counts {
    /// All are.
    Small(Vec<i8>),
    /// Some are not.
    Large(Vec<isize>),
}

impl BatchContainer for Counts {
    type Owned = isize;
    type ReadItem<'a> = isize;

    fn into_owned(item: isize) -> isize {
        item
    }
    fn push_ref(&mut self, item: isize) {
        match (&mut *self, i8::try_from(item)) {
            (Self::Small(counts), Ok(small)) => counts.push(small),
            (Self::Small(counts), Err(_)) => {
                let mut counts: Vec<isize> = counts.iter().map(|count| isize::from(*count)).collect();
                counts.push(item);
                *self = Self::Large(counts);
            }
            (Self::Large(counts), _) => counts.push(item),
        }
    }
    fn push_own(&mut self, item: &isize) {
        self.push_ref(*item);
    }
    fn clear(&mut self) {
        *self = Self::with_capacity(0);
    }
    fn with_capacity(size: usize) -> Self {
        Self::Small(Vec::with_capacity(size))
    }
    fn merge_capacity(one: &Self, other: &Self) -> Self {
        Self::with_capacity(one.len() + other.len())
    }
    fn reborrow<'b, 'a: 'b>(item: Self::ReadItem<'a>) -> Self::ReadItem<'b> {
        item
    }
    fn index(&self, index: usize) -> isize {
        match self {
            Self::Small(counts) => isize::from(counts[index]),
            Self::Large(counts) => counts[index],
        }
    }
    fn len(&self) -> usize {
        match self {
            Self::Small(counts) => counts.len(),
            Self::Large(counts) => counts.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_was_put_in() {
        for put in [vec![], vec![3], vec![3, 3, 3], vec![3, 3, 1, 3], vec![1, 2]] {
            let mut times = Times::with_capacity(0);
            put.iter().for_each(|time| times.push_own(time));
            assert_eq!((0..times.len()).map(|i| *times.index(i)).collect::<Vec<u64>>(), put);
            times.clear();
            assert!(times.is_empty());
        }
    }

    #[test]
    fn counts_are_what_was_put_in() {
        for put in [vec![], vec![1, -1, 127], vec![5, 128, -7, 1 << 40]] {
            let mut counts = Counts::with_capacity(0);
            put.iter().for_each(|count| counts.push_own(count));
            assert_eq!((0..counts.len()).map(|i| counts.index(i)).collect::<Vec<isize>>(), put);
        }
    }
}
