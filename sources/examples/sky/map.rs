//! A map of the sky: where the alerts of a year are, by class, on Aitoff's projection.

use std::collections::{BTreeMap, BTreeSet};

use fink_sources::simulator::seen::Class;

use crate::svg::{Picture, TRANSIENT, of_class};

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 520.0;

/// Aitoff's projection (Calabretta & Greisen 2002, sec. 5.4.2, as drawn: right ascension 180 in the middle, east to the left).
fn place(ra_deg: f64, dec_deg: f64) -> (f64, f64) {
    let half = (ra_deg - 180.0).to_radians() / 2.0;
    let dec = dec_deg.to_radians();
    let alpha = (dec.cos() * half.cos()).acos();
    let stretch = if alpha < 1e-9 { 1.0 } else { alpha / alpha.sin() };
    let (x, y) = (2.0 * stretch * dec.cos() * half.sin(), stretch * dec.sin());
    let scale = (WIDTH / 2.0 - 10.0) / std::f64::consts::PI;
    (WIDTH / 2.0 - x * scale, HEIGHT / 2.0 - 20.0 - y * scale)
}

/// The map; bogus detections are left out.
pub(crate) fn draw(places: &BTreeMap<Class, Vec<(f64, f64)>>) -> String {
    let mut picture = Picture::new(WIDTH, HEIGHT);
    for dec in [-60.0, -30.0, 0.0, 30.0, 60.0] {
        let parallel: Vec<_> = (0..=72).map(|step| place(f64::from(step) * 5.0, dec)).collect();
        picture.curve(&parallel, "#ddd");
    }
    for ra in [0.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0] {
        let meridian: Vec<_> = (-18..=18).map(|step| place(ra, f64::from(step) * 5.0)).collect();
        picture.curve(&meridian, "#ddd");
    }
    let mut named = BTreeSet::new();
    let mut x = 10.0;
    for (class, of_class_places) in places.iter().filter(|(class, _)| !class.is_bogus() && **class != Class::SatelliteGlint) {
        let colour = of_class(*class);
        let dots: Vec<_> = of_class_places.iter().map(|(ra, dec)| place(*ra, *dec)).collect();
        picture.dots(&dots, if colour == TRANSIENT { 2.6 } else { 1.8 }, colour);
        if named.insert(colour) {
            let name = if colour == TRANSIENT { "transients" } else { class.name() };
            picture.text(x, HEIGHT - 8.0, "start", colour, name);
            x += 12.0 + 6.2 * name.len() as f64;
        }
    }
    picture.text(WIDTH - 10.0, 14.0, "end", "#444", "right ascension 180 degrees in the middle, east to the left");
    picture.end()
}
