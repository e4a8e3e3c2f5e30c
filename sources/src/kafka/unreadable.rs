//! Which offsets hold messages that nobody can read: damaged where they lie, not on their way.

use std::ops::Range;
use std::time::{Duration, Instant};

use fink_dataflow::coverage::Intervals;
use fink_dataflow::ports::SourceError;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;

use super::config::KafkaConfig;
use super::health::{Health, is_of_the_group};
use super::{damage, probe};

/// How often damaged messages are read again before they are taken for lost: damage in transit does not come back.
const ROUNDS: u32 = 5;
/// The pause between.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a round may take without a message or a word.
const PATIENCE: Duration = Duration::from_secs(15);

/// The offsets of `span` that can't be read, however often they are asked for. Empty: all can, or hold no message.
///
/// # Errors
/// When the cluster can't be asked.
pub fn unreadable(config: &KafkaConfig, topic: &str, partition: i32, span: Range<i64>) -> Result<Intervals, SourceError> {
    let client = config.client().map_err(|error| SourceError::Stop(error.to_string()))?;
    let client = probe::client(&client).map_err(|error| SourceError::Stop(error.to_string()))?;
    let mut read = Intervals::default();
    for round in 0..ROUNDS {
        let gaps = read.gaps(span.clone());
        let Some(gap) = gaps.first() else { break };
        if round > 0 {
            std::thread::sleep(PAUSE);
        }
        if !read_again(&client, (topic, partition), gap.start..span.end, &mut read)? {
            return Ok(Intervals::default());
        }
    }
    Ok(read.gaps(span).into_iter().collect())
}

/// Reads a span, and notes what it could. Returns whether something was damaged.
fn read_again(
    client: &BaseConsumer<Health>,
    (topic, partition): (&str, i32),
    span: Range<i64>,
    read: &mut Intervals,
) -> Result<bool, SourceError> {
    let failed = |error: &KafkaError| client.context().judge("reading damaged messages again", error);
    probe::assign(client, &[(topic.into(), partition, span.start)]).map_err(|error| failed(&error))?;
    let mut damaged = false;
    let mut deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match client.poll(deadline.saturating_duration_since(Instant::now())) {
            Some(Ok(message)) if message.offset() >= span.end => break,
            Some(Ok(message)) => {
                read.insert(message.offset()..message.offset() + 1);
                deadline = Instant::now() + PATIENCE;
            }
            Some(Err(error)) if damage::is_told_by(&error) => damaged = true,
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) if is_of_the_group(&error) => {}
            Some(Err(error)) => return Err(failed(&error)),
            None => {}
        }
    }
    let _ = client.unassign();
    if Instant::now() >= deadline && !damaged {
        return Err(client.context().judge_silence("reading damaged messages again"));
    }
    Ok(damaged)
}
