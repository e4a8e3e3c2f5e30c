//! Messages of a simulated stream: alert `k` of partition `p` is a function of the configuration, `p` and `k`.

use std::sync::Arc;

use super::config::SimulatorConfig;
use super::cutouts::Cutouts;
use super::records::{self, frame::Frame};
use super::seen::Seen;
use super::survey::Survey;
use super::truth::Told;

/// Which of a stream's two schemas a record has: a change of schema is among the troubles that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// The survey's.
    First,
    /// The survey's, and one nullable field more at its end.
    Next,
}

/// Makes the messages of one stream, any of them at any time. Cheap to clone; a clone for each thread.
#[derive(Clone)]
pub struct Generator {
    config: Arc<SimulatorConfig>,
    survey: Survey,
    cutouts: Cutouts,
    frames: Arc<[Frame; 2]>,
    datum: Vec<u8>,
}

impl Generator {
    /// A generator of the stream that `config` describes, its numbers in their ranges ([`SimulatorConfig::check`]).
    #[must_use]
    pub fn new(config: &SimulatorConfig) -> Self {
        let id = records::schema_id(config.alerts.survey.telescope);
        Self::with_schema_ids(config, [id, id + 1])
    }

    /// The same, with the ids under which a registry has the schema and its next edition; only Confluent's framing tells them.
    ///
    /// # Panics
    /// When a number of `config` is out of its range.
    #[must_use]
    pub fn with_schema_ids(config: &SimulatorConfig, ids: [u32; 2]) -> Self {
        let options = config.survey();
        let telescope = options.telescope;
        let schemas = [Edition::First, Edition::Next].map(|edition| schema(telescope, edition));
        let frame = |which: usize| Frame::new(config.alerts.framing, &schemas[which], ids[which], config.seed);
        Self {
            survey: Survey::new(&options).expect("the numbers are in their ranges, as `check` says"),
            cutouts: Cutouts::new(telescope, usize::from(config.alerts.stamp_side)),
            frames: Arc::new([frame(0), frame(1)]),
            datum: Vec::new(),
            config: Arc::new(config.clone()),
        }
    }

    /// The survey that looks.
    #[must_use]
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// What alert `number` of the stream says: over all partitions, from 0.
    #[must_use]
    pub fn seen(&self, number: u64) -> Seen {
        let (visit, index) = self.survey.place(number);
        self.survey.seen(visit, index)
    }

    /// The message at `offset` of `partition`, framed as configured.
    #[must_use]
    pub fn message(&mut self, partition: i32, offset: i64) -> Vec<u8> {
        let number = offset as u64 * self.config.partitions as u64 + partition as u64;
        let seen = self.seen(number);
        self.encode(&seen, Edition::First)
    }

    /// Alert `number` of the stream as a message, and what is true of it.
    #[must_use]
    pub fn tell(&mut self, number: u64, edition: Edition) -> (Vec<u8>, Told) {
        let seen = self.seen(number);
        (self.encode(&seen, edition), Told::of(self.config.alerts.survey.telescope, &seen))
    }

    fn encode(&mut self, seen: &Seen, edition: Edition) -> Vec<u8> {
        self.datum.clear();
        records::encode(self.config.alerts.survey.telescope, seen, self.cutouts.files(seen), &mut self.datum);
        if edition == Edition::Next {
            // The field that this edition has more: null.
            self.datum.push(0);
        }
        self.frames[edition as usize].message(&self.datum)
    }
}

