//! The difference image shows what the alert is about, where it is.
//!
//! Which alerts are judged is said beforehand, by the truth's class and the alert's own signal over noise. A point's centre can be
//! told no better than by 0.6 FWHM over that (King 1983, PASP 95, 163): a fifth of LSST's pixel at 10, to which comes up to half
//! a pixel, as stamps are cut at whole pixels.

use std::collections::BTreeSet;
use std::ops::Range;

use fink_sources::simulator::seen::{Shape, Telescope};
use xxhash_rust::xxh3::xxh3_64;

use crate::stream::{Alert, Stream, TELESCOPES, config};

/// Numbers of the alerts that are looked at: of visits all over two nights, some each.
fn sample(telescope: Telescope) -> impl Iterator<Item = u64> {
    let (alerts, visits, skip, stride) = match telescope {
        Telescope::Ztf => (250, 100, 17, 3),
        Telescope::Lsst => (10_000, 40, 41, 47),
    };
    (0..visits).flat_map(move |visit| (0..alerts).step_by(stride).map(move |index| visit * skip * alerts + index))
}

/// Real alerts of a sample whose signal over noise is in a range: points, or streaks, with their full width at half maximum in
/// pixels.
fn real(telescope: Telescope, snr: Range<f64>, streaks: bool) -> impl Iterator<Item = (Alert, f64, Option<[f64; 2]>)> {
    let config = config(telescope, 7);
    let mut stream = Stream::new(&config);
    sample(telescope).filter_map(move |number| {
        let seen = stream.seen(number);
        let own = seen.scene.sources.iter().find(|source| (source.east_arcsec, source.north_arcsec) == (0.0, 0.0));
        let pixel = seen.scene.pixel_arcsec;
        let streak = seen.scene.sources.iter().find_map(|source| match source.shape {
            Shape::Trail { length_arcsec, angle_deg } => Some([length_arcsec / pixel, angle_deg]),
            _ => None,
        });
        let wanted = own.is_some() && !seen.class.is_bogus() && snr.contains(&seen.detection.snr) && streak.is_some() == streaks;
        wanted.then(|| (stream.alert(number), seen.visit.seeing_fwhm_arcsec / pixel, streak))
    })
}

/// Where the light is, from the middle pixel: the centroid under a Gaussian window as wide as the seeing, from the brightest 3 x 3
/// pixels within 4 of the middle on, moved until it stands (as SExtractor's XWIN_IMAGE).
fn centroid(alert: &Alert, fwhm: f64) -> [f64; 2] {
    let (side, pixels) = alert.image("cutoutDifference");
    let (middle, sign) = ((side / 2) as i32, if alert.positive() { 1.0 } else { -1.0 });
    let light = |x: i32, y: i32| sign * f64::from(pixels[((middle + y) * side as i32 + middle + x) as usize]);
    let around = |radius: i32| (-radius..=radius).flat_map(move |y| (-radius..=radius).map(move |x| (x, y)));
    let box_of = |(x, y): (i32, i32)| around(1).map(|(dx, dy)| light(x + dx, y + dy)).sum::<f64>();
    let (x, y) = around(4).max_by(|a, b| box_of(*a).total_cmp(&box_of(*b))).unwrap();
    let (mut at, width) = ([f64::from(x), f64::from(y)], fwhm / 2.354_8);
    for _ in 0..10 {
        let mut sums = [0.0; 3];
        for (x, y) in around(middle.min(12)) {
            let (dx, dy) = (f64::from(x) - at[0], f64::from(y) - at[1]);
            let weight = (-(dx * dx + dy * dy) / (2.0 * width * width)).exp() * light(x, y);
            sums = [sums[0] + weight, sums[1] + weight * dx, sums[2] + weight * dy];
        }
        at = [at[0] + 1.5 * sums[1] / sums[0], at[1] + 1.5 * sums[2] / sums[0]];
    }
    at
}

fn within_a_pixel([x, y]: [f64; 2]) -> bool {
    x.abs() <= 1.0 && y.abs() <= 1.0
}

