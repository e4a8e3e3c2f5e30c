//! Alerts of no sky: plain values that reach every field, for the tests of what is made of them.

use std::sync::Arc;

use super::dice::Dice;
use super::seen::{
    Band, Class, Detection, Dipole, Forced, Image, Moving, Neighbour, Orbit, Past, Scene, Seen, Shape, Source, Telescope, Trail, Truth,
    Visit,
};

/// An alert of this number.
pub(super) fn example(telescope: Telescope, number: u64) -> Seen {
    let mut dice = Dice::new(&[number, 77]);
    let moving = dice.below(5) == 0;
    let times = if telescope == Telescope::Ztf { 20 } else { 60 };
    let (ra_deg, dec_deg) = (dice.within(0.0, 360.0), dice.within(-20.0, 60.0));
    let past = |dice: &mut Dice, index: i32| {
        let visit = visit(telescope, index, dice);
        let detection = (dice.below(3) > 0).then(|| detection(telescope, ra_deg, dec_deg, 1000 * number + index as u64, dice));
        Past { detector: 12, forced: forced(dice), detection, visit }
    };
    let history: Vec<Past> = if moving { Vec::new() } else { (0..times).map(|index| past(&mut dice, index)).collect() };
    let detection = detection(telescope, ra_deg, dec_deg, 1000 * number + 999, &mut dice);
    let visit = visit(telescope, times, &mut dice);
    Seen {
        object: number * 31,
        class: if moving { Class::Asteroid } else { Class::SupernovaIa },
        forced: forced(&mut dice),
        detections: 1 + history.iter().filter(|past| past.detection.is_some()).count() as u32,
        visits: 1 + history.len() as u32,
        first_mjd_tai: history.first().map_or(visit.mjd_tai, |past| past.visit.mjd_tai),
        neighbours: (0..dice.below(4)).map(|index| neighbour(ra_deg, dec_deg, index, &mut dice)).collect(),
        moving: moving.then(|| moving_object(ra_deg, dec_deg)),
        scene: scene(telescope, &detection, number),
        truth: Truth { ra_deg, dec_deg, difference_njy: detection.difference_njy, parameters: vec![("peak_mjd", 61000.0)] },
        visit,
        detection,
        history,
    }
}

fn visit(telescope: Telescope, index: i32, dice: &mut Dice) -> Arc<Visit> {
    let ztf = telescope == Telescope::Ztf;
    Arc::new(Visit {
        number: 100_000 + i64::from(index),
        night_mjd: 61_000 + index,
        in_night: 7,
        mjd_tai: 61_000.3 + f64::from(index),
        exposure_s: 30.0,
        band: Band::ALL[1 + dice.below(2) as usize],
        field: 300,
        ra_deg: 10.0,
        dec_deg: 10.0,
        airmass: 1.2,
        depth_mag: if ztf { 20.5 } else { 24.5 },
        seeing_fwhm_arcsec: if ztf { 2.0 } else { 0.8 },
        sky_mag_arcsec2: 21.0,
        zero_point_mag: if ztf { 26.2 } else { 31.4 },
        moon_up: false,
        moon_illumination: 0.3,
        template_visits: 15,
    })
}

fn detection(telescope: Telescope, ra_deg: f64, dec_deg: f64, alert: u64, dice: &mut Dice) -> Detection {
    let error = if telescope == Telescope::Ztf { 2000.0 } else { 100.0 };
    let difference_njy = error * dice.within(6.0, 60.0) * if dice.below(4) == 0 { -1.0 } else { 1.0 };
    Detection {
        alert,
        ra_deg: ra_deg + dice.within(-1e-5, 1e-5),
        dec_deg: dec_deg + dice.within(-1e-5, 1e-5),
        position_error_arcsec: 0.1,
        detector: 12,
        x: dice.within(0.0, 3000.0),
        y: dice.within(0.0, 3000.0),
        difference_njy,
        difference_error_njy: error,
        aperture_njy: difference_njy * 1.05,
        aperture_error_njy: error * 1.4,
        science_njy: 1e5,
        science_error_njy: error,
        template_njy: 1e5 - difference_njy,
        template_error_njy: error / 5.0,
        snr: difference_njy.abs() / error,
        real_bogus: dice.within(0.0, 1.0),
        fwhm_pixels: dice.within(2.0, 4.0),
        elongation: dice.within(1.0, 1.5),
        angle_deg: 30.0,
        extendedness: 0.2,
        negative_pixels: 3,
        bad_pixels: dice.below(2) as u32,
        dipole: (dice.below(4) == 0).then_some(Dipole { mean_njy: 5e3, difference_njy: 1e3, length_arcsec: 0.7, angle_deg: 20.0 }),
        trail: (dice.below(4) == 0).then_some(Trail { flux_njy: 5e3, length_arcsec: 9.0, angle_deg: 70.0 }),
        cosmic_ray_flag: dice.below(9) == 0,
    }
}

