//! What the weather and the sky's light make of a visit: seeing, clouds, moonlight, depth.
//!
//! Depth by Ivezic et al. 2019, ApJ 873, 111, eq. 6; moonlight in the manner of Krisciunas & Schaefer 1991, PASP 103, 1033: by the
//! illuminated share, the moon's altitude and its distance, here with round numbers; seeing grows with airmass to the 0.6 and
//! falls with wavelength to the 0.2 (Kolmogorov).

use super::cadence::{Field, Night};
use super::instrument::Instrument;
use super::site::{TAI_UTC_DAYS, separation_deg};
use crate::simulator::dice::Dice;
use crate::simulator::light::WAVELENGTHS_NM;
use crate::simulator::seen::Visit;

/// Dice of a night's weather, an hour's, and a visit's.
const NIGHT: u64 = 0x71;
const HOUR: u64 = 0x72;
const VISIT: u64 = 0x73;
/// Full moon overhead at 90 degrees brightens the dark sky so many times, by band.
const MOONLIGHT: [f64; 6] = [22.0, 16.0, 7.0, 3.0, 1.2, 0.6];

/// The visit of a night's plan.
pub(crate) fn visit(instrument: &Instrument, night: &Night, fields: &[Field], seed: u64, in_night: u32) -> Visit {
    let (index, band) = night.visits[in_night as usize];
    let field = &fields[index as usize];
    let begin = night.dusk + f64::from(in_night) * instrument.interval_s / 86_400.0;
    let mjd_utc = begin + instrument.exposure_s / 2.0 / 86_400.0;
    let altitude = instrument.site.altitude_deg(field.ra_deg, field.dec_deg, mjd_utc).max(15.0);
    let airmass = 1.0 / libm::sin(altitude.to_radians());

    let mut of_night = Dice::new(&[seed, NIGHT, night.night_mjd as u64]);
    let hour = (mjd_utc * 24.0).floor();
    let weather = |hour: f64| Dice::new(&[seed, HOUR, hour as i64 as u64]);
    // Straight from hour to hour.
    let between = |draw: fn(&mut Dice) -> f64| {
        let share = mjd_utc * 24.0 - hour;
        draw(&mut weather(hour)) * (1.0 - share) + draw(&mut weather(hour + 1.0)) * share
    };
    let band_index = band as usize;
    let seeing = instrument.seeing_arcsec
        * libm::exp(0.15 * of_night.gauss() + 0.08 * between(Dice::gauss))
        * libm::pow(airmass, 0.6)
        * libm::pow(WAVELENGTHS_NM[band_index] / 500.0, -0.2);
    let cloudy = of_night.within(0.0, 1.0) < 0.25;
    let clouds = if cloudy { of_night.within(0.1, 0.8) * (0.5 + between(|dice| dice.within(0.0, 1.0))) } else { 0.02 };

    let moon_altitude = instrument.site.altitude_deg(night.moon.ra_deg, night.moon.dec_deg, mjd_utc);
    let sky = instrument.dark_sky[band_index] - moonlight(night, field, moon_altitude, band_index);
    let depth = instrument.constants[band_index] + 0.5 * (sky - 21.0) + 2.5 * libm::log10(0.7 / seeing)
        - instrument.extinction[band_index] * (airmass - 1.0)
        - clouds
        + 0.02 * Dice::new(&[seed, VISIT, night.first as u64, u64::from(in_night)]).gauss();
    Visit {
        number: night.first + i64::from(in_night),
        night_mjd: night.night_mjd,
        in_night,
        mjd_tai: mjd_utc + TAI_UTC_DAYS,
        exposure_s: instrument.exposure_s,
        band,
        field: field.patch + 1,
        ra_deg: field.ra_deg,
        dec_deg: field.dec_deg,
        airmass,
        depth_mag: depth,
        seeing_fwhm_arcsec: seeing,
        sky_mag_arcsec2: sky,
        zero_point_mag: instrument.zero_points[band_index] - clouds - instrument.extinction[band_index] * (airmass - 1.0),
        moon_up: moon_altitude > 0.0,
        moon_illumination: night.moon.illumination,
        template_visits: instrument.template_visits,
    }
}

/// By how much the moon brightens the sky at a field, magnitudes.
fn moonlight(night: &Night, field: &Field, moon_altitude: f64, band: usize) -> f64 {
    if moon_altitude <= 0.0 {
        return 0.0;
    }
    let away = separation_deg(night.moon.ra_deg, night.moon.dec_deg, field.ra_deg, field.dec_deg);
    let lit = night.moon.illumination;
    let light = MOONLIGHT[band] * lit * lit.sqrt() * libm::sin(moon_altitude.to_radians()).sqrt() * libm::exp10((90.0 - away) / 150.0);
    2.5 * libm::log10(1.0 + light)
}

#[cfg(test)]
mod tests {
    use super::super::cadence::fields;
    use super::super::calendar::Calendar;
    use super::*;
    use crate::simulator::heavens::tiles::Tiles;
    use crate::simulator::seen::{Band, Telescope};

    #[test]
    fn depths_and_seeing_are_those_of_the_surveys() {
        for (telescope, median_r, seeing_range) in [(Telescope::Ztf, 20.4, 1.0..7.0), (Telescope::Lsst, 24.2, 0.4..3.0)] {
            let instrument = Instrument::of(telescope);
            let fields = fields(&instrument, &Tiles::new(), 3);
            let calendar = Calendar::new(&instrument);
            let (mut depths, mut dark, mut bright) = (Vec::new(), Vec::new(), Vec::new());
            for night_mjd in (61_300..61_400).step_by(3) {
                let night = Night::plan(&instrument, &calendar, &fields, 3, night_mjd);
                for in_night in (0..night.visits.len() as u32).step_by(17) {
                    let visit = visit(&instrument, &night, &fields, 3, in_night);
                    assert!((1.0..3.9).contains(&visit.airmass) && seeing_range.contains(&visit.seeing_fwhm_arcsec));
                    assert!((visit.mjd_tai - f64::from(night_mjd) - 1.3).abs() < 0.5);
                    if visit.band == Band::R {
                        depths.push(visit.depth_mag);
                        let moonlit = visit.moon_up && visit.moon_illumination > 0.9;
                        if moonlit {
                            bright.push(visit.depth_mag)
                        } else if !visit.moon_up {
                            dark.push(visit.depth_mag)
                        }
                    }
                }
            }
            depths.sort_by(f64::total_cmp);
            let median = depths[depths.len() / 2];
            assert!((median - median_r).abs() < 0.3, "{telescope:?}: {median}");
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            assert!(mean(&dark) > mean(&bright) + 0.3, "{} {}", mean(&dark), mean(&bright));
        }
    }
}
