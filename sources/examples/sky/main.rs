//! Draws what the synthetic sky looks like, from its alerts alone: `light-curves.svg` (one alert of each class, with its
//! history) and `sky-map.svg` (where the alerts of a year are). The pictures of `docs/sky.md`:
//!
//! ```text
//! cargo run --release -p fink-sources --example sky -- docs/pictures
//! ```

mod curves;
mod map;
mod svg;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fink_sources::simulator::seen::{Class, Seen, SurveyOptions};
use fink_sources::simulator::survey::Survey;

/// The sky that is drawn.
const SEED: u64 = 7;
/// Alerts of each class on the map, and of each class of transients.
const ON_MAP: [usize; 2] = [600, 120];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "docs/pictures".to_owned()));
    std::fs::create_dir_all(&folder)?;
    let options = SurveyOptions::ztf(SEED);
    let quick = Survey::new(&SurveyOptions { history_days: 0, ..options.clone() })?;
    let whole = Survey::new(&SurveyOptions { history_days: 200, history_visits: 2000, ..options })?;

    let mut places: BTreeMap<Class, Vec<(f64, f64)>> = BTreeMap::new();
    let mut clearest: BTreeMap<Class, (f64, i64, u32)> = BTreeMap::new();
    // Every tenth night of a year, every fourth visit.
    for night in (0..36).map(|step| quick.options().first_night_mjd - 180 + 10 * step) {
        for visit in quick.visits_of(night, 1).step_by(4) {
            for index in 0..quick.options().alerts_per_visit {
                let seen = quick.seen(visit, index);
                places.entry(seen.class).or_default().push((seen.detection.ra_deg, seen.detection.dec_deg));
                let best = clearest.entry(seen.class).or_insert((0.0, visit, index));
                let clear = clearness(&seen);
                if clear > best.0 {
                    *best = (clear, visit, index);
                }
            }
        }
    }
    let alerts: Vec<Seen> = clearest.values().map(|(_, visit, index)| whole.seen(*visit, *index)).collect();
    std::fs::write(folder.join("light-curves.svg"), curves::draw(&alerts))?;
    // Evenly chosen of each class.
    for (class, of_class) in &mut places {
        let step = of_class.len().div_ceil(ON_MAP[usize::from(svg::of_class(*class) == svg::TRANSIENT)]);
        *of_class = of_class.iter().copied().step_by(step.max(1)).collect();
    }
    std::fs::write(folder.join("sky-map.svg"), map::draw(&places))?;
    for alert in &alerts {
        let detections = alert.history.iter().filter(|past| past.detection.is_some()).count() + 1;
        println!("{:<22} {detections:>4} detections  {:?}", alert.class.name(), alert.truth.parameters);
    }
    Ok(())
}

/// How good an example an alert is of its class: bright, and late enough that its history shows the whole.
fn clearness(seen: &Seen) -> f64 {
    let of = |name: &str| seen.truth.parameters.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let since = seen.visit.mjd_tai - of("peak_mjd").or(of("explosion_mjd")).unwrap_or(seen.visit.mjd_tai - 40.0);
    let late = match seen.class {
        // Half a day is what a survey from one place can't fill with phases.
        Class::RrLyrae => of("period_days").is_some_and(|period| (0.53..0.65).contains(&period)),
        Class::SupernovaII => (60.0..160.0).contains(&since),
        Class::Kilonova => (2.0..10.0).contains(&since),
        _ => (30.0..90.0).contains(&since),
    };
    let bright = seen.detection.snr.min(60.0);
    if late { bright + 100.0 } else { bright }
}
