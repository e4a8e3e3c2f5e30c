//! Which field is observed when, in which filter: the plan of a night, a function of seed and night alone.
//!
//! Of the fields that pass near the meridian in a night, those are taken whose share of a golden ratio's steps has come:
//! with h drawn for a field, frac(h + night * 0.618...) is evenly spread over the nights, so that each field is taken at
//! intervals of nearly the same length. Fields are gone through from west to east in blocks, each block two times or more,
//! in two filters, as asteroids want it.

use super::calendar::Calendar;
use super::instrument::Instrument;
use super::site::{Moon, moon};
use crate::simulator::dice::Dice;
use crate::simulator::heavens::tiles::Tiles;
use crate::simulator::seen::{Band, Telescope};

/// Dice of a field's turn and of a block's filters.
const TURN: u64 = 0x61;
const FILTERS: u64 = 0x62;
/// Fields of a block.
const BLOCK: usize = 30;
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// A field of the survey.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// The sky's field (ZTF) or tile (LSST).
    pub(crate) patch: u32,
    pub(crate) ra_deg: f64,
    pub(crate) dec_deg: f64,
    /// What decides its nights.
    turn: f64,
}

/// All fields of a survey.
pub(crate) fn fields(instrument: &Instrument, tiles: &Tiles, seed: u64) -> Vec<Field> {
    let patches = if instrument.telescope == Telescope::Ztf { tiles.fields() } else { tiles.tiles() };
    let [low, high] = instrument.declinations_deg;
    (0..patches)
        .filter_map(|patch| {
            let span = if instrument.telescope == Telescope::Ztf { tiles.field(patch) } else { tiles.tile(patch) };
            let (ra_deg, dec_deg) = span.middle();
            let turn = Dice::new(&[seed, TURN, u64::from(patch)]).within(0.0, 1.0);
            (low..=high).contains(&dec_deg).then_some(Field { patch, ra_deg, dec_deg, turn })
        })
        .collect()
}

/// A night's plan.
#[derive(Clone, Debug)]
pub(crate) struct Night {
    pub(crate) night_mjd: i32,
    /// The number of its first visit.
    pub(crate) first: i64,
    /// Dusk, MJD, UTC.
    pub(crate) dusk: f64,
    /// At midnight.
    pub(crate) moon: Moon,
    /// Field (by place in the list of fields) and filter of each visit.
    pub(crate) visits: Vec<(u32, Band)>,
    /// Field and visit in the night, in this order.
    by_field: Vec<(u32, u32)>,
}

impl Night {
    pub(crate) fn plan(instrument: &Instrument, calendar: &Calendar, fields: &[Field], seed: u64, night_mjd: i32) -> Self {
        let (dusk, dawn) = instrument.site.night(night_mjd);
        let moon = moon((dusk + dawn) / 2.0);
        let count = calendar.count(night_mjd) as usize;
        let chosen = choose(instrument, fields, night_mjd, (dusk, dawn), count / instrument.rounds as usize);
        let visits = order(instrument, &chosen, count, |block| {
            let choice = Dice::new(&[seed, FILTERS, night_mjd as u64, block as u64]).bits();
            instrument.bands(choice, moon.illumination)
        });
        let mut by_field: Vec<(u32, u32)> = visits.iter().zip(0..).map(|((field, _), visit)| (*field, visit)).collect();
        by_field.sort_unstable();
        Self { night_mjd, first: calendar.first(night_mjd), dusk, moon, visits, by_field }
    }

    /// The visits of this night to a field.
    pub(crate) fn visits_to(&self, field: u32) -> impl Iterator<Item = u32> + '_ {
        let begin = self.by_field.partition_point(|(other, _)| *other < field);
        self.by_field[begin..].iter().take_while(move |(other, _)| *other == field).map(|(_, visit)| *visit)
    }
}

