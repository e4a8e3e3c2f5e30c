//! What stands at an object's place: in catalogues, and in other surveys.
//!
//! | module | what it is |
//! |---|---|
//! | [`sky`] | angles on the sphere, and the cells in which neighbours are looked for |
//!
//! ```text
//!  summaries ─► places by cell ──┬─► join ─► matches: (object, catalogue's row, distance)
//!                                │    ▲
//!  catalogues' rows ─► by every cell that a row's disc touches
//!                                │
//!                                └─► join with itself ─► associations: (object, another survey's object, distance)
//! ```
//!
//! Places stand in one cell each; a catalogue's row stands in all cells that its disc touches, mostly one. So each pair is
//! found once, in the cell of the object, and the angle decides. Catalogues are collections: a row that comes, changes or
//! goes corrects the matches of all objects that ever were there.

pub mod sky;

use differential_dataflow::VecCollection;
use differential_dataflow::lattice::Lattice;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::ValSpine;
use fink_dataflow::detection::{ObjectId, Real};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use timely::progress::Timestamp;

use crate::catalogue::{CatalogueId, Row};
use crate::objects::{ByObject, Summary};
use sky::{cell, cells, within_arcsec};

/// Where an object is.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The object.
    pub object: ObjectId,
    /// Mean right ascension, ICRS, in degrees.
    pub ra_deg: Real,
    /// Mean declination.
    pub dec_deg: Real,
    /// Mean time, modified Julian date of TAI.
    pub mjd_tai: Real,
}

/// A catalogue's row at an object's place. Ordered by catalogue, then nearest first.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Match {
    /// The catalogue.
    pub catalogue: CatalogueId,
    /// The distance in arcseconds.
    pub separation_arcsec: Real,
    /// The row's number in its catalogue, from 0.
    pub number: u32,
    /// What the row tells.
    pub carried: Arc<[Box<str>]>,
}

/// Another survey's object at an object's place. Ordered nearest first.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Association {
    /// The distance in arcseconds.
    pub separation_arcsec: Real,
    /// The other object.
    pub other: ObjectId,
}

/// Places by their cell.
pub type Places<'s, T> = Arranged<'s, TraceAgent<ValSpine<u64, Place, T, isize>>>;

/// The places of all objects that stand still, by cell.
pub fn places<'s, T: Timestamp + Lattice + Ord>(summaries: &ByObject<'s, T, Summary>) -> Places<'s, T> {
    let places = summaries.clone().flat_map_ref(|object, summary| {
        let place =
            |p: crate::objects::summary::Position| Place { object: *object, ra_deg: p.ra_deg, dec_deg: p.dec_deg, mjd_tai: p.mjd_tai };
        summary.position.map(|position| (cell(position.ra_deg.0, position.dec_deg.0), place(position)))
    });
    places.arrange_by_key_named("places by cell")
}

/// Which rows of catalogues stand at which objects' places.
pub fn matches<'s, T: Timestamp + Lattice + Ord>(
    places: &Places<'s, T>,
    rows: VecCollection<'s, T, Row, isize>,
) -> VecCollection<'s, T, (ObjectId, Match), isize> {
    let rows = rows.flat_map(|row| {
        let mut touched = Vec::new();
        cells(row.ra_deg.0, row.dec_deg.0, row.reach_arcsec(), |cell| touched.push(cell));
        touched.into_iter().map(move |cell| (cell, row.clone()))
    });
    let rows = rows.arrange_by_key_named("catalogues by cell");
    places.clone().join_core(rows, |_cell, place, row| match_of(place, row).map(|found| (place.object, found)))
}

/// The match of a place and a row, if there is one.
#[must_use]
pub fn match_of(place: &Place, row: &Row) -> Option<Match> {
    let separation = within_arcsec((place.ra_deg.0, place.dec_deg.0), row.at(place.mjd_tai.0), f64::from(row.radius_arcsec.0))?;
    Some(Match { catalogue: row.catalogue, separation_arcsec: Real(separation), number: row.number, carried: Arc::clone(&row.carried) })
}

/// Which objects of different surveys stand at one place, within a radius; each pair both ways.
pub fn associations<'s, T: Timestamp + Lattice + Ord>(
    places: &Places<'s, T>,
    radius_arcsec: f64,
) -> VecCollection<'s, T, (ObjectId, Association), isize> {
    let associate = move |a: &Place, b: &Place| association(a, b, radius_arcsec).map(|found| (a.object, found));
    let within = places.clone().join_core(places.clone(), move |_cell, a, b| associate(a, b));
    // Those near an edge look into the cells beyond it as well.
    let near = places.clone().flat_map_ref(move |own, place| {
        let (own, mut beyond) = (*own, Vec::new());
        cells(place.ra_deg.0, place.dec_deg.0, radius_arcsec, |cell| beyond.extend((cell != own).then_some(cell)));
        let place = (!beyond.is_empty()).then(|| place.clone());
        beyond.into_iter().filter_map(move |cell| Some((cell, place.clone()?)))
    });
    let near = near.arrange_by_key_named("places near an edge");
    let across = near.join_core(places.clone(), move |_cell, a, b| associate(a, b));
    within.concat(across)
}

/// What `b` is to `a`, if they are at one place.
#[must_use]
pub fn association(a: &Place, b: &Place, radius_arcsec: f64) -> Option<Association> {
    if a.object.survey == b.object.survey {
        return None;
    }
    let separation = within_arcsec((a.ra_deg.0, a.dec_deg.0), (b.ra_deg.0, b.dec_deg.0), radius_arcsec)?;
    Some(Association { separation_arcsec: Real(separation), other: b.object })
}
