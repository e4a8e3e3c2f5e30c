//! What the section `kafka` comes to: brokers, security, topics, where to start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fink_sources::kafka::{KafkaConfig, Mechanism, Sasl, Secret, Tls};

use super::read::suggestion;
use super::resolve::readable_file;
use super::{ConfigError, Configured, secrets};
use crate::settings::{KafkaClient, Start, parse_start};

impl Configured {
    /// How to reach Kafka; `None` where no brokers are named.
    ///
    /// # Errors
    /// When something about security is missing or can't be.
    pub fn kafka_client(&self) -> Result<Option<KafkaClient>, ConfigError> {
        let kafka = &self.config.kafka;
        let Some(brokers) = &kafka.brokers else { return Ok(None) };
        if brokers.contains('@') {
            let what = "holds a login: write host:port alone, and set kafka.username and kafka.password_env (or password_file)";
            return Err(self.wrong("kafka.brokers", what));
        }
        for broker in brokers.split(',') {
            let port = broker.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(self.wrong("kafka.brokers", format!("`{broker}` is not host:port")));
            }
        }
        let security = self.security()?;
        let mut properties = BTreeMap::new();
        for (name, value) in kafka.properties.iter().flatten() {
            let wrong = |what: String| self.wrong("kafka.properties", what);
            let value = match KafkaConfig::reserved(name) {
                Some(why) => Err(format!("{name} can't be set here: {why}")),
                None => secrets::look_up(name, value),
            };
            let value = value.map_err(wrong)?;
            KafkaConfig::check_property(name, &value).map_err(|error| wrong(error.to_string()))?;
            properties.insert(name.clone(), value);
        }
        if kafka.group.is_empty() {
            return Err(self.wrong("kafka.group", "is empty: name a group, such as \"fink\""));
        }
        let sasl = if security.starts_with("sasl") { Some(self.sasl()?) } else { None };
        let tls = if security.ends_with("ssl") { Some(self.tls()?) } else { None };
        Ok(Some(KafkaClient { brokers: brokers.clone(), group: kafka.group.clone(), sasl, tls, properties }))
    }

    fn sasl(&self) -> Result<Sasl, ConfigError> {
        let kafka = &self.config.kafka;
        let Some(username) = &kafka.username else {
            return Err(self.wrong("kafka.username", format!("is needed with security = \"{}\"", kafka.security)));
        };
        Ok(Sasl { mechanism: self.mechanism()?, username: username.clone(), password: self.password()? })
    }

    fn tls(&self) -> Result<Tls, ConfigError> {
        let kafka = &self.config.kafka;
        let file = |key: &str, value: &Option<String>| match value {
            Some(file) => readable_file(Path::new(file)).map(|()| Some(PathBuf::from(file))).map_err(|what| self.wrong(key, what)),
            None => Ok(None),
        };
        let certificate = match (file("kafka.certificate", &kafka.certificate)?, file("kafka.key", &kafka.key)?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(self.wrong("kafka.key", "is needed with kafka.certificate")),
            (None, Some(_)) => return Err(self.wrong("kafka.certificate", "is needed with kafka.key")),
        };
        let key_password = file("kafka.key_password_file", &kafka.key_password_file)?.map(Secret::File);
        Ok(Tls { ca: file("kafka.ca", &kafka.ca)?, certificate, key_password })
    }

    fn security(&self) -> Result<&str, ConfigError> {
        let security = self.config.kafka.security.as_str();
        let known = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
        known
            .into_iter()
            .find(|each| *each == security.to_ascii_lowercase())
            .ok_or_else(|| self.wrong("kafka.security", format!("\"{security}\" is not known{}", suggestion(security, &known))))
    }

    fn mechanism(&self) -> Result<Mechanism, ConfigError> {
        let mechanism = self.config.kafka.mechanism.as_str();
        let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Ok(Mechanism::Plain),
            "SCRAM-SHA-256" => Ok(Mechanism::ScramSha256),
            "SCRAM-SHA-512" => Ok(Mechanism::ScramSha512),
            _ => Err(self.wrong("kafka.mechanism", format!("\"{mechanism}\" is not known{}", suggestion(mechanism, &known)))),
        }
    }

    fn password(&self) -> Result<Secret, ConfigError> {
        let kafka = &self.config.kafka;
        self.secret("kafka", &kafka.password_env, &kafka.password_file)?.ok_or_else(|| {
            let what = "or kafka.password_file is needed with a sasl security: name the variable that holds the password";
            self.wrong("kafka.password_env", what)
        })
    }

    pub(super) fn topics(&self) -> Result<Vec<String>, ConfigError> {
        let topics = &self.config.kafka.topics;
        if topics.is_empty() {
            return Err(self.wrong("kafka.topics", "name at least one topic: --topic NAME, or kafka.topics in the file"));
        }
        for topic in topics {
            if topic.starts_with('^') {
                regex::Regex::new(topic).map_err(|error| self.wrong("kafka.topics", format!("`{topic}` is no pattern: {error}")))?;
            } else if topic.is_empty() || !topic.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
                let what = format!("`{topic}` is no topic's name (letters, digits, . _ -); a pattern begins with ^");
                return Err(self.wrong("kafka.topics", what));
            }
        }
        Ok(topics.clone())
    }

    pub(super) fn start(&self) -> Result<Start, ConfigError> {
        parse_start(&self.config.kafka.from).map_err(|what| self.wrong("kafka.from", what))
    }
}
