//! What a run is told to do: all settings resolved, plain data without a default or a choice left open.
//!
//! [`crate::config`] makes these of the configuration file and the flags; [`crate::run`] carries them out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fink_dataflow::mesh::Place;
use fink_sources::kafka::{Sasl, Secret, Tls};
use fink_sources::simulator::AlertOptions;
use fink_sources::simulator::seen::Telescope;
use fink_sources::simulator::send::{Feed, SendOptions};

use crate::services::start::ServicesRun;

/// `fink start archive`.
#[derive(Clone, Debug)]
pub struct ArchiveRun {
    /// The archive: a path, or a URL (`file://`, `hdfs://`, `s3://`).
    pub archive: String,
    /// Settings of the archive's object store, by name; never a secret.
    pub store: BTreeMap<String, String>,
    /// Where alerts come from.
    pub input: Input,
    /// Where schemas come from that messages do not carry.
    pub schemas: Schemas,
    /// How the archive is written.
    pub commit: Commit,
    /// Timely workers, each a thread.
    pub workers: usize,
    /// How many lanes read.
    pub lanes: Lanes,
    /// The services that run beside it.
    pub services: ServicesRun,
    /// Where the web server listens, if anywhere.
    pub http: Option<SocketAddr>,
    /// The bound on bytes of messages between the sources and the durable end.
    pub in_flight_bytes: usize,
    /// When the run ends by itself.
    pub end: End,
    /// Goes on with a topic that is no longer the one that was stored, as its next incarnation.
    pub incarnation: Incarnation,
    /// What to do when another process holds the archive.
    pub fence: Fence,
    /// The cluster that the process is of, if it is not alone.
    pub cluster: Option<Cluster>,
}

/// A process's place among others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// Which process it is, and where all listen.
    pub place: Place,
    /// After so long without progress the process ends: another is silent.
    pub silence: Duration,
}

/// `fink start services`: services that follow an archive which another process writes.
#[derive(Clone, Debug)]
pub struct FollowRun {
    /// The archive: a path, or a URL (`file://`, `hdfs://`, `s3://`).
    pub archive: String,
    /// Settings of the archive's object store, by name; never a secret.
    pub store: BTreeMap<String, String>,
    /// The services.
    pub services: ServicesRun,
    /// Timely workers, each a thread.
    pub workers: usize,
    /// Where the web server listens; `None`: at a port of this machine that is free.
    pub http: Option<SocketAddr>,
    /// The bound on bytes of alerts that wait for the services.
    pub in_flight_bytes: usize,
    /// Ends after this time.
    pub after: Option<Duration>,
}

/// Where alerts come from.
#[derive(Clone, Debug)]
pub enum Input {
    /// Topics of a Kafka cluster.
    Kafka(KafkaInput),
    /// The stream that lives in the process.
    Simulator(SimulatorInput),
    /// A folder of Avro files, read as one topic.
    Files(FilesInput),
}

/// Which topics of which cluster.
#[derive(Clone, Debug)]
pub struct KafkaInput {
    /// How to reach the cluster.
    pub client: KafkaClient,
    /// Names of topics, or patterns (`^ztf_.*`).
    pub topics: Vec<String>,
    /// Where reading starts of what was never read.
    pub from: Start,
}

/// How to reach a Kafka cluster.
#[derive(Clone)]
pub struct KafkaClient {
    /// Bootstrap servers, `host:port,...`.
    pub brokers: String,
    /// The group under which durable offsets are shown to monitors.
    pub group: String,
    /// Who we are, where the cluster asks.
    pub sasl: Option<Sasl>,
    /// Whom we trust, where the cluster encrypts.
    pub tls: Option<Tls>,
    /// Further properties for librdkafka, which may be secrets: not to be printed.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KafkaClient");
        shown.field("brokers", &self.brokers).field("group", &self.group).field("sasl", &self.sasl).field("tls", &self.tls);
        // The values may be secrets: names only.
        shown.field("properties", &self.properties.keys()).finish()
    }
}

/// Where reading starts of a partition of which nothing is stored.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Start {
    /// At the first offset that the log holds.
    Earliest,
    /// At the log's end.
    #[default]
    Latest,
    /// At the first message of this time or later, in milliseconds since 1970 UTC.
    Time(i64),
    /// At these offsets by partition; partitions that are not named start at their first offset.
    Offsets(BTreeMap<i32, i64>),
}

/// Reads `earliest`, `latest`, a time (RFC 3339, or a date), or offsets by partition (`0:12,1:7`).
///
/// # Errors
/// What is wrong with it, for a person.
pub fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(Start::Time(time.timestamp_millis()));
    }
    if let Ok(date) = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(Start::Time(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()));
    }
    let mut offsets = BTreeMap::new();
    for pair in text.split(',') {
        let parsed = pair.split_once(':').map(|(partition, offset)| (partition.trim().parse::<i32>(), offset.trim().parse::<i64>()));
        match parsed {
            Some((Ok(partition @ 0..), Ok(offset @ 0..))) => {
                if offsets.insert(partition, offset).is_some() {
                    return Err(format!("partition {partition} is named twice in `{text}`"));
                }
            }
            _ => {
                return Err(format!(
                    "`{text}` is not earliest, latest, a time (2026-11-22T18:00:00Z), or offsets by partition (0:1200,1:1180)"
                ));
            }
        }
    }
    Ok(Start::Offsets(offsets))
}

