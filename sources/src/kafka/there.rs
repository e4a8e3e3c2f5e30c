//! Which topics and partitions there are: what is not is said once, and waited for, and keeps nobody from reading the rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use fink_dataflow::ports::SourceError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use tracing::{debug, info, warn};

use super::config::Topics;

/// A partition of a topic.
type Partition = (Arc<str>, i32);

/// What there was at the last look.
#[derive(Default)]
pub(super) struct There {
    /// Partitions that nobody leads.
    away: BTreeSet<Partition>,
    /// Topics that are named and not there; where a pattern is given that no topic matches, the pattern.
    absent: BTreeSet<Arc<str>>,
}

impl There {
    pub(super) fn away(&self) -> &BTreeSet<Partition> {
        &self.away
    }

    pub(super) fn absent(&self) -> &BTreeSet<Arc<str>> {
        &self.absent
    }

    /// The partitions of the topics that somebody leads now; the others are said, and not asked for: librdkafka would wait
    /// for their leaders, and keep the answers about all others so long.
    ///
    /// # Errors
    /// When the cluster does not answer, can't tell of a topic now, or does not let us read one.
    pub(super) fn look(
        &mut self,
        topics: &Topics,
        ask: impl Fn(Option<&str>) -> Result<Metadata, SourceError>,
    ) -> Result<Vec<Partition>, SourceError> {
        let (mut found, mut away, mut absent) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let asked: Vec<Option<&str>> = match topics {
            Topics::Names(names) => names.iter().map(|name| Some(name.as_str())).collect(),
            Topics::Pattern(_) => vec![None],
        };
        for name in asked {
            let metadata = ask(name)?;
            let before = found.len() + away.len();
            for topic in metadata.topics().iter().filter(|topic| topics.matches(topic.name())) {
                match topic.error().map(RDKafkaErrorCode::from) {
                    None => {}
                    Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                        return Err(SourceError::Stop(format!("not allowed to read topic {}", topic.name())));
                    }
                    Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => continue,
                    // It may well be there: had it been taken for one that is yet to be born, it would be read from its start.
                    Some(code) if name.is_some() => {
                        return Err(SourceError::Retry(format!("topic {} can't be read now: {code}", topic.name())));
                    }
                    Some(code) => {
                        debug!(topic = topic.name(), %code, "topic can't be read now");
                        continue;
                    }
                }
                let topic_name: Arc<str> = topic.name().into();
                for partition in topic.partitions() {
                    let of = (topic_name.clone(), partition.id());
                    if partition.leader() >= 0 {
                        found.push(of);
                    } else {
                        away.insert(of);
                    }
                }
            }
            if found.len() + away.len() == before {
                absent.insert(match (name, topics) {
                    (Some(name), _) => name.into(),
                    (None, Topics::Pattern(pattern)) => format!("topic of the pattern {pattern}").into(),
                    (None, Topics::Names(_)) => continue,
                });
            }
        }
        self.set_away(away);
        self.set_absent(absent);
        found.sort();
        Ok(found)
    }

    /// Says which partitions went away, and which are back.
    pub(super) fn set_away(&mut self, away: BTreeSet<Partition>) {
        for (topic, partition) in away.difference(&self.away) {
            warn!(%topic, partition, "no broker leads this partition: it is read when one does");
        }
        for (topic, partition) in self.away.difference(&away) {
            info!(%topic, partition, "a broker leads this partition again");
        }
        self.away = away;
    }

    /// Says which topics are not there, and which are there now.
    fn set_absent(&mut self, absent: BTreeSet<Arc<str>>) {
        for topic in absent.difference(&self.absent) {
            warn!(%topic, "kafka has no such topic: it is read from its first message once it is there");
        }
        for topic in self.absent.difference(&absent) {
            info!(%topic, "it is there now");
        }
        self.absent = absent;
    }
}
