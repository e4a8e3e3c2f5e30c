//! Light rows of all real alerts, and of a survey of our own making.

mod common;

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use common::{chunk, files, lsst_book, shared};
use fink_dataflow::alerts::Decoded;
use fink_dataflow::detection::{Band, Kind, LightAlert, Real, Real32, SurveyId, Traits, Unit};
use fink_operators::classify::rules::{Rule, Signs, finkclass};
use fink_operators::decode::Decode;
use fink_operators::objects::{Entry, curve, summarise};
use fink_operators::surveys::columns::Record;
use fink_operators::surveys::light::{Brightness, Field, Light, Points, Sign, Visit};
use fink_operators::surveys::{Scale, Survey, Time, light_rows, lsst, ztf};

fn decoded(shared: &Path, folder: &str) -> Vec<Decoded> {
    let mut decoder = Decode::new(lsst_book(shared));
    let files = files(&shared.join(folder), ".avro");
    files.iter().map(|path| decoder.decode(vec![chunk("t", 0, &[std::fs::read(path).unwrap()])])).collect()
}

fn rows(decoded: &[Decoded]) -> Vec<LightAlert> {
    let mut lit = Vec::new();
    for batch in decoded.iter().flat_map(|d| &d.alerts) {
        let (rows, unlit) = light_rows(batch);
        assert!(unlit.is_empty(), "{unlit:?}");
        assert_eq!(rows.len(), batch.rows.num_rows());
        lit.extend(rows);
    }
    lit
}

#[test]
fn every_real_alert_of_ztf_has_a_light_row() {
    let Some(shared) = shared() else { return };
    let rows = rows(&decoded(&shared, "ztf"));
    assert!(rows.len() > 460, "{}", rows.len());
    for row in &rows {
        let point = &row.detection.point;
        assert!(row.object.name().starts_with("ZTF") && row.object.survey == ztf::ZTF.id);
        assert!(point.kind == Kind::Detection && point.unit == Unit::Magnitude && (10.0..23.0).contains(&point.value.0));
        assert!(b"gri".contains(&point.band.0) && (58_000.0..62_000.0).contains(&point.mjd_tai.0));
        assert!(row.history.iter().all(|p| p.kind != Kind::Detection || p.mjd_tai < point.mjd_tai));
        assert!(row.visit > 0 && row.night.is_some() && row.detection.traits.detections > 0);
    }
    let kinds = |kind| rows.iter().flat_map(|r| &r.history).filter(|p| p.kind == kind).count();
    assert!(kinds(Kind::Detection) > 1_000 && kinds(Kind::Limit) > 1_000 && kinds(Kind::Forced) > 50);
}

#[test]
fn every_real_alert_of_lsst_has_a_light_row() {
    let Some(shared) = shared() else { return };
    let mut all = Vec::new();
    for folder in ["lsst/simulated-v9.0", "lsst/confluent-v7.4", "lsst/real-v10.0"] {
        all.extend(rows(&decoded(&shared, folder)));
    }
    assert_eq!(all.len(), 25 + 5 + 7);
    for row in &all {
        let point = &row.detection.point;
        assert!(row.object.survey == lsst::LSST.id && row.object.name().parse::<i64>().is_ok());
        assert!(point.unit == Unit::NanoJansky && b"ugrizy".contains(&point.band.0));
        assert!(row.visit > 0);
    }
    let of = |id: i64| all.iter().find(|r| r.detection.point.id == id).unwrap();
    let variable = of(170_094_456_523_456_557);
    assert_eq!(variable.object.name(), "170028513894596704");
    let kinds = |kind| variable.history.iter().filter(|p| p.kind == kind).count();
    assert_eq!((kinds(Kind::Detection), kinds(Kind::Forced)), (376, 777));
    let fading = &of(170_094_456_272_322_680).detection.point;
    assert!(fading.negative && fading.value.0 == -19_549.395 && fading.band == Band(b'i') && fading.mjd_tai.0 == 61_105.093_643_486_834);
    // What moves is known by its number in the Solar System.
    let asteroid = of(170_094_456_480_989_258);
    assert_eq!((asteroid.object.name(), asteroid.detection.traits.roid), ("21163624394469969", 3));
}

