//! Reads a configuration file, and says of what is wrong in it: file, line, key, and what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::keys::{Key, SECTIONS, Section};

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {reason}; give another with -c FILE, or write one with `fink init`", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something in the file, or a flag, is wrong.
    #[error("{place}: {what}")]
    At {
        /// File, line and key; or the flag.
        place: String,
        /// What is wrong, and what to do.
        what: String,
    },
}

/// A configuration file's text.
pub struct Source {
    /// The file's name, for messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn open(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::File { file: file.to_owned(), reason: error.to_string() })?;
        Ok(Self { name: file.display().to_string(), text })
    }

    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn error(&self, offset: usize, what: String) -> ConfigError {
        ConfigError::At { place: format!("{}:{}", self.name, self.line(offset)), what }
    }
}

/// Checks names and types of all that the text sets, and returns the line of each key by `section.key`.
pub fn check(source: &Source) -> Result<BTreeMap<String, usize>, ConfigError> {
    let parsed = DeTable::parse(&source.text)
        .map_err(|error| source.error(error.span().map_or(0, |span| span.start), format!("not TOML: {}", error.message())))?;
    let mut lines = BTreeMap::new();
    for (name, value) in parsed.get_ref() {
        let section = find_section(source, name.span().start, name.get_ref(), value.get_ref())?;
        let DeValue::Table(keys) = value.get_ref() else {
            return Err(source.error(name.span().start, format!("{} is a section: write [{}]", section.name, section.name)));
        };
        for (key_name, value) in keys {
            let at = key_name.span().start;
            let key = find_key(source, at, section, key_name.get_ref())?;
            if !(key.accepts)(value.get_ref()) {
                let is = &source.text[value.span()];
                let what = format!("{}.{} = {is}: takes {}", section.name, key.name, key.takes);
                return Err(source.error(at, what));
            }
            lines.insert(format!("{}.{}", section.name, key.name), source.line(at));
        }
    }
    Ok(lines)
}

fn find_section(source: &Source, at: usize, name: &str, value: &DeValue<'_>) -> Result<&'static Section, ConfigError> {
    if let Some(section) = SECTIONS.into_iter().find(|section| section.name == name) {
        return Ok(section);
    }
    // A key above all sections is easier to forget a header for than to invent.
    let home = SECTIONS.into_iter().find(|section| section.keys.iter().any(|key| key.name == name));
    if let (Some(home), false) = (home, matches!(value, DeValue::Table(_))) {
        return Err(source.error(at, format!("`{name}` stands in no section: put it below [{}]", home.name)));
    }
    let names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
    Err(source.error(at, format!("unknown section [{name}]{}", suggestion(name, &names))))
}

fn find_key(source: &Source, at: usize, section: &'static Section, name: &str) -> Result<&'static Key, ConfigError> {
    if let Some(key) = section.keys.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    let elsewhere = SECTIONS.into_iter().find(|other| other.keys.iter().any(|key| key.name == name));
    let hint = match elsewhere {
        Some(other) => format!("; [{}] has it: did you mean it there?", other.name),
        None => suggestion(name, &section.keys.iter().map(|key| key.name).collect::<Vec<_>>()),
    };
    Err(source.error(at, format!("unknown key `{name}` in [{}]{hint}", section.name)))
}

/// The nearest of `known`, as a question; all of them where none is near.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|each| (strsim::damerau_levenshtein(name, each), each)).min();
    match near {
        Some((distance, each)) if distance <= 1 + each.len() / 3 => format!("; did you mean `{each}`?"),
        _ => format!("; known are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        check(&Source { name: "fink.toml".to_owned(), text: text.to_owned() }).unwrap_err().to_string()
    }

    #[test]
    fn says_line_key_and_what_to_do() {
        assert_eq!(
            wrong("[archive]\n\ncommit_intervall_s = 2\n"),
            "fink.toml:3: unknown key `commit_intervall_s` in [archive]; did you mean `commit_interval_s`?"
        );
        assert_eq!(wrong("\n[kafak]\nbrokers = \"a\"\n"), "fink.toml:2: unknown section [kafak]; did you mean `kafka`?");
        assert_eq!(wrong("brokers = \"a\"\n"), "fink.toml:1: `brokers` stands in no section: put it below [kafka]");
        assert_eq!(
            wrong("[archive]\nbrokers = \"a\"\n"),
            "fink.toml:2: unknown key `brokers` in [archive]; [kafka] has it: did you mean it there?"
        );
        assert_eq!(wrong("archive = 3\n"), "fink.toml:1: archive is a section: write [archive]");
    }

    #[test]
    fn says_what_a_key_takes() {
        assert_eq!(
            wrong("[archive]\npath = \"a\"\ncommit_interval_s = \"soon\"\n"),
            "fink.toml:3: archive.commit_interval_s = \"soon\": takes a number, 0 or more"
        );
        assert_eq!(wrong("[run]\nworkers = -2\n"), "fink.toml:2: run.workers = -2: takes a whole number, 0 or more");
        assert_eq!(wrong("[run]\nworkers = 1.5\n"), "fink.toml:2: run.workers = 1.5: takes a whole number, 0 or more");
        assert_eq!(
            wrong("[kafka]\ntopics = \"ztf\"\n"),
            "fink.toml:2: kafka.topics = \"ztf\": takes a list of texts, such as [\"a\", \"b\"]"
        );
        assert_eq!(wrong("[simulator]\nsize = \"big\"\n"), "fink.toml:2: simulator.size = \"big\": takes \"small\" or \"full\"");
        assert_eq!(
            wrong("[kafka.properties]\na = 1\n"),
            "fink.toml:1: kafka.properties = [kafka.properties]: takes a table of texts, such as { name = \"value\" }"
        );
    }

    #[test]
    fn says_where_it_is_no_toml() {
        assert!(wrong("[archive]\npath = \n").starts_with("fink.toml:2: not TOML: "), "{}", wrong("[archive]\npath = \n"));
        assert!(wrong("[archive]\npath = 'a'\npath = 'b'\n").starts_with("fink.toml:3: not TOML: "));
    }

    #[test]
    fn knows_the_line_of_each_key() {
        let text = "[archive]\npath = \"a\"\n[run]\n\nworkers = 2\n".to_owned();
        let lines = check(&Source { name: "f".to_owned(), text }).unwrap();
        assert_eq!(lines.into_iter().collect::<Vec<_>>(), [("archive.path".to_owned(), 2), ("run.workers".to_owned(), 5)]);
    }
}