#[test]
fn real_points_are_at_the_centre_within_a_pixel() {
    for telescope in TELESCOPES {
        // All of those that stand out by 20 sigma.
        let mut count = 0;
        for (alert, fwhm, _) in real(telescope, 20.0..f64::MAX, false) {
            let at = centroid(&alert, fwhm);
            assert!(within_a_pixel(at), "{telescope:?} {} of {} sigma at {at:?}", alert.told.class, alert.snr());
            count += 1;
        }
        assert!(count > 150, "{telescope:?}: {count}");
        // From 10 sigma on noise moves some a little farther: one in thirty at most, and none by two pixels.
        let all: Vec<[f64; 2]> = real(telescope, 10.0..20.0, false).map(|(alert, fwhm, _)| centroid(&alert, fwhm)).collect();
        let away = all.iter().filter(|at| !within_a_pixel(**at)).count();
        println!("{telescope:?}: {count} beyond 20 sigma within a pixel; of {} from 10 to 20 sigma {away} not", all.len());
        assert!(all.len() > 150 && away * 30 <= all.len(), "{telescope:?}: {away} of {}", all.len());
        assert!(all.iter().flatten().all(|offset| offset.abs() < 2.0), "{telescope:?}");
    }
}

/// A streak has its middle in the middle: across it within a pixel; along it, where both of its ends are in the picture, within a
/// tenth of its length and a pixel.
#[test]
fn streaks_pass_through_the_centre() {
    for telescope in TELESCOPES {
        let (mut count, mut whole) = (0, 0);
        for (alert, fwhm, streak) in real(telescope, 20.0..f64::MAX, true) {
            let [length, angle_deg] = streak.unwrap();
            let (side, pixels) = alert.image("cutoutDifference");
            // From north through east; x grows to the west, y to the north.
            let (sin, cos) = angle_deg.to_radians().sin_cos();
            let inside = length / 2.0 + fwhm <= (side / 2) as f64;
            let reach = (length / 2.0 + fwhm).min((side / 2) as f64);
            let mut sums = [0.0; 3];
            for (index, light) in pixels.iter().enumerate() {
                let (x, y) = ((index % side) as f64 - (side / 2) as f64, (index / side) as f64 - (side / 2) as f64);
                let (along, across) = (-sin * x + cos * y, cos * x + sin * y);
                if along.abs() <= reach && across.abs() <= 1.5 * fwhm {
                    let light = f64::from(*light);
                    sums = [sums[0] + light, sums[1] + light * along, sums[2] + light * across];
                }
            }
            let [along, across] = [sums[1] / sums[0], sums[2] / sums[0]];
            let what =
                format!("{telescope:?} {} of {:.0} sigma, {length:.1} pixels long: {along:.2} {across:.2}", alert.told.class, alert.snr());
            assert!(across.abs() <= 1.0, "{what}");
            assert!(!inside || along.abs() <= 1.0 + 0.1 * length, "{what}");
            count += 1;
            whole += u32::from(inside);
        }
        println!("{telescope:?}: {count} streaks, {whole} of them whole");
        assert!(count > 10 && whole > 3, "{telescope:?}: {count}, {whole} whole");
    }
}

#[test]
fn no_two_difference_stamps_of_ten_thousand_alerts_are_the_same() {
    for telescope in TELESCOPES {
        let mut stream = Stream::new(&config(telescope, 7));
        let stamps: BTreeSet<u64> = (0..10_000).map(|number| xxh3_64(stream.alert(number).file("cutoutDifference"))).collect();
        assert_eq!(stamps.len(), 10_000, "{telescope:?}");
    }
}

/// Full alerts, on one thread and on three, each with a generator that has made nothing of what the others made.
#[test]
fn the_number_of_threads_changes_no_byte() {
    for telescope in TELESCOPES {
        let config = config(telescope, 11);
        let hash = |stream: &mut Stream, number: u64| xxh3_64(&stream.message(number));
        let mut one = Stream::new(&config);
        let all: Vec<u64> = (0..600).map(|number| hash(&mut one, number)).collect();
        let parts: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|thread| {
                    let config = &config;
                    scope.spawn(move || {
                        let mut stream = Stream::new(config);
                        (0..200).rev().map(|index| xxh3_64(&stream.message(3 * index + thread))).collect::<Vec<u64>>()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (number, hash) in all.iter().enumerate() {
            assert_eq!(parts[number % 3][199 - number / 3], *hash, "{telescope:?} {number}");
        }
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 600);
    }
}