/// The schema of a survey's alerts in an edition.
#[must_use]
pub fn schema(telescope: super::seen::Telescope, edition: Edition) -> String {
    let schema = records::schema(telescope);
    match edition {
        Edition::First => schema.to_owned(),
        Edition::Next => {
            let fields = schema.strip_suffix("]}").expect("a record's schema ends with its fields");
            format!(r#"{fields},{{"name":"simulatedChange","type":["null","double"],"default":null}}]}}"#)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use apache_avro::types::Value;
    use apache_avro::{Reader, Schema, from_avro_datum};

    use super::*;
    use crate::simulator::seen::Telescope;
    use crate::simulator::{AlertOptions, Framing};

    /// 2026-11-23 19:00 UTC.
    const START_MS: i64 = 1_795_460_400_000;

    fn config(alerts: AlertOptions) -> SimulatorConfig {
        SimulatorConfig { alerts, ..SimulatorConfig::new(42, START_MS) }
    }

    fn decode(message: &[u8]) -> Value {
        let mut records = Reader::new(message).unwrap();
        let record = records.next().expect("one record").unwrap();
        assert!(records.next().is_none());
        record
    }

    #[test]
    fn any_message_is_the_same_whenever_and_by_whomever_it_is_made() {
        let config = config(AlertOptions::small(Telescope::Ztf));
        let mut one = Generator::new(&config);
        let all: BTreeMap<(i32, i64), Vec<u8>> =
            (0..60).flat_map(|offset| (0..4).map(move |partition| (partition, offset))).map(|at| (at, one.message(at.0, at.1))).collect();
        assert_eq!(all.values().collect::<BTreeSet<_>>().len(), all.len());
        // Backwards, by threads, each with a generator that has seen nothing of the stream.
        let threads = [0, 1, 2].map(|thread| {
            let (config, all) = (config.clone(), all.clone());
            std::thread::spawn(move || {
                let mut other = Generator::new(&config);
                for ((partition, offset), message) in all.into_iter().rev().skip(thread).step_by(3) {
                    assert!(other.message(partition, offset) == message, "{partition} {offset}");
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let other = SimulatorConfig { seed: 43, ..config };
        assert_ne!(Generator::new(&other).message(0, 0), all[&(0, 0)]);
    }

    /// The bytes are part of a stream's identity: an archive goes on with it years later, on another machine.
    #[test]
    fn the_bytes_are_those_that_they_always_were() {
        let golden = [
            ("ZTF small", AlertOptions::small(Telescope::Ztf), 0x96a6_6cc5_8065_9fc6),
            ("ZTF full", AlertOptions::full(Telescope::Ztf), 0x8a45_4b35_6263_ec8e),
            ("LSST full", AlertOptions::full(Telescope::Lsst), 0x1b5d_6a7a_3181_13c0),
        ];
        for (name, alerts, golden) in golden {
            let mut generator = Generator::new(&config(alerts));
            let mut all = Vec::new();
            (0..30).for_each(|number| all.extend(generator.tell(number * 37, Edition::First).0));
            let found = xxhash_rust::xxh3::xxh3_64(&all);
            assert_eq!(found, golden, "{name} {found:#018x}: other bytes are another generator: give GENERATOR a new number with it");
        }
    }

    #[test]
    fn a_bare_datum_is_what_the_container_holds() {
        let bare = AlertOptions { framing: Framing::Datum, ..AlertOptions::small(Telescope::Ztf) };
        let datum = Generator::new(&config(bare)).message(1, 5);
        let schema = Schema::parse_str(records::schema(Telescope::Ztf)).unwrap();
        let value = from_avro_datum(&schema, &mut &datum[..], None).unwrap();
        assert_eq!(value, decode(&Generator::new(&config(AlertOptions::small(Telescope::Ztf))).message(1, 5)));
        assert!((1500..2500).contains(&datum.len()), "{} bytes", datum.len());
    }

    #[test]
    fn the_next_edition_has_one_field_more() {
        let mut generator = Generator::new(&config(AlertOptions::small(Telescope::Ztf)));
        let ((first, told), (next, same)) = (generator.tell(7, Edition::First), generator.tell(7, Edition::Next));
        assert_eq!(told, same);
        let (Value::Record(first), Value::Record(mut next)) = (decode(&first), decode(&next)) else { panic!("no records") };
        assert_eq!(next.pop().unwrap().0, "simulatedChange");
        assert_eq!(next, first);
    }

    #[test]
    fn full_alerts_have_real_sizes() {
        let size = |alerts, count: u64| {
            let mut generator = Generator::new(&config(alerts));
            let sizes: Vec<usize> = (0..count).map(|number| generator.tell(number * 17, Edition::First).0.len()).collect();
            (sizes.iter().sum::<usize>() / sizes.len(), sizes)
        };
        let (mean, sizes) = size(AlertOptions::full(Telescope::Ztf), 60);
        assert!((60_000..80_000).contains(&mean), "{mean}: {sizes:?}");
        let (mean, sizes) = size(AlertOptions::full(Telescope::Lsst), 10);
        assert!((60_000..200_000).contains(&mean), "{mean}: {sizes:?}");
    }
}
