//! Opens what a run listens to: the source, and the schemas that its messages do not carry.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use fink_dataflow::message::{Chunk, Log};
use fink_dataflow::ports::{Keeper, Source, SourceError};
use fink_operators::decode::Entry;
use fink_operators::decode::SchemaBook;
use fink_operators::decode::envelope::{Envelope, open};
use fink_sources::files::FilesSource;
use fink_sources::kafka::{KafkaConfig, KafkaSource, Topics};
use fink_sources::lanes::{Changed, Origin, Rules};
use fink_sources::reader::Opener;
use fink_sources::registry::{Folder, Registry};
use fink_sources::schemas::{Book, Found, Lookup, NoSchemas, Resolver, Schemas};
use fink_sources::share::{Share, Shared};
use fink_sources::simulator::{ConfigError, Rate, Simulator, SimulatorConfig, system_clock};

use crate::settings::Schemas as SchemaSettings;
use crate::settings::{ArchiveRun, Incarnation, Input, KafkaClient, SimulatorInput, Start};

/// A source, and how it is to be read.
pub struct Opened {
    /// The source.
    pub source: Box<dyn Source>,
    /// Opens another client of it, for a second lane; `None`: it can only be read in one.
    pub another: Option<Opener>,
    /// Origin, and what to do about a changed topic.
    pub rules: Rules,
}

/// The source of a run that began at `now_ms`. `keeper` tells a simulated stream that the archive began; of the logs only a
/// share is shown, where other processes read the rest.
///
/// # Errors
/// What is wrong with the settings, or with what they name.
pub fn source(run: &ArchiveRun, keeper: &dyn Keeper, now_ms: i64, share: Option<Share>) -> anyhow::Result<Opened> {
    let Opened { source, another, rules } = whole(run, keeper, now_ms)?;
    let Some(share) = share else { return Ok(Opened { source, another, rules }) };
    let another = another.map(|mut another| -> Opener { Box::new(move || Ok(Box::new(Shared::new(another()?, share)))) });
    Ok(Opened { source: Box::new(Shared::new(source, share)), another, rules })
}

/// All of a run's source.
fn whole(run: &ArchiveRun, keeper: &dyn Keeper, now_ms: i64) -> anyhow::Result<Opened> {
    let changed = match run.incarnation {
        Incarnation::Same => Changed::Refuse,
        Incarnation::New => Changed::NewIncarnation,
    };
    let rules = Rules { changed, ..Rules::default() };
    Ok(match &run.input {
        Input::Kafka(kafka) => {
            let topics = topics(&kafka.topics)?;
            let pattern = topics.is_pattern();
            let config = kafka_config(&kafka.client, topics);
            let source = Box::new(KafkaSource::new(&config)?);
            let another: Opener = Box::new(move || match KafkaSource::new(&config) {
                Ok(source) => Ok(Box::new(source)),
                Err(error) => Err(SourceError::Stop(error.to_string())),
            });
            Opened { source, another: Some(another), rules: Rules { origin: origin(&kafka.from), pattern, ..rules } }
        }
        Input::Simulator(simulator) => {
            let config = simulated(simulator, keeper, now_ms)?;
            let reached_ms = reached_ms(&config, keeper, system_clock())?;
            let open = move || Ok::<_, ConfigError>(Simulator::new(config.clone(), system_clock as fn() -> i64)?.not_before(reached_ms));
            let source = Box::new(open()?);
            let another: Opener = Box::new(move || match open() {
                Ok(source) => Ok(Box::new(source)),
                Err(error) => Err(SourceError::Stop(error.to_string())),
            });
            Opened { source, another: Some(another), rules: Rules { origin: Origin::Earliest, ..rules } }
        }
        Input::Files(files) => {
            let source = Box::new(FilesSource::new(&files.folder, Some(&files.topic))?);
            // Two clients would both write the folder's index.
            Opened { source, another: None, rules: Rules { origin: Origin::Earliest, ..rules } }
        }
    })
}

