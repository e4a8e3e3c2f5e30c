//! The slow, plain references: from a list of alerts to the answer, in the words of the definition.

use std::collections::BTreeMap;

use fink_dataflow::detection::{Band, Detection, Kind, LightAlert, ObjectId, Point};

/// An object's points by kind and id, and its alerts by id.
pub type Curve = (BTreeMap<(Kind, i64), Point>, BTreeMap<i64, Detection>);

/// The objects of these alerts.
pub fn curves(alerts: &[LightAlert]) -> BTreeMap<ObjectId, Curve> {
    let mut curves: BTreeMap<ObjectId, Curve> = BTreeMap::new();
    for alert in alerts {
        let (_, own) = curves.entry(alert.object).or_default();
        let key = |d: &Detection| (d.point.mjd_tai, d.address.clone());
        let id = alert.detection.point.id;
        if own.get(&id).is_none_or(|known| key(&alert.detection) < key(known)) {
            own.insert(id, alert.detection.clone());
        }
    }
    for (points, own) in curves.values_mut() {
        points.extend(own.values().map(|d| ((d.point.kind, d.point.id), d.point)));
    }
    for alert in alerts {
        let (points, own) = curves.get_mut(&alert.object).unwrap();
        for point in &alert.history {
            let is_own = point.kind == Kind::Detection && own.contains_key(&point.id);
            let place = points.entry((point.kind, point.id)).or_insert(*point);
            if !is_own && point < place {
                *place = *point;
            }
        }
    }
    curves
}

/// A curve's detections in order of observation.
pub fn detections((points, _): &Curve) -> Vec<Point> {
    let mut detections: Vec<Point> = points.values().filter(|p| p.kind == Kind::Detection).cloned().collect();
    detections.sort_by_key(|p| (p.mjd_tai, p.id));
    detections
}

/// Slope and error by the textbook's sums over the whole: Δ = S Sxx - Sx².
pub fn slope(points: &[(f64, f64, f64)]) -> Option<(f64, f64)> {
    let mid = points.first()?.0;
    let sum = |f: &dyn Fn(f64, f64) -> f64| points.iter().map(|(t, m, e)| f(t - mid, *m) / (e * e)).sum::<f64>();
    let (s, sx, sxx, sy, sxy) = (sum(&|_, _| 1.0), sum(&|t, _| t), sum(&|t, _| t * t), sum(&|_, m| m), sum(&|t, m| t * m));
    let delta = s * sxx - sx * sx;
    (delta > 1e-9 * s * s).then(|| ((s * sxy - sx * sy) / delta, (s / delta).sqrt()))
}

/// The brightest detection of a band that is above the template, or of all, and the points it is among.
pub fn peak(detections: &[Point], band: Band) -> Option<(Point, Vec<Point>)> {
    let mut counted: Vec<Point> = detections.iter().filter(|p| p.band == band && p.magnitude().is_some()).cloned().collect();
    if detections.iter().any(|p| p.band == band && !p.negative) {
        counted.retain(|p| !p.negative);
    }
    let magnitude = |p: &Point| p.magnitude().unwrap().0;
    let mut best = *counted.first()?;
    for p in &counted {
        if magnitude(p) < magnitude(&best) {
            best = *p;
        }
    }
    Some((best, counted))
}
