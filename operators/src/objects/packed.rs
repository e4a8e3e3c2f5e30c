//! Entries of light curves in few bytes: a slab of them, in which what is not there, and what stands there already, takes no room.
//!
//! | byte | what it is |
//! |---|---|
//! | 0 | [`flag`]: kind, unit, sign, what else there is |
//! | | either how many entries ago the same point stands (1 byte), or |
//! | | which numbers there are (1 byte), band (1), id (8), time (8), the numbers (8 each for a place, 4 each for others) |
//! | | of an alert's own: log (an index), offset, record, as variable-length integers; signs (1); what others found out (an index) |
//!
//! Entries come in their order, so the copies of a point, its alert's own and those in later alerts' histories, stand beside
//! each other, and all but the first are two bytes.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use differential_dataflow::trace::implementations::OffsetList;
use differential_dataflow::trace::implementations::containers::BatchContainer;
use fink_dataflow::detection::{Address, Band, Enriched, Kind, LogRef, Point, Real, Real32, Unit};
use timely::container::PushInto;

use super::curve::{Entry, Own};
use crate::classify::rules::Signs;

/// An entry as it is read: of a slab, or of one that stands alone.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The point.
    pub point: Point,
    /// What an alert of its own adds to it.
    pub own: Option<SeenOwn<'a>>,
}

/// What an alert has beside its point.
#[derive(Clone, Copy, Debug)]
pub struct SeenOwn<'a> {
    log: &'a LogRef,
    offset: i64,
    record: i32,
    signs: Signs,
    moves: bool,
    enriched: Option<&'a Arc<Enriched>>,
}

impl<'a> SeenOwn<'a> {
    fn address(&self) -> (&LogRef, i64, i32) {
        (self.log, self.offset, self.record)
    }

    /// All that is not its address.
    fn rest(&self) -> (Signs, bool, Option<&'a Arc<Enriched>>) {
        (self.signs, self.moves, self.enriched)
    }
}

impl<'a> From<&'a Entry> for Seen<'a> {
    fn from(entry: &'a Entry) -> Self {
        let own = entry.own.as_ref().map(|own| SeenOwn {
            log: &own.address.log,
            offset: own.address.offset,
            record: own.address.record,
            signs: own.signs,
            moves: own.moves,
            enriched: own.enriched.as_ref(),
        });
        Self { point: entry.point, own }
    }
}

impl From<Seen<'_>> for Entry {
    fn from(Seen { point, own }: Seen<'_>) -> Self {
        let own = own.map(|SeenOwn { log, offset, record, signs, moves, enriched }| {
            Box::new(Own { address: Address { log: log.clone(), offset, record }, signs, moves, enriched: enriched.cloned() })
        });
        Self { point, own }
    }
}

impl Ord for Seen<'_> {
    /// Copies of a point stand beside each other, the one that counts first: its own alert's, of several alerts the least by
    /// (time, source, topic, partition, offset), of repeated ones the least.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |seen: &Self| (seen.point.kind, seen.point.id);
        (key(self).cmp(&key(other)))
            .then_with(|| other.own.is_some().cmp(&self.own.is_some()))
            .then_with(|| self.point.mjd_tai.cmp(&other.point.mjd_tai))
            .then_with(|| match (&self.own, &other.own) {
                (Some(own), Some(others)) => own.address().cmp(&others.address()),
                _ => Ordering::Equal,
            })
            .then_with(|| self.point.cmp(&other.point))
            .then_with(|| self.own.as_ref().map(SeenOwn::rest).cmp(&other.own.as_ref().map(SeenOwn::rest)))
    }
}

impl PartialOrd for Seen<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Seen<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Seen<'_> {}
impl PartialEq<&Entry> for Seen<'_> {
    fn eq(&self, other: &&Entry) -> bool {
        *self == Seen::from(*other)
    }
}

