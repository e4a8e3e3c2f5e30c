//! The keys of the configuration, each documented once: its comment here is its comment in the file that `fink init`
//! writes and in `docs/configuration.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use crate::settings::{AlertSize, AlertSurvey};

/// A section of the file.
pub struct Section {
    /// Its name, as in `[archive]`.
    pub name: &'static str,
    /// What it is about, line by line.
    pub about: &'static [&'static str],
    /// Its keys, in order.
    pub keys: &'static [Key],
}

/// A key of a section.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it is about, line by line.
    pub about: &'static [&'static str],
    /// What it takes, for a person (`a number`).
    pub takes: &'static str,
    /// Whether it takes a value.
    pub accepts: fn(&DeValue<'_>) -> bool,
    /// What the file shows of it.
    pub shown: Shown,
}

/// What the file shows of a key, as TOML.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// Its default.
    Default(&'static str),
    /// An example: the key has no default.
    Example(&'static str),
}

/// What a type takes.
trait Value {
    const TAKES: &'static str;
    fn accepts(value: &DeValue<'_>) -> bool;
}

impl Value for String {
    const TAKES: &'static str = "a text in quotes";
    fn accepts(value: &DeValue<'_>) -> bool {
        matches!(value, DeValue::String(_))
    }
}

impl Value for bool {
    const TAKES: &'static str = "true or false";
    fn accepts(value: &DeValue<'_>) -> bool {
        matches!(value, DeValue::Boolean(_))
    }
}

impl Value for u64 {
    const TAKES: &'static str = "a whole number, 0 or more";
    fn accepts(value: &DeValue<'_>) -> bool {
        matches!(value, DeValue::Integer(n) if u64::from_str_radix(n.as_str(), n.radix()).is_ok_and(|n| i64::try_from(n).is_ok()))
    }
}

impl Value for f64 {
    const TAKES: &'static str = "a number, 0 or more";
    fn accepts(value: &DeValue<'_>) -> bool {
        match value {
            DeValue::Float(n) => n.as_str().parse::<f64>().is_ok_and(|n| n.is_finite() && n >= 0.0),
            other => u64::accepts(other),
        }
    }
}

impl Value for Vec<String> {
    const TAKES: &'static str = "a list of texts, such as [\"a\", \"b\"]";
    fn accepts(value: &DeValue<'_>) -> bool {
        matches!(value, DeValue::Array(list) if list.iter().all(|each| String::accepts(each.get_ref())))
    }
}

impl Value for BTreeMap<String, String> {
    const TAKES: &'static str = "a table of texts, such as { name = \"value\" }";
    fn accepts(value: &DeValue<'_>) -> bool {
        matches!(value, DeValue::Table(table) if table.iter().all(|(_, each)| String::accepts(each.get_ref())))
    }
}

impl Value for AlertSize {
    const TAKES: &'static str = "\"small\" or \"full\"";
    fn accepts(value: &DeValue<'_>) -> bool {
        matches!(value, DeValue::String(text) if ["small", "full"].contains(&text.as_ref()))
    }
}

impl Value for AlertSurvey {
    const TAKES: &'static str = "\"ztf\" or \"lsst\"";
    fn accepts(value: &DeValue<'_>) -> bool {
        matches!(value, DeValue::String(text) if ["ztf", "lsst"].contains(&text.as_ref()))
    }
}

impl<T: Value> Value for Option<T> {
    const TAKES: &'static str = T::TAKES;
    fn accepts(value: &DeValue<'_>) -> bool {
        T::accepts(value)
    }
}

/// Writes a section's struct and its table of keys from one text.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $name:ident = $section:literal {
            $( $(#[doc = $doc:literal])* $key:ident: $type:ty = $shown:ident($text:literal), )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $key: $type, )*
        }

        impl $name {
            /// The section and its keys, for people.
            pub const SECTION: Section = Section {
                name: $section,
                about: &[$($about),*],
                keys: &[$( Key {
                    name: stringify!($key),
                    about: &[$($doc),*],
                    takes: <$type as Value>::TAKES,
                    accepts: <$type as Value>::accepts,
                    shown: Shown::$shown($text),
                } ),*],
            };
        }
    };
}

section! {
    /// Where the archive is, and how it is written.
    ArchiveSection = "archive" {
        /// A folder, or a URL: file:///data/archive, hdfs://namenode:8020/fink/archive, s3://bucket/archive.
        path: String = Default("\"./archive\""),
        /// A commit makes visible what came in since the one before. Smaller is sooner, larger is cheaper.
        commit_interval_s: f64 = Default("1.0"),
        /// A commit is made before its time when it has grown to this size, in MiB.
        group_mib: u64 = Default("128"),
        /// The bound on the memory of open files, over all workers, in MiB: the largest is closed first.
        writers_mib: u64 = Default("160"),
        /// Small files of a night are merged in the background into files of about this size, in MiB; 0: they are not.
        compact_mib: u64 = Default("256"),
        /// Files that were merged into others stay this long for readers of older versions, in hours; at most 11.
        vacuum_after_h: f64 = Default("6.0"),
        /// Settings of the store, by the names of its client: for S3 aws_region, aws_endpoint, aws_allow_http, ...
        /// Never secrets: S3's keys are read from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
        store: Option<BTreeMap<String, String>> = Example("{ aws_region = \"eu-west-1\" }"),
    }
}

section! {
    /// The Kafka cluster that is listened to.
    KafkaSection = "kafka" {
        /// Its bootstrap servers, host:port, separated by commas.
        brokers: Option<String> = Example("\"broker.example.org:9092\""),
        /// Topics by name, or patterns that begin with ^. New topics of a pattern, and new partitions, are picked up.
        topics: Vec<String> = Default("[]"),
        /// Where reading starts of a partition of which nothing is stored: "latest", "earliest", a time
        /// ("2026-11-22T18:00:00Z", "2026-11-22"), or offsets by partition ("0:1200,1:1180").
        from: String = Default("\"latest\""),
        /// "plaintext", "ssl", "sasl_plaintext" or "sasl_ssl".
        security: String = Default("\"plaintext\""),
        /// With sasl_...: "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512".
        mechanism: String = Default("\"SCRAM-SHA-512\""),
        /// With sasl_...: who we are.
        username: Option<String> = Example("\"fink\""),
        /// The environment variable that holds the password.
        password_env: Option<String> = Example("\"FINK_KAFKA_PASSWORD\""),
        /// Or the file that holds it.
        password_file: Option<String> = Example("\"/etc/fink/kafka-password\""),
        /// The certificates that are trusted (PEM); the system's where none is given.
        ca: Option<String> = Example("\"/etc/fink/ca.pem\""),
        /// Our own certificate (PEM), where the cluster asks for one.
        certificate: Option<String> = Example("\"/etc/fink/fink.pem\""),
        /// Its key (PEM).
        key: Option<String> = Example("\"/etc/fink/fink.key\""),
        /// The file that holds the key's password.
        key_password_file: Option<String> = Example("\"/etc/fink/key-password\""),
        /// The group under which durable offsets are shown to monitors. Nothing is read by it: where the cluster refuses it,
        /// they just are not shown.
        group: String = Default("\"fink\""),
        /// Anything else that librdkafka takes. A secret is given as "env:NAME" or "file:PATH".
        properties: Option<BTreeMap<String, String>> = Example("{ \"client.id\" = \"fink\" }"),
    }
}

section! {
    /// Schemas of messages that do not carry their own.
    SchemasSection = "schemas" {
        /// The schema registry, for messages in Confluent's framing (LSST).
        registry: Option<String> = Example("\"https://registry.example.org\""),
        /// Who we are, where the registry asks.
        username: Option<String> = Example("\"fink\""),
        /// The environment variable that holds the password for it.
        password_env: Option<String> = Example("\"FINK_REGISTRY_PASSWORD\""),
        /// Or the file that holds it.
        password_file: Option<String> = Example("\"/etc/fink/registry-password\""),
        /// Or a folder of schemas by id: ID.avsc, ID/*.avsc, or as LSST has them, MAJOR/MINOR/*.avsc (1100 is 11/0).
        folder: Option<String> = Example("\"/etc/fink/schemas\""),
        /// For bare datums: the schema by topic ("*": of any topic), an .avsc file or an Avro file with that schema.
        datum: Option<BTreeMap<String, String>> = Example("{ \"ztf-stream-sim\" = \"template.avro\" }"),
        /// An id that the registry denies for so long, in seconds, has its messages rejected. (A registry that does not
        /// answer never has: its partitions wait.)
        unknown_after_s: f64 = Default("60.0"),
    }
}

section! {
    /// The simulator: a stream that lives in the process (--simulator), or is sent to a Kafka (fink start simulator).
    SimulatorSection = "simulator" {
        /// The topic's name.
        topic: String = Default("\"simulator\""),
        /// What its alerts are made from: the same seed, the same alerts.
        seed: u64 = Default("1"),
        /// Alerts a second.
        rate: f64 = Default("10.0"),
        /// Partitions of its topic.
        partitions: u64 = Default("4"),
        /// Whose alerts: "ztf" (schema 4.02) or "lsst" (schema 11.0).
        survey: AlertSurvey = Default("\"ztf\""),
        /// "small" (about 2 kB of data: tiny cutouts, no history) or "full" (as the survey's: 70 kB of ZTF, 130 kB of LSST).
        size: AlertSize = Default("\"small\""),
        /// How many alerts lie there at its first start.
        backlog: u64 = Default("0"),
    }
}

section! {
    /// A folder of Avro files, read as one topic (--files).
    FilesSection = "files" {
        /// The folder; files that are put there later are picked up.
        folder: Option<String> = Example("\"/data/alerts\""),
        /// The topic's name in the archive; the folder's name where none is given.
        topic: Option<String> = Example("\"ztf_20181129\""),
    }
}

/// A catalogue of the services.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueSection {
    /// Its file; the name's ending tells the format: .parquet, .csv, .fits, .vot.
    pub path: String,
    /// The column of right ascension.
    pub ra: String,
    /// The column of declination.
    pub dec: String,
    /// Whether they are sexagesimal, right ascension in hours; else both are in degrees.
    #[serde(default)]
    pub sexagesimal: bool,
    /// How near an object must be, in arcseconds.
    pub radius_arcsec: f64,
    /// The columns that a match tells; the first is the type.
    #[serde(default)]
    pub carry: Vec<String>,
    /// The columns of proper motion (in right ascension, times the cosine of the declination; milliarcseconds a year).
    pub pm_ra: Option<String>,
    /// The same in declination.
    pub pm_dec: Option<String>,
    /// The Julian year of the positions.
    pub epoch: Option<f64>,
}

