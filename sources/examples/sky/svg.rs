//! SVG, as text.

use std::fmt::Write;

use fink_sources::simulator::seen::{Band, Class};

/// A picture of a width and height that is being written.
pub(crate) struct Picture(String);

impl Picture {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
        ))
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string never fails.
        let _ = self.0.write_fmt(text);
    }

    pub(crate) fn text(&mut self, x: f64, y: f64, anchor: &str, fill: &str, text: &str) {
        self.add(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>\n"));
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!("<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"{stroke}\" stroke-width=\".7\" fill=\"none\"/>\n"));
    }

    /// A line through points.
    pub(crate) fn curve(&mut self, points: &[(f64, f64)], stroke: &str) {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        }
        self.add(format_args!("<path d=\"{path}\" stroke=\"{stroke}\" stroke-width=\".7\" fill=\"none\"/>\n"));
    }

    /// Straight lines, all alike.
    pub(crate) fn bars(&mut self, bars: &[((f64, f64), (f64, f64))], stroke: &str) {
        let mut path = String::new();
        for ((x1, y1), (_, y2)) in bars {
            let _ = write!(path, "M{x1:.0} {y1:.0}V{y2:.0}");
        }
        if !path.is_empty() {
            self.add(format_args!("<path d=\"{path}\" stroke=\"{stroke}\" stroke-width=\".7\" fill=\"none\"/>\n"));
        }
    }

    /// Round dots, all alike.
    pub(crate) fn dots(&mut self, points: &[(f64, f64)], size: f64, stroke: &str) {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
        self.add(format_args!("<path d=\"{path}\" stroke=\"{stroke}\" stroke-width=\"{size}\" stroke-linecap=\"round\" fill=\"none\"/>\n"));
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// The colour of a filter.
pub(crate) fn of_band(band: Band) -> &'static str {
    match band {
        Band::U => "#6a3d9a",
        Band::G => "#2a9d4a",
        Band::R => "#d1352b",
        Band::I => "#c9881d",
        Band::Z => "#7a4a2a",
        Band::Y => "#444",
    }
}

/// The colour of supernovae and the like.
pub(crate) const TRANSIENT: &str = "#000";

/// The colour of a class.
pub(crate) fn of_class(class: Class) -> &'static str {
    match class {
        Class::RrLyrae => "#1f78b4",
        Class::Cepheid => "#6a3d9a",
        Class::EclipsingBinary => "#33a0a0",
        Class::Mira => "#b15928",
        Class::Agn => "#e31a1c",
        Class::CataclysmicVariable => "#3f51b5",
        Class::FlareStar => "#f06292",
        Class::Microlensing => "#8bc34a",
        Class::SupernovaIa | Class::SupernovaIbc | Class::SupernovaII | Class::Kilonova | Class::TidalDisruption => TRANSIENT,
        Class::Asteroid => "#ff9800",
        Class::SatelliteGlint => "#00bcd4",
        Class::BadSubtraction | Class::CosmicRay => "#bbb",
    }
}