/// A Kafka source's configuration.
#[must_use]
pub fn kafka_config(client: &KafkaClient, topics: Topics) -> KafkaConfig {
    let mut config = KafkaConfig::new(client.brokers.clone(), topics);
    (config.group, config.sasl, config.tls) = (client.group.clone(), client.sasl.clone(), client.tls.clone());
    config.properties.extend(client.properties.clone());
    config
}

/// Names and patterns as the source takes them: names alone, or one pattern that stands for all.
///
/// # Errors
/// When a pattern is none.
pub fn topics(names: &[String]) -> anyhow::Result<Topics> {
    if names.iter().all(|name| !name.starts_with('^')) {
        return Ok(Topics::Names(names.to_vec()));
    }
    let one = |name: &String| if name.starts_with('^') { format!("(?:{name})") } else { format!("^{}$", regex::escape(name)) };
    let pattern = match names {
        [name] => name.clone(),
        names => names.iter().map(one).collect::<Vec<_>>().join("|"),
    };
    Ok(Topics::Pattern(regex::Regex::new(&pattern)?))
}

fn origin(from: &Start) -> Origin {
    match from {
        Start::Earliest => Origin::Earliest,
        Start::Latest => Origin::Latest,
        Start::Time(time_ms) => Origin::Timestamp(*time_ms),
        Start::Offsets(offsets) => Origin::Offsets(offsets.clone()),
    }
}

/// The stream that the archive began under this topic, or a new one that begins now.
fn simulated(input: &SimulatorInput, keeper: &dyn Keeper, now_ms: i64) -> anyhow::Result<SimulatorConfig> {
    let stored = SimulatorConfig::stored(&keeper.topics(), &input.topic)?;
    Ok(match stored {
        Some(stored) => stored,
        None => {
            let rate = Rate::per_second(input.rate)?;
            let backlog_ms = (input.backlog as f64 / input.rate * 1000.0) as i64;
            SimulatorConfig {
                topic: input.topic.clone(),
                partitions: input.partitions,
                rate,
                alerts: input.alerts(),
                ..SimulatorConfig::new(input.seed, now_ms - backlog_ms)
            }
        }
    })
}

/// A clock that steps back by no more than this, as one that is kept by a time server may, only makes the simulated stream wait.
const STEP_MS: i64 = 60_000;

/// The time up to which the archive holds the simulated stream, or at least its start. The stream reaches as far as the clock says:
/// by a clock that was set back it would end before what is stored of it, as a topic does that lost messages.
///
/// # Errors
/// When the clock says so, by more than a small step.
fn reached_ms(stream: &SimulatorConfig, keeper: &dyn Keeper, now_ms: i64) -> anyhow::Result<i64> {
    let identity = stream.describe();
    let incarnation = keeper.incarnation(&identity, &stream.topic).unwrap_or(0);
    let last_ms = |partition| {
        let end = keeper.stored(&Log::new(&identity, &stream.topic, incarnation, partition))?.covered.end()?;
        Some(stream.due_ms(partition, end - 1))
    };
    let reached_ms = (0..stream.partitions).filter_map(last_ms).fold(stream.start_ms, i64::max);
    let back_ms = reached_ms - now_ms;
    let time = |ms| {
        chrono::DateTime::from_timestamp_millis(ms).map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
    };
    if back_ms > STEP_MS {
        bail!(
            "the clock was set back: this archive holds its simulated stream up to {}, and it is {} now. Nothing was read or changed: \
             set the clock right, or begin a stream in another archive",
            time(reached_ms),
            time(now_ms)
        );
    }
    if back_ms > 0 {
        tracing::warn!(back_ms, "the clock was set back: the simulated stream goes on when it is as late as what is archived");
    }
    Ok(reached_ms)
}

