//! Real catalogues, and what stands in them at real alerts' places.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use common::{chunk, files, lsst_book, shared};
use fink_dataflow::detection::{ObjectId, Real, SurveyId};
use fink_operators::catalogue::{Catalogue, CatalogueId, Format, Layout, MotionColumns, PositionFormat, read};
use fink_operators::crossmatch::sky::{cell, cells};
use fink_operators::crossmatch::{Match, Place, match_of};
use fink_operators::decode::Decode;
use fink_operators::surveys::light_rows;

fn layout(format: Format, ra: &str, dec: &str, radius_arcsec: f64, carry: &[&str]) -> Layout {
    let carry = carry.iter().map(|name| (*name).to_owned()).collect();
    let position = PositionFormat::Degrees;
    Layout { id: CatalogueId::typed(1), format, ra: ra.into(), dec: dec.into(), position, radius_arcsec, carry, motion: None }
}

fn load(path: &Path, layout: &Layout) -> Catalogue {
    let started = Instant::now();
    let catalogue = read(Bytes::from(std::fs::read(path).unwrap()), layout).unwrap();
    println!("{}: {} rows, {} without a place, {:?}", path.display(), catalogue.rows.len(), catalogue.placeless, started.elapsed());
    catalogue
}

/// Every row in the cells that it touches: what the operator does, without one.
struct Index(std::collections::HashMap<u64, Vec<usize>>, Catalogue);

impl Index {
    fn new(catalogue: Catalogue) -> Self {
        let mut index = std::collections::HashMap::new();
        for (number, row) in catalogue.rows.iter().enumerate() {
            cells(row.ra_deg.0, row.dec_deg.0, row.reach_arcsec(), |cell| index.entry(cell).or_insert_with(Vec::new).push(number));
        }
        Self(index, catalogue)
    }

    fn matches(&self, ra_deg: f64, dec_deg: f64, mjd: f64) -> Vec<Match> {
        let object = ObjectId::new(SurveyId(1), "x").unwrap();
        let place = Place { object, ra_deg: Real(ra_deg), dec_deg: Real(dec_deg), mjd_tai: Real(mjd) };
        let rows = self.0.get(&cell(ra_deg, dec_deg)).into_iter().flatten();
        let mut found: Vec<_> = rows.filter_map(|row| match_of(&place, &self.1.rows[*row])).collect();
        found.sort();
        found
    }
}

/// Catalogues of the fink-science wheel, unpacked by `pip download --no-deps fink-science==7.4.0` and `unzip`.
fn wheel(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("FINK_SCIENCE").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("FINK_CACHE")?).join("fink-science/fink_science")));
    let path = folder.map(|folder| folder.join("data/catalogs").join(name)).filter(|path| path.is_file());
    if path.is_none() {
        println!("skipped: no {name} (set FINK_SCIENCE to the unpacked wheel's fink_science)");
    }
    path
}

#[test]
fn real_catalogues_are_read_whole() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("catalogs");
    let gcvs = load(&folder.join("gcvs.parquet"), &layout(Format::Parquet, "ra", "dec", 1.5, &["VarType"]));
    assert_eq!((gcvs.rows.len(), gcvs.placeless), (57_247, 0));
    assert_eq!(&*gcvs.rows[0].carried[0], "SNI");
    assert!((gcvs.rows[0].ra_deg.0 - 10.679_583).abs() < 1e-6);
    let spicy = load(&folder.join("spicy.parquet"), &layout(Format::Parquet, "RAdeg", "DEdeg", 1.2, &["class"]));
    assert_eq!(spicy.rows.len(), 117_446);
    let mut hsp = layout(Format::Csv, "R.A.", "Dec", 60.0, &["3HSP Source name"]);
    hsp.position = PositionFormat::Sexagesimal;
    let hsp = load(&folder.join("3hsp.csv"), &hsp);
    assert_eq!((hsp.rows.len(), hsp.placeless), (2_013, 0));
    let first = &hsp.rows[0];
    assert_eq!(&*first.carried[0], "3HSPJ000116.4+293534");
    assert!((first.ra_deg.0 - 0.318_208_333).abs() < 1e-8 && (first.dec_deg.0 - 29.592_777_778).abs() < 1e-8);
    let error = read(Bytes::from_static(b"a,b\n1,2\n"), &layout(Format::Csv, "a", "dec", 1.0, &[])).unwrap_err();
    assert_eq!(error.to_string(), "no column 'dec'; there are: a, b");
}

