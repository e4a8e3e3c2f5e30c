//! What a survey follows in one of its fields: always the same objects, few enough for a visit's alerts.

use super::bogus::{Site, sites};
use super::cadence::Field;
use super::camera::Spot;
use super::instrument::Instrument;
use crate::simulator::dice::Dice;
use crate::simulator::heavens::transients::{spans, transients};
use crate::simulator::heavens::{Object, Sky, stars};
use crate::simulator::light::njy;
use crate::simulator::seen::Telescope;

/// Dice of which objects are followed.
const FOLLOW: u64 = 0x81;

/// How the alerts of a visit are shared out, so that there are never more than can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Alerts of a visit.
    pub(crate) all: u32,
    /// Places of bad subtractions.
    pub(crate) sites: u32,
    /// Asteroids.
    pub(crate) asteroids: u32,
    /// Transients of each span of time.
    pub(crate) transients: u32,
    /// Lasting objects that may be detected at once.
    pub(crate) lasting: u32,
}

impl Shares {
    pub(crate) fn new(all: u32) -> Self {
        let tenth = (all / 10).max(1);
        let transients = if all < 40 { 0 } else { (all / 32).min(1024) };
        // Transients of eight spans may be followed at once, but most of them are still or again too faint: room for three.
        // A tenth stays for what is bogus once, and gives way if ever there were more.
        Self { all, sites: tenth, asteroids: tenth, transients, lasting: all.saturating_sub(3 * tenth + 3 * transients) }
    }
}

/// An object that is followed, and where it falls.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub(crate) object: Object,
    pub(crate) spot: Spot,
    /// Its own among the alerts of each visit to the field.
    pub(crate) slot: u32,
}

/// The lasting part of a field.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub(crate) lasting: Vec<Followed>,
    pub(crate) sites: Vec<Site>,
}

/// The slots of the kinds of alerts: lasting objects from 0.
pub(crate) const TRANSIENT_SLOTS: u32 = 1 << 17;
pub(crate) const ASTEROID_SLOTS: u32 = TRANSIENT_SLOTS + (1 << 15);
pub(crate) const BOGUS_SLOTS: u32 = 1 << 17 | 1 << 16;
/// Bits of a slot.
pub(crate) const SLOT_BITS: u32 = 18;

/// The sky's tiles of a field.
pub(crate) fn tiles(instrument: &Instrument, field: &Field) -> std::ops::Range<u32> {
    match instrument.telescope {
        Telescope::Ztf => field.patch * 9..field.patch * 9 + 9,
        Telescope::Lsst => field.patch..field.patch + 1,
    }
}

/// Whether the faint objects are worth looking at.
pub(crate) fn is_deep(instrument: &Instrument) -> bool {
    instrument.telescope == Telescope::Lsst
}

impl Patch {
    pub(crate) fn new(instrument: &Instrument, sky: &Sky, field: &Field, shares: &Shares) -> Self {
        let mut candidates = Vec::new();
        for tile in tiles(instrument, field) {
            for ((class, layer), index) in sky.lasting(tile, is_deep(instrument)).into_iter().zip(0..) {
                let turn = Dice::new(&[sky.seed, FOLLOW, stars::number(tile, index)]).bits();
                candidates.push((turn, tile, index, class, layer));
            }
        }
        candidates.sort_unstable_by_key(|candidate| (candidate.0, candidate.1, candidate.2));
        let room = f64::from(shares.lasting);
        let five = njy(instrument.good_depth_mag);
        let (mut expected, mut variance, mut lasting) = (0.0, 0.0, Vec::new());
        for (_, tile, index, class, layer) in candidates {
            let object = stars::lasting(sky, tile, index, class, layer);
            let chance = object.light.chance(five);
            if chance < 0.003 {
                continue;
            }
            let (mean, spread) = (expected + chance, variance + chance * (1.0 - chance));
            // Four sigma below what there is room for in a good visit; in the very best, what is bogus once gives way.
            if mean + 4.0 * libm::sqrt(spread) > room {
                break;
            }
            if let Some(spot) = instrument.spot((field.ra_deg, field.dec_deg), object.ra_deg, object.dec_deg) {
                (expected, variance) = (mean, spread);
                let slot = lasting.len() as u32;
                lasting.push(Followed { object, spot, slot });
            }
            if lasting.len() as u32 == TRANSIENT_SLOTS {
                break;
            }
        }
        Self { lasting, sites: sites(instrument, sky, field, shares) }
    }

    /// How much memory it takes, in objects.
    pub(crate) fn weight(&self) -> usize {
        self.lasting.len() + self.sites.len()
    }
}

/// The transients that are followed in a field and may shine at `mjd`.
pub(crate) fn shining(instrument: &Instrument, sky: &Sky, field: &Field, shares: &Shares, mjd: f64) -> Vec<Followed> {
    let mut all = Vec::new();
    for span in spans(mjd) {
        let mut of_span: Vec<(u64, Object)> = tiles(instrument, field)
            .flat_map(|tile| transients(sky, tile, span, is_deep(instrument)))
            .map(|object| (Dice::new(&[sky.seed, FOLLOW, object.number]).bits(), object))
            .collect();
        of_span.sort_unstable_by_key(|(turn, object)| (*turn, object.number));
        let followed = of_span.into_iter().filter_map(|(_, object)| {
            let spot = instrument.spot((field.ra_deg, field.dec_deg), object.ra_deg, object.dec_deg)?;
            Some((object, spot))
        });
        for ((object, spot), rank) in followed.take(shares.transients as usize).zip(0..) {
            all.push(Followed { object, spot, slot: TRANSIENT_SLOTS + (span.rem_euclid(32) as u32) * 1024 + rank });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::cadence::fields;
    use super::*;
    use crate::simulator::heavens::transients::{AFTER_DAYS, BEFORE_DAYS, SPAN_DAYS};

    #[test]
    fn shares_leave_a_tenth_for_what_is_bogus_once() {
        for all in [10, 39, 40, 250, 10_000, 65_535] {
            let shares = Shares::new(all);
            let most = shares.sites + shares.asteroids + 3 * shares.transients + shares.lasting;
            assert!(most <= all - (all / 10).max(1), "{shares:?}");
        }
        assert!((AFTER_DAYS + BEFORE_DAYS) / SPAN_DAYS < 7.0, "more than eight spans");
    }

    #[test]
    fn a_field_follows_what_it_has_room_for_and_always_the_same() {
        let sky = Sky::new(4, 100_000, 0);
        let instrument = Instrument::of(Telescope::Ztf);
        let fields = fields(&instrument, &sky.tiles, 4);
        let mut most = 0;
        for field in fields.iter().step_by(23) {
            let (few, many) = (Shares::new(50), Shares::new(2000));
            let (small, large) = (Patch::new(&instrument, &sky, field, &few), Patch::new(&instrument, &sky, field, &many));
            assert!(small.lasting.len() < 50 && large.lasting.len() >= small.lasting.len());
            // More room is more of the same.
            let numbers = |patch: &Patch| patch.lasting.iter().map(|followed| followed.object.number).collect::<Vec<_>>();
            assert_eq!(numbers(&large)[..small.lasting.len()], numbers(&small));
            most = most.max(large.lasting.len());
        }
        assert!(most > 200, "{most} in the fullest field");
    }
}