/// Alerts of 2026 with Fink's own answers.
#[test]
fn roid_equals_finks_own() {
    let Some(shared) = shared() else { return };
    let mut seen = [0; 4];
    for folder in ["ztf/enriched", "ztf/classes"] {
        for batch in decoded(&shared, folder).iter().flat_map(|d| &d.alerts) {
            let (rows, _) = light_rows(batch);
            let Some(truth) = batch.rows.column_by_name("roid") else { continue };
            let truth = truth.as_primitive::<Int32Type>();
            for (row, alert) in rows.iter().enumerate() {
                assert_eq!(
                    i32::from(alert.detection.traits.roid),
                    truth.value(row),
                    "{}: {}",
                    alert.object.name(),
                    alert.detection.point.id
                );
                seen[usize::from(alert.detection.traits.roid)] += 1;
            }
        }
    }
    println!("roid 0, 1, 2, 3: {seen:?}");
    assert!(seen.iter().sum::<i32>() >= 31);
}

#[test]
fn finkclass_equals_finks_own() {
    let Some(shared) = shared() else { return };
    let mut seen = std::collections::BTreeMap::new();
    for batch in decoded(&shared, "ztf/enriched").iter().flat_map(|d| &d.alerts) {
        let truth = batch.rows.column_by_name("finkclass").expect("Fink's class").as_string::<i32>();
        for (row, alert) in light_rows(batch).0.iter().enumerate() {
            let traits = &alert.detection.traits;
            let cdsxmatch = &traits.enriched.as_ref().expect("Fink's own columns").cdsxmatch;
            let class = match finkclass(Signs::of(traits), cdsxmatch) {
                Rule::Catalogue => cdsxmatch,
                rule => rule.label(),
            };
            assert_eq!(class, truth.value(row), "{}", alert.object.name());
            *seen.entry(class.to_owned()).or_insert(0) += 1;
        }
    }
    println!("{seen:?}");
    assert_eq!(seen.values().sum::<i32>(), 31, "{seen:?}");
}

#[test]
fn the_supernova_ends_in_the_same_light_curve_in_any_order() {
    let Some(shared) = shared() else { return };
    let alerts = rows(&decoded(&shared, "ztf/supernova-ZTF21abiuvdk"));
    assert_eq!(alerts.len(), 34);
    let entries = |alerts: &[LightAlert]| {
        let mut entries: Vec<Entry> = Vec::new();
        for alert in alerts {
            entries.push(Entry::own(alert.detection.clone()));
            entries.extend(alert.history.iter().cloned().map(Entry::repeated));
        }
        entries.sort();
        entries
    };
    let all = entries(&alerts);
    let points = curve(all.iter());
    assert_eq!(points.iter().filter(|entry| entry.own.is_some()).count(), 34);
    let summary = summarise(alerts[0].object.survey, all.iter()).unwrap();
    assert_eq!((summary.detections, summary.alerts, points.len() as u32), (34, 34, 34 + summary.limits));
    let bands: Vec<_> = summary.bands.iter().map(|b| (char::from(b.band.0), b.detections)).collect();
    assert_eq!(bands.iter().map(|b| b.0).collect::<String>(), "gr");
    println!("{summary:#?}");
    // It is brightest in July 2021, and fades.
    for band in &summary.bands {
        assert!(band.decline.mag_per_day.0 > 0.0 && band.peak.magnitude.0 < 15.8, "{band:?}");
    }
    assert!(summary.position.unwrap().scatter_arcsec.0 < 0.5);
    // The last alert alone tells of the last thirty days.
    let last = alerts.iter().max_by_key(|a| a.detection.point.mjd_tai).unwrap();
    let late = entries(std::slice::from_ref(last));
    let tail = summarise(last.object.survey, late.iter()).unwrap();
    assert!(tail.alerts == 1 && tail.detections > 10 && tail.last_mjd_tai == summary.last_mjd_tai);
}

