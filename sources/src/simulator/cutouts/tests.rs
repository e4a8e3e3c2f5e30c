//! Cutouts that a person, and any FITS reader, takes for real ones.

use std::collections::BTreeSet;
use std::io::Read;

use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::simulator::example::example;

const TELESCOPES: [(Telescope, usize); 2] = [(Telescope::Ztf, 63), (Telescope::Lsst, 30)];

fn plain(telescope: Telescope, file: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match telescope {
        Telescope::Ztf => flate2::read::GzDecoder::new(file).read_to_end(&mut plain).map(|_| plain).unwrap(),
        Telescope::Lsst => file.to_vec(),
    }
}

#[test]
fn files_have_the_sizes_of_real_ones() {
    for (telescope, side) in TELESCOPES {
        let mut cutouts = Cutouts::new(telescope, side);
        for number in 0..50 {
            let files = cutouts.files(&example(telescope, number));
            let sizes = files.each_ref().map(Vec::len);
            match telescope {
                // Real ones: 13.4, 12.7 and 14.9 kB; 20,160 bytes unpacked.
                Telescope::Ztf => {
                    assert!(sizes.iter().all(|size| (11_000..16_000).contains(size)), "{sizes:?}");
                    assert!(files.iter().all(|file| plain(telescope, file).len() == 20_160));
                }
                // Real ones: 34,560 bytes.
                Telescope::Lsst => assert_eq!(sizes, [34_560; 3]),
            }
        }
    }
}

#[test]
fn the_difference_shows_its_source_at_the_centre() {
    for (telescope, side) in TELESCOPES {
        let mut cutouts = Cutouts::new(telescope, side);
        let mut away = 0;
        for number in 0..200 {
            let seen = example(telescope, number);
            let sign = if seen.detection.difference_njy < 0.0 { -1.0 } else { 1.0 };
            let [x, y] = centroid(&cutouts.paint(&seen).pixels[2], side, sign);
            if x.abs() > 1.0 || y.abs() > 1.0 {
                // Noise may move what is barely there.
                assert!(seen.detection.snr < 8.0, "{telescope:?} {number}: {x} {y} at {}", seen.detection.snr);
                away += 1;
            }
        }
        assert!(away < 4, "{telescope:?}: {away} of 200 are not at the centre");
    }
}

/// Where the source is, relative to the middle pixel: from the brightest 3 x 3 pixels near it, the centroid under a
/// Gaussian window, moved until it stands (as SExtractor's XWIN_IMAGE).
fn centroid(pixels: &[f32], side: usize, sign: f32) -> [f32; 2] {
    let middle = (side / 2) as i32;
    let light = |x: i32, y: i32| sign * pixels[((middle + y) * side as i32 + middle + x) as usize];
    let around = |radius: i32| (-radius..=radius).flat_map(move |y| (-radius..=radius).map(move |x| (x, y)));
    let box_of = |(x, y): (i32, i32)| around(1).map(|(dx, dy)| light(x + dx, y + dy)).sum::<f32>();
    let (x, y) = around(4).max_by(|a, b| box_of(*a).total_cmp(&box_of(*b))).unwrap();
    let mut at = [x as f32, y as f32];
    for _ in 0..10 {
        let mut sums = [0.0; 3];
        for (x, y) in around(8) {
            let (dx, dy) = (x as f32 - at[0], y as f32 - at[1]);
            let weight = (-(dx * dx + dy * dy) / (2.0 * 1.3 * 1.3)).exp() * light(x, y);
            sums = [sums[0] + weight, sums[1] + weight * dx, sums[2] + weight * dy];
        }
        at = [at[0] + 1.5 * sums[1] / sums[0], at[1] + 1.5 * sums[2] / sums[0]];
    }
    at
}

#[test]
fn ten_thousand_alerts_have_ten_thousand_difference_stamps() {
    let mut cutouts = Cutouts::new(Telescope::Ztf, 63);
    let mut seen = example(Telescope::Ztf, 1);
    let hashes: BTreeSet<u64> = (0..10_000)
        .map(|number| {
            seen.scene.noise_seed = number;
            xxh3_64(&cutouts.files(&seen)[2])
        })
        .collect();
    assert_eq!(hashes.len(), 10_000);
}

const OPEN: &str = include_str!("../../../tests/sky/open.py");

#[test]
fn astropy_opens_a_thousand_of_them() {
    let Ok(python) = std::env::var("FINK_PYTHON") else { return println!("skipped: FINK_PYTHON is not set") };
    let folder = tempfile::tempdir().unwrap();
    for (telescope, side) in TELESCOPES {
        let mut cutouts = Cutouts::new(telescope, side);
        for number in 0..167 {
            for (which, file) in cutouts.files(&example(telescope, number)).iter().enumerate() {
                let name = format!("{telescope:?}-{number}-{which}").to_lowercase();
                std::fs::write(folder.path().join(name), file).unwrap();
            }
        }
    }
    let output = std::process::Command::new(python).args(["-c", OPEN]).arg(folder.path()).output().unwrap();
    if output.status.code() == Some(77) {
        return println!("skipped: {}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1002");
}
