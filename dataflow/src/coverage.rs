//! Which offsets of which logs have been dealt with.
//!
//! A source covers the *span it passed over*, from its previous position to its next, and not the offsets that it saw:
//! so transaction markers, aborted and compacted records leave no holes.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::message::Log;

/// A set of offsets, as sorted, disjoint, non-adjacent half-open intervals.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(i64, i64)>", into = "Vec<(i64, i64)>")]
pub struct Intervals {
    /// Start to end; ends are excluded.
    spans: BTreeMap<i64, i64>,
}

impl Intervals {
    /// Adds the offsets of `span`; those already there stay. Returns how many were new.
    pub fn insert(&mut self, span: Range<i64>) -> u64 {
        if span.is_empty() {
            return 0;
        }
        let (mut start, mut end) = (span.start, span.end);
        let mut known = 0;
        // Intervals that overlap or touch `span`, from the right: each is swallowed.
        while let Some((&s, &e)) = self.spans.range(..=end).next_back() {
            if e < start {
                break;
            }
            known += (e.min(span.end) - s.max(span.start)).max(0);
            start = start.min(s);
            end = end.max(e);
            self.spans.remove(&s);
        }
        self.spans.insert(start, end);
        (span.end - span.start - known).unsigned_abs()
    }

    /// Takes the offsets of `span` out.
    pub fn remove(&mut self, span: Range<i64>) {
        if span.is_empty() {
            return;
        }
        let hit: Vec<_> = self.spans.range(..span.end).rev().take_while(|(_, e)| **e > span.start).map(|(s, e)| (*s, *e)).collect();
        for (s, e) in hit {
            self.spans.remove(&s);
            if s < span.start {
                self.spans.insert(s, span.start);
            }
            if e > span.end {
                self.spans.insert(span.end, e);
            }
        }
    }

    /// Whether `offset` is in the set.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        self.spans.range(..=offset).next_back().is_some_and(|(_, e)| *e > offset)
    }

    /// The offsets of `within` that are *not* in the set, in order.
    #[must_use]
    pub fn gaps(&self, within: Range<i64>) -> Vec<Range<i64>> {
        let mut gaps = Vec::new();
        let mut at = within.start;
        let first = self.spans.range(..=at).next_back().map_or(at, |(s, _)| *s);
        for (&s, &e) in self.spans.range(first..) {
            if s >= within.end {
                break;
            }
            if s > at {
                gaps.push(at..s);
            }
            at = at.max(e);
        }
        if at < within.end {
            gaps.push(at..within.end);
        }
        gaps
    }

    /// The intervals, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<i64>> + '_ {
        self.spans.iter().map(|(s, e)| *s..*e)
    }

    /// How many offsets the set holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.iter().map(|r| (r.end - r.start).unsigned_abs()).sum()
    }

    /// Whether the set holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The smallest offset of the set.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        self.spans.first_key_value().map(|(s, _)| *s)
    }

    /// The offset after the largest of the set.
    #[must_use]
    pub fn end(&self) -> Option<i64> {
        self.spans.last_key_value().map(|(_, e)| *e)
    }
}

impl From<Vec<(i64, i64)>> for Intervals {
    fn from(spans: Vec<(i64, i64)>) -> Self {
        let mut set = Self::default();
        for (start, end) in spans {
            set.insert(start..end);
        }
        set
    }
}

impl From<Intervals> for Vec<(i64, i64)> {
    fn from(set: Intervals) -> Self {
        set.spans.into_iter().collect()
    }
}

impl FromIterator<Range<i64>> for Intervals {
    fn from_iter<I: IntoIterator<Item = Range<i64>>>(spans: I) -> Self {
        let mut set = Self::default();
        spans.into_iter().for_each(|span| {
            set.insert(span);
        });
        set
    }
}

/// What has been dealt with, log by log.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(Log, Intervals)>", into = "Vec<(Log, Intervals)>")]
pub struct Coverage {
    logs: BTreeMap<Log, Intervals>,
}

impl Coverage {
    /// Adds a span of a log. Returns how many offsets were new.
    pub fn insert(&mut self, log: &Log, span: Range<i64>) -> u64 {
        if span.is_empty() {
            return 0;
        }
        match self.logs.get_mut(log) {
            Some(set) => set.insert(span),
            None => self.logs.entry(log.clone()).or_default().insert(span),
        }
    }

    /// Adds all of `other`. Returns how many offsets were new.
    pub fn merge(&mut self, other: &Self) -> u64 {
        other.iter().map(|(log, set)| set.iter().map(|span| self.insert(log, span)).sum::<u64>()).sum()
    }

