//! Messages that can't be read: a wrong checksum, a compression that can't be undone, a format that is not known.
//!
//! librdkafka tells of them, not of which partition they are, and goes on *behind* them: the next message that it gives
//! would cover them, though nobody saw them. So from then on only messages are taken that follow the last without a gap,
//! and after a pause all logs are fetched again from where they stand. Damage in transit is mended by that; damage on the
//! broker stays, and is told each time, while the other partitions go on.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The first pause before damaged messages are asked for again, and the longest: fetching again drops what was fetched.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// After so long without damage it counts as mended.
const MENDED: Duration = Duration::from_secs(60);

/// When damaged messages are asked for again.
#[derive(Default)]
pub(crate) struct Damage {
    due: Option<Instant>,
    last: Option<Instant>,
    times: u32,
}

impl Damage {
    /// Messages could not be read. Whether that is news.
    pub(crate) fn found(&mut self, now: Instant) -> bool {
        if self.last.is_some_and(|last| now - last > MENDED) {
            self.times = 0;
        }
        self.last = Some(now);
        if self.due.is_some() {
            return false;
        }
        self.due = Some(now + PAUSES.1.min(PAUSES.0 * 2u32.saturating_pow(self.times)));
        self.times = self.times.saturating_add(1);
        true
    }

    /// Whether it is time to ask again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// All were asked for again.
    pub(crate) fn asked(&mut self) {
        self.due = None;
    }
}

/// Whether an error tells of messages that librdkafka leaves out.
pub(crate) fn is_told_by(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(error.rdkafka_error_code(), Some(Code::BadMessage | Code::BadCompression | Code::NotImplemented))
}

/// What a person should know.
pub(crate) fn text(error: &KafkaError) -> String {
    format!(
        "messages are damaged, in transit or on the broker, and are asked for again: {error}; \
         if it stays so, stop the archive, and accept what can't be read as lost: fink hole accept TOPIC/PARTITION START END --damaged"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_damaged_is_asked_for_more_and_more_rarely() {
        let error = KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage);
        assert!(is_told_by(&error) && !is_told_by(&KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)));
        let (mut damage, mut now) = (Damage::default(), Instant::now());
        assert!(!damage.is_due(now));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(damage.found(now));
            assert!(!damage.found(now), "several errors come at a time");
            let found = now;
            while !damage.is_due(now) {
                now += Duration::from_millis(100);
            }
            damage.asked();
            pauses.push((now - found).as_millis());
        }
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        now += MENDED + Duration::from_secs(1);
        assert!(damage.found(now) && damage.is_due(now + PAUSES.0));
    }
}
