//! Alerts made anew: with ids that were never sent, and times as of now, so that a folder can be replayed for days.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::types::Value;
use apache_avro::{Error, Reader, Schema, Writer, to_avro_datum};

use super::folder::Message;
use crate::simulator::dice::Dice;
use crate::simulator::records::frame::Framing;
use crate::simulator::system_clock;

/// Numbers by which the surveys know alerts, detections and objects.
const IDS: [&str; 7] = ["candid", "alertId", "diaSourceId", "diaObjectId", "diaForcedSourceId", "parentDiaSourceId", "ssObjectId"];
/// Names by which they do.
const NAMES: [&str; 1] = ["objectId"];
/// Times, in days of whatever scale: all are moved by the same.
const TIMES: [&str; 14] = [
    "jd",
    "jdstarthist",
    "jdendhist",
    "midpointMjdTai",
    "midPointTai",
    "radecMjdTai",
    "timeProcessedMjdTai",
    "timeWithdrawnMjdTai",
    "validityStartMjdTai",
    "firstDiaSourceMjdTai",
    "lastDiaSourceMjdTai",
    "firstObservationMjdTai",
    "lastNonForcedSource",
    "time_processed",
];

/// Makes alerts anew. The same id of the same round becomes the same new id, so that alerts of an object stay its alerts.
#[derive(Default)]
pub struct Refresh {
    /// When this run began, for ids that no other run gives.
    run: Option<i64>,
    /// By how many days each round's times are moved: so that its first alert is of now.
    rounds: BTreeMap<u64, f64>,
}

impl Refresh {
    /// The message with new ids, as of round `round` of the folder.
    ///
    /// # Errors
    /// When its bytes can't be read or written.
    pub fn message(&mut self, message: &Message, round: u64) -> Result<Vec<u8>, Error> {
        if let Some(schema) = &message.schema {
            let value = apache_avro::from_avro_datum(schema, &mut &message.bytes[..], None)?;
            let value = self.value(value, round);
            return Ok(message.framed(&to_avro_datum(schema, value)?));
        }
        debug_assert_eq!(message.framing, Framing::Container);
        let reader = Reader::new(&message.bytes[..])?;
        let schema = Arc::new(reader.writer_schema().clone());
        let values: Vec<Value> = reader.collect::<Result<_, _>>()?;
        let mut writer = Writer::new(as_schema(&schema), Vec::new());
        for value in values {
            writer.append(self.value(value, round))?;
        }
        writer.into_inner()
    }

    fn value(&mut self, value: Value, round: u64) -> Value {
        let now_ms = system_clock();
        let run = *self.run.get_or_insert(now_ms);
        let shift = match time_of(&value) {
            Some(time) => {
                // A Julian date, or a modified one.
                let zero = if time > 1e6 { 2_440_587.5 } else { 40_587.0 };
                *self.rounds.entry(round).or_insert(now_ms as f64 / 86_400_000.0 + zero - time)
            }
            None => 0.0,
        };
        anew(value, "", &New { run: run as u64, round, shift })
    }
}

fn as_schema(schema: &Arc<Schema>) -> &Schema {
    schema
}

struct New {
    run: u64,
    round: u64,
    shift: f64,
}

impl New {
    fn id(&self, old: i64) -> i64 {
        // Zero says that there is none. New ones are as long as the surveys' own: 18 digits.
        if old == 0 {
            0
        } else {
            100_000_000_000_000_000 + Dice::new(&[self.run, self.round, old as u64]).below(800_000_000_000_000_000) as i64
        }
    }

    fn name(&self, old: &str) -> String {
        let of_old = old.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
        let mut dice = Dice::new(&[self.run, self.round, of_old]);
        let letters: String = (0..7).map(|_| char::from(b'a' + dice.below(26) as u8)).collect();
        format!("SIM{:02}{letters}", 18 + dice.below(8))
    }
}

