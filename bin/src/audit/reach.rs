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

    /// Asks the sources of an archive's logs: simulators always, a Kafka if it is named.
    #[must_use]
    pub fn ask(state: &State, kafka: Option<&KafkaClient>) -> Self {
        let mut reach = Self::default();
        let mut topics = BTreeSet::new();
        for log in state.logs.keys() {
            let newest = reach.newest.entry((log.source.clone(), log.topic.clone())).or_default();
            *newest = (*newest).max(log.incarnation);
            if log.source.starts_with("kafka:") {
                topics.insert(log.topic.to_string());
            }
        }
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
            let config = kafka_config(kafka, Topics::Names(topics.into_iter().collect()));
            match KafkaSource::new(&config) {
                Ok(mut source) => reach.add(&mut source),
                Err(error) => reach.troubles.push(error.to_string()),
            }
        }
        reach
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
}
