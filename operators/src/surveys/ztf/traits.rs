//! What rules ask of a ZTF alert, among it Fink's Solar System label, which needs the alert's own history.

use std::sync::Arc;

use fink_dataflow::detection::{Enriched, Real, Real32, Traits};

use crate::surveys::columns::{Column, Record};

/// What Fink's Solar System rule looks at. Numbers that are not there are NaN.
#[derive(Clone, Copy, Debug)]
pub struct RoidInput {
    /// Detections at this place, by the survey's count.
    pub ndethist: i64,
    /// How starlike the nearest source in Pan-STARRS is, from 0 to 1.
    pub sgscore1: f32,
    /// Distance to the nearest known Solar System object, arcsec; -999: none.
    pub ssdistnr: f32,
    /// Distance to the nearest source in Pan-STARRS, arcsec; -999: none.
    pub distpsnr1: f32,
    /// Points of the alert, history and its own, that have a magnitude.
    pub magnitudes: usize,
    /// Days between the alert and the point before it, of whatever kind; NaN if there is none.
    pub since_previous_days: f64,
}

/// Fink's Solar System label: 3 known to the survey, 2 candidate, 1 seen for the first time, 0 none of these.
///
/// The rule of `fink_science.ztf.asteroids.processor.roid_catcher` (7.4.0), comparison by comparison, in singles where it
/// has singles.
#[must_use]
pub fn roid(input: &RoidInput) -> u8 {
    let RoidInput { ndethist, sgscore1, ssdistnr, distpsnr1, magnitudes, since_previous_days } = *input;
    let mut label = u8::from(ndethist == 1);
    if sgscore1 < 0.76 && ndethist <= 2 {
        label = 2;
    }
    // A star or galaxy is there.
    if distpsnr1 < 5.0 && distpsnr1 > 0.0 {
        label = 0;
    }
    // Two points half an hour apart are a slow mover, or none.
    if magnitudes == 2 && since_previous_days > 30.0 / (24.0 * 60.0) {
        label = 0;
    }
    if ndethist == 2 && magnitudes == 1 {
        label = 0;
    }
    let known = ssdistnr >= 0.0 && ssdistnr < 5.0 && distpsnr1.abs() - ssdistnr > 0.0;
    if known && ndethist <= 5 && magnitudes <= 5 {
        label = 3;
    }
    label
}

/// The traits of each row.
pub(super) fn traits(record: &Record<'_>, rows: usize) -> Vec<Traits> {
    let Some(candidate) = record.at(&["candidate"]) else { return vec![nothing(); rows] };
    let column = |name| candidate.column(&[name]);
    let (jd, started, ndethist) = (column("jd"), column("jdstarthist"), column("ndethist"));
    let (drb, classtar) = (column("drb"), column("classtar"));
    let (sgscore1, ssdistnr, distpsnr1) = (column("sgscore1"), column("ssdistnr"), column("distpsnr1"));
    let magpsf = column("magpsf");
    let previous = record.list("prv_candidates").map(|(ranges, items)| {
        let (jd, magpsf) = (items.column(&["jd"]), items.column(&["magpsf"]));
        (ranges, jd, magpsf)
    });
    let tracklet = record.column(&["tracklet"]);
    let enriched = Columns::of(record);
    let row = |row: usize| {
        let single = |column: &Column<'_>| column.single(row).unwrap_or(f32::NAN);
        let now = jd.double(row).unwrap_or(f64::NAN);
        let (mut magnitudes, mut last) = (usize::from(magpsf.single(row).is_some_and(|m| !m.is_nan())), f64::NAN);
        if let Some((ranges, jd, magpsf)) = &previous {
            let range = ranges.range(row);
            last = range.clone().next_back().and_then(|item| jd.double(item)).unwrap_or(f64::NAN);
            magnitudes += range.filter(|item| magpsf.single(*item).is_some_and(|m| !m.is_nan())).count();
        }
        let detections = ndethist.long(row).unwrap_or(-1);
        let input = RoidInput {
            ndethist: detections,
            sgscore1: single(&sgscore1),
            ssdistnr: single(&ssdistnr),
            distpsnr1: single(&distpsnr1),
            magnitudes,
            since_previous_days: now - last,
        };
        Traits {
            age_days: Real::from(started.double(row).map(|started| now - started)),
            detections: i32::try_from(detections).unwrap_or(-1),
            drb: Real32::from(drb.single(row)),
            classtar: Real32::from(classtar.single(row)),
            roid: roid(&input),
            tracklet: tracklet.text(row).is_some_and(|word| word.starts_with("TRCK_")),
            enriched: enriched.as_ref().and_then(|columns| columns.row(row)).map(Arc::new),
        }
    };
    (0..rows).map(row).collect()
}

fn nothing() -> Traits {
    Traits { age_days: Real::NONE, detections: -1, drb: Real32::NONE, classtar: Real32::NONE, roid: 0, tracklet: false, enriched: None }
}

/// What Fink's own streams add, for those rules that read it.
struct Columns<'a> {
    cdsxmatch: Column<'a>,
    mulens: Column<'a>,
    snn_snia_vs_nonia: Column<'a>,
    snn_sn_vs_all: Column<'a>,
    rf_snia_vs_nonia: Column<'a>,
    rf_kn_vs_nonkn: Column<'a>,
}

impl<'a> Columns<'a> {
    fn of(record: &Record<'a>) -> Option<Self> {
        let columns = Self {
            cdsxmatch: record.column(&["cdsxmatch"]),
            mulens: record.column(&["mulens"]),
            snn_snia_vs_nonia: record.column(&["snn_snia_vs_nonia"]),
            snn_sn_vs_all: record.column(&["snn_sn_vs_all"]),
            rf_snia_vs_nonia: record.column(&["rf_snia_vs_nonia"]),
            // Fink renamed it in 2022.
            rf_kn_vs_nonkn: record.column(&["rf_kn_vs_nonkn", "knscore"]),
        };
        matches!(columns.cdsxmatch, Column::Text(_)).then_some(columns)
    }

    fn row(&self, row: usize) -> Option<Enriched> {
        let real = |column: &Column<'_>| Real::from(column.double(row));
        Some(Enriched {
            cdsxmatch: self.cdsxmatch.text(row)?.into(),
            mulens: real(&self.mulens),
            snn_snia_vs_nonia: real(&self.snn_snia_vs_nonia),
            snn_sn_vs_all: real(&self.snn_sn_vs_all),
            rf_snia_vs_nonia: real(&self.rf_snia_vs_nonia),
            rf_kn_vs_nonkn: real(&self.rf_kn_vs_nonkn),
        })
    }
}