/// When the alert was observed.
fn time_of(alert: &Value) -> Option<f64> {
    let field = |value: &Value, name: &str| match value {
        Value::Record(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()),
        _ => None,
    };
    let of = |record: &str, time: &str| match field(&field(alert, record)?, time)? {
        Value::Double(time) => Some(time),
        Value::Union(_, inner) => {
            if let Value::Double(time) = *inner {
                Some(time)
            } else {
                None
            }
        }
        _ => None,
    };
    of("candidate", "jd").or_else(|| of("diaSource", "midpointMjdTai")).or_else(|| of("diaSource", "midPointTai"))
}

/// The value of field `name` with new ids and times, all the way down.
fn anew(value: Value, name: &str, new: &New) -> Value {
    match value {
        Value::Record(fields) => Value::Record(
            fields
                .into_iter()
                .map(|(field, value)| {
                    let value = anew(value, &field, new);
                    (field, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| anew(item, name, new)).collect()),
        Value::Union(branch, inner) => Value::Union(branch, Box::new(anew(*inner, name, new))),
        Value::Long(id) if IDS.contains(&name) => Value::Long(new.id(id)),
        Value::String(old) if NAMES.contains(&name) => Value::String(new.name(&old)),
        Value::Double(time) if TIMES.contains(&name) => Value::Double(time + new.shift),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::from_avro_datum;

    use super::*;
    use crate::simulator::seen::Telescope;
    use crate::simulator::send::folder::{FolderOptions, Messages};
    use crate::simulator::{AlertOptions, Generator, SimulatorConfig};

    fn field(value: &Value, path: &[&str]) -> Value {
        match (value, path) {
            (Value::Union(_, inner), _) => field(inner, path),
            (Value::Record(fields), [name, rest @ ..]) => field(&fields.iter().find(|(field, _)| field == name).expect("a field").1, rest),
            (value, _) => value.clone(),
        }
    }

    fn value(message: &[u8], framing: Framing, schema: &Schema) -> Value {
        match framing {
            Framing::Container => Reader::new(message).unwrap().next().unwrap().unwrap(),
            _ => from_avro_datum(schema, &mut &message[..], None).unwrap(),
        }
    }

    #[test]
    fn ids_are_new_and_times_are_now_and_the_rest_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let alerts = AlertOptions {
            survey: crate::simulator::seen::SurveyOptions {
                history_visits: 3,
                history_days: 30,
                ..AlertOptions::small(Telescope::Ztf).survey
            },
            ..AlertOptions::small(Telescope::Ztf)
        };
        let mut generator = Generator::new(&SimulatorConfig { alerts, ..SimulatorConfig::new(1, 0) });
        for index in 0..3 {
            std::fs::write(folder.path().join(format!("{index}.avro")), generator.message(0, index)).unwrap();
        }
        let schema = Schema::parse_str(crate::simulator::records::schema(crate::simulator::seen::Telescope::Ztf)).unwrap();
        for framing in [Framing::Container, Framing::Datum] {
            let messages = Messages::load(&FolderOptions { framing, ..FolderOptions::new(folder.path()) }, |_| Ok(0)).unwrap();
            let mut refresh = Refresh::default();
            let mut seen = std::collections::BTreeSet::new();
            for index in 0..6 {
                let old = value(&messages.message(index, None).unwrap(), framing, &schema);
                let new = value(&messages.message(index, Some(&mut refresh)).unwrap(), framing, &schema);
                let Value::Long(candid) = field(&new, &["candid"]) else { panic!("no candid") };
                assert!(seen.insert(candid) && field(&old, &["candid"]) != Value::Long(candid));
                assert_eq!(field(&new, &["candidate", "candid"]), Value::Long(candid));
                assert_ne!(field(&new, &["objectId"]), field(&old, &["objectId"]));
                assert_eq!(field(&new, &["candidate", "magpsf"]), field(&old, &["candidate", "magpsf"]));
                assert_eq!(field(&new, &["cutoutScience"]), field(&old, &["cutoutScience"]));
                let Value::Double(jd) = field(&new, &["candidate", "jd"]) else { panic!("no time") };
                let now = system_clock() as f64 / 86_400_000.0 + 2_440_587.5;
                assert!((jd - now).abs() < 0.5, "{jd} is not now, {now}");
            }
        }
    }
}
