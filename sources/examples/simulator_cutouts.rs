//! A sheet of simulated cutouts, as docs/sky.md shows it: `cargo run -p fink-sources --example simulator_cutouts > docs/pictures/cutouts.svg`.
//!
//! A row for each class of objects: science, template and difference, of ZTF and of LSST, each stretched from its sky to
//! its brightest pixel by a square root.

use std::collections::BTreeMap;
use std::io::Write;

use fink_sources::simulator::cutouts::Cutouts;
use fink_sources::simulator::seen::{Class, Seen, SurveyOptions};
use fink_sources::simulator::survey::Survey;
use flate2::Compression;
use flate2::write::ZlibEncoder;

const CLASSES: [Class; 8] = [
    Class::RrLyrae,
    Class::Agn,
    Class::SupernovaIa,
    Class::TidalDisruption,
    Class::Asteroid,
    Class::SatelliteGlint,
    Class::BadSubtraction,
    Class::CosmicRay,
];
/// Pixels of the sheet that a cutout takes, and what stands between them.
const SHOWN: usize = 96;
const GAP: usize = 6;
const LEFT: usize = 130;
const TOP: usize = 40;

fn main() {
    let surveys = [
        (SurveyOptions { alerts_per_visit: 250, ..SurveyOptions::ztf(7) }, 63),
        (SurveyOptions { alerts_per_visit: 500, ..SurveyOptions::lsst(7) }, 30),
    ];
    let (width, height) = (LEFT + 6 * (SHOWN + GAP) + 3 * GAP, TOP + CLASSES.len() * (SHOWN + GAP));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (which, (options, side)) in surveys.iter().enumerate() {
        let found = find(&Survey::new(options).expect("the options are in range"));
        let mut cutouts = Cutouts::new(options.telescope, *side);
        let x = |column: usize| LEFT + (3 * which + column) * (SHOWN + GAP) + 3 * GAP * which;
        svg += &format!("<text x=\"{}\" y=\"14\">{:?}</text>\n", x(0), options.telescope);
        for (column, name) in ["science", "template", "difference"].into_iter().enumerate() {
            svg += &format!("<text x=\"{}\" y=\"32\">{name}</text>\n", x(column));
        }
        for (row, class) in CLASSES.iter().enumerate() {
            let y = TOP + row * (SHOWN + GAP);
            if which == 0 {
                svg += &format!("<text x=\"4\" y=\"{}\">{}</text>\n", y + SHOWN / 2, class.name());
            }
            let Some(seen) = found.get(class) else { continue };
            let pictures = cutouts.paint(seen);
            for column in 0..3 {
                let png = base64(&png(&stretched(&pictures.pixels[column], *side), *side));
                svg += &format!(
                    "<image x=\"{}\" y=\"{y}\" width=\"{SHOWN}\" height=\"{SHOWN}\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{png}\"/>\n",
                    x(column)
                );
            }
        }
    }
    svg += "</svg>\n";
    std::io::stdout().write_all(svg.as_bytes()).expect("written");
}

/// An alert of each class, well above the noise, from the first nights.
fn find(survey: &Survey) -> BTreeMap<Class, Seen> {
    let mut found: BTreeMap<Class, Seen> = BTreeMap::new();
    for number in 0..60_000 {
        let (visit, index) = survey.place(number);
        let seen = survey.seen(visit, index);
        let best = found.get(&seen.class).map_or(0.0, |best| best.detection.snr.min(60.0));
        if CLASSES.contains(&seen.class) && seen.detection.snr.min(60.0) > best {
            found.insert(seen.class, seen);
        }
        if CLASSES.iter().all(|class| found.get(class).is_some_and(|seen| seen.detection.snr > 25.0)) {
            break;
        }
    }
    found
}

/// Grey levels, north up.
fn stretched(pixels: &[f32], side: usize) -> Vec<u8> {
    let mut sorted = pixels.to_vec();
    sorted.sort_by(f32::total_cmp);
    let (low, high) = (sorted[sorted.len() / 20], sorted[sorted.len() - 1 - sorted.len() / 1000]);
    let grey = |pixel: f32| (255.0 * ((pixel - low) / (high - low).max(1e-6)).clamp(0.0, 1.0).sqrt()) as u8;
    pixels.chunks(side).rev().flatten().map(|pixel| grey(*pixel)).collect()
}

/// A PNG file of grey levels.
fn png(grey: &[u8], side: usize) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        file.extend((data.len() as u32).to_be_bytes());
        let body = [&kind[..], data].concat();
        file.extend(&body);
        file.extend(crc32fast::hash(&body).to_be_bytes());
    };
    let side_bytes = (side as u32).to_be_bytes();
    chunk(b"IHDR", &[&side_bytes[..], &side_bytes, &[8, 0, 0, 0, 0]].concat());
    let rows: Vec<u8> = grey.chunks(side).flat_map(|row| [&[0], row].concat()).collect();
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&rows).expect("written to memory");
    chunk(b"IDAT", &packed.finish().expect("written to memory"));
    chunk(b"IEND", &[]);
    file
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for index in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= part.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