#[test]
fn fits_tables_are_read_as_astropy_reads_them() {
    let Some(path) = wheel("table-4LAC-DR3-h.fits") else { return };
    let catalogue = load(&path, &layout(Format::Fits, "RAJ2000", "DEJ2000", 60.0, &["CLASS", "Source_Name"]));
    let script = "import sys\nfrom astropy.table import Table\nt = Table.read(sys.argv[1], hdu=1)\nt.convert_bytestring_to_unicode()\n\
        for r in t: print(repr(float(r['RAJ2000'])), repr(float(r['DEJ2000'])), str(r['Source_Name']).strip(), sep='|')";
    let Some(lines) = python(script, &[&path]) else { return };
    assert_eq!(lines.len(), catalogue.rows.len());
    for (line, row) in lines.iter().zip(&catalogue.rows) {
        let parts: Vec<_> = line.split('|').collect();
        assert_eq!((parts[0].parse(), parts[1].parse(), parts[2]), (Ok(row.ra_deg.0), Ok(row.dec_deg.0), &*row.carried[1]));
    }
}

#[test]
fn votables_are_read() {
    let text = br#"<?xml version="1.0"?><!-- one --><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>
        <FIELD name="Name" datatype="char" arraysize="*"/><FIELD ID="RA_ICRS" name="RA" datatype="double" unit="deg"/>
        <FIELD name="Dec" datatype="double"/><FIELD name="pmRA" datatype="float"/><FIELD name="pmDE" datatype="float"/>
        <DATA><TABLEDATA>
        <TR><TD>a &amp; b</TD><TD>10.5</TD><TD>-20.25</TD><TD>100</TD><TD>-50</TD></TR>
        <TR><TD><![CDATA[c<d]]></TD><TD>-1</TD><TD>90</TD><TD/><TD></TD></TR>
        <TR><TD>nowhere</TD><TD></TD><TD>1</TD><TD>1</TD><TD>1</TD></TR>
        </TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"#;
    let mut layout = layout(Format::VoTable, "RA_ICRS", "Dec", 2.0, &["Name"]);
    layout.motion = Some(MotionColumns { ra: "pmRA".into(), dec: "pmDE".into(), epoch: 2016.0 });
    let catalogue = read(Bytes::from_static(text), &layout).unwrap();
    assert_eq!((catalogue.rows.len(), catalogue.placeless), (2, 1));
    let (one, two) = (&catalogue.rows[0], &catalogue.rows[1]);
    assert_eq!((&*one.carried[0], one.motion.as_ref().unwrap().ra.0), ("a & b", 100.0));
    assert_eq!((&*two.carried[0], two.ra_deg.0, two.dec_deg.0, two.motion.is_none()), ("c<d", 359.0, 90.0, true));
    // Ten years after its epoch it is a second of arc farther east and half a one south.
    let (ra, dec) = one.at(57_388.5 + 3_652.5);
    assert!(((ra - 10.5) * 3600.0 * (20.25f64.to_radians().cos()) - 1.0).abs() < 1e-4 && ((dec + 20.25) * 3600.0 + 0.5).abs() < 1e-4);
    let binary = b"<VOTABLE><RESOURCE><TABLE><FIELD name='a'/><DATA><BINARY2/></DATA></TABLE></RESOURCE></VOTABLE>";
    let error = read(Bytes::from_static(binary), &layout).unwrap_err();
    assert!(error.to_string().contains("BINARY2"), "{error}");
}

