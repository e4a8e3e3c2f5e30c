//! What a simulated stream is a function of, and the name under which the ledger knows it.

use std::fmt;
use std::str::FromStr;

use super::records::frame::{Framing, UnknownFraming};
use super::seen::{SurveyOptions, Telescope};
use super::survey::SurveyError;

/// A new number whenever the bytes of an alert change, so that an archive never takes two streams for one.
const GENERATOR: u32 = 3;

/// Everything that a simulated stream depends on; the clock only says how far it reaches.
///
/// [`SimulatorConfig::describe`] is the source's identity in the ledger; [`SimulatorConfig::stored`] finds there the stream
/// that an archive began, to go on with it.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorConfig {
    /// The topic's name.
    pub topic: String,
    /// What all of the stream's chance comes from.
    pub seed: u64,
    /// How many partitions the topic has (1 to 4096).
    pub partitions: i32,
    /// Alerts a second, over all partitions.
    pub rate: Rate,
    /// When the first alert came, in milliseconds since 1970 UTC. In the past: the stream begins with a backlog.
    pub start_ms: i64,
    /// The night of the first alert, as [`SurveyOptions::first_night_mjd`]. The sky has a clock of its own: the stream runs
    /// through its visits, night after night, at whatever rate.
    pub night_mjd: i32,
    /// After how many alerts, over all partitions, the stream ends; no part of the identity.
    pub limit: Option<u64>,
    /// What the alerts are like.
    pub alerts: AlertOptions,
}

/// What simulated alerts are like.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertOptions {
    /// Which survey, and what it looks at; its seed and first night are those of the [`SimulatorConfig`].
    pub survey: SurveyOptions,
    /// Pixels on a side of each cutout (1 to 1024).
    pub stamp_side: u16,
    /// How the messages are framed.
    pub framing: Framing,
}

impl AlertOptions {
    /// Alerts of about 2 kB of data (and a container's schema, 13 to 20 kB): 8 x 8 pixels, no history.
    #[must_use]
    pub fn small(telescope: Telescope) -> Self {
        let usual = SurveyOptions::small(telescope, 0);
        let survey = SurveyOptions { history_days: 0, history_visits: 0, alerts_per_visit: 100, ..usual };
        Self { survey, stamp_side: 8, framing: Framing::Container }
    }

    /// Alerts of real size. ZTF: about 70 kB, 63 x 63 pixels, 30 days of history; LSST: about 130 kB, 30 x 30 pixels, a
    /// year of history, in containers.
    #[must_use]
    pub fn full(telescope: Telescope) -> Self {
        let (survey, stamp_side) = match telescope {
            Telescope::Ztf => (SurveyOptions::ztf(0), 63),
            Telescope::Lsst => (SurveyOptions::lsst(0), 30),
        };
        Self { survey, stamp_side, framing: Framing::Container }
    }
}

fn telescope_word(telescope: Telescope) -> &'static str {
    match telescope {
        Telescope::Ztf => "ztf",
        Telescope::Lsst => "lsst",
    }
}

/// The telescope of `ztf` or `lsst`.
fn telescope(word: &str) -> Option<Telescope> {
    [Telescope::Ztf, Telescope::Lsst].into_iter().find(|telescope| telescope_word(*telescope) == word)
}

/// Alerts a second, exact to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    thousandths: u64,
}