/// Bits of an entry's first byte; its kind is in the lowest two.
mod flag {
    pub(super) const KIND: u8 = 3;
    pub(super) const NANOJANSKY: u8 = 4;
    pub(super) const NEGATIVE: u8 = 8;
    pub(super) const OWN: u8 = 16;
    pub(super) const MOVES: u8 = 32;
    pub(super) const ENRICHED: u8 = 64;
    pub(super) const SAME: u8 = 128;
}

/// Entries, packed.
#[derive(Default)]
pub struct Packed {
    bytes: Vec<u8>,
    ends: Ends,
    logs: Vec<LogRef>,
    indices: HashMap<LogRef, usize>,
    enriched: Vec<Arc<Enriched>>,
    /// The last entry that has its point itself.
    base: Option<(usize, Point)>,
}

/// Where each entry ends.
struct Ends(OffsetList);

impl Default for Ends {
    fn default() -> Self {
        Self(OffsetList::with_capacity(0))
    }
}

impl Packed {
    fn push(&mut self, seen: Seen<'_>) {
        let Seen { point, own } = seen;
        let (index, moves) = (self.len(), own.is_some_and(|own| own.moves));
        let enriched = own.and_then(|own| own.enriched);
        let mut flags = match point.kind {
            Kind::Detection => 0,
            Kind::Limit => 1,
            Kind::Forced => 2,
            Kind::Away => 3,
        };
        let bits = [
            (point.unit == Unit::NanoJansky, flag::NANOJANSKY),
            (point.negative, flag::NEGATIVE),
            (own.is_some(), flag::OWN),
            (moves, flag::MOVES),
            (enriched.is_some(), flag::ENRICHED),
        ];
        bits.into_iter().filter(|(is, _)| *is).for_each(|(_, bit)| flags |= bit);
        let back = self.base.filter(|(_, base)| *base == point).and_then(|(base, _)| u8::try_from(index - base).ok());
        if let Some(back) = back {
            self.bytes.extend([flags | flag::SAME, back]);
        } else {
            self.base = Some((index, point));
            self.bytes.push(flags);
            self.point(&point);
        }
        if let Some(own) = own {
            let log = self.log(own.log);
            for number in [log as u64, zigzag(own.offset), zigzag(own.record.into())] {
                put(&mut self.bytes, number);
            }
            self.bytes.push(own.signs.bits());
            if let Some(enriched) = enriched {
                put(&mut self.bytes, self.enriched.len() as u64);
                self.enriched.push(Arc::clone(enriched));
            }
        }
        self.ends.0.push(self.bytes.len());
    }

    fn point(&mut self, point: &Point) {
        let at = self.bytes.len();
        self.bytes.extend([0, point.band.0]);
        self.bytes.extend(point.id.to_le_bytes());
        self.bytes.extend(point.mjd_tai.0.to_le_bytes());
        for (bit, number) in [(1, point.ra_deg), (2, point.dec_deg)] {
            if let Some(number) = number.some() {
                self.bytes[at] |= bit;
                self.bytes.extend(number.to_le_bytes());
            }
        }
        for (bit, number) in [(4, point.value), (8, point.error), (16, point.limit), (32, point.score)] {
            if let Some(number) = number.some() {
                self.bytes[at] |= bit;
                self.bytes.extend(number.to_le_bytes());
            }
        }
    }