/// What Fink's own cross-match says of the alerts of 2026, catalogue by catalogue.
#[test]
fn matches_of_real_alerts_agree_with_finks() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("catalogs");
    let mut hsp = layout(Format::Csv, "R.A.", "Dec", 60.0, &["3HSP Source name"]);
    hsp.position = PositionFormat::Sexagesimal;
    let mut catalogues = vec![
        ("gcvs", Index::new(load(&folder.join("gcvs.parquet"), &layout(Format::Parquet, "ra", "dec", 1.5, &["VarType"])))),
        ("spicy_class", Index::new(load(&folder.join("spicy.parquet"), &layout(Format::Parquet, "RAdeg", "DEdeg", 1.2, &["class"])))),
        ("x3hsp", Index::new(load(&folder.join("3hsp.csv"), &hsp))),
    ];
    if let Some(path) = wheel("vsx.parquet") {
        catalogues.push(("vsx", Index::new(load(&path, &layout(Format::Parquet, "RAJ2000", "DEJ2000", 1.5, &["VType"])))));
    }
    let mut decoder = Decode::new(lsst_book(&shared));
    let (mut compared, mut known, mut differ) = (0, 0, Vec::new());
    for path in files(&shared.join("ztf/enriched"), ".avro") {
        for batch in decoder.decode(vec![chunk("t", 0, &[std::fs::read(path).unwrap()])]).alerts {
            let (rows, _) = light_rows(&batch);
            for (column, index) in &catalogues {
                let truth = arrow::compute::cast(batch.rows.column_by_name(column).unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
                let truth = arrow::array::AsArray::as_string::<i32>(&truth).clone();
                for (row, alert) in rows.iter().enumerate() {
                    let point = &alert.detection.point;
                    let found = index.matches(point.ra_deg.0, point.dec_deg.0, point.mjd_tai.0);
                    let found = found.first().map_or("", |m| &m.carried[0]);
                    let told = truth.value(row);
                    // A service that was away said nothing.
                    let told = if matches!(told, "Unknown" | "nan") || told.starts_with("Fail") { "" } else { told };
                    compared += 1;
                    known += usize::from(!told.is_empty());
                    if found != told {
                        differ.push(format!("{column} of {}: {found:?}, Fink says {told:?}", alert.object.name()));
                    }
                }
            }
        }
    }
    println!("{compared} compared, {known} known to Fink, {} differ:\n{}", differ.len(), differ.join("\n"));
    assert!(compared >= 93);
    assert!(differ.is_empty());
}

/// 100,000 random points, half of them near a variable, and VSX: the same pairs as astropy finds.
#[test]
fn pairs_with_vsx_equal_astropys() {
    let Some(path) = wheel("vsx.parquet") else { return };
    let catalogue = load(&path, &layout(Format::Parquet, "RAJ2000", "DEJ2000", 1.5, &[]));
    assert!(catalogue.rows.len() > 1_900_000);
    let mut state = 42u64;
    let mut dice = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut points = Vec::new();
    for n in 0..100_000 {
        points.push(if n % 2 == 0 {
            (dice() * 360.0, (dice() * 2.0 - 1.0).asin().to_degrees())
        } else {
            let row = &catalogue.rows[(dice() * catalogue.rows.len() as f64) as usize];
            let dec = (row.dec_deg.0 + (dice() - 0.5) * 0.001).clamp(-90.0, 90.0);
            ((row.ra_deg.0 + (dice() - 0.5) * 0.001 / dec.to_radians().cos().max(1e-6)).rem_euclid(360.0), dec)
        });
    }
    let index = Index::new(catalogue);
    let mut ours = Vec::new();
    for (n, (ra, dec)) in points.iter().enumerate() {
        ours.extend(index.matches(*ra, *dec, 60_000.0).into_iter().map(|m| format!("{n} {}", m.number)));
    }
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("points");
    std::fs::write(&list, points.iter().map(|(ra, dec)| format!("{ra:?} {dec:?}\n")).collect::<String>()).unwrap();
    let script = "import sys, numpy as np, pyarrow.parquet as pq\nimport astropy.units as u\nfrom astropy.coordinates import SkyCoord\n\
        t = pq.read_table(sys.argv[1], columns=['RAJ2000', 'DEJ2000']).to_pandas()\np = np.loadtxt(sys.argv[2])\n\
        c = SkyCoord(t.RAJ2000.values*u.deg, t.DEJ2000.values*u.deg); p = SkyCoord(p[:,0]*u.deg, p[:,1]*u.deg)\n\
        a, b, _, _ = c.search_around_sky(p, 1.5*u.arcsec)\nprint('\\n'.join(f'{x} {y}' for x, y in zip(a, b)))";
    let Some(mut theirs) = python(script, &[&path, &list]) else { return };
    ours.sort();
    theirs.sort();
    println!("{} pairs", ours.len());
    assert!(ours.len() > 20_000);
    assert_eq!(ours, theirs);
}

/// What a script prints, line by line; `None`, and a word about it, without a Python that has astropy and scipy.
fn python(script: &str, arguments: &[&Path]) -> Option<Vec<String>> {
    let python = std::env::var("FINK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = |script: &str| Command::new(&python).args(["-c", script]).args(arguments).output();
    if !run("import astropy, scipy, pyarrow").is_ok_and(|o| o.status.success()) {
        println!("skipped: {python} lacks astropy, scipy or pyarrow (set FINK_PYTHON)");
        return None;
    }
    let output = run(script).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