fn forced(dice: &mut Dice) -> Forced {
    Forced { difference_njy: dice.within(-1e3, 1e3), difference_error_njy: 300.0, science_njy: 1e5, science_error_njy: 300.0 }
}

fn neighbour(ra_deg: f64, dec_deg: f64, index: u64, dice: &mut Dice) -> Neighbour {
    let distance_arcsec = 0.4 + 3.0 * index as f64;
    Neighbour {
        number: 1_234_567 + index,
        distance_arcsec,
        ra_deg,
        dec_deg: dec_deg + distance_arcsec / 3600.0,
        magnitudes: [20.0, 19.0, 18.5, 18.2, 18.0, 17.9],
        star_score: dice.within(0.0, 1.0),
    }
}

fn moving_object(ra_deg: f64, dec_deg: f64) -> Moving {
    Moving {
        number: 77,
        designation: "2019 AB12".to_owned(),
        orbit: Orbit {
            perihelion_au: 2.1,
            eccentricity: 0.2,
            inclination_deg: 7.0,
            node_deg: 80.0,
            perihelion_deg: 10.0,
            perihelion_mjd: 60_900.0,
            epoch_mjd: 61_000.0,
            absolute_mag: 17.0,
            slope: 0.15,
        },
        ra_deg,
        dec_deg,
        magnitude_v: 19.5,
        rate_ra_deg_day: 0.2,
        rate_dec_deg_day: -0.05,
        offset_arcsec: 0.3,
        ecliptic_deg: [120.0, 3.0],
        elongation_deg: 150.0,
        phase_deg: 8.0,
        heliocentric: [[2.0, 1.0, 0.2], [-0.004, 0.008, 0.001]],
        topocentric: [[1.2, 0.6, 0.1], [0.002, -0.003, 0.001]],
    }
}

/// The detection, and a star away from it.
fn scene(telescope: Telescope, detection: &Detection, number: u64) -> Scene {
    let ztf = telescope == Telescope::Ztf;
    let pixel_arcsec = if ztf { 1.012 } else { 0.2 };
    let zero_point_mag = if ztf { 26.2 } else { 31.4 };
    let noise_njy = detection.difference_error_njy / 3.8;
    let image =
        |part: f64| Image { sky_njy: 20.0 * noise_njy, noise_njy: noise_njy * part, fwhm_arcsec: 2.5 * pixel_arcsec, zero_point_mag };
    let source = |shape, [east_arcsec, north_arcsec]: [f64; 2], science_njy, template_njy| Source {
        shape,
        east_arcsec,
        north_arcsec,
        science_njy,
        template_njy,
        shift_arcsec: [0.0, 0.0],
    };
    let galaxy = Shape::Galaxy { half_light_arcsec: 3.0 * pixel_arcsec, index: 1.0, axis_ratio: 0.5, angle_deg: 40.0 };
    Scene {
        noise_seed: number,
        pixel_arcsec,
        middle_arcsec: [0.1 * pixel_arcsec, -0.2 * pixel_arcsec],
        science: image(1.0),
        template: image(0.2),
        sources: vec![
            source(
                Shape::Point,
                [5.0 * pixel_arcsec, 8.0 * pixel_arcsec],
                40.0 * detection.difference_error_njy,
                40.0 * detection.difference_error_njy,
            ),
            source(galaxy, [1.0 * pixel_arcsec, 0.0], 1e5, 1e5),
            source(Shape::Point, [0.0, 0.0], detection.difference_njy.max(0.0), (-detection.difference_njy).max(0.0)),
        ],
    }
}