    /// The same, without what `other` covers.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        for (log, set) in &mut self.logs {
            if let Some(taken) = other.logs.get(log) {
                taken.iter().for_each(|span| set.remove(span));
            }
        }
        self.logs.retain(|_, set| !set.is_empty());
        self
    }

    /// What is covered of `log`.
    #[must_use]
    pub fn get(&self, log: &Log) -> Option<&Intervals> {
        self.logs.get(log)
    }

    /// The logs and what is covered of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Log, &Intervals)> + '_ {
        self.logs.iter()
    }

    /// How many offsets are covered, over all logs.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.logs.values().map(Intervals::len).sum()
    }

    /// Whether nothing is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.logs.values().all(Intervals::is_empty)
    }
}

impl From<Vec<(Log, Intervals)>> for Coverage {
    fn from(logs: Vec<(Log, Intervals)>) -> Self {
        let mut coverage = Self::default();
        for (log, set) in logs {
            for span in set.iter() {
                coverage.insert(&log, span);
            }
        }
        coverage
    }
}

impl From<Coverage> for Vec<(Log, Intervals)> {
    fn from(coverage: Coverage) -> Self {
        coverage.logs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn spans() -> impl Strategy<Value = Vec<(bool, i64, i64)>> {
        prop::collection::vec((any::<bool>(), 0i64..60, 0i64..12), 0..40)
    }

    /// The slow, plain set beside the one under test.
    fn apply(steps: &[(bool, i64, i64)]) -> (Intervals, BTreeSet<i64>) {
        let (mut fast, mut slow) = (Intervals::default(), BTreeSet::new());
        for &(add, start, len) in steps {
            let span = start..start + len;
            if add {
                let new = span.clone().filter(|o| slow.insert(*o)).count();
                assert_eq!(fast.insert(span), new as u64);
            } else {
                span.clone().for_each(|o| {
                    slow.remove(&o);
                });
                fast.remove(span);
            }
        }
        (fast, slow)
    }

    #[test]
    fn what_others_cover_is_taken_out_log_by_log() {
        let (a, b) = (Log::new("s", "t", 0, 0), Log::new("s", "t", 0, 1));
        let (mut all, mut taken) = (Coverage::default(), Coverage::default());
        all.insert(&a, 0..10);
        all.insert(&b, 5..7);
        taken.insert(&a, 2..3);
        taken.insert(&a, 8..90);
        taken.insert(&b, 0..7);
        let left = all.without(&taken);
        assert_eq!(left.get(&a).map(|set| set.iter().collect::<Vec<_>>()), Some(vec![0..2, 3..8]));
        assert!(left.get(&b).is_none() && left.len() == 7);
    }

    proptest! {
        #[test]
        fn equals_a_plain_set(steps in spans(), from in 0i64..70, len in 0i64..30) {
            let (fast, slow) = apply(&steps);
            prop_assert_eq!(fast.iter().flatten().collect::<Vec<_>>(), slow.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(fast.len(), slow.len() as u64);
            prop_assert_eq!(fast.first(), slow.first().copied());
            prop_assert_eq!(fast.end(), slow.last().map(|o| o + 1));
            for offset in 0..75 {
                prop_assert_eq!(fast.contains(offset), slow.contains(&offset));
            }
            let gaps: Vec<i64> = fast.gaps(from..from + len).into_iter().flatten().collect();
            prop_assert_eq!(gaps, (from..from + len).filter(|o| !slow.contains(o)).collect::<Vec<_>>());
        }

        #[test]
        fn is_kept_in_the_one_shortest_form(steps in spans()) {
            let (fast, _) = apply(&steps);
            let spans: Vec<_> = fast.iter().collect();
            prop_assert!(spans.iter().all(|r| r.start < r.end));
            prop_assert!(spans.windows(2).all(|w| w[0].end < w[1].start));
        }

        #[test]
        fn survives_json(steps in spans()) {
            let (fast, _) = apply(&steps);
            let log = Log::new("kafka:x", "ztf", 1, 3);
            let mut coverage = Coverage::default();
            fast.iter().for_each(|span| { coverage.insert(&log, span); });
            let json = serde_json::to_string(&coverage).expect("coverage serialises");
            let back: Coverage = serde_json::from_str(&json).expect("and parses");
            prop_assert_eq!(&back, &coverage);
            prop_assert_eq!(back.get(&log).cloned().unwrap_or_default(), fast);
        }

        #[test]
        fn merging_is_union_in_any_order(a in spans(), b in spans()) {
            let log = Log::new("s", "t", 0, 0);
            let (mut one, mut two) = (Coverage::default(), Coverage::default());
            apply(&a).0.iter().for_each(|span| { one.insert(&log, span); });
            apply(&b).0.iter().for_each(|span| { two.insert(&log, span); });
            let (mut ab, mut ba) = (one.clone(), two.clone());
            let (before, new) = (one.len(), ab.merge(&two));
            ba.merge(&one);
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(ab.len(), before + new);
        }
    }
}