/// The fields of a night, from west to east.
fn choose(instrument: &Instrument, fields: &[Field], night_mjd: i32, (dusk, dawn): (f64, f64), room: usize) -> Vec<u32> {
    let west = instrument.site.sidereal_deg(dusk) - instrument.hours_deg;
    let width = (dawn - dusk) * 360.985_6 + 2.0 * instrument.hours_deg;
    let step = f64::from(night_mjd) * GOLDEN;
    let mut candidates: Vec<(f64, u32, f64)> = Vec::with_capacity(fields.len());
    for (field, index) in fields.iter().zip(0..) {
        let from_west = field.ra_deg - west;
        let from_west = from_west - 360.0 * (from_west / 360.0).floor();
        if from_west < width {
            let turn = field.turn + step;
            candidates.push((turn - turn.floor(), index, from_west));
        }
    }
    if candidates.len() > room {
        candidates.select_nth_unstable_by(room, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        candidates.truncate(room);
    }
    candidates.sort_unstable_by(|a, b| a.2.total_cmp(&b.2).then(a.1.cmp(&b.1)));
    candidates.into_iter().map(|(_, index, _)| index).collect()
}

/// Visits to the chosen fields, block by block, as many as asked for.
fn order(instrument: &Instrument, chosen: &[u32], count: usize, bands: impl Fn(usize) -> [Band; 2]) -> Vec<(u32, Band)> {
    let rounds = (count / chosen.len().max(1)).max(instrument.rounds as usize);
    let blocks: Vec<&[u32]> = chosen.chunks(BLOCK).collect();
    // What is left over goes to the last blocks, which are still there at dawn.
    let mut spare = count.saturating_sub(rounds * chosen.len());
    let mut extra = vec![0; blocks.len()];
    for (block, extra) in blocks.iter().zip(&mut extra).rev() {
        let more = spare.min(block.len());
        *extra = more;
        spare -= more;
    }
    let mut visits = Vec::with_capacity(count);
    for (at, block) in blocks.iter().enumerate() {
        let pair = bands(at);
        for round in 0..=rounds {
            let taken = if round < rounds { block.len() } else { extra[at] };
            visits.extend(block[..taken].iter().map(|field| (*field, pair[round % 2])));
        }
    }
    visits.truncate(count);
    visits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn night(telescope: Telescope, night_mjd: i32) -> (Instrument, Vec<Field>, Night) {
        let (instrument, tiles) = (Instrument::of(telescope), Tiles::new());
        let fields = fields(&instrument, &tiles, 3);
        let night = Night::plan(&instrument, &Calendar::new(&instrument), &fields, 3, night_mjd);
        (instrument, fields, night)
    }

    #[test]
    fn a_night_is_full_and_its_fields_stand_high() {
        for telescope in [Telescope::Ztf, Telescope::Lsst] {
            for night_mjd in (61_041..61_406).step_by(31) {
                let (instrument, fields, night) = night(telescope, night_mjd);
                assert_eq!(night.visits.len(), Calendar::new(&instrument).count(night_mjd) as usize);
                let low = night.visits.iter().zip(0..).filter(|((field, _), visit)| {
                    let field = &fields[*field as usize];
                    let mjd = night.dusk + f64::from(*visit) * instrument.interval_s / 86_400.0;
                    instrument.site.altitude_deg(field.ra_deg, field.dec_deg, mjd) < 20.0
                });
                let low = low.count();
                assert!(low * 50 < night.visits.len(), "{telescope:?} {night_mjd}: {low} visits below 20 degrees");
            }
        }
    }

    #[test]
    fn a_field_is_seen_in_two_filters_of_a_night_and_again_after_some_nights() {
        for telescope in [Telescope::Ztf, Telescope::Lsst] {
            let (_, _, first) = night(telescope, 61_366);
            let field = first.visits[first.visits.len() / 2].0;
            let visits: Vec<u32> = first.visits_to(field).collect();
            assert!(visits.len() >= 2 && visits.is_sorted());
            let bands: std::collections::BTreeSet<Band> = visits.iter().map(|visit| first.visits[*visit as usize].1).collect();
            assert_eq!(bands.len(), 2);
            let instrument = Instrument::of(telescope);
            let gap = f64::from(visits[1] - visits[0]) * instrument.interval_s / 60.0;
            assert!((10.0..40.0).contains(&gap), "{gap} minutes");
            let again = (61_367..61_376).filter(|later| night(telescope, *later).2.visits_to(field).count() > 0).count();
            assert!((1..=9).contains(&again), "{again} of 9 nights");
        }
    }
}
