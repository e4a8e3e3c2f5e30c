//! The sources' own configurations, made of settings.

use fink_sources::kafka::{KafkaConfig, Topics};

use crate::settings::KafkaClient;

/// A Kafka source's configuration.
#[must_use]
pub fn kafka_config(client: &KafkaClient, topics: Topics) -> KafkaConfig {
    let mut config = KafkaConfig::new(client.brokers.clone(), topics);
    (config.sasl, config.tls) = (client.sasl.clone(), client.tls.clone());
    config.properties.extend(client.properties.clone());
    config
}

/// Names and patterns as the source takes them: names alone, or one pattern that stands for all.
///
/// # Errors
/// When a pattern is none.
pub fn topics(names: &[String]) -> anyhow::Result<Topics> {
    if names.iter().all(|name| !name.starts_with('^')) {
        return Ok(Topics::Names(names.to_vec()));
    }
    let one = |name: &String| if name.starts_with('^') { format!("(?:{name})") } else { format!("^{}$", regex::escape(name)) };
    let pattern = match names {
        [name] => name.clone(),
        names => names.iter().map(one).collect::<Vec<_>>().join("|"),
    };
    Ok(Topics::Pattern(regex::Regex::new(&pattern)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_go_together() {
        let all = topics(&["ztf.a".to_owned(), "^lsst_\\d+$".to_owned()]).unwrap();
        assert!(all.matches("ztf.a") && all.matches("lsst_12"));
        assert!(!all.matches("ztf_a") && !all.matches("xztf.a") && !all.matches("lsst_x") && !all.matches("xlsst_1"));
        assert!(matches!(topics(&["a".to_owned()]).unwrap(), Topics::Names(names) if names == ["a"]));
    }
}
