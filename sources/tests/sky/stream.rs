//! The stream of `fink start simulator`, and what a survey's reader finds in its messages.

use std::io::Read;

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum};
use fink_sources::simulator::generate::{Edition, Generator, schema};
use fink_sources::simulator::seen::{Seen, Telescope};
use fink_sources::simulator::survey::Survey;
use fink_sources::simulator::truth::Told;
use fink_sources::simulator::{AlertOptions, Framing, SimulatorConfig};

pub(crate) const TELESCOPES: [Telescope; 2] = [Telescope::Ztf, Telescope::Lsst];

/// The stream that the service sends where no flag says otherwise, from a night on: full alerts, here as bare datums.
pub(crate) fn config(telescope: Telescope, seed: u64) -> SimulatorConfig {
    let alerts = AlertOptions { framing: Framing::Datum, ..AlertOptions::full(telescope) };
    SimulatorConfig { alerts, night_mjd: 61_366, ..SimulatorConfig::new(seed, 1_795_460_400_000) }
}

/// An alert as its receiver has it, and the truth of it.
pub(crate) struct Alert {
    pub(crate) telescope: Telescope,
    pub(crate) value: Value,
    pub(crate) told: Told,
}

/// Alerts of a stream by their number.
pub(crate) struct Stream {
    telescope: Telescope,
    generator: Generator,
    schema: Schema,
}

impl Stream {
    pub(crate) fn new(config: &SimulatorConfig) -> Self {
        let telescope = config.alerts.survey.telescope;
        let schema = Schema::parse_str(&schema(telescope, Edition::First)).unwrap();
        Self { telescope, generator: Generator::new(config), schema }
    }

    /// The alert's bytes, as they are sent.
    pub(crate) fn message(&mut self, number: u64) -> Vec<u8> {
        self.generator.tell(number, Edition::First).0
    }

    /// What the alert is about: the truth, by which alerts are chosen.
    pub(crate) fn seen(&self, number: u64) -> Seen {
        self.generator.seen(number)
    }

    /// The survey, which knows its visits.
    pub(crate) fn survey(&self) -> &Survey {
        self.generator.survey()
    }

    pub(crate) fn alert(&mut self, number: u64) -> Alert {
        let (message, told) = self.generator.tell(number, Edition::First);
        let value = from_avro_datum(&self.schema, &mut &message[..], None).unwrap();
        Alert { telescope: self.telescope, value, told }
    }
}

/// The value at a path of fields.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    match (value, path) {
        (Value::Union(_, inner), _) => at(inner, path),
        (value, []) => value,
        (Value::Record(fields), [name, rest @ ..]) => at(&fields.iter().find(|(field, _)| field == name).expect("a field").1, rest),
        (other, _) => panic!("{path:?} of {other:?}"),
    }
}

/// A number, if it is not null.
pub(crate) fn number(value: &Value, path: &[&str]) -> Option<f64> {
    match at(value, path) {
        Value::Double(number) => Some(*number),
        Value::Float(number) => Some(f64::from(*number)),
        Value::Int(number) => Some(f64::from(*number)),
        Value::Long(number) => Some(*number as f64),
        _ => None,
    }
}

impl Alert {
    /// Signal over noise as the survey tells it.
    pub(crate) fn snr(&self) -> f64 {
        match self.telescope {
            Telescope::Ztf => 1.0857 / number(&self.value, &["candidate", "sigmapsf"]).unwrap(),
            Telescope::Lsst => number(&self.value, &["diaSource", "snr"]).unwrap(),
        }
    }

    /// Whether the difference is light gained.
    pub(crate) fn positive(&self) -> bool {
        match self.telescope {
            Telescope::Ztf => matches!(at(&self.value, &["candidate", "isdiffpos"]), Value::String(word) if word == "t" || word == "1"),
            Telescope::Lsst => number(&self.value, &["diaSource", "psfFlux"]).unwrap() > 0.0,
        }
    }

    /// A cutout's file as it stands in the alert.
    pub(crate) fn file(&self, cutout: &str) -> &[u8] {
        let path: &[&str] = if self.telescope == Telescope::Ztf { &[cutout, "stampData"] } else { &[cutout] };
        let Value::Bytes(file) = at(&self.value, path) else { panic!("no {cutout}") };
        file
    }

    /// The first image of a cutout: pixels on a side, and the pixels row by row.
    pub(crate) fn image(&self, cutout: &str) -> (usize, Vec<f32>) {
        let mut fits = Vec::new();
        match self.telescope {
            Telescope::Ztf => drop(flate2::read::GzDecoder::new(self.file(cutout)).read_to_end(&mut fits).unwrap()),
            Telescope::Lsst => fits.extend_from_slice(self.file(cutout)),
        }
        let header = fits[..2880].chunks(80);
        let side = header.filter_map(|card| std::str::from_utf8(card).ok()?.strip_prefix("NAXIS1  =")?.trim().parse().ok()).next();
        let side: usize = side.expect("a FITS header of one block");
        let floats = fits[2880..2880 + 4 * side * side].as_chunks::<4>().0;
        (side, floats.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect())
    }
}
