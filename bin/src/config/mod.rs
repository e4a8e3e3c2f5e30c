//! The configuration: one typed structure, made of defaults, then a TOML file, then flags.
//!
//! | module | what it is |
//! |---|---|
//! | [`keys`] | the keys, each documented once, and the commented file of `fink init` |
//! | [`read`] | reads a file and says what is wrong in it |
//! | [`resolve`] | makes the settings of a run of it |

mod cluster;
mod kafka;
pub mod keys;
pub mod read;
pub mod resolve;
mod secrets;
mod services;

use std::collections::BTreeMap;
use std::path::Path;

pub use keys::Config;
pub use read::ConfigError;
pub(crate) use services::catalogue_file;

/// A configuration, and where each of its values was set.
pub struct Configured {
    /// The values.
    pub config: Config,
    /// Who set what: `section.key` → `fink.toml:3: section.key`, or a flag.
    places: BTreeMap<String, String>,
}

/// A value that a flag sets.
pub struct Flag {
    /// The flag, such as `--archive`.
    pub flag: &'static str,
    /// The section that it wins over.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: toml::Value,
}

/// The file that is read where none is named, if it is there.
pub const USUAL_FILE: &str = "fink.toml";

/// Reads `file`, or [`USUAL_FILE`] if it is there, and lays the flags over it.
///
/// # Errors
/// When the file can't be read, or something in it is wrong.
pub fn load(file: Option<&Path>, flags: Vec<Flag>) -> Result<Configured, ConfigError> {
    let usual = Path::new(USUAL_FILE);
    let source = match file {
        Some(file) => Some(read::Source::open(file)?),
        None if usual.is_file() => {
            tracing::info!(file = USUAL_FILE, "reads the configuration");
            Some(read::Source::open(usual)?)
        }
        None => None,
    };
    merge(source.as_ref(), flags)
}

fn merge(source: Option<&read::Source>, flags: Vec<Flag>) -> Result<Configured, ConfigError> {
    let mut table = keys::defaults();
    let mut places = BTreeMap::new();
    if let Some(source) = source {
        for (key, line) in read::check(source)? {
            places.insert(key.clone(), format!("{}:{line}: {key}", source.name));
        }
        let file: toml::Table = source.text.parse().expect("checked to be TOML");
        for (section, keys) in file {
            for (key, value) in keys.try_into::<toml::Table>().expect("checked to be a section") {
                set(&mut table, &section, &key, value);
            }
        }
    }
    for Flag { flag, section, key, value } in flags {
        places.insert(format!("{section}.{key}"), flag.to_owned());
        match (table.get_mut(section).and_then(|keys| keys.get_mut(key)), value) {
            // Tables grow by flags: `--property` adds to the file's.
            (Some(toml::Value::Table(there)), toml::Value::Table(more)) => there.extend(more),
            (_, value) => set(&mut table, section, key, value),
        }
    }
    let config = toml::Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::At { place: "configuration".to_owned(), what: error.message().to_owned() })?;
    Ok(Configured { config, places })
}

fn set(table: &mut toml::Table, section: &str, key: &str, value: toml::Value) {
    if let Some(toml::Value::Table(keys)) = table.get_mut(section) {
        keys.insert(key.to_owned(), value);
    }
}

impl Configured {
    /// An error about a key, with the place that set it.
    pub(crate) fn wrong(&self, key: &str, what: impl Into<String>) -> ConfigError {
        let place = self.places.get(key).cloned().unwrap_or_else(|| format!("{key} (not set)"));
        ConfigError::At { place, what: what.into() }
    }

    /// Whether file or flags set a key.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A configuration of a text and flags.
    pub(crate) fn configured(text: &str, flags: Vec<Flag>) -> Result<Configured, ConfigError> {
        merge(Some(&read::Source { name: "fink.toml".to_owned(), text: text.to_owned() }), flags)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "[archive]\npath = \"file\"\ngroup_mib = 7\n[kafka.properties]\na = \"1\"\nb = \"1\"\n";
        let more: toml::Table = "b = \"2\"\nc = \"2\"".parse().unwrap();
        let flags = vec![
            Flag { flag: "--archive", section: "archive", key: "path", value: "flag".into() },
            Flag { flag: "--property", section: "kafka", key: "properties", value: more.into() },
        ];
        let merged = configured(text, flags).unwrap();
        let archive = &merged.config.archive;
        assert_eq!((archive.path.as_str(), archive.group_mib, archive.compact_mib), ("flag", 7, 256));
        let properties: Vec<_> = merged.config.kafka.properties.clone().unwrap().into_iter().map(|(k, v)| k + &v).collect();
        assert_eq!(properties, ["a1", "b2", "c2"]);
        assert_eq!(merged.wrong("archive.path", "no").to_string(), "--archive: no");
        assert_eq!(merged.wrong("archive.group_mib", "no").to_string(), "fink.toml:3: archive.group_mib: no");
    }
}