/// A survey that sends counts, names its objects, and knows two bands of its own: one table is all that it takes.
static TOY: Survey = Survey {
    id: SurveyId(200),
    name: "toy",
    records: "toy.",
    times: &[Time { path: &["when"], scale: Scale::MjdTai }],
    longitude_deg: 10.0,
    light: &Light {
        objects: &[Field { record: &["source"], names: &["label"] }],
        own: TOY_POINTS,
        histories: &[Points { at: "before", ..TOY_POINTS }],
        visit: Visit { field: Field { record: &["source"], names: &["exposure"] }, divisor: 1 },
        bands: &[("c", Band(b'c')), ("o", Band(b'o'))],
        traits: toy_traits,
    },
};

const TOY_POINTS: Points = Points {
    at: "source",
    kind: Kind::Detection,
    ids: &["number"],
    limit_ids: &["number"],
    times: &["when"],
    scale: Scale::MjdTai,
    ra: &["alpha"],
    dec: &["delta"],
    band: &["filter"],
    brightness: Brightness::Counts(&["counts"], &["noise"], &["zero"]),
    limit: &[],
    score: &[],
    sign: Sign::Negative(&[]),
};

fn toy_traits(_record: &Record<'_>, rows: usize) -> Vec<Traits> {
    let none = Real32::NONE;
    let traits = Traits { age_days: Real::NONE, detections: -1, drb: none, classtar: none, roid: 0, tracklet: false, enriched: None };
    vec![traits; rows]
}

#[test]
fn a_third_survey_is_one_table_more() {
    let schema = r#"{"type":"record","name":"toy.alert","fields":[
        {"name":"source","type":{"type":"record","name":"toy.source","fields":[
            {"name":"label","type":"string"},{"name":"number","type":"long"},{"name":"exposure","type":"int"},
            {"name":"when","type":"double"},{"name":"alpha","type":"float"},{"name":"delta","type":"float"},
            {"name":"filter","type":"string"},{"name":"counts","type":["null","double"]},{"name":"noise","type":"float"},
            {"name":"zero","type":"float"}]}},
        {"name":"before","type":{"type":"array","items":"toy.source"}}]}"#;
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new());
    use apache_avro::types::Value;
    let source = |label: &str, number: i64, counts: Option<f64>| {
        let counts = counts.map_or(Value::Union(0, Box::new(Value::Null)), |c| Value::Union(1, Box::new(Value::Double(c))));
        Value::Record(vec![
            ("label".into(), Value::String(label.into())),
            ("number".into(), Value::Long(number)),
            ("exposure".into(), Value::Int(77)),
            ("when".into(), Value::Double(61_000.25 + number as f64)),
            ("alpha".into(), Value::Float(12.5)),
            ("delta".into(), Value::Float(-45.0)),
            ("filter".into(), Value::String("o".into())),
            ("counts".into(), counts),
            ("noise".into(), Value::Float(2.0)),
            ("zero".into(), Value::Float(23.9)),
        ])
    };
    let alert = |label: &str| {
        let before = vec![source(label, 1, Some(100.0)), source(label, 2, None), source(label, 3, Some(-50.0))];
        Value::Record(vec![("source".into(), source(label, 4, Some(1000.0))), ("before".into(), Value::Array(before))])
    };
    writer.append(alert("toy object 1")).unwrap();
    writer.append(alert("a name that is longer than any row has room for")).unwrap();
    let decoded = common::decode(&[writer.into_inner().unwrap()]);
    let (lit, unlit) = TOY.light_rows(&decoded.alerts[0]);
    assert_eq!((lit.len(), unlit.len(), unlit[0].reason), (1, 1, "it names no object"));
    let row = &lit[0];
    assert_eq!((row.object.name(), row.visit, row.history.len()), ("toy object 1", 77, 3));
    // One count at zero point 23.9 is a microjansky.
    let (flux, error) = row.detection.point.flux_njy().unwrap();
    assert!((flux - 1e6).abs() < 1.0 && (error - 2e3).abs() < 1e-2, "{flux} {error}");
    assert!(row.history[2].negative && row.history[1].value.some().is_none() && row.detection.point.band == Band(b'o'));
    assert!(light_rows(&decoded.alerts[0]).0.is_empty(), "fink itself does not know it");
}
