//! Light curves by class, each from one alert's history.

use fink_sources::simulator::seen::{Band, Class, Seen};

use crate::svg::{Picture, of_band};

const COLUMNS: usize = 4;
const PANEL: (f64, f64) = (230.0, 150.0);
/// Room around a panel's frame: left, top, right, bottom.
const MARGINS: [f64; 4] = [38.0, 22.0, 8.0, 22.0];

/// A detection: where along, how bright (micro-Jansky), its error, in which filter.
type Point = (f64, f64, f64, Band);

/// One panel for each alert of a class that lasts longer than an exposure.
pub(crate) fn draw(alerts: &[Seen]) -> String {
    let lasting = |seen: &&Seen| !seen.class.is_bogus() && !matches!(seen.class, Class::Asteroid | Class::SatelliteGlint);
    let alerts: Vec<&Seen> = alerts.iter().filter(lasting).collect();
    let rows = alerts.len().div_ceil(COLUMNS);
    let mut picture = Picture::new(PANEL.0 * COLUMNS as f64, PANEL.1 * rows as f64 + 20.0);
    for (at, seen) in alerts.iter().enumerate() {
        panel(&mut picture, seen, (PANEL.0 * (at % COLUMNS) as f64, PANEL.1 * (at / COLUMNS) as f64));
    }
    let foot = PANEL.1 * rows as f64 + 12.0;
    let words = "flux of the difference image, micro-Jansky; days before the alert, or phase of the true period";
    picture.text(PANEL.0 * COLUMNS as f64 - 8.0, foot, "end", "#444", words);
    for (band, x) in [Band::G, Band::R, Band::I].into_iter().zip([10.0, 30.0, 50.0]) {
        picture.text(x, foot, "start", of_band(band), band.letter());
    }
    picture.end()
}

fn points(seen: &Seen, period: Option<f64>) -> Vec<Point> {
    let along = |mjd: f64| period.map_or(mjd - seen.visit.mjd_tai, |period| (mjd / period).rem_euclid(1.0));
    let past = seen.history.iter().filter_map(|past| past.detection.as_ref().map(|found| (&past.visit, found)));
    past.chain([(&seen.visit, &seen.detection)])
        .map(|(visit, found)| (along(visit.mjd_tai), found.difference_njy / 1e3, found.difference_error_njy / 1e3, visit.band))
        .collect()
}

fn panel(picture: &mut Picture, seen: &Seen, (left, top): (f64, f64)) {
    let [to_left, to_top, to_right, to_bottom] = MARGINS;
    let (x0, x1) = (left + to_left, left + PANEL.0 - to_right);
    let (y0, y1) = (top + PANEL.1 - to_bottom, top + to_top);
    let of = |name: &str| seen.truth.parameters.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let period = of("period_days").filter(|period| *period < 60.0);
    let points = points(seen, period);
    let (low, high) = points.iter().fold((0.0f64, 0.0f64), |(low, high), point| (low.min(point.1), high.max(point.1)));
    let first = points.iter().map(|point| point.0).fold(0.0, f64::min);
    let (begin, end) = if period.is_some() { (0.0, 1.0) } else { (first.min(-1.0) * 1.05, 0.0) };
    let place =
        |along: f64, flux: f64| (x0 + (x1 - x0) * (along - begin) / (end - begin), y0 + (y1 - y0) * (flux - low) / (high - low).max(1e-9));
    let title = match (period, of("redshift")) {
        (Some(period), _) => format!("{}, {period:.4} days", seen.class.name()),
        (_, Some(redshift)) => format!("{}, z = {redshift:.3}", seen.class.name()),
        _ => seen.class.name().to_owned(),
    };
    picture.text(x0, top + 15.0, "start", "#000", &title);
    picture.curve(&[(x0, y1), (x0, y0), (x1, y0)], "#888");
    picture.line(place(begin, 0.0), place(end, 0.0), "#ccc");
    for (flux, y) in [(low, y0), (high, y1 + 8.0)] {
        picture.text(x0 - 3.0, y, "end", "#444", &format!("{flux:.0}"));
    }
    picture.text(x0, y0 + 12.0, "start", "#444", &format!("{begin:.0}"));
    picture.text(x1, y0 + 12.0, "end", "#444", &format!("{end:.0}"));
    for band in Band::ALL {
        let dots: Vec<_> = points.iter().filter(|point| point.3 == band).map(|(along, flux, ..)| place(*along, *flux)).collect();
        if !dots.is_empty() {
            // Only errors that show beside a dot.
            let of_band_points = points.iter().filter(|point| point.3 == band);
            let bars = of_band_points.map(|(along, flux, error, _)| (place(*along, flux - error), place(*along, flux + error)));
            let bars: Vec<_> = bars.filter(|(low, high)| low.1 - high.1 > 4.0).collect();
            picture.bars(&bars, of_band(band));
            picture.dots(&dots, 3.0, of_band(band));
        }
    }
}
