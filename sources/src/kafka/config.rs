//! How to reach a cluster, and which of its topics to read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use regex::Regex;

/// How to reach a cluster, and what to read of it.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Where to find it first: `host:port,host:port`.
    pub brokers: String,
    /// Which topics.
    pub topics: Topics,
    /// The group under which durable offsets are shown to monitors; nothing depends on it.
    pub group: String,
    /// Who we are, where the cluster asks.
    pub sasl: Option<Sasl>,
    /// Whether to speak TLS, and how.
    pub tls: Option<Tls>,
    /// Further librdkafka properties; those that reading depends on can't be set.
    pub properties: BTreeMap<String, String>,
}

/// Which topics to read.
#[derive(Clone, Debug)]
pub enum Topics {
    /// These.
    Names(Vec<String>),
    /// All whose name matches, now and later; internal topics (`__…`) never do.
    Pattern(Regex),
}

/// A name and password for the cluster.
#[derive(Clone, Debug)]
pub struct Sasl {
    /// How they are shown to it.
    pub mechanism: Mechanism,
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// How a password is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mechanism {
    /// In the clear: only over TLS.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

/// TLS towards the cluster.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// A file of certificates to trust; the system's where none is given.
    pub ca: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The password of that key.
    pub key_password: Option<Secret>,
}

/// Something that must not be seen: kept outside of configuration files, never printed.
#[derive(Clone, Eq, PartialEq)]
pub enum Secret {
    /// In an environment variable of this name.
    Env(String),
    /// In this file; white space around it is not part of it.
    File(PathBuf),
}

/// What is wrong with a [`KafkaConfig`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A secret's variable is not set.
    #[error("environment variable {0} is not set: it should hold a secret")]
    NoVariable(String),
    /// A secret's file can't be read.
    #[error("secret file {0} can't be read")]
    NoFile(PathBuf, #[source] std::io::Error),
    /// A property that is ours, and why.
    #[error("property {0} can't be set: {1}")]
    Reserved(String, &'static str),
    /// Not a pattern.
    #[error("not a pattern")]
    Pattern(#[from] regex::Error),
    /// No topic.
    #[error("no topic is named")]
    NoTopic,
    /// librdkafka does not take it.
    #[error("{0}")]
    Client(String),
}

impl Topics {
    /// Topics as a command line names them: `a`, `a,b`, or a pattern that begins with `^`.
    ///
    /// # Errors
    /// When there is none, or the pattern is not one.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.starts_with('^') {
            return Ok(Self::Pattern(Regex::new(text)?));
        }
        let names: Vec<String> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.is_empty() { Err(ConfigError::NoTopic) } else { Ok(Self::Names(names)) }
    }

    /// Whether topics are named by a pattern.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        matches!(self, Self::Pattern(_))
    }

    /// Whether a topic is one of them.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| name == topic),
            Self::Pattern(pattern) => !topic.starts_with("__") && pattern.is_match(topic),
        }
    }
}

impl Secret {
    /// The secret itself.
    ///
    /// # Errors
    /// When it is not where it should be.
    pub fn reveal(&self) -> Result<String, ConfigError> {
        match self {
            Self::Env(name) => std::env::var(name).map_err(|_| ConfigError::NoVariable(name.clone())),
            Self::File(path) => {
                std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| ConfigError::NoFile(path.clone(), error))
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "Secret(env {name})"),
            Self::File(path) => write!(f, "Secret(file {})", path.display()),
        }
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of properties may be secrets, whatever they are called.
        let properties: Vec<_> = self.properties.keys().collect();
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("sasl", &self.sasl)
            .field("tls", &self.tls)
            .field("properties", &properties)
            .finish()
    }
}

/// With another value offsets would be lost or doubled.
const READING: &str = "reading depends on it";

/// Properties that are ours, and why.
const RESERVED: [(&str, &str); 9] = [
    ("enable.auto.commit", READING),
    ("enable.auto.offset.store", READING),
    ("auto.offset.reset", READING),
    ("enable.partition.eof", READING),
    ("group.id", "kafka.group (or --group) says it"),
    ("bootstrap.servers", "kafka.brokers (or --brokers) says it"),
    ("metadata.broker.list", "kafka.brokers (or --brokers) says it"),
    ("sasl.password", "kafka.password_env or kafka.password_file says where it is"),
    ("ssl.key.password", "kafka.key_password_file says where it is"),
];

impl KafkaConfig {
    /// These topics of an open cluster.
    #[must_use]
    pub fn new(brokers: impl Into<String>, topics: Topics) -> Self {
        Self { brokers: brokers.into(), topics, group: "fink".into(), sasl: None, tls: None, properties: BTreeMap::new() }
    }

