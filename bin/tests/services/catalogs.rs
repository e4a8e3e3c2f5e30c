//! Catalogues that change while the program runs, and while it does not: by its own commands, killed in between.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use fink_dataflow::alerts::AlertBatch;
use fink_dataflow::detection::{ObjectId, Real, Real32};
use fink_operators::catalogue::{CatalogueId, Row};
use serde_json::Value;

use crate::program::{archived, caught_up, json, kill, run, start, stop, timeless};
use crate::reference::{Reference, reference};

const RADIUS_ARCSEC: f64 = 2.0;

/// A line of a catalogue's file: a place, and a type.
type Line = (f64, f64, &'static str);

/// Writes a catalogue's file.
fn write(folder: &Path, name: &str, lines: &[Line]) {
    let mut text = "kind,ra,dec,who\n".to_owned();
    for (ra, dec, kind) in lines {
        writeln!(text, "{kind},{ra},{dec},me").expect("written");
    }
    text += "lost,,,nobody\n";
    std::fs::write(folder.join(name), text).expect("written");
}

/// The rows by their numbers.
fn rows(lines: &[(u32, Line)]) -> Vec<Row> {
    let row = |(number, (ra, dec, kind)): &(u32, Line)| Row {
        catalogue: CatalogueId::typed(0),
        number: *number,
        ra_deg: Real(*ra),
        dec_deg: Real(*dec),
        radius_arcsec: Real32(RADIUS_ARCSEC as f32),
        motion: None,
        carried: Arc::new([(*kind).into(), "me".into()]),
    };
    lines.iter().map(row).collect()
}

fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What is told of matches and classes is what the archive's alerts and these rows come to.
fn compare(folder: &Path, batches: &[AlertBatch], rows: &[Row], looked_at: &[ObjectId]) {
    let expected: Reference = reference(batches, rows, 1.5);
    let mut by_class = BTreeMap::<String, i64>::new();
    for ((_, class), count) in expected.nights.values().flat_map(|counts| &counts.classes) {
        *by_class.entry(class.to_string()).or_insert(0) += *count as i64;
    }
    let counts = json(folder, &["counts"]).expect("counts");
    let mut told = BTreeMap::<String, i64>::new();
    for night in counts["nights"].as_array().expect("nights") {
        for (class, count) in night["classes"].as_object().expect("classes") {
            *told.entry(class.clone()).or_insert(0) += count.as_i64().expect("a count");
        }
    }
    assert_eq!(told, by_class);
    for id in looked_at {
        let told = &json(folder, &["object", id.name()]).expect("it is known")["object"];
        let classes = expected.objects[id].classes.as_ref().expect("classes");
        assert_eq!(told["class"].as_str(), classes.current().map(|change| change.class().to_string()).as_deref(), "{told}");
        let matched: Vec<_> = classes.matches.iter().map(|found| (i64::from(found.number), found.carried[0].to_string())).collect();
        let one = |found: &Value| (found["row"].as_i64().expect("a row"), found["carried"]["kind"].as_str().expect("a kind").to_owned());
        assert_eq!(told["matches"].as_array().expect("matches").iter().map(one).collect::<Vec<_>>(), matched, "{told}");
    }
}

#[test]
fn catalogues_change_while_it_runs_and_while_it_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let at = ["--archive", "./archive"];
    assert!(said(folder, &[&["catalog", "list"], &at[..]].concat()).contains("no catalogue is declared"));
    let child = start(folder, &["archive", "services"]);
    let before = caught_up(folder);
    let batches = archived(folder);
    let plain = reference(&batches, &[], 1.5);
    let stars: Vec<_> = plain.objects.values().filter_map(|object| Some((object.id, object.summary.position?))).step_by(97).collect();
    let looked_at: Vec<ObjectId> = stars.iter().map(|(id, _)| *id).collect();
    let kind = |index: usize| ["RRLyrae", "Galaxy", "AGN"][index % 3];
    let line = |(index, (_, place)): (usize, &(ObjectId, fink_operators::objects::summary::Position))| {
        (place.ra_deg.0, place.dec_deg.0 + 0.000_1, kind(index))
    };
    let lines: Vec<Line> = stars.iter().enumerate().map(line).collect();
    assert!(lines.len() > 10);

    // What is wrong is said, and changes nothing.
    write(folder, "stars.csv", &lines);
    let add = |ra| {
        let reading = ["--ra", ra, "--dec", "dec", "--radius", "2", "--carry", "kind,who", "--classes"];
        [&["catalog", "add", "stars", "stars.csv"], &reading[..], &at].concat()
    };
    let error = refused(folder, &add("RA"));
    assert!(error.contains("stars.csv: no column 'RA'; there are: kind, ra, dec, who"), "{error}");
    let error = refused(folder, &["catalog", "add", "none", "none.csv", "--ra", "ra", "--dec", "dec", "--radius", "2", at[0], at[1]]);
    assert!(error.contains("none.csv"), "{error}");
    std::fs::write(folder.join("bad.parquet"), "no").expect("written");
    let error = refused(folder, &["catalog", "add", "bad", "bad.parquet", "--ra", "ra", "--dec", "dec", "--radius", "2", at[0], at[1]]);
    assert!(error.contains("bad.parquet: not a Parquet file"), "{error}");
    let error = refused(folder, &["catalog", "update", "star", at[0], at[1]]);
    assert!(error.contains("there is no catalogue `star`"), "{error}");
    assert_eq!(timeless(json(folder, &["counts"]).expect("counts")), timeless(before.clone()));

    // Added while it runs: past matches, classes and counts are corrected.
    let added = said(folder, &add("ra"));
    assert!(added.contains(&format!("{} rows, 1 without a place", lines.len())) && added.contains("counts since Moment"), "{added}");
    let mut known: Vec<(u32, Line)> = (0..).zip(lines.iter().copied()).collect();
    compare(folder, &batches, &rows(&known), &looked_at);
    assert!(refused(folder, &add("ra")).contains("already"));

    // A row between others, one changed, and one that is gone: these alone are published.
    let mut next = lines.clone();
    next[3].2 = "Star";
    next.insert(1, (lines[5].0, lines[5].1 + 0.000_1, "QSO"));
    next.pop();
    write(folder, "stars.csv", &next);
    let updated = said(folder, &[&["catalog", "update", "stars"], &at[..]].concat());
    assert!(updated.contains("2 rows came and 2 went") && updated.contains("ticks"), "{updated}");
    let last = known.pop().expect("rows").0;
    known.retain(|(number, _)| *number != 3);
    // The changed one stands at another line: it is a new row, as the one before it.
    known.extend([(last + 1, next[1]), (last + 2, next[4])]);
    compare(folder, &batches, &rows(&known), &looked_at);
    assert!(said(folder, &[&["catalog", "update", "stars"], &at[..]].concat()).contains("nothing changed"));
    kill(child);

    // Changed while nothing runs, and taken up at the next start.
    next.pop();
    write(folder, "stars.csv", &next);
    let updated = said(folder, &[&["catalog", "update", "stars"], &at[..]].concat());
    assert!(updated.contains("0 rows came and 1 went") && updated.contains("when they start"), "{updated}");
    known.retain(|(number, _)| *number != last - 1);
    let child = start(folder, &["all"]);
    caught_up(folder);
    compare(folder, &batches, &rows(&known), &looked_at);
    let list: Value = serde_json::from_str(&said(folder, &[&["catalog", "list", "--json"], &at[..]].concat())).expect("JSON");
    let listed = &list["catalogues"][0];
    assert_eq!((listed["rows"].as_u64(), listed["state"].as_str()), (Some(next.len() as u64), Some("counts")), "{list}");
    assert!(listed["since"].is_string() && listed["without_place"] == 1, "{list}");

    // As if it had never been.
    assert!(said(folder, &[&["catalog", "remove", "stars"], &at[..]].concat()).contains("withdrawn"));
    compare(folder, &batches, &[], &looked_at);
    assert_eq!(timeless(json(folder, &["counts"]).expect("counts")), timeless(before));
    stop(child);
}
