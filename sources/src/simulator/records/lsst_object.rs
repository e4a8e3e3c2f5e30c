//! LSST's diaObject: what the detections and the forced photometry of an object come to, band by band.

use super::field::{Field, double, int, long, null, some_double, some_float};
use super::lsst::{object_id, processed};
use crate::simulator::seen::{Past, Seen};

/// What an object's history and its new detection come to.
#[derive(Default)]
pub(super) struct Statistics {
    bands: [Band; 6],
    last_mjd_tai: f64,
    processed_mjd_tai: f64,
    detections: i32,
}

/// Of one band: detections (psf), forced photometry on the difference (forced) and on the science image (science).
#[derive(Clone, Copy, Default)]
struct Band {
    psf: Fluxes,
    forced: Fluxes,
    science: Fluxes,
}

/// Running sums of fluxes and their errors, nJy.
#[derive(Clone, Copy, Default)]
struct Fluxes {
    count: i32,
    sum: f64,
    squares: f64,
    weights: f64,
    weighted: f64,
    errors: f64,
    least: f64,
    most: f64,
    /// Time and flux of the latest, and the steepest rise or fall so far, nJy/d.
    latest: (f64, f64),
    slope: Option<f64>,
}

impl Fluxes {
    fn add(&mut self, mjd: f64, flux: f64, error: f64) {
        let weight = 1.0 / (error * error).max(1e-12);
        (self.least, self.most) = if self.count == 0 { (flux, flux) } else { (self.least.min(flux), self.most.max(flux)) };
        if self.count > 0 && mjd > self.latest.0 {
            let slope = (flux - self.latest.1) / (mjd - self.latest.0);
            self.slope = Some(self.slope.map_or(slope, |steepest| steepest.max(slope)));
        }
        self.latest = (mjd, flux);
        self.count += 1;
        self.sum += flux;
        self.squares += flux * flux;
        self.weights += weight;
        self.weighted += weight * flux;
        self.errors += error;
    }

    fn mean(&self) -> Option<f32> {
        (self.count > 0).then(|| (self.weighted / self.weights) as f32)
    }

    fn mean_error(&self) -> Option<f32> {
        (self.count > 0).then(|| libm::sqrt(1.0 / self.weights) as f32)
    }

    fn sigma(&self) -> Option<f32> {
        let n = f64::from(self.count);
        (self.count > 1).then(|| libm::sqrt(((self.squares - self.sum * self.sum / n) / (n - 1.0)).max(0.0)) as f32)
    }

    fn some(&self, value: f64) -> Option<f32> {
        (self.count > 0).then_some(value as f32)
    }
}

impl Statistics {
    /// Those of what the alert tells, `now` last.
    pub(super) fn of(seen: &Seen, now: &Past) -> Self {
        let mut all = Self { processed_mjd_tai: processed(&now.visit), ..Self::default() };
        for past in seen.history.iter().chain([now]) {
            let (mjd, forced) = (past.visit.mjd_tai, &past.forced);
            let band = &mut all.bands[past.visit.band as usize];
            band.forced.add(mjd, forced.difference_njy, forced.difference_error_njy);
            band.science.add(mjd, forced.science_njy, forced.science_error_njy);
            if let Some(detection) = &past.detection {
                band.psf.add(mjd, detection.difference_njy, detection.difference_error_njy);
                all.last_mjd_tai = mjd;
            }
        }
        all.detections = seen.detections as i32;
        all
    }
}

type Of = Statistics;

/// The six fields of a band's fluxes.
macro_rules! fluxes {
    ($band:literal, $index:literal) => {
        [
            some_float(concat!($band, "_psfFluxMean"), "nJy", |_, o: &Of| o.bands[$index].psf.mean()),
            some_float(concat!($band, "_psfFluxMeanErr"), "nJy", |_, o: &Of| o.bands[$index].psf.mean_error()),
            some_float(concat!($band, "_psfFluxSigma"), "nJy", |_, o: &Of| o.bands[$index].psf.sigma()),
            int(concat!($band, "_psfFluxNdata"), "", |_, o: &Of| o.bands[$index].psf.count),
            some_float(concat!($band, "_fpFluxMean"), "nJy", |_, o: &Of| o.bands[$index].forced.mean()),
            some_float(concat!($band, "_fpFluxMeanErr"), "nJy", |_, o: &Of| o.bands[$index].forced.mean_error()),
        ]
    };
}

/// The two fields of a band's fluxes on the science image.
macro_rules! science {
    ($band:literal, $index:literal) => {
        [
            some_float(concat!($band, "_scienceFluxMean"), "nJy", |_, o: &Of| o.bands[$index].science.mean()),
            some_float(concat!($band, "_scienceFluxMeanErr"), "nJy", |_, o: &Of| o.bands[$index].science.mean_error()),
        ]
    };
}

/// The four fields of a band's extremes.
macro_rules! extremes {
    ($band:literal, $index:literal) => {
        [
            some_float(concat!($band, "_psfFluxMin"), "nJy", |_, o: &Of| o.bands[$index].psf.some(o.bands[$index].psf.least)),
            some_float(concat!($band, "_psfFluxMax"), "nJy", |_, o: &Of| o.bands[$index].psf.some(o.bands[$index].psf.most)),
            some_float(concat!($band, "_psfFluxMaxSlope"), "nJy/d", |_, o: &Of| o.bands[$index].psf.slope.map(|slope| slope as f32)),
            some_float(concat!($band, "_psfFluxErrMean"), "nJy", |_, o: &Of| {
                let psf = &o.bands[$index].psf;
                psf.some(psf.errors / f64::from(psf.count.max(1)))
            }),
        ]
    };
}

/// The record's fields.
pub(super) static DIA_OBJECT: std::sync::LazyLock<Vec<Field<Statistics>>> = std::sync::LazyLock::new(|| {
    let mut fields = vec![
        long("diaObjectId", "", |s, _| object_id(s)),
        double("validityStartMjdTai", "d", |_, o: &Of| o.processed_mjd_tai),
        double("ra", "deg", |s, _| s.detection.ra_deg),
        some_float("raErr", "deg", |s, _| Some((s.detection.position_error_arcsec / 3600.0) as f32)),
        double("dec", "deg", |s, _| s.detection.dec_deg),
        some_float("decErr", "deg", |s, _| Some((s.detection.position_error_arcsec / 3600.0) as f32)),
        null("ra_dec_Cov", "float"),
    ];
    fields.extend(
        [fluxes!("u", 0), fluxes!("g", 1), fluxes!("r", 2), fluxes!("i", 3), fluxes!("z", 4), fluxes!("y", 5)].into_iter().flatten(),
    );
    fields.extend(
        [science!("u", 0), science!("g", 1), science!("r", 2), science!("i", 3), science!("z", 4), science!("y", 5)].into_iter().flatten(),
    );
    let extremes = [extremes!("u", 0), extremes!("g", 1), extremes!("r", 2), extremes!("i", 3), extremes!("z", 4), extremes!("y", 5)];
    fields.extend(extremes.into_iter().flatten());
    fields.extend([
        some_double("firstDiaSourceMjdTai", "d", |s, _| Some(s.first_mjd_tai)),
        some_double("lastDiaSourceMjdTai", "d", |_, o: &Of| Some(o.last_mjd_tai)),
        int("nDiaSources", "", |_, o: &Of| o.detections),
    ]);
    fields
});
