//! LSST's records of a moving object: where it was expected (ssSource) and its orbit (mpc_orbits).

use super::field::{Field, double, int, long, null, null_time, some_double, some_float, some_int, some_text, text};
use super::lsst::{solar_id, source_id};
use super::shape::galactic;
use crate::simulator::seen::{Moving, Orbit, Seen};

/// Gauss's constant: degrees of mean motion a day at 1 au.
const DEGREES_PER_DAY: f64 = 0.985_607_668_601_425;
const KM_S_OF_AU_DAY: f64 = 149_597_870.7 / 86_400.0;

fn length(vector: [f64; 3]) -> f64 {
    libm::sqrt(vector.iter().map(|x| x * x).sum())
}

/// Along the line of sight, km/s; positive: away.
fn away([place, velocity]: [[f64; 3]; 2]) -> f64 {
    let along: f64 = place.iter().zip(velocity).map(|(x, v)| x * v).sum();
    along / length(place).max(1e-9) * KM_S_OF_AU_DAY
}

fn total_rate(moving: &Moving) -> f64 {
    libm::sqrt(moving.rate_ra_deg_day * moving.rate_ra_deg_day + moving.rate_dec_deg_day * moving.rate_dec_deg_day)
}

/// Observed less expected, arc seconds, along right ascension (with the cosine of the declination) and declination.
fn offset(seen: &Seen, moving: &Moving) -> [f64; 2] {
    let cos = libm::cos(moving.dec_deg * std::f64::consts::PI / 180.0);
    let mut along = seen.detection.ra_deg - moving.ra_deg;
    along -= 360.0 * libm::round(along / 360.0);
    [along * cos * 3600.0, (seen.detection.dec_deg - moving.dec_deg) * 3600.0]
}

/// The offset along the motion and across it, arc seconds.
fn along_and_across(seen: &Seen, moving: &Moving) -> [f64; 2] {
    let ([x, y], rate) = (offset(seen, moving), total_rate(moving).max(1e-12));
    let (u, v) = (moving.rate_ra_deg_day / rate, moving.rate_dec_deg_day / rate);
    [x * u + y * v, y * u - x * v]
}

macro_rules! vector {
    ($name:literal, $of:ident, $which:literal, $axis:literal, $unit:literal) => {
        some_float($name, $unit, |_, m| Some(m.$of[$which][$axis] as f32))
    };
}

/// Where the object was expected.
pub(super) static SS_SOURCE: &[Field<Moving>] = &[
    long("diaSourceId", "", |s, _| source_id(&s.detection)),
    long("ssObjectId", "", |s, _| solar_id(s).unwrap_or(0)),
    some_text("designation", "", |_, m| Some(&m.designation)),
    double("eclLambda", "deg", |_, m| m.ecliptic_deg[0]),
    double("eclBeta", "deg", |_, m| m.ecliptic_deg[1]),
    double("galLon", "deg", |s, _| galactic(s.detection.ra_deg, s.detection.dec_deg)[0]),
    double("galLat", "deg", |s, _| galactic(s.detection.ra_deg, s.detection.dec_deg)[1]),
    some_float("elongation", "deg", |_, m| Some(m.elongation_deg as f32)),
    some_float("phaseAngle", "deg", |_, m| Some(m.phase_deg as f32)),
    some_float("topoRange", "au", |_, m| Some(length(m.topocentric[0]) as f32)),
    some_float("topoRangeRate", "km/s", |_, m| Some(away(m.topocentric) as f32)),
    some_float("helioRange", "au", |_, m| Some(length(m.heliocentric[0]) as f32)),
    some_float("helioRangeRate", "km/s", |_, m| Some(away(m.heliocentric) as f32)),
    some_double("ephRa", "deg", |_, m| Some(m.ra_deg)),
    some_double("ephDec", "deg", |_, m| Some(m.dec_deg)),
    some_float("ephVmag", "mag", |_, m| Some(m.magnitude_v as f32)),
    some_float("ephRate", "deg/d", |_, m| Some(total_rate(m) as f32)),
    some_float("ephRateRa", "deg/d", |_, m| Some(m.rate_ra_deg_day as f32)),
    some_float("ephRateDec", "deg/d", |_, m| Some(m.rate_dec_deg_day as f32)),
    some_float("ephOffset", "arcsec", |s, m| {
        let [x, y] = offset(s, m);
        Some(libm::sqrt(x * x + y * y) as f32)
    }),
    some_double("ephOffsetRa", "arcsec", |s, m| Some(offset(s, m)[0])),
    some_double("ephOffsetDec", "arcsec", |s, m| Some(offset(s, m)[1])),
    some_float("ephOffsetAlongTrack", "arcsec", |s, m| Some(along_and_across(s, m)[0] as f32)),
    some_float("ephOffsetCrossTrack", "arcsec", |s, m| Some(along_and_across(s, m)[1] as f32)),
    vector!("helio_x", heliocentric, 0, 0, "au"),
    vector!("helio_y", heliocentric, 0, 1, "au"),
    vector!("helio_z", heliocentric, 0, 2, "au"),
    vector!("helio_vx", heliocentric, 1, 0, "au/d"),
    vector!("helio_vy", heliocentric, 1, 1, "au/d"),
    vector!("helio_vz", heliocentric, 1, 2, "au/d"),
    some_float("helio_vtot", "au/d", |_, m| Some(length(m.heliocentric[1]) as f32)),
    vector!("topo_x", topocentric, 0, 0, "au"),
    vector!("topo_y", topocentric, 0, 1, "au"),
    vector!("topo_z", topocentric, 0, 2, "au"),
    vector!("topo_vx", topocentric, 1, 0, "au/d"),
    vector!("topo_vy", topocentric, 1, 1, "au/d"),
    vector!("topo_vz", topocentric, 1, 2, "au/d"),
    some_float("topo_vtot", "au/d", |_, m| Some(length(m.topocentric[1]) as f32)),
    some_int("diaDistanceRank", "", |_, _| Some(1)),
];