/// The book of the schemas that messages do not carry, and who fills it.
///
/// # Errors
/// When a schema's file, or the folder of schemas, can't be read.
pub fn schemas(run: &ArchiveRun) -> anyhow::Result<(Arc<SchemaBook>, Arc<dyn Schemas>)> {
    let settings = &run.schemas;
    let (book, lookup) = bare_and_lookup(settings)?;
    let Some(lookup) = lookup else { return Ok((book, Arc::new(NoSchemas))) };
    let patience = if settings.unknown_after.is_zero() { Duration::from_secs(60) } else { settings.unknown_after };
    let resolver = Resolver::start(lookup, Arc::new(Pages(book.clone())), patience)?;
    Ok((book, Arc::new(resolver)))
}

/// The schemas of today, looked up here and now: for those who repair, and can wait.
pub struct Library {
    book: Arc<SchemaBook>,
    lookup: Option<Box<dyn Lookup>>,
    asked: BTreeSet<u32>,
}

impl Library {
    /// A library of these settings; it holds the schemas of bare datums.
    ///
    /// # Errors
    /// When a schema's file, or the folder of schemas, can't be read.
    pub fn open(settings: &SchemaSettings) -> anyhow::Result<Self> {
        let (book, lookup) = bare_and_lookup(settings)?;
        Ok(Self { book, lookup, asked: BTreeSet::new() })
    }

    /// What is known.
    #[must_use]
    pub fn book(&self) -> Arc<SchemaBook> {
        Arc::clone(&self.book)
    }

    /// Looks up the ids that a chunk's messages name, but for those that were before; one that nobody has stays unknown.
    ///
    /// # Errors
    /// When the registry does not answer.
    pub fn learn(&mut self, chunk: &Chunk) -> anyhow::Result<()> {
        let Some(lookup) = &mut self.lookup else { return Ok(()) };
        for id in self.book.missing(chunk) {
            if self.asked.contains(&id) {
                continue;
            }
            match lookup.find(id) {
                Found::Schema(json) => self.book.know(id, &json),
                Found::Denied => self.book.deny(id),
                Found::Failed(reason) => bail!("schema {id} can't be looked up: {reason}"),
            }
            self.asked.insert(id);
        }
        Ok(())
    }
}

/// A book of the schemas of bare datums, and where schemas by id are looked up, if anywhere.
fn bare_and_lookup(settings: &SchemaSettings) -> anyhow::Result<(Arc<SchemaBook>, Option<Box<dyn Lookup>>)> {
    let book = Arc::new(SchemaBook::new());
    for (topic, path) in &settings.datum {
        book.set_bare(topic, &schema_text(path)?);
    }
    let lookup: Option<Box<dyn Lookup>> = match (&settings.registry, &settings.folder) {
        (Some(_), Some(_)) => bail!("a schema registry and a folder of schemas are both given: which of them knows an id?"),
        (Some(url), None) => Some(Box::new(Registry::new(url, settings.login.clone())?)),
        (None, Some(folder)) => Some(Box::new(Folder::open(folder)?)),
        (None, None) => None,
    };
    Ok((book, lookup))
}

/// The schema in an `.avsc` file, or that of an Avro container.
fn schema_text(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("the schema of bare datums can't be read from {}", path.display()))?;
    let text = match open(&bytes) {
        Ok(Envelope::Container(container)) => container.schema.to_vec(),
        _ => bytes.clone(),
    };
    let text = String::from_utf8(text).with_context(|| format!("{} is neither a schema as JSON nor an Avro file", path.display()))?;
    serde_json::from_str::<serde_json::Value>(&text)
        .with_context(|| format!("{} is neither a schema as JSON nor an Avro file", path.display()))?;
    Ok(text)
}

/// The decoder's book, as those who look schemas up see it.
struct Pages(Arc<SchemaBook>);

impl Book for Pages {
    fn has(&self, id: u32) -> bool {
        matches!(self.0.id(id), Some(Entry::Known(_)))
    }
    fn known(&self, id: u32, json: &str) {
        self.0.know(id, json);
    }
    fn unknown(&self, id: u32) {
        self.0.deny(id);
    }
    fn is_bare(&self, topic: &str) -> bool {
        self.0.bare(topic).is_some()
    }
}