    fn log(&mut self, log: &LogRef) -> usize {
        // Rows of a log often come one after another.
        if let Some(last) = self.logs.len().checked_sub(1).filter(|last| Arc::ptr_eq(self.logs[*last].log(), log.log())) {
            return last;
        }
        let next = self.logs.len();
        let index = *self.indices.entry(log.clone()).or_insert(next);
        if index == next {
            self.logs.push(log.clone());
        }
        index
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends.0.index(before))
    }

    fn bytes(&self, index: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.ends.0.index(index)]
    }

    fn seen(&self, index: usize) -> Seen<'_> {
        let mut bytes = self.bytes(index);
        let [flags] = take(&mut bytes);
        let point = if flags & flag::SAME == 0 {
            point(flags, &mut bytes)
        } else {
            let [back] = take(&mut bytes);
            let mut base = self.bytes(index - usize::from(back));
            let [flags] = take(&mut base);
            point(flags, &mut base)
        };
        let own = (flags & flag::OWN != 0).then(|| {
            let (log, offset, record) = (get(&mut bytes), get(&mut bytes), get(&mut bytes));
            let [signs] = take(&mut bytes);
            let enriched = (flags & flag::ENRICHED != 0).then(|| &self.enriched[to_index(get(&mut bytes))]);
            SeenOwn {
                log: &self.logs[to_index(log)],
                offset: unzigzag(offset),
                record: i32::try_from(unzigzag(record)).expect("it was one"),
                signs: Signs::from_bits(signs),
                moves: flags & flag::MOVES != 0,
                enriched,
            }
        });
        Seen { point, own }
    }
}

fn point(flags: u8, bytes: &mut &[u8]) -> Point {
    let [there, band] = take(bytes);
    let (id, mjd_tai) = (i64::from_le_bytes(take(bytes)), f64::from_le_bytes(take(bytes)));
    let mut double = |bit| if there & bit == 0 { Real::NONE } else { Real(f64::from_le_bytes(take(bytes))) };
    let (ra_deg, dec_deg) = (double(1), double(2));
    let mut single = |bit| if there & bit == 0 { Real32::NONE } else { Real32(f32::from_le_bytes(take(bytes))) };
    let (value, error, limit, score) = (single(4), single(8), single(16), single(32));
    Point {
        kind: match flags & flag::KIND {
            0 => Kind::Detection,
            1 => Kind::Limit,
            2 => Kind::Forced,
            _ => Kind::Away,
        },
        id,
        mjd_tai: Real(mjd_tai),
        ra_deg,
        dec_deg,
        value,
        error,
        limit,
        score,
        band: Band(band),
        unit: if flags & flag::NANOJANSKY == 0 { Unit::Magnitude } else { Unit::NanoJansky },
        negative: flags & flag::NEGATIVE != 0,
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, tail) = bytes.split_first_chunk().expect("an entry is as long as it was written");
    *bytes = tail;
    *head
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Seven bits a byte, the lowest first; the highest bit says that there are more.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn get(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let [byte] = take(bytes);
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}

fn to_index(number: u64) -> usize {
    usize::try_from(number).expect("it was one")
}

/// Bytes that an entry is taken to need before it is there.
const BYTES: usize = 48;

impl BatchContainer for Packed {
    type Owned = Entry;
    type ReadItem<'a> = Seen<'a>;

    fn into_owned(item: Seen<'_>) -> Entry {
        item.into()
    }
    fn push_ref(&mut self, item: Seen<'_>) {
        self.push(item);
    }
    fn push_own(&mut self, item: &Entry) {
        self.push(item.into());
    }
    fn clear(&mut self) {
        *self = Self::default();
    }
    fn with_capacity(size: usize) -> Self {
        let ends = Ends(OffsetList::with_capacity(size));
        Self { bytes: Vec::with_capacity(size * BYTES), ends, ..Self::default() }
    }
    fn merge_capacity(one: &Self, other: &Self) -> Self {
        let ends = Ends(OffsetList::with_capacity(one.len() + other.len()));
        Self { bytes: Vec::with_capacity(one.bytes.len() + other.bytes.len()), ends, ..Self::default() }
    }
    fn reborrow<'b, 'a: 'b>(item: Seen<'a>) -> Seen<'b> {
        item
    }
    fn index(&self, index: usize) -> Seen<'_> {
        self.seen(index)
    }
    fn len(&self) -> usize {
        self.ends.0.len()
    }
}

impl PushInto<Entry> for Packed {
    fn push_into(&mut self, item: Entry) {
        self.push((&item).into());
    }
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