    /// Why a property is ours; `None` where it is not.
    #[must_use]
    pub fn reserved(name: &str) -> Option<&'static str> {
        RESERVED.iter().find(|(reserved, _)| *reserved == name).map(|(_, why)| *why)
    }

    /// Whether a property is one that librdkafka has, takes this value for, and leaves to others than us.
    ///
    /// # Errors
    /// What is wrong with it, without its value: that may be a secret.
    pub fn check_property(name: &str, value: &str) -> Result<(), ConfigError> {
        if let Some(why) = Self::reserved(name) {
            return Err(ConfigError::Reserved(name.to_owned(), why));
        }
        let mut client = ClientConfig::new();
        client.set(name, value);
        match client.create_native_config() {
            Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
                Err(ConfigError::Client(format!("{name}: librdkafka has no such property")))
            }
            Err(_) => Err(ConfigError::Client(format!("{name}: librdkafka does not take this value for it"))),
            Ok(_) => Ok(()),
        }
    }

    /// The client's settings; secrets are read now.
    ///
    /// # Errors
    /// When a secret is missing, or a property is ours.
    pub(crate) fn client(&self) -> Result<ClientConfig, ConfigError> {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Info);
        for (key, value) in DEFAULTS {
            client.set(*key, *value);
        }
        client.set("bootstrap.servers", &self.brokers).set("group.id", &self.group);
        self.secure(&mut client)?;
        for (key, value) in &self.properties {
            Self::check_property(key, value)?;
            client.set(key, value);
        }
        Ok(client)
    }

    pub(crate) fn secure(&self, client: &mut ClientConfig) -> Result<(), ConfigError> {
        let protocol = match (&self.sasl, &self.tls) {
            (None, None) => return Ok(()),
            (Some(_), None) => "sasl_plaintext",
            (None, Some(_)) => "ssl",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(sasl) = &self.sasl {
            let mechanism = match sasl.mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            client.set("sasl.mechanism", mechanism).set("sasl.username", &sasl.username).set("sasl.password", sasl.password.reveal()?);
        }
        if let Some(tls) = &self.tls {
            if let Some(ca) = &tls.ca {
                client.set("ssl.ca.location", ca.to_string_lossy());
            }
            if let Some((certificate, key)) = &tls.certificate {
                client.set("ssl.certificate.location", certificate.to_string_lossy()).set("ssl.key.location", key.to_string_lossy());
            }
            if let Some(password) = &tls.key_password {
                client.set("ssl.key.password", password.reveal()?);
            }
        }
        Ok(())
    }
}

const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "fink"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // An offset that is not there must be an error, never a silent jump.
    ("auto.offset.reset", "error"),
    ("check.crcs", "true"),
    // The prefetch queue is small, and refilled at once: by default fetching pauses a second whenever it is full.
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "2"),
    // A response larger than the queue would only hold memory; a single larger message still comes whole.
    ("fetch.max.bytes", "16777216"),
    ("message.max.bytes", "16777216"),
    ("receive.message.max.bytes", "268435456"),
    ("reconnect.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
    ("allow.auto.create.topics", "false"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_names_or_a_pattern() {
        let pattern = Topics::parse("^ztf_.*").expect("pattern");
        assert!(pattern.matches("ztf_20261123") && !pattern.matches("lsst"));
        assert!(!Topics::parse("^.*").expect("pattern").matches("__consumer_offsets"));
        let names = Topics::parse("a, b").expect("names");
        assert!(names.matches("b") && !names.matches("ab"));
        assert!(matches!(Topics::parse(" ,"), Err(ConfigError::NoTopic)));
        assert!(matches!(Topics::parse("^("), Err(ConfigError::Pattern(_))));
    }

    #[test]
    fn secrets_are_never_shown_and_reserved_properties_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\n").expect("write");
        let mut config = KafkaConfig::new("h:1", Topics::parse("t").expect("topic"));
        let password = Secret::File(path);
        config.sasl = Some(Sasl { mechanism: Mechanism::ScramSha512, username: "me".into(), password });
        config.properties.insert("ssl.keystore.password".into(), "hunter2".into());
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.client().expect("client").get("sasl.password"), Some("hunter2"));
        config.properties.insert("auto.offset.reset".into(), "latest".into());
        assert!(matches!(config.client(), Err(ConfigError::Reserved(..))));
        for (name, value) in [("clinet.id", "hunter2"), ("socket.timeout.ms", "hunter2")] {
            let error = KafkaConfig::check_property(name, value).expect_err("no such property, or value").to_string();
            assert!(error.starts_with(name) && !error.contains("hunter2"), "{error}");
        }
        let missing = Secret::Env("FINK_NO_SUCH_VARIABLE".into());
        assert!(matches!(missing.reveal(), Err(ConfigError::NoVariable(_))));
    }
}