/// The simulator's stream.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorInput {
    /// The topic's name.
    pub topic: String,
    /// What its alerts are a function of.
    pub seed: u64,
    /// Alerts a second, over all partitions.
    pub rate: f64,
    /// Partitions.
    pub partitions: i32,
    /// Which survey's alerts.
    pub survey: AlertSurvey,
    /// How big its alerts are.
    pub size: AlertSize,
    /// How many alerts it holds from the start, as a backlog.
    pub backlog: u64,
}

/// Which survey's alerts the simulator makes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertSurvey {
    /// ZTF's, as of schema 4.02.
    #[default]
    Ztf,
    /// LSST's, as of schema 11.0.
    Lsst,
}

/// How big the simulator's alerts are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertSize {
    /// About 2 kB of data: tiny cutouts, no history.
    #[default]
    Small,
    /// As big as the survey's: about 70 kB of ZTF, 130 kB of LSST.
    Full,
}

impl SimulatorInput {
    /// What the alerts are like.
    #[must_use]
    pub fn alerts(&self) -> AlertOptions {
        alerts(self.survey, self.size)
    }
}

/// What alerts of this survey and size are like.
#[must_use]
pub fn alerts(survey: AlertSurvey, size: AlertSize) -> AlertOptions {
    let telescope = match survey {
        AlertSurvey::Ztf => Telescope::Ztf,
        AlertSurvey::Lsst => Telescope::Lsst,
    };
    match size {
        AlertSize::Small => AlertOptions::small(telescope),
        AlertSize::Full => AlertOptions::full(telescope),
    }
}

/// A folder of Avro files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilesInput {
    /// The folder.
    pub folder: PathBuf,
    /// The topic's name in the archive; the folder's name where none is given.
    pub topic: String,
}

/// Where schemas come from that messages do not carry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Schemas {
    /// The schema registry's URL.
    pub registry: Option<String>,
    /// Who we are to the registry, where it asks.
    pub login: Option<(String, Secret)>,
    /// A folder of schemas by id.
    pub folder: Option<PathBuf>,
    /// The schema (a `.avsc` file, or an Avro container whose schema is taken) of bare datums, by topic; `*`: of any topic.
    pub datum: BTreeMap<String, PathBuf>,
    /// How long a registry may deny a schema id before its messages are rejected.
    pub unknown_after: Duration,
}

/// How the archive is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Commit {
    /// A group of files is committed when it is this old.
    pub interval: Duration,
    /// A group is committed when it has this many bytes.
    pub group_bytes: usize,
    /// The bound on bytes in open files, over all workers.
    pub writers_bytes: usize,
    /// The size of files that compaction aims at; `None`: no compaction.
    pub compact_bytes: Option<u64>,
    /// How long a file that was replaced stays for readers of old versions.
    pub vacuum_after: Duration,
}

/// How many lanes read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Lanes {
    /// One: all that is missing, in order.
    One,
    /// Two: what comes now, and beside it a backlog.
    #[default]
    Two,
}

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct End {
    /// After this time.
    pub after: Option<Duration>,
    /// When all that the topics held at the start is durable in the tables.
    pub caught_up: bool,
}

/// What to do with a topic that is no longer the one that was stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Incarnation {
    /// Stop with an error.
    #[default]
    Same,
    /// Go on with it as a new one.
    New,
}

/// What to do when another process holds the archive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Fence {
    /// Refuse to start.
    #[default]
    Respect,
    /// Take the archive over; the other process commits nothing more.
    TakeOver,
}

/// `fink start simulator`: sends alerts to a Kafka topic.
#[derive(Clone, Debug)]
pub struct SimulatorRun {
    /// What is sent.
    pub feed: Feed,
    /// What is sent, in a few words.
    pub about: String,
    /// Where, and how.
    pub options: SendOptions,
    /// Ends after this time.
    pub end: End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_to_start() {
        assert_eq!(parse_start("earliest"), Ok(Start::Earliest));
        assert_eq!(parse_start("1970-01-02"), Ok(Start::Time(86_400_000)));
        assert_eq!(parse_start("1970-01-01T01:00:00+01:00"), Ok(Start::Time(0)));
        assert_eq!(parse_start("0:12, 3:7"), Ok(Start::Offsets(BTreeMap::from([(0, 12), (3, 7)]))));
        for wrong in ["", "soon", "0", "0:-1", "-1:0", "0:1,0:2", "1:2,", "2026-13-01"] {
            assert!(parse_start(wrong).is_err(), "{wrong}");
        }
    }
}
