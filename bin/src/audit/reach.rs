//! How far the sources reach that stand behind an archive's logs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use fink_dataflow::Log;
use fink_dataflow::ports::Source;
use fink_dataflow::table::entry::State;
use fink_sources::kafka::{KafkaSource, Topics};
use fink_sources::simulator::{Simulator, SimulatorConfig, system_clock};

use crate::input::kafka_config;
use crate::settings::KafkaClient;

/// How far logs reach, as the sources that could be asked say.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    extents: BTreeMap<(Arc<str>, Arc<str>, i32), Range<i64>>,
    /// The newest incarnation of each topic: only that one is what the source holds now.
    newest: BTreeMap<(Arc<str>, Arc<str>), u32>,
    /// What a source that could not be asked says, for people.
    pub troubles: Vec<String>,
}

impl Reach {
    /// The offsets that a log's source holds; `None` where it could not be asked.
    #[must_use]
    pub fn get(&self, log: &Log) -> Option<Range<i64>> {
        let newest = self.newest.get(&(log.source.clone(), log.topic.clone()));
        if newest.is_some_and(|newest| *newest != log.incarnation) {
            return None;
        }
        self.extents.get(&(log.source.clone(), log.topic.clone(), log.partition)).cloned()
    }

    /// Whether a log's source told what it holds of it. Of a topic's earlier incarnations it holds nothing.
    #[must_use]
    pub fn was_asked(&self, log: &Log) -> bool {
        let newest = self.newest.get(&(log.source.clone(), log.topic.clone()));
        if newest.is_none_or(|newest| *newest <= log.incarnation) {
            return self.get(log).is_some();
        }
        self.extents.keys().any(|(source, topic, _)| *source == log.source && *topic == log.topic)
    }

    /// The logs that the sources hold now.
    pub fn logs(&self) -> impl Iterator<Item = Log> + '_ {
        self.extents.keys().map(|(source, topic, partition)| {
            let incarnation = self.newest.get(&(source.clone(), topic.clone())).copied().unwrap_or_default();
            Log { source: source.clone(), topic: topic.clone(), incarnation, partition: *partition }
        })
    }

    /// Asks the sources of an archive's logs: simulators always, and a Kafka if it is named, of these topics too (names, or
    /// patterns that begin with ^).
    #[must_use]
    pub fn ask(state: &State, kafka: Option<&KafkaClient>, more: &[String]) -> Self {
        let mut reach = Self { newest: newest(state), ..Self::default() };
        let mut topics: BTreeSet<String> = more.iter().cloned().collect();
        topics.extend(state.logs.keys().filter(|log| log.source.starts_with("kafka:")).map(|log| log.topic.to_string()));
        let simulated: BTreeSet<(Arc<str>, Arc<str>)> = state
            .logs
            .keys()
            .filter(|log| log.source.starts_with("simulator:"))
            .map(|log| (log.source.clone(), log.topic.clone()))
            .collect();
        for (source, topic) in simulated {
            let config = SimulatorConfig::parse(&source).map(|config| SimulatorConfig { topic: topic.to_string(), ..config });
            match config.and_then(|config| Simulator::new(config, system_clock)) {
                Ok(mut simulator) => reach.add(&mut simulator),
                Err(error) => reach.troubles.push(error.to_string()),
            }
        }
        if let (Some(kafka), false) = (kafka, topics.is_empty()) {
            reach.add_kafka(kafka, &topics, more);
        }
        reach
    }

    fn add_kafka(&mut self, kafka: &KafkaClient, topics: &BTreeSet<String>, more: &[String]) {
        let names: Vec<&String> = topics.iter().filter(|topic| !topic.starts_with('^')).collect();
        // As a pattern: a topic that is there no more must not keep the others' secret.
        let pattern = topics.iter().map(|topic| match topic.starts_with('^') {
            true => format!("(?:{topic})"),
            false => format!("^{}$", regex::escape(topic)),
        });
        let source = regex::Regex::new(&pattern.collect::<Vec<_>>().join("|")).map_err(anyhow::Error::from);
        let source = source.and_then(|pattern| Ok(KafkaSource::new(&kafka_config(kafka, Topics::Pattern(pattern)))?));
        match source {
            Ok(mut source) => self.add(&mut source),
            Err(error) => return self.troubles.push(error.to_string()),
        }
        let asked_for = |topic: &str| crate::input::topics(more).is_ok_and(|topics| topics.matches(topic));
        // Another cluster may have a topic of the same name: that is not the archive's.
        let newest = &self.newest;
        let other = |source: &Arc<str>, topic: &Arc<str>| !newest.contains_key(&(source.clone(), topic.clone())) && !asked_for(topic);
        let strange = self.extents.extract_if(.., |(source, topic, _), _| source.starts_with("kafka:") && other(source, topic)).last();
        if let Some(((source, topic, _), _)) = strange {
            self.troubles.push(format!("topic {topic} of this archive is not of the kafka that was asked ({source})"));
        }
        if self.troubles.is_empty() {
            let there = |name: &String| self.extents.keys().any(|(source, topic, _)| source.starts_with("kafka:") && **topic == **name);
            let missing: Vec<_> = names.into_iter().filter(|name| !there(name)).cloned().collect();
            self.troubles.extend(missing.iter().map(|name| format!("kafka has no topic {name}, or does not show it to us")));
        }
    }

    fn add(&mut self, source: &mut dyn Source) {
        let asked = source.identity().and_then(|identity| Ok((identity, source.extents()?)));
        match asked {
            Ok((identity, extents)) => {
                for extent in extents {
                    self.extents.insert((identity.clone(), extent.topic, extent.partition), extent.low..extent.high);
                }
            }
            Err(error) => self.troubles.push(error.to_string()),
        }
    }
    /// A reach as a source would tell it: its identity, a topic, and what it holds by partition.
    #[cfg(test)]
    pub(super) fn of(state: &State, source: &str, topic: &str, extents: &[(i32, Range<i64>)]) -> Self {
        let key = |partition: i32| (Arc::from(source), Arc::from(topic), partition);
        let extents = extents.iter().map(|(partition, extent)| (key(*partition), extent.clone())).collect();
        Self { extents, newest: newest(state), troubles: Vec::new() }
    }
}

/// The newest incarnation of each topic of each source.
fn newest(state: &State) -> BTreeMap<(Arc<str>, Arc<str>), u32> {
    let mut newest = BTreeMap::new();
    for log in state.logs.keys() {
        let known: &mut u32 = newest.entry((log.source.clone(), log.topic.clone())).or_default();
        *known = (*known).max(log.incarnation);
    }
    newest
}