impl Value for BTreeMap<String, CatalogueSection> {
    const TAKES: &'static str = "tables by name, such as [services.catalogues.gcvs]";
    fn accepts(value: &DeValue<'_>) -> bool {
        matches!(value, DeValue::Table(table) if table.iter().all(|(_, each)| matches!(each.get_ref(), DeValue::Table(_))))
    }
}

section! {
    /// What the services need that run beside the archive (fink start archive services).
    ServicesSection = "services" {
        /// Two surveys' objects are associated if they are no farther from each other than so many arcseconds.
        associate_arcsec: f64 = Default("1.5"),
        /// Whether what they know is written to tables beside the alerts, services/NAME in the archive.
        tables: bool = Default("true"),
        /// How often, in seconds: what changed since the last time is one commit.
        tables_every_s: f64 = Default("30.0"),
        /// So many archived alerts wait before their light rows are rolled into the table of them (or an hour has passed); a start
        /// reads its history from there, and from the alerts what is not there yet.
        light_rows: u64 = Default("100000"),
        /// The bound on memory: light curves of objects that were last seen before the latest so many nights (of those that have
        /// alerts) leave it. Answers stay the same: an object that is asked for, or seen again, is read from the archive. All
        /// light curves stay where nothing is given.
        memory_nights: Option<u64> = Example("90"),
        /// Catalogues whose first carried column is a class, those that count most first.
        classes: Vec<String> = Default("[]"),
        /// Catalogues that objects are looked up in, by name; read at the start. (Those that should change
        /// while it runs are declared in the archive: fink catalog add.) For each: path (.parquet, .csv, .fits, .vot),
        /// ra and dec (the columns; in degrees, or with sexagesimal = true in hours and degrees), radius_arcsec, carry (the
        /// columns that a match tells); if stars move pm_ra, pm_dec (columns, mas a year) and epoch (a year).
        catalogues: Option<BTreeMap<String, CatalogueSection>> = Example("{ gcvs = { path = \"gcvs.parquet\", ra = \"ra\", dec = \"dec\", radius_arcsec = 1.5, carry = [\"VarType\"] } }"),
    }
}

