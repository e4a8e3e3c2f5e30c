//! Messages of a simulated stream: alert `k` of partition `p` is a function of the configuration, `p` and `k`.

use std::sync::Arc;

use super::config::{Framing, SimulatorConfig};
use super::dice::Dice;
use super::record::{Alert, SCHEMA, encode_cutout, write_long};
use super::sky;
use super::stamp::Stamps;

/// Makes the messages of one stream, any of them at any time. Cheap to clone; a clone for each thread.
#[derive(Clone)]
pub struct Generator {
    config: Arc<SimulatorConfig>,
    stamps: Stamps,
    /// The container's header, with the sync marker at its end.
    header: Arc<[u8]>,
    datum: Vec<u8>,
}

/// Bytes of an Avro container's sync marker.
const SYNC: usize = 16;

impl Generator {
    /// A generator of the stream that `config` describes.
    #[must_use]
    pub fn new(config: &SimulatorConfig) -> Self {
        let stamps = Stamps::new(usize::from(config.alerts.stamp_side));
        Self { config: Arc::new(config.clone()), stamps, header: container_header(config.seed).into(), datum: Vec::new() }
    }

    /// What the alert at `offset` of `partition` says, cut-outs aside.
    #[must_use]
    pub fn alert(&self, partition: i32, offset: i64) -> Alert {
        sky::alert(&self.config, partition, offset)
    }

    /// The message at `offset` of `partition`, framed as configured.
    #[must_use]
    pub fn message(&mut self, partition: i32, offset: i64) -> Vec<u8> {
        let mut datum = std::mem::take(&mut self.datum);
        datum.clear();
        self.encode(partition, offset, &mut datum);
        match self.config.alerts.framing {
            Framing::Datum => {
                // Nothing is kept back: the datum itself is the message.
                let len = datum.len();
                self.datum = Vec::with_capacity(len);
                datum
            }
            Framing::Container => {
                let sync = &self.header[self.header.len() - SYNC..];
                let mut message = Vec::with_capacity(self.header.len() + datum.len() + SYNC + 8);
                message.extend_from_slice(&self.header);
                write_long(&mut message, 1);
                write_long(&mut message, datum.len() as i64);
                message.extend_from_slice(&datum);
                message.extend_from_slice(sync);
                self.datum = datum;
                message
            }
        }
    }

    fn encode(&mut self, partition: i32, offset: i64, out: &mut Vec<u8>) {
        let alert = sky::alert(&self.config, partition, offset);
        alert.encode(out);
        self.stamps.paint(&sky::scene(&self.config, partition, offset, &alert));
        let stamps = &self.stamps;
        let candid = alert.now.detection.as_ref().map_or(0, |detection| detection.candid);
        for (which, kind) in ["sci", "ref", "diff"].into_iter().enumerate() {
            let name = format!("candid{candid}_{kind}.fits.gz");
            encode_cutout(out, &name, stamps.bytes(), |out| stamps.write(which, out));
        }
    }
}