impl Rate {
    /// `rate` alerts a second: from one in 1000 s to a billion a second.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn per_second(rate: f64) -> Result<Self, ConfigError> {
        let thousandths = (rate * 1000.0).round();
        if (1.0..=1e12).contains(&thousandths) {
            Ok(Self { thousandths: thousandths as u64 })
        } else {
            Err(ConfigError::Rate(rate.to_string()))
        }
    }

    /// Alerts a second.
    #[must_use]
    pub fn get(self) -> f64 {
        self.thousandths as f64 / 1000.0
    }

    /// How many milliseconds after the stream's start alert `index` (over all partitions) comes.
    #[must_use]
    pub fn due_ms(self, index: i64) -> i64 {
        (i128::from(index) * 1_000_000).div_euclid(i128::from(self.thousandths)) as i64
    }

    /// How many alerts have come when so many milliseconds have passed since the stream's start.
    #[must_use]
    pub fn reached(self, elapsed_ms: i64) -> u64 {
        if elapsed_ms < 0 {
            return 0;
        }
        // due_ms(n) <= elapsed  <=>  n * 1e6 < (elapsed + 1) * thousandths
        let reached = ((elapsed_ms as u128 + 1) * u128::from(self.thousandths)).div_ceil(1_000_000);
        u64::try_from(reached).unwrap_or(u64::MAX)
    }
}

impl Default for Rate {
    /// 50 alerts a second.
    fn default() -> Self {
        Self { thousandths: 50_000 }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.thousandths / 1000, self.thousandths % 1000);
        if rest == 0 { write!(f, "{whole}") } else { write!(f, "{}", format!("{whole}.{rest:03}").trim_end_matches('0')) }
    }
}

impl FromStr for Rate {
    type Err = ConfigError;
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::per_second(text.parse().map_err(|_| ConfigError::Rate(text.to_owned()))?)
    }
}

/// Why there is no such simulated stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not the identity of a simulated stream.
    #[error("not a simulated stream: {0}")]
    Identity(String),
    /// A stream that another version of fink made, whose alerts this one can't make again.
    #[error(
        "the stream {0} was made by generator {1} of another release of fink; this is generator {GENERATOR}: begin a stream of another \
         topic's name, or another archive"
    )]
    Generator(String, String),
    /// Not a rate.
    #[error("rate {0} is not between 0.001 and 1000000000 alerts a second")]
    Rate(String),
    /// Not a framing.
    #[error(transparent)]
    Framing(#[from] UnknownFraming),
    /// A number of the survey out of its range.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// A number out of its range.
    #[error("{0}")]
    Range(String),
}

impl SimulatorConfig {
    /// A stream with defaults: topic `simulator`, 4 partitions, 50 small alerts a second, from `start_ms` on, and the night
    /// that ended last before it.
    #[must_use]
    pub fn new(seed: u64, start_ms: i64) -> Self {
        let rate = Rate::default();
        // MJD 40587 began 1970; the sky is known from 2002 on.
        let night_mjd = (start_ms.div_euclid(86_400_000) + 40_586).clamp(52_275, 88_000) as i32;
        let topic = "simulator".to_owned();
        Self { topic, seed, partitions: 4, rate, start_ms, night_mjd, limit: None, alerts: AlertOptions::small(Telescope::Ztf) }
    }

    /// What the survey looks at, and how.
    #[must_use]
    pub fn survey(&self) -> SurveyOptions {
        SurveyOptions { seed: self.seed, first_night_mjd: self.night_mjd, ..self.alerts.survey.clone() }
    }