section! {
    /// The process.
    RunSection = "run" {
        /// Threads that decode; as many as the machine has cores, at most 4, where none is given.
        workers: Option<u64> = Example("2"),
        /// How many lanes read: with 2 a backlog is read beside what comes now, and yields to it; with 1 all in order.
        lanes: u64 = Default("2"),
        /// Where the web server listens (progress, and what services add): a port of this machine alone, or HOST:PORT.
        /// It asks nobody who they are. None where nothing is given.
        http: Option<String> = Example("\"8089\""),
        /// The bound on messages in flight between source and archive, in MiB.
        in_flight_mib: u64 = Default("48"),
    }
}

section! {
    /// Several processes (--processes, or --hosts and --process).
    ClusterSection = "cluster" {
        /// A process whose graph stands still for so long, in seconds, ends: another is silent, and all must be started again.
        silence_s: f64 = Default("15.0"),
    }
}

/// The whole configuration, resolved: defaults, then the file, then the flags.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[archive]`.
    pub archive: ArchiveSection,
    /// `[kafka]`.
    pub kafka: KafkaSection,
    /// `[schemas]`.
    pub schemas: SchemasSection,
    /// `[simulator]`.
    pub simulator: SimulatorSection,
    /// `[files]`.
    pub files: FilesSection,
    /// `[services]`.
    pub services: ServicesSection,
    /// `[run]`.
    pub run: RunSection,
    /// `[cluster]`.
    pub cluster: ClusterSection,
}