#[cfg(test)]
mod tests {
    use fink_dataflow::ports::Stored;

    use super::*;
    use crate::settings::{AlertSize, AlertSurvey};

    /// An archive that holds so many alerts of each partition of a stream.
    struct Holds(SimulatorConfig, i64);

    impl Keeper for Holds {
        fn stored(&self, log: &Log) -> Option<Stored> {
            let known = *log.source == *self.0.describe() && log.incarnation == 0;
            known.then(|| Stored {
                covered: (self.1 > 0).then_some((0, self.1)).into_iter().collect::<Vec<_>>().into(),
                ..Stored::default()
            })
        }
        fn incarnation(&self, source: &str, _topic: &str) -> Option<u32> {
            (source == self.0.describe()).then_some(0)
        }
        fn topics(&self) -> Vec<(Arc<str>, Arc<str>)> {
            vec![(self.0.describe().into(), self.0.topic.as_str().into())]
        }
        fn open(&self, _origins: &[(Log, i64)]) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_clock_that_was_set_back_is_found_out() {
        let start_ms = 1_795_460_400_000;
        let began = SimulatorConfig { rate: Rate::per_second(10.0).expect("a rate"), ..SimulatorConfig::new(5, start_ms) };
        // A quarter of 10 a second: an hour is archived.
        let keeper = Holds(began.clone(), 9_000);
        let input = SimulatorInput {
            topic: began.topic.clone(),
            seed: 1,
            rate: 50.0,
            partitions: 1,
            survey: AlertSurvey::Ztf,
            size: AlertSize::Small,
            backlog: 0,
        };
        let stream = simulated(&input, &keeper, start_ms - 1).expect("the stream that the archive began");
        assert_eq!(stream.describe(), began.describe());
        let last_ms = start_ms + 3_600_000 - 100;
        for (now_ms, right) in [(last_ms + 1, true), (last_ms - 59_000, true), (last_ms - 61_000, false), (start_ms - 1, false)] {
            match reached_ms(&stream, &keeper, now_ms) {
                Ok(reached) => assert!(right && reached == last_ms, "{now_ms}"),
                Err(error) => {
                    assert!(!right && format!("{error}").contains("up to 2026-11-23T19:59:59Z, and it is 2026-11-23T1"), "{error}");
                }
            }
        }
        // Nothing archived yet of a stream that begins in a future that was.
        assert!(reached_ms(&stream, &Holds(began.clone(), 0), start_ms - 61_000).is_err());
        // Held: it ends where the archive does, not before, until the clock is right.
        let mut held = Simulator::new(stream, move || last_ms - 59_000).expect("a stream").not_before(last_ms);
        assert!(held.extents().expect("extents").iter().all(|extent| extent.high == 9_000));
    }

    #[test]
    fn names_and_patterns_go_together() {
        let all = topics(&["ztf.a".to_owned(), "^lsst_\\d+$".to_owned()]).unwrap();
        assert!(all.matches("ztf.a") && all.matches("lsst_12"));
        assert!(!all.matches("ztf_a") && !all.matches("xztf.a") && !all.matches("lsst_x") && !all.matches("xlsst_1"));
        assert!(matches!(topics(&["a".to_owned()]).unwrap(), Topics::Names(names) if names == ["a"]));
    }

    #[test]
    fn a_schema_comes_from_json_and_nothing_else_is_taken_for_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (good, bad) = (folder.path().join("good.avsc"), folder.path().join("bad.avsc"));
        std::fs::write(&good, r#"{"type":"record","name":"a","fields":[]}"#).expect("written");
        std::fs::write(&bad, "record a {}").expect("written");
        assert!(schema_text(&good).is_ok());
        let error = format!("{:#}", schema_text(&bad).expect_err("no schema"));
        assert!(error.contains("bad.avsc is neither"), "{error}");
    }
}
