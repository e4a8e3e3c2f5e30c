//! How we stand with the cluster: librdkafka's callbacks, told once per change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fink_dataflow::ports::SourceError;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, error, info, warn};

/// The context of clients: hears what librdkafka has to say. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What is wrong now.
    fault: Option<(Fault, String)>,
    /// Whether it ever worked: what is refused later may be a server's passing trouble.
    worked: bool,
    /// Whether the cluster refused our group.
    group_refused: bool,
    /// What was said last of single brokers, and when: others may do their work.
    said: BTreeMap<String, Instant>,
    /// The last of that: why all of them are away, when they are.
    last: Option<String>,
}

/// How long the same trouble of a single broker is not said again.
const SAID_ONCE_FOR: Duration = Duration::from_secs(60);

/// Whether an error is about the group only, which nothing is read by: durable offsets are shown to monitors under its name.
pub(crate) fn is_of_the_group(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

/// What can be wrong with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The cluster does not accept who we are.
    Login,
    /// No TLS connection can be made.
    Tls,
    /// Nobody answers.
    Away,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something worked.
    pub(crate) fn works(&self) {
        let mut state = self.state();
        state.worked = true;
        if state.fault.take().is_some() {
            info!("kafka answers again");
        }
    }

    /// What an error means for whoever reads.
    pub(crate) fn judge(&self, doing: &str, kafka: &KafkaError) -> SourceError {
        use RDKafkaErrorCode as Code;
        let state = self.state();
        match (kafka.rdkafka_error_code(), &state.fault) {
            (Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed), _) => {
                SourceError::Stop(format!("not allowed: {doing}: {kafka}"))
            }
            (_, Some((fault, reason))) => {
                let text = format!("{}: {reason}", fault.text());
                match fault {
                    Fault::Login | Fault::Tls if !state.worked => SourceError::Stop(text),
                    _ => SourceError::Retry(text),
                }
            }
            _ => SourceError::Retry(format!("{doing}: {kafka}")),
        }
    }

    /// The same, where librdkafka gave no error but no answer either.
    pub(crate) fn judge_silence(&self, doing: &str) -> SourceError {
        self.judge(doing, &KafkaError::Global(RDKafkaErrorCode::OperationTimedOut))
    }

    /// The cluster refuses our group.
    pub(crate) fn note_group(&self, group: &str) {
        if !std::mem::replace(&mut self.state().group_refused, true) {
            warn!(group, "kafka refuses this group: durable offsets are not shown to monitors; kafka.group (--group) names another");
        }
    }

    /// Whether the cluster refused our group.
    pub(crate) fn group_is_refused(&self) -> bool {
        self.state().group_refused
    }

    /// What is wrong now, where nothing came.
    pub(crate) fn trouble(&self) -> Option<SourceError> {
        let state = self.state();
        state.fault.as_ref().map(|(fault, reason)| SourceError::Retry(format!("{}: {reason}", fault.text())))
    }

    /// A single broker has trouble.
    fn note_broker(&self, reason: &str) {
        let mut state = self.state();
        state.last = Some(reason.to_owned());
        // Times and counts in the text would make each a new one.
        let text: String = reason.chars().filter(|c| !c.is_ascii_digit()).collect();
        state.said.retain(|_, when| when.elapsed() < SAID_ONCE_FOR);
        if state.fault.is_none() && !state.said.contains_key(&text) {
            warn!(reason, "a kafka broker does not answer, reconnecting");
        }
        state.said.insert(text, Instant::now());
    }

    fn note(&self, fault: Fault, reason: &str) {
        let mut state = self.state();
        let reason = if fault == Fault::Away { state.last.clone().unwrap_or_else(|| reason.to_owned()) } else { reason.to_owned() };
        // What is known to be wrong is not forgotten because the brokers are, therefore, away.
        let worse = match &state.fault {
            None => true,
            Some((Fault::Away, _)) => fault != Fault::Away,
            Some((old, _)) => fault != Fault::Away && *old != fault,
        };
        if !worse {
            debug!(reason, "kafka: {}", fault.text());
            return;
        }
        match fault {
            Fault::Away => warn!(reason, "kafka does not answer, reconnecting"),
            Fault::Login => error!(reason, "{}", fault.text()),
            Fault::Tls => error!(reason, "{}", fault.text()),
        }
        state.fault = Some((fault, reason));
    }
}

impl Fault {
    fn text(self) -> &'static str {
        match self {
            Self::Login => "kafka refuses the login (wrong name or password?)",
            Self::Tls => {
                "no TLS connection to kafka (wrong certificate authority, a certificate of ours that is missing or refused, or no TLS at that port?)"
            }
            Self::Away => "kafka does not answer",
        }
    }

    /// What kind of fault an error, or a line of librdkafka's log, tells of.
    fn of(code: Option<RDKafkaErrorCode>, text: &str) -> Option<Self> {
        use RDKafkaErrorCode as Code;
        match code {
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => Some(Self::Login),
            Some(Code::SSL) => Some(Self::Tls),
            _ if text.contains("SASL authentication error") || text.contains("SaslAuthenticateRequest failed") => Some(Self::Login),
            // An alert may come after the handshake: of a certificate that is missing or refused.
            _ if text.contains("SSL handshake failed") || text.contains("SSL alert number") => Some(Self::Tls),
            Some(Code::AllBrokersDown) => Some(Self::Away),
            _ => None,
        }
    }
}

impl ClientContext for Health {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match Fault::of(None, text) {
            Some(fault) => self.note(fault, text),
            None => debug!(?level, facility, "librdkafka: {text}"),
        }
    }

    fn error(&self, kafka: KafkaError, reason: &str) {
        let code = kafka.rdkafka_error_code();
        // Not faults: they come to poll, where they are dealt with.
        if matches!(code, Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AutoOffsetReset)) {
            return;
        }
        match Fault::of(code, reason) {
            Some(fault) => self.note(fault, reason),
            None if matches!(code, Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve)) => self.note_broker(reason),
            None => debug!(%kafka, reason, "librdkafka"),
        }
    }
}

impl ConsumerContext for Health {}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: KafkaError = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);

    #[test]
    fn a_wrong_password_stops_at_the_start_and_waits_later() {
        let health = Health::default();
        health.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "invalid credentials");
        health.error(DOWN, "1/1 brokers are down");
        assert!(matches!(health.judge("looking", &DOWN), SourceError::Stop(text) if text.contains("password")));
        health.works();
        assert!(health.trouble().is_none());
        health.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "invalid credentials");
        assert!(matches!(health.judge("looking", &DOWN), SourceError::Retry(_)));
    }

    #[test]
    fn a_certificate_that_is_asked_for_and_missing_stops_at_the_start() {
        let health = Health::default();
        let reason = "ssl://h:1: Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42";
        health.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), reason);
        health.error(DOWN, "1/1 brokers are down");
        assert!(matches!(health.judge("looking", &DOWN), SourceError::Stop(text) if text.contains("certificate of ours")));
    }

    #[test]
    fn a_broker_that_is_away_is_tried_again() {
        let health = Health::default();
        health.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "h:1: Connection refused");
        assert!(health.trouble().is_none());
        health.error(DOWN, "1/1 brokers are down");
        assert!(matches!(health.judge("looking", &DOWN), SourceError::Retry(text) if text.contains("refused")));
        assert!(matches!(health.trouble(), Some(SourceError::Retry(_))));
        health.log(RDKafkaLogLevel::Error, "FAIL", "ssl://x: SSL handshake failed: certificate verify failed");
        assert!(matches!(health.judge("looking", &DOWN), SourceError::Stop(text) if text.contains("TLS")));
    }
}