/// The header of an Avro object container of codec null, whose sync marker is a function of `seed`.
fn container_header(seed: u64) -> Vec<u8> {
    let mut header = b"Obj\x01".to_vec();
    let pairs = [("avro.codec", "null"), ("avro.schema", &SCHEMA)];
    write_long(&mut header, pairs.len() as i64);
    for text in pairs.into_iter().flat_map(|(key, value)| [key, value]) {
        write_long(&mut header, text.len() as i64);
        header.extend_from_slice(text.as_bytes());
    }
    write_long(&mut header, 0);
    let mut dice = Dice::new(&[seed]);
    header.extend_from_slice(&dice.bits().to_le_bytes());
    header.extend_from_slice(&dice.bits().to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use apache_avro::types::Value;
    use apache_avro::{Reader, Schema, from_avro_datum};
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::simulator::record::{Detection, Observation};
    use crate::simulator::{AlertOptions, Rate};

    /// 2026-11-23 19:00 UTC.
    const START_MS: i64 = 1_795_460_400_000;

    fn config(alerts: AlertOptions) -> SimulatorConfig {
        SimulatorConfig { alerts, ..SimulatorConfig::new(42, START_MS) }
    }

    fn options() -> [AlertOptions; 3] {
        [AlertOptions::small(), AlertOptions::full(), AlertOptions { objects: 3, history: 5, ..AlertOptions::small() }]
    }

    fn decode(message: &[u8]) -> Value {
        let mut records = Reader::new(message).unwrap();
        let record = records.next().expect("one record").unwrap();
        assert!(records.next().is_none());
        record
    }

    fn fields(value: Value) -> BTreeMap<String, Value> {
        let Value::Record(fields) = value else { panic!("not a record: {value:?}") };
        fields.into_iter().map(|(name, value)| if let Value::Union(_, inner) = value { (name, *inner) } else { (name, value) }).collect()
    }

    fn assert_exposure(seen: &BTreeMap<String, Value>, told: &Observation) {
        assert_eq!(seen["jd"], Value::Double(told.jd));
        assert_eq!(seen["fid"], Value::Int(told.fid));
        assert_eq!(seen["pid"], Value::Long(told.pid));
        assert_eq!(seen["diffmaglim"], Value::Float(told.diffmaglim));
        assert_eq!(seen["programid"], Value::Int(1));
        assert_eq!(seen["nid"], Value::Int(told.nid));
        assert_eq!(seen["rcid"], Value::Int(told.rcid));
        assert_eq!(seen["field"], Value::Int(told.field));
    }

    fn assert_detection(seen: &BTreeMap<String, Value>, told: &Detection) {
        assert_eq!(seen["candid"], Value::Long(told.candid));
        assert_eq!(seen["isdiffpos"], Value::String(told.isdiffpos.to_owned()));
        assert_eq!(seen["ra"], Value::Double(told.ra));
        assert_eq!(seen["dec"], Value::Double(told.dec));
        let floats = [
            ("xpos", told.position[0]),
            ("ypos", told.position[1]),
            ("magpsf", told.magpsf),
            ("sigmapsf", told.sigmapsf),
            ("distnr", told.distnr),
            ("magnr", told.magnr),
            ("sigmagnr", told.sigmagnr),
            ("sky", told.sky),
            ("magdiff", told.magdiff),
            ("fwhm", told.fwhm),
            ("classtar", told.classtar),
            ("rb", told.rb),
            ("ssdistnr", told.known.as_ref().map_or(-999.0, |known| known.0)),
            ("ssmagnr", told.known.as_ref().map_or(-999.0, |known| known.1)),
        ];
        for (name, value) in floats {
            assert_eq!(seen[name], Value::Float(value), "{name}");
        }
        assert_eq!(seen["nneg"], Value::Int(told.nneg));
        assert_eq!(seen["nbad"], Value::Int(told.nbad));
        assert_eq!(seen["ssnamenr"], told.known.as_ref().map_or(Value::Null, |known| Value::String(known.2.clone())));
    }

    /// The golden hashes: when one changes, so must `config::GENERATOR`, or archives take two streams for one.
    #[test]
    fn the_bytes_are_those_of_every_machine_and_release() {
        let hashes: Vec<u64> = options()
            .into_iter()
            .flat_map(|alerts| {
                let mut generator = Generator::new(&config(alerts));
                [(0, 0), (3, 12_345), (1, 1 << 40)].map(|(partition, offset)| xxh3_64(&generator.message(partition, offset)))
            })
            .collect();
        let golden = [
            0xc27f_2420_85a1_14a4,
            0x6730_3d0f_e1a1_4bdf,
            0xc8d9_dd09_58b0_eb4c,
            0x4368_eea1_6022_a6dd,
            0x1989_7743_8840_500a,
            0x8e04_21fb_89cf_d0b1,
            0xa3b3_67ae_ba3f_9b3f,
            0xde1f_470a_3efe_5fdb,
            0x5588_d69e_bc78_b759,
        ];
        assert_eq!(hashes, golden, "{hashes:#018x?}");
    }

    #[test]
    fn any_offset_alone_is_the_same_as_in_sequence_and_on_another_thread() {
        for alerts in options() {
            let config = config(alerts);
            let mut generator = Generator::new(&config);
            let sequence: Vec<Vec<u8>> = (0..60).map(|offset| generator.message(2, offset)).collect();
            let other = generator.clone();
            let backwards = std::thread::spawn(move || {
                let mut other = other;
                (0..60).rev().map(|offset| other.message(2, offset)).collect::<Vec<_>>()
            });
            assert!(backwards.join().unwrap().iter().rev().eq(&sequence));
            assert_eq!(Generator::new(&config).message(2, 37), sequence[37]);
        }
    }

    #[test]
    fn partitions_and_seeds_have_alerts_of_their_own() {
        let mut seen = BTreeSet::new();
        for seed in [1, 2] {
            let mut generator = Generator::new(&SimulatorConfig { seed, ..config(AlertOptions::small()) });
            for (partition, offset) in (0..4).flat_map(|partition| (0..50).map(move |offset| (partition, offset))) {
                assert!(seen.insert(generator.message(partition, offset)));
            }
        }
    }

    #[test]
    fn a_message_decodes_to_the_alert_it_was_made_of() {
        for alerts in options() {
            let mut generator = Generator::new(&config(alerts.clone()));
            for (partition, offset) in [(0, 0), (1, 1), (3, 17), (2, 40_001), (0, 3_000_000)] {
                let told = generator.alert(partition, offset);
                let mut seen = fields(decode(&generator.message(partition, offset)));
                let detection = told.now.detection.as_ref().expect("an alert is of a detection");
                assert_eq!(seen["objectId"], Value::String(told.object_id.clone()));
                assert_eq!(seen["candid"], Value::Long(detection.candid));
                let candidate = fields(seen.remove("candidate").unwrap());
                assert_exposure(&candidate, &told.now);
                assert_detection(&candidate, detection);
                assert_eq!(candidate["drb"], Value::Float(detection.drb));
                assert_eq!(candidate["distpsnr1"], Value::Float(detection.catalogued[0]));
                assert_eq!(candidate["sgscore1"], Value::Float(detection.catalogued[1]));
                assert_eq!(candidate["ndethist"], Value::Int(told.ndethist));
                assert_eq!(candidate["ncovhist"], Value::Int(told.ncovhist));
                assert_eq!(candidate["jdstarthist"], Value::Double(told.jdstarthist));
                assert_eq!(candidate["jdendhist"], Value::Double(told.now.jd));
                assert_eq!(candidate["exptime"], Value::Float(30.0));
                let history = match seen.remove("prv_candidates").unwrap() {
                    Value::Null => None,
                    Value::Array(items) => Some(items),
                    other => panic!("{other:?}"),
                };
                assert_eq!(history.as_ref().map(Vec::len), told.history.as_ref().map(Vec::len));
                for (seen, told) in history.into_iter().flatten().zip(told.history.iter().flatten()) {
                    let seen = fields(seen);
                    assert_exposure(&seen, told);
                    match &told.detection {
                        Some(detection) => assert_detection(&seen, detection),
                        None => assert_eq!(seen.values().filter(|value| **value == Value::Null).count(), seen.len() - 8),
                    }
                }
            }
        }
    }

    #[test]
    fn a_bare_datum_is_what_the_container_holds() {
        let bare = AlertOptions { framing: Framing::Datum, ..AlertOptions::small() };
        let datum = Generator::new(&config(bare)).message(1, 5);
        let schema = Schema::parse_str(&SCHEMA).unwrap();
        let value = from_avro_datum(&schema, &mut &datum[..], None).unwrap();
        assert_eq!(value, decode(&Generator::new(&config(AlertOptions::small())).message(1, 5)));
        assert!((1500..2500).contains(&datum.len()), "{} bytes", datum.len());
    }

    #[test]
    fn a_full_alert_has_real_size() {
        let mut generator = Generator::new(&config(AlertOptions::full()));
        let sizes: Vec<usize> = (0..200).map(|offset| generator.message(0, offset).len()).collect();
        assert!(sizes.iter().all(|len| (50_000..70_000).contains(len)), "{sizes:?}");
        assert!((60_000..65_000).contains(&(sizes.iter().sum::<usize>() / sizes.len())), "{sizes:?}");
    }

    #[test]
    fn histories_are_made_of_earlier_alerts() {
        let alerts = AlertOptions { objects: 7, history: 4, ..AlertOptions::small() };
        let generator = Generator::new(&config(alerts));
        let mut of_object: BTreeMap<String, Vec<Observation>> = BTreeMap::new();
        let mut candids = BTreeSet::new();
        for offset in 0..70 {
            let alert = generator.alert(1, offset);
            let earlier = of_object.entry(alert.object_id).or_default();
            let told: Vec<_> = alert.history.into_iter().flatten().collect();
            let known = earlier.len().min(4);
            assert_eq!(told[told.len() - known..], earlier[earlier.len() - known..]);
            assert!(told.len() == 4 || alert.ncovhist <= 4);
            assert!(told.is_sorted_by(|a, b| a.jd < b.jd) && told.iter().all(|before| before.jd < alert.now.jd));
            assert!(candids.insert(alert.now.detection.as_ref().unwrap().candid));
            earlier.push(alert.now);
        }
        assert_eq!(of_object.len(), 7);
        assert!(of_object.values().all(|seen| seen.len() == 10), "each object once a round");
    }

    #[test]
    fn nights_follow_the_offsets() {
        let rate = Rate::per_second(0.5).unwrap();
        let generator = |nights| Generator::new(&SimulatorConfig { rate, ..config(AlertOptions { nights, ..AlertOptions::small() }) });
        // 2026-11-23 19:00 UTC; offset 10,800 of 4 partitions at one alert in 2 s comes a day later.
        let jd = |nights, offset| generator(nights).alert(0, offset).now.jd;
        assert!((jd(1, 0) - 2_461_368.291_666_667).abs() < 1e-6, "{}", jd(1, 0));
        assert!((jd(1, 10_800) - jd(1, 0) - 1.0).abs() < 1e-9);
        let nights: BTreeSet<i64> = (0..60).map(|offset| (jd(30, offset) + 0.2) as i64).collect();
        assert_eq!(nights.len(), 30);
    }

    #[test]
    fn ten_thousand_alerts_have_ten_thousand_difference_stamps() {
        let mut generator = Generator::new(&config(AlertOptions { framing: Framing::Datum, history: 0, ..AlertOptions::full() }));
        let stamp = generator.stamps.bytes();
        let hashes: BTreeSet<u64> = (0..10_000)
            .map(|k| {
                let message = generator.message(k % 4, i64::from(k / 4));
                xxh3_64(&message[message.len() - stamp..])
            })
            .collect();
        assert_eq!(hashes.len(), 10_000);
    }

    const OPEN: &str = r#"
import gzip, io, pathlib, sys
try:
    import fastavro
    from astropy.io import fits
except ImportError as error:
    print(error)
    sys.exit(77)
seen = 0
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    for alert in fastavro.reader(path.open("rb")):
        for kind in "Science", "Template", "Difference":
            with fits.open(io.BytesIO(gzip.decompress(alert["cutout" + kind]["stampData"])), checksum=True) as file:
                file.verify("exception")
                data = file[0].data
                assert data.shape[0] == data.shape[1] and data.dtype == ">f4", (data.shape, data.dtype)
                if kind == "Science":
                    middle = data.shape[0] // 2
                    assert data[middle - 1:middle + 2, middle - 1:middle + 2].mean() > data.mean(), path
                seen += 1
print(seen)
"#;

    #[test]
    fn astropy_and_fastavro_open_them() {
        let Ok(python) = std::env::var("FINK_PYTHON") else { return println!("skipped: FINK_PYTHON is not set") };
        let folder = tempfile::tempdir().unwrap();
        for (name, alerts) in [("small", AlertOptions::small()), ("full", AlertOptions::full())] {
            let mut generator = Generator::new(&config(alerts));
            for offset in 0..50 {
                std::fs::write(folder.path().join(format!("{name}{offset}.avro")), generator.message(0, offset)).unwrap();
            }
        }
        let output = std::process::Command::new(python).args(["-c", OPEN]).arg(folder.path()).output().unwrap();
        if output.status.code() == Some(77) {
            return println!("skipped: {}", String::from_utf8_lossy(&output.stdout));
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "300");
    }
}
