//! What librdkafka's errors mean.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::warn;

/// Whether an error says that one partition can't be asked now, and nothing of the others.
pub(super) fn is_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::ReplicaNotAvailable
                | Code::OffsetNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::KafkaStorageError
        )
    )
}

/// Whether librdkafka goes on by itself after an error.
pub(super) fn passing(error: &KafkaError) -> bool {
    !matches!(error, KafkaError::MessageConsumptionFatal(_))
}

/// What librdkafka has against its configuration, without the values: they may be secrets.
pub(super) fn client_error(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            warn!(key, "kafka property refused");
            format!("kafka property {key}: {reason}")
        }
        other => other.to_string(),
    }
}