    /// The stream's identity: the same text for the same bytes at the same offsets.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { seed, start_ms, rate, partitions, night_mjd, alerts, .. } = self;
        let AlertOptions { survey, stamp_side, framing } = alerts;
        let SurveyOptions { objects, faint_objects, asteroids, alerts_per_visit, history_days, history_visits, .. } = survey;
        let telescope = telescope_word(survey.telescope);
        let sky =
            format!("{telescope}:{objects}+{faint_objects}+{asteroids}:{alerts_per_visit}:{night_mjd}:{history_days}x{history_visits}");
        format!("simulator:{seed}:{start_ms}:{rate}:{partitions}:{sky}:{stamp_side}:{framing}:{GENERATOR}")
    }

    /// Whether `source` is the identity of a simulated stream, of any version.
    #[must_use]
    pub fn is_simulated(source: &str) -> bool {
        source.starts_with("simulator:")
    }

    /// The stream of an identity, with the default topic and no limit.
    ///
    /// # Errors
    /// When it is not the identity of a stream that this version can make.
    pub fn parse(identity: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Identity(identity.to_owned());
        fn number<T: FromStr>(text: &str) -> Option<T> {
            text.parse().ok()
        }
        let parts: Vec<&str> = identity.split(':').collect();
        let ["simulator", middle @ .., generator] = &parts[..] else { return Err(wrong()) };
        if *generator != GENERATOR.to_string() {
            return Err(ConfigError::Generator(identity.to_owned(), (*generator).to_owned()));
        }
        let [seed, start_ms, rate, partitions, survey, sky, alerts_per_visit, night_mjd, history, stamp_side, framing] = middle else {
            return Err(wrong());
        };
        let (sky, (days, visits)): (Vec<&str>, _) = (sky.split('+').collect(), history.split_once('x').ok_or_else(wrong)?);
        let [objects, faint_objects, asteroids] = sky[..] else { return Err(wrong()) };
        let config = Self {
            seed: number(seed).ok_or_else(wrong)?,
            start_ms: number(start_ms).ok_or_else(wrong)?,
            rate: rate.parse()?,
            partitions: number(partitions).ok_or_else(wrong)?,
            night_mjd: number(night_mjd).ok_or_else(wrong)?,
            alerts: AlertOptions {
                survey: SurveyOptions {
                    telescope: telescope(survey).ok_or_else(wrong)?,
                    objects: number(objects).ok_or_else(wrong)?,
                    faint_objects: number(faint_objects).ok_or_else(wrong)?,
                    asteroids: number(asteroids).ok_or_else(wrong)?,
                    alerts_per_visit: number(alerts_per_visit).ok_or_else(wrong)?,
                    history_days: number(days).ok_or_else(wrong)?,
                    history_visits: number(visits).ok_or_else(wrong)?,
                    ..AlertOptions::small(Telescope::Ztf).survey
                },
                stamp_side: number(stamp_side).ok_or_else(wrong)?,
                framing: framing.parse()?,
            },
            ..Self::new(0, 0)
        };
        config.check()?;
        Ok(config)
    }

    /// The stream that an archive began under this topic, so that a restart goes on with it: of several the one that
    /// started last, without a limit. `topics` are the sources and topics that the ledger knows (`Keeper::topics`).
    ///
    /// # Errors
    /// When there is one, of a version that this one can't go on with.
    pub fn stored<A: AsRef<str>, B: AsRef<str>>(topics: &[(A, B)], topic: &str) -> Result<Option<Self>, ConfigError> {
        let streams = topics.iter().filter(|(source, name)| name.as_ref() == topic && Self::is_simulated(source.as_ref()));
        let streams: Vec<Self> = streams.map(|(source, _)| Self::parse(source.as_ref())).collect::<Result<_, _>>()?;
        Ok(streams.into_iter().max_by_key(|stream| stream.start_ms).map(|stream| Self { topic: topic.to_owned(), ..stream }))
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// With the first that is not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let within = |name: &str, value: i64, low: i64, high: i64| {
            let fits = (low..=high).contains(&value);
            if fits { Ok(()) } else { Err(ConfigError::Range(format!("{name} {value} is not between {low} and {high}"))) }
        };
        // From 1970 to 2100.
        within("start_ms", self.start_ms, 0, 4_102_444_800_000)?;
        within("partitions", i64::from(self.partitions), 1, 4096)?;
        within("stamp_side", i64::from(self.alerts.stamp_side), 1, 1024)?;
        Ok(self.survey().check()?)
    }

    /// When alert `offset` of `partition` comes, in milliseconds since 1970 UTC. Offsets below 0 were before the stream.
    #[must_use]
    pub fn due_ms(&self, partition: i32, offset: i64) -> i64 {
        self.start_ms + self.rate.due_ms(offset * i64::from(self.partitions) + i64::from(partition))
    }

    /// The offset after the last that `partition` has reached at `now_ms`.
    #[must_use]
    pub fn reached(&self, partition: i32, now_ms: i64) -> i64 {
        let all = self.rate.reached(now_ms.saturating_sub(self.start_ms)).min(self.limit.unwrap_or(u64::MAX));
        i64::try_from(all.saturating_sub(partition as u64).div_ceil(self.partitions as u64)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_identity_says_all_that_the_bytes_depend_on() {
        let config = SimulatorConfig {
            topic: "elsewhere".to_owned(),
            partitions: 7,
            rate: Rate::per_second(0.25).unwrap(),
            limit: Some(4),
            alerts: AlertOptions { framing: Framing::Datum, ..AlertOptions::full(Telescope::Lsst) },
            ..SimulatorConfig::new(42, 1_795_460_400_123)
        };
        let identity = "simulator:42:1795460400123:0.25:7:lsst:1000000+200000000+400000:10000:61366:365x200:30:datum:3";
        assert_eq!(config.describe(), identity);
        let again = SimulatorConfig::parse(&config.describe()).unwrap();
        assert_eq!((again.describe(), again.limit), (identity.to_owned(), None));
        assert_eq!(again.survey(), config.survey());
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for text in ["kafka:x", "simulator:", "simulator:1:2:3:2"] {
            assert!(SimulatorConfig::parse(text).is_err(), "{text}");
        }
        let good = SimulatorConfig::new(1, 2).describe();
        assert!(SimulatorConfig::parse(&good).is_ok());
        for (from, to) in [(":50:", ":0:"), (":4:ztf", ":0:ztf"), ("ztf", "sdss"), (":ocf", ":pdf"), ("0x0", "0"), (":100:", ":1:")] {
            assert!(SimulatorConfig::parse(&good.replace(from, to)).is_err(), "{from}");
        }
        // What the release before last began.
        let other = SimulatorConfig::parse("simulator:1:2:5:4:8x0:10:1:ocf:1");
        assert!(matches!(other, Err(ConfigError::Generator(..))), "{other:?}");
    }

    #[test]
    fn the_stream_that_an_archive_began_is_found_again() {
        let stream = |start_ms| SimulatorConfig { topic: "a".to_owned(), ..SimulatorConfig::new(3, start_ms) };
        let (older, newer) = (stream(1000).describe(), stream(2000).describe());
        let topics = [(newer.as_str(), "a"), (older.as_str(), "a"), (older.as_str(), "b"), ("kafka:x", "c")];
        assert_eq!(SimulatorConfig::stored(&topics, "a").unwrap(), Some(stream(2000)));
        assert_eq!(SimulatorConfig::stored(&topics, "b").unwrap().unwrap().start_ms, 1000);
        assert_eq!(SimulatorConfig::stored(&topics, "c").unwrap(), None);
        assert!(SimulatorConfig::stored(&[("simulator:of:another:age", "a")], "a").is_err());
    }

    proptest! {
        #[test]
        fn reached_counts_what_is_due(thousandths in 1u64..5_000_000, index in 0i64..1_000_000, partitions in 1i32..9) {
            let rate = Rate { thousandths };
            let due = rate.due_ms(index);
            prop_assert!(rate.reached(due) > index as u64);
            prop_assert!(rate.reached(due - 1) <= index as u64);
            prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);

            let config = SimulatorConfig { rate, partitions, ..SimulatorConfig::new(1, 1_000_000) };
            for partition in 0..partitions {
                let due = config.due_ms(partition, index);
                prop_assert!(config.reached(partition, due) > index);
                prop_assert!(config.reached(partition, due - 1) <= index);
            }
        }

        #[test]
        fn a_limit_counts_alerts_over_all_partitions(limit in 0u64..100, partitions in 1i32..9) {
            let config = SimulatorConfig { limit: Some(limit), partitions, ..SimulatorConfig::new(1, 0) };
            let all: i64 = (0..partitions).map(|partition| config.reached(partition, i64::MAX)).sum();
            prop_assert_eq!(all as u64, limit);
        }
    }
}