fn axis(orbit: &Orbit) -> f64 {
    orbit.perihelion_au / (1.0 - orbit.eccentricity)
}

/// Degrees a day.
fn mean_motion(orbit: &Orbit) -> f64 {
    DEGREES_PER_DAY / (axis(orbit) * libm::sqrt(axis(orbit)))
}

fn mean_anomaly(orbit: &Orbit) -> f64 {
    let anomaly = mean_motion(orbit) * (orbit.epoch_mjd - orbit.perihelion_mjd);
    anomaly - 360.0 * libm::floor(anomaly / 360.0)
}

/// The orbit. Its uncertainties are unknown, as the sky has none.
pub(super) static MPC_ORBITS: &[Field<Moving>] = &[
    int("id", "", |_, m| m.number as i32),
    text("designation", "", |_, m| &m.designation),
    text("packed_primary_provisional_designation", "", |_, m| &m.designation),
    text("unpacked_primary_provisional_designation", "", |_, m| &m.designation),
    null("mpc_orb_jsonb", "string"),
    null_time("created_at"),
    null_time("updated_at"),
    some_int("orbit_type_int", "", |_, _| Some(11)),
    some_int("u_param", "", |_, _| Some(0)),
    null("nopp", "int"),
    null("arc_length_total", "double"),
    null("arc_length_sel", "double"),
    null("nobs_total", "int"),
    null("nobs_total_sel", "int"),
    some_double("a", "au", |_, m| Some(axis(&m.orbit))),
    some_double("q", "au", |_, m| Some(m.orbit.perihelion_au)),
    some_double("e", "", |_, m| Some(m.orbit.eccentricity)),
    some_double("i", "deg", |_, m| Some(m.orbit.inclination_deg)),
    some_double("node", "deg", |_, m| Some(m.orbit.node_deg)),
    some_double("argperi", "deg", |_, m| Some(m.orbit.perihelion_deg)),
    some_double("peri_time", "d", |_, m| Some(m.orbit.perihelion_mjd)),
    null("yarkovsky", "double"),
    null("srp", "double"),
    null("a1", "double"),
    null("a2", "double"),
    null("a3", "double"),
    null("dt", "double"),
    some_double("mean_anomaly", "deg", |_, m| Some(mean_anomaly(&m.orbit))),
    some_double("period", "d", |_, m| Some(360.0 / mean_motion(&m.orbit))),
    some_double("mean_motion", "deg/d", |_, m| Some(mean_motion(&m.orbit))),
    null("a_unc", "double"),
    null("q_unc", "double"),
    null("e_unc", "double"),
    null("i_unc", "double"),
    null("node_unc", "double"),
    null("argperi_unc", "double"),
    null("peri_time_unc", "double"),
    null("yarkovsky_unc", "double"),
    null("srp_unc", "double"),
    null("a1_unc", "double"),
    null("a2_unc", "double"),
    null("a3_unc", "double"),
    null("dt_unc", "double"),
    null("mean_anomaly_unc", "double"),
    null("period_unc", "double"),
    null("mean_motion_unc", "double"),
    some_double("epoch_mjd", "d", |_, m| Some(m.orbit.epoch_mjd)),
    some_double("h", "mag", |_, m| Some(m.orbit.absolute_mag)),
    some_double("g", "", |_, m| Some(m.orbit.slope)),
    null("not_normalized_rms", "double"),
    null("normalized_rms", "double"),
    null("earth_moid", "double"),
    null_time("fitting_datetime"),
];
