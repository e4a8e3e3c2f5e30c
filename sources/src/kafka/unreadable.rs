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
/// How long a look may take without a message or a word.
const PATIENCE: Duration = Duration::from_secs(15);

/// How far a look came.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    /// To the end of what was asked for, or of the log.
    Whole,
    /// To this offset, where something is damaged.
    Damaged(i64),
}

/// The offsets of `span` that can't be read, however often they are asked for. Empty: all can, or hold no message.
///
/// # Errors
/// When the cluster can't be asked.
pub fn unreadable(config: &KafkaConfig, topic: &str, partition: i32, span: Range<i64>) -> Result<Intervals, SourceError> {
    let settings = config.client().map_err(|error| SourceError::Stop(error.to_string()))?;
    find(span, PAUSE, |from, until| {
        // A new client each time: one that met damage may have more to say of it later.
        let client = probe::client(&settings).map_err(|error| SourceError::Stop(error.to_string()))?;
        look(&client, (topic, partition), from..until)
    })
}

/// Finds what is damaged for good. Messages are damaged by the batch, and a batch is read from any of its offsets or from none:
/// so it ends before the first offset from which something can be read.
fn find(span: Range<i64>, pause: Duration, mut look: impl FnMut(i64, i64) -> Result<Look, SourceError>) -> Result<Intervals, SourceError> {
    let mut lost = Intervals::default();
    let mut at = span.start;
    'reading: while at < span.end
        && let Look::Damaged(from) = look(at, span.end)?
    {
        at = from;
        for _ in 1..ROUNDS {
            std::thread::sleep(pause);
            match look(at, span.end)? {
                Look::Whole => break 'reading,
                Look::Damaged(further) if further > at => {
                    at = further;
                    continue 'reading;
                }
                Look::Damaged(_) => {}
            }
        }
        // Offset by offset: farther on there may be others, and between them what can be read.
        let mut good = at + 1;
        while good < span.end && look(good, span.end)? == Look::Damaged(good) {
            good += 1;
        }
        lost.insert(at..good);
        at = good;
    }
    Ok(lost)
}

/// Reads a span up to the first damage.
fn look(client: &BaseConsumer<Health>, (topic, partition): (&str, i32), span: Range<i64>) -> Result<Look, SourceError> {
    let failed = |error: &KafkaError| client.context().judge("reading damaged messages again", error);
    probe::assign(client, &[(topic.into(), partition, span.start)]).map_err(|error| failed(&error))?;
    let mut next = span.start;
    let mut deadline = Instant::now() + PATIENCE;
    loop {
        match client.poll(deadline.saturating_duration_since(Instant::now())) {
            Some(Ok(message)) if message.offset() < next => {}
            Some(Ok(message)) => {
                next = message.offset() + 1;
                if next >= span.end {
                    return Ok(Look::Whole);
                }
                deadline = Instant::now() + PATIENCE;
            }
            // Behind damage librdkafka was seen to ask for offsets that it took from the damage.
            Some(Err(error)) if damage::is_told_by(&error) || probe::out_of_range(&error) => return Ok(Look::Damaged(next)),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Look::Whole),
            Some(Err(error)) if is_of_the_group(&error) => {}
            Some(Err(error)) => return Err(failed(&error)),
            None if Instant::now() >= deadline => return Err(client.context().judge_silence("reading damaged messages again")),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log of batches, some of them damaged; of the damaged, some only at first.
    fn log(batches: &[(i64, u8)]) -> (Vec<(Range<i64>, bool)>, i64) {
        let mut end = 0;
        let batches = batches.iter().map(|(length, kind)| {
            let batch = end..end + length;
            end = batch.end;
            (batch, *kind == 0)
        });
        (batches.collect(), end)
    }

    proptest! {
        #[test]
        fn batches_that_stay_damaged_are_found_and_no_other(batches in prop::collection::vec((1i64..40, 0u8..3), 0..12), cut in (0i64..20, 0i64..20)) {
            let (batches, end) = log(&batches);
            let span = cut.0.min(end)..(end - cut.1).max(cut.0.min(end));
            let mut transit = 1;
            let found = find(span.clone(), Duration::ZERO, |from, until| {
                assert!(span.start <= from && from < until.max(from + 1));
                // Once, something is damaged in transit.
                if std::mem::take(&mut transit) > 0 {
                    return Ok(Look::Damaged(from));
                }
                let bad = batches.iter().find(|(batch, bad)| *bad && batch.end > from && batch.start < until);
                Ok(bad.map_or(Look::Whole, |(batch, _)| Look::Damaged(batch.start.max(from))))
            });
            let expected: Intervals = batches.iter().filter(|(_, bad)| *bad)
                .map(|(batch, _)| batch.start.max(span.start)..batch.end.min(span.end)).filter(|batch| !batch.is_empty()).collect();
            prop_assert_eq!(found.expect("asked"), expected);
        }
    }
}
