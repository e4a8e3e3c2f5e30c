//! Readers that know nothing of fink: astropy of the cutouts, fastavro with the surveys' own schemas of the alerts.
//!
//! They need `FINK_PYTHON`, an interpreter with `tests/python/requirements.txt`; the surveys' schemas are looked for in `FINK_SHARED`.

use std::path::{Path, PathBuf};
use std::process::Command;

use fink_sources::simulator::generate::{Edition, schema};
use fink_sources::simulator::seen::Telescope;

use crate::stream::{Stream, TELESCOPES, config};

/// Runs a script of ours on a folder; says why if it can't be run, else what it printed.
fn python(script: &str, folder: &Path, more: &[&str]) -> Option<String> {
    let Ok(python) = std::env::var("FINK_PYTHON") else {
        println!("skipped: FINK_PYTHON is not set");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sky").join(script);
    let output = Command::new(python).arg(script).arg(folder).args(more).output().unwrap();
    if output.status.code() == Some(77) {
        println!("skipped: {}", String::from_utf8_lossy(&output.stdout));
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn name(telescope: Telescope) -> &'static str {
    if telescope == Telescope::Ztf { "ztf" } else { "lsst" }
}

#[test]
fn astropy_opens_a_thousand_cutouts_of_each_survey() {
    if std::env::var_os("FINK_PYTHON").is_none() {
        return println!("skipped: FINK_PYTHON is not set");
    }
    let folder = tempfile::tempdir().unwrap();
    for telescope in TELESCOPES {
        let mut stream = Stream::new(&config(telescope, 3));
        for index in 0..334 {
            let alert = stream.alert(index % 10 * 61_510 + index * 7);
            for cutout in ["cutoutScience", "cutoutTemplate", "cutoutDifference"] {
                std::fs::write(folder.path().join(format!("{}-{index}-{cutout}", name(telescope))), alert.file(cutout)).unwrap();
            }
        }
    }
    if let Some(opened) = python("open.py", folder.path(), &[]) {
        assert_eq!(opened, "2004");
    }
}

#[test]
fn fastavro_resolves_every_field_by_the_surveys_own_schemas() {
    let shared =
        std::env::var("FINK_SHARED").map(PathBuf::from).unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    for (telescope, path) in
        [(Telescope::Ztf, "data/ztf/schema-v4.02/alert.avsc"), (Telescope::Lsst, "data/lsst/schemas/11/0/lsst.v11_0.alert.avsc")]
    {
        let path = shared.join(path);
        if !path.is_file() {
            println!("skipped: there is no {}", path.display());
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let survey = name(telescope);
        std::fs::write(folder.path().join(format!("{survey}.avsc")), schema(telescope, Edition::First)).unwrap();
        let mut stream = Stream::new(&config(telescope, 5));
        for index in 0..100 {
            std::fs::write(folder.path().join(format!("{survey}-{index}.datum")), stream.message(index % 10 * 99_730 + index * 7)).unwrap();
        }
        if let Some(read) = python("resolve.py", folder.path(), &[survey, path.to_str().unwrap()]) {
            assert_eq!(read, "100");
        }
    }
}