/// The sections, in the file's order.
pub const SECTIONS: [&Section; 8] = [
    &ArchiveSection::SECTION,
    &KafkaSection::SECTION,
    &SchemasSection::SECTION,
    &SimulatorSection::SECTION,
    &FilesSection::SECTION,
    &ServicesSection::SECTION,
    &RunSection::SECTION,
    &ClusterSection::SECTION,
];

/// The commented file of `fink init`.
#[must_use]
pub fn commented_file() -> String {
    let mut text = String::from(
        "# fink's configuration. Every key is shown with its default, or with an example where it has none (marked so).\n\
         # Remove the # before a key to set it. Flags win over this file. Check it with: fink start archive --check-config\n",
    );
    for section in SECTIONS {
        text += "\n";
        section.about.iter().for_each(|line| text += &format!("#{line}\n"));
        text += &format!("[{}]\n", section.name);
        for key in section.keys {
            text += "\n";
            key.about.iter().for_each(|line| text += &format!("#{line}\n"));
            match key.shown {
                Shown::Default(value) => text += &format!("#{} = {value}\n", key.name),
                Shown::Example(value) => text += &format!("# Example:\n#{} = {value}\n", key.name),
            }
        }
    }
    text
}

/// The defaults, as the table that file and flags are laid over.
pub(super) fn defaults() -> toml::Table {
    let mut text = String::new();
    for section in SECTIONS {
        text += &format!("[{}]\n", section.name);
        for key in section.keys {
            if let Shown::Default(value) = key.shown {
                text += &format!("{} = {value}\n", key.name);
            }
        }
    }
    text.parse().expect("the keys' defaults are TOML, by test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_whole_configuration() {
        let config: Config = toml::Value::Table(defaults()).try_into().unwrap();
        assert_eq!(config.archive.path, "./archive");
        assert_eq!(config.simulator.size, AlertSize::Small);
        assert_eq!(config.kafka.brokers, None);
    }

    #[test]
    fn the_commented_file_sets_nothing_and_all_of_it_can_be_set() {
        let file = commented_file();
        let table: toml::Table = file.parse().unwrap();
        assert!(table.values().all(|section| section.as_table().unwrap().is_empty()));
        let uncommented: String = file
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let all: Config = toml::from_str(&uncommented).unwrap();
        assert_eq!(all.run.workers, Some(2));
        let source = super::super::read::Source { name: "all".to_owned(), text: uncommented };
        super::super::read::check(&source).unwrap();
    }
}
