//! Makes the settings of a run of a configuration, and checks what can be checked before anything starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fink_dataflow::mesh::Place;
use fink_sources::kafka::Secret;

use super::{ConfigError, Configured, secrets};
use crate::own::Own;
use crate::serve::parse_address;
use crate::services::Chosen;
use crate::settings::{
    ArchiveRun, Commit, End, Fence, FilesInput, FollowRun, Incarnation, Input, KafkaInput, Lanes, Schemas, SimulatorInput,
};

const MIB: u64 = 1024 * 1024;

/// What only flags say.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// `--simulator`, `--files` or `--brokers`; `None`: what the configuration names.
    pub input: Option<Which>,
    /// When the run ends by itself.
    pub end: End,
    /// `--new-incarnation`.
    pub incarnation: Incarnation,
    /// `--take-over`.
    pub fence: Fence,
    /// The services that run beside the archive.
    pub services: Chosen,
    /// `--hosts` and `--process`.
    pub place: Option<Place>,
    /// Services of one's own that do.
    pub own: Vec<Own>,
}

/// A kind of input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    /// Kafka.
    Kafka,
    /// The simulator in the process.
    Simulator,
    /// A folder of files.
    Files,
}

impl Configured {
    /// The settings of `fink start archive`.
    ///
    /// # Errors
    /// When something is missing or can't be.
    pub fn archive_run(&self, choices: &Choices) -> Result<ArchiveRun, ConfigError> {
        let run = &self.config.run;
        let lanes = match run.lanes {
            1 => Lanes::One,
            2 => Lanes::Two,
            other => return Err(self.wrong("run.lanes", format!("{other} lanes: there are 1 or 2"))),
        };
        let cluster = choices.place.as_ref().map(|place| self.cluster(place, choices)).transpose()?;
        Ok(ArchiveRun {
            archive: self.archive()?,
            store: self.store()?,
            input: self.input(choices.input)?,
            schemas: self.schemas()?,
            commit: self.commit()?,
            services: self.services(&choices.services, &choices.own)?,
            workers: self.workers()?,
            lanes,
            http: self.http()?,
            in_flight_bytes: self.in_flight_bytes()?,
            end: choices.end,
            incarnation: choices.incarnation,
            fence: choices.fence,
            cluster,
        })
    }

    /// The settings of `fink start services`: services that follow an archive.
    ///
    /// # Errors
    /// When something is missing or can't be.
    pub fn follow_run(&self, choices: &Choices) -> Result<FollowRun, ConfigError> {
        Ok(FollowRun {
            archive: self.archive()?,
            store: self.store()?,
            services: self.services(&choices.services, &choices.own)?,
            workers: self.workers()?,
            http: self.http()?,
            in_flight_bytes: self.in_flight_bytes()?,
            after: choices.end.after,
        })
    }

    fn workers(&self) -> Result<usize, ConfigError> {
        let workers = match self.config.run.workers {
            Some(0) => return Err(self.wrong("run.workers", "at least 1 worker is needed")),
            Some(workers) => usize::try_from(workers).unwrap_or(usize::MAX),
            None => std::thread::available_parallelism().map_or(1, usize::from).min(4),
        };
        match workers {
            257.. => Err(self.wrong("run.workers", format!("{workers} workers are more than 256: a worker is a thread"))),
            _ => Ok(workers),
        }
    }

    fn http(&self) -> Result<Option<std::net::SocketAddr>, ConfigError> {
        self.config.run.http.as_deref().map(parse_address).transpose().map_err(|why| self.wrong("run.http", why))
    }

    fn in_flight_bytes(&self) -> Result<usize, ConfigError> {
        match self.config.run.in_flight_mib {
            0 => Err(self.wrong("run.in_flight_mib", "at least 1 MiB is needed")),
            mib => Ok(bytes(mib)),
        }
    }

    /// The archive's path or URL.
    ///
    /// # Errors
    /// When it is no URL of a kind that is known, or no folder can be there.
    pub fn archive(&self) -> Result<String, ConfigError> {
        let path = &self.config.archive.path;
        let wrong = |what: String| self.wrong("archive.path", what);
        if path.is_empty() {
            return Err(wrong("is empty: name a folder, or a URL".to_owned()));
        }
        if secrets::holds_login(path) {
            return Err(wrong("holds a login: write the URL without it; a store's keys are read from the environment".to_owned()));
        }
        match path.split_once("://") {
            Some(("file", local)) => possible_folder(Path::new(local)).map_err(wrong)?,
            Some(("hdfs" | "s3" | "s3a", _)) => {
                url::Url::parse(path).map_err(|error| wrong(format!("{path}: {error}")))?;
            }
            Some((scheme, _)) => {
                return Err(wrong(format!("{path}: {scheme}:// is not known; known are a path, file://, hdfs://, s3://")));
            }
            None => possible_folder(Path::new(path)).map_err(wrong)?,
        }
        Ok(path.clone())
    }

    /// Settings of the archive's store.
    ///
    /// # Errors
    /// When one of them is a secret.
    pub fn store(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let store = self.config.archive.store.clone().unwrap_or_default();
        match store.keys().find(|name| secrets::is_store_secret(name)) {
            Some(name) => {
                let what = format!("`{name}` is a secret: put it into the environment ({}), not here", name.to_ascii_uppercase());
                Err(self.wrong("archive.store", what))
            }
            None => Ok(store),
        }
    }

    /// The password of a section. It is looked up now, so that a missing one is told before anything starts, and kept by
    /// its place only.
    pub(super) fn secret(&self, section: &str, env: &Option<String>, file: &Option<String>) -> Result<Option<Secret>, ConfigError> {
        let wrong = |key: &str, what: String| self.wrong(&format!("{section}.{key}"), what);
        match (env, file) {
            (Some(_), Some(_)) => Err(wrong("password_file", "password_env is set too: one of them is enough".to_owned())),
            (Some(name), None) => match secrets::from_env(name) {
                Ok(_) => Ok(Some(Secret::Env(name.clone()))),
                Err(what) => Err(wrong("password_env", what)),
            },
            (None, Some(file)) => match secrets::from_file(Path::new(file)) {
                Ok(_) => Ok(Some(Secret::File(PathBuf::from(file)))),
                Err(what) => Err(wrong("password_file", what)),
            },
            (None, None) => Ok(None),
        }
    }

    pub(super) fn input(&self, which: Option<Which>) -> Result<Input, ConfigError> {
        let config = &self.config;
        match which {
            Some(Which::Simulator) => Ok(Input::Simulator(self.simulator()?)),
            Some(Which::Files) => Ok(Input::Files(self.files()?)),
            None if config.kafka.brokers.is_none() && config.files.folder.is_some() => Ok(Input::Files(self.files()?)),
            Some(Which::Kafka) | None => match self.kafka_client()? {
                Some(client) => Ok(Input::Kafka(KafkaInput { client, topics: self.topics()?, from: self.start()? })),
                None => Err(ConfigError::At {
                    place: "nothing to listen to".to_owned(),
                    what: "give --simulator, or --brokers HOST:PORT --topic NAME, or --files FOLDER (or set them with -c FILE)".to_owned(),
                }),
            },
        }
    }

    /// The simulator's stream.
    ///
    /// # Errors
    /// When it could not be.
    pub fn simulator(&self) -> Result<SimulatorInput, ConfigError> {
        let simulator = &self.config.simulator;
        if !(0.001..=1e9).contains(&simulator.rate) {
            return Err(self.wrong("simulator.rate", "takes 0.001 to 1000000000 alerts a second"));
        }
        Ok(SimulatorInput {
            topic: simulator.topic.clone(),
            seed: simulator.seed,
            rate: simulator.rate,
            partitions: self.partitions()?,
            survey: simulator.survey,
            size: simulator.size,
            backlog: simulator.backlog,
        })
    }

    /// Partitions of the simulator's topic.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn partitions(&self) -> Result<i32, ConfigError> {
        match i32::try_from(self.config.simulator.partitions) {
            Ok(partitions @ 1..=4096) => Ok(partitions),
            _ => Err(self.wrong("simulator.partitions", "takes 1 to 4096")),
        }
    }

    fn files(&self) -> Result<FilesInput, ConfigError> {
        let Some(folder) = &self.config.files.folder else {
            return Err(self.wrong("files.folder", "name the folder of Avro files"));
        };
        let folder = existing_folder(Path::new(folder)).map_err(|what| self.wrong("files.folder", what))?;
        let name = || folder.canonicalize().ok()?.file_name()?.to_str().map(str::to_owned);
        let topic = self.config.files.topic.clone().or_else(name).unwrap_or_else(|| "files".to_owned());
        Ok(FilesInput { folder, topic })
    }

    /// Where schemas come from.
    ///
    /// # Errors
    /// When a folder or file is not there.
    pub fn schemas(&self) -> Result<Schemas, ConfigError> {
        let schemas = &self.config.schemas;
        let registry = self.registry()?;
        let folder = match &schemas.folder {
            Some(folder) => Some(existing_folder(Path::new(folder)).map_err(|what| self.wrong("schemas.folder", what))?),
            None => None,
        };
        let mut datum = BTreeMap::new();
        for (topic, file) in schemas.datum.iter().flatten() {
            readable_file(Path::new(file)).map_err(|what| self.wrong("schemas.datum", what))?;
            datum.insert(topic.clone(), PathBuf::from(file));
        }
        let unknown_after = self.duration("schemas.unknown_after_s", schemas.unknown_after_s, 1.0)?;
        Ok(Schemas { registry, login: self.login()?, folder, datum, unknown_after })
    }

    /// The schema registry's URL.
    ///
    /// # Errors
    /// When it is none, or holds a login.
    pub fn registry(&self) -> Result<Option<String>, ConfigError> {
        let Some(registry) = &self.config.schemas.registry else { return Ok(None) };
        if registry.contains('@') {
            let what = "holds a login: write the URL without it, and set schemas.username and schemas.password_env (or password_file)";
            return Err(self.wrong("schemas.registry", what));
        }
        let known = url::Url::parse(registry).is_ok_and(|url| ["http", "https"].contains(&url.scheme()));
        match known {
            true => Ok(Some(registry.clone())),
            false => Err(self.wrong("schemas.registry", format!("`{registry}` is no http:// or https:// URL"))),
        }
    }

    /// Who we are to the schema registry, if it asks.
    ///
    /// # Errors
    /// When half of it is missing.
    pub fn login(&self) -> Result<Option<(String, Secret)>, ConfigError> {
        let schemas = &self.config.schemas;
        match (&schemas.username, self.secret("schemas", &schemas.password_env, &schemas.password_file)?) {
            (Some(_), _) if schemas.registry.is_none() => Err(self.wrong("schemas.username", "there is no schemas.registry to show it to")),
            (Some(name), Some(password)) => Ok(Some((name.clone(), password))),
            (None, None) => Ok(None),
            (Some(_), None) => {
                let what = "schemas.password_env or schemas.password_file is needed with it: name the variable that holds the password";
                Err(self.wrong("schemas.username", what))
            }
            (None, Some(_)) => Err(self.wrong("schemas.username", "is needed with the password for the registry")),
        }
    }

    /// How the archive is written.
    ///
    /// # Errors
    /// When a bound is none.
    pub fn commit(&self) -> Result<Commit, ConfigError> {
        let archive = &self.config.archive;
        if archive.group_mib == 0 {
            return Err(self.wrong("archive.group_mib", "at least 1 MiB is needed"));
        }
        if archive.writers_mib == 0 {
            return Err(self.wrong("archive.writers_mib", "at least 1 MiB is needed"));
        }
        Ok(Commit {
            interval: self.duration("archive.commit_interval_s", archive.commit_interval_s, 1.0)?,
            group_bytes: bytes(archive.group_mib),
            writers_bytes: bytes(archive.writers_mib),
            compact_bytes: (archive.compact_mib > 0).then(|| archive.compact_mib.saturating_mul(MIB)),
            vacuum_after: self.duration("archive.vacuum_after_h", archive.vacuum_after_h, 3600.0)?,
        })
    }

    pub(super) fn duration(&self, key: &str, value: f64, unit_s: f64) -> Result<Duration, ConfigError> {
        Duration::try_from_secs_f64(value * unit_s)
            .ok()
            .filter(|long| *long < Duration::from_secs(100 * 366 * 86_400))
            .ok_or_else(|| self.wrong(key, format!("{value} is too long a time")))
    }
}

fn bytes(mib: u64) -> usize {
    usize::try_from(mib.saturating_mul(MIB)).unwrap_or(usize::MAX)
}

/// Whether a folder is there, or can be made: what is there of its path must be folders.
fn possible_folder(path: &Path) -> Result<(), String> {
    let there = path.ancestors().find(|part| !part.as_os_str().is_empty() && part.symlink_metadata().is_ok());
    let Some(there) = there else { return Ok(()) };
    let kind = there.metadata().map_err(|error| format!("{}: {error}", there.display()))?;
    if !kind.is_dir() {
        return Err(format!("{} can't be a folder: {} is a file", path.display(), there.display()));
    }
    if kind.permissions().readonly() {
        return Err(format!("{} can't be written: {} is read-only", path.display(), there.display()));
    }
    Ok(())
}

fn existing_folder(path: &Path) -> Result<PathBuf, String> {
    match path.metadata() {
        Ok(kind) if kind.is_dir() => Ok(path.to_owned()),
        Ok(_) => Err(format!("{} is a file: a folder is needed", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

pub(super) fn readable_file(path: &Path) -> Result<(), String> {
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(kind) if kind.is_dir() => Err(format!("{} is a folder: a file is needed", path.display())),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use fink_sources::kafka::Mechanism;

    use super::super::tests::configured;
    use super::*;
    use crate::settings::Start;

    fn run(text: &str) -> Result<ArchiveRun, String> {
        let kafka = if text.contains("[kafka]") { "" } else { "[kafka]\nbrokers = \"h:9\"\ntopics = [\"t\"]\n" };
        let text = format!("{text}{kafka}");
        configured(&text, Vec::new()).and_then(|c| c.archive_run(&Choices::default())).map_err(|error| error.to_string())
    }

    #[test]
    fn resolves_defaults() {
        let run = run("").unwrap();
        assert_eq!(run.commit.interval, Duration::from_secs(1));
        assert_eq!((run.commit.group_bytes, run.commit.compact_bytes), (128 << 20, Some(256 << 20)));
        let Input::Kafka(kafka) = run.input else { panic!("kafka was named") };
        assert_eq!((kafka.topics, kafka.from), (vec!["t".to_owned()], Start::Latest));
        assert!(kafka.client.sasl.is_none() && kafka.client.tls.is_none());
    }

    #[test]
    fn says_what_is_missing() {
        let nothing = configured("", Vec::new()).unwrap().archive_run(&Choices::default()).unwrap_err().to_string();
        assert!(nothing.contains("--simulator") && nothing.contains("--brokers"), "{nothing}");
        assert!(run("[kafka]\nbrokers = \"h:9\"\n").unwrap_err().contains("--topic NAME"));
        assert_eq!(run("[kafka]\n\nbrokers = \"h\"\n").unwrap_err(), "fink.toml:3: kafka.brokers: `h` is not host:port");
    }

    #[test]
    fn says_which_path_is_impossible() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let file = file.display();
        let error = run(&format!("[archive]\npath = \"{file}/archive\"\n")).unwrap_err();
        assert_eq!(error, format!("fink.toml:2: archive.path: {file}/archive can't be a folder: {file} is a file"));
        let error = run("[archive]\npath = \"ftp://host/a\"\n").unwrap_err();
        assert!(error.starts_with("fink.toml:2: archive.path: ftp://host/a: ftp:// is not known"), "{error}");
        let error = run("[schemas]\nfolder = \"/nowhere/at/all\"\n").unwrap_err();
        assert!(error.starts_with("fink.toml:2: schemas.folder: /nowhere/at/all: "), "{error}");
        let error = run(&format!("[schemas]\n[schemas.datum]\nt = \"{}\"\n", folder.path().display())).unwrap_err();
        assert!(error.contains("schemas.datum") && error.contains("is a folder"), "{error}");
    }

    #[test]
    fn a_login_in_an_address_is_refused_and_not_shown() {
        let of = |text: &str| {
            let error = run(text).unwrap_err();
            assert!(!error.contains("hunter2") && error.contains(":2: "), "{error}");
            error
        };
        // As a URL has it, with a password that ends the host for a parser, and with a URL's beginning forgotten.
        for registry in ["http://user:hunter2@host:8081", "http://user:hunter2/1@host", "ftp://user:hunter2@host", "user:hunter2@host"] {
            assert!(of(&format!("[schemas]\nregistry = \"{registry}\"\n")).contains("schemas.password_env"));
        }
        for archive in ["s3://key:hunter2@bucket/a", "s3://hunter2@bucket", "ftp://user:hunter2@host/a", "hdfs://user:hunter2@"] {
            assert!(of(&format!("[archive]\npath = \"{archive}\"\n")).contains("without it"));
        }
        assert!(run("[archive]\npath = \"s3://bucket/night@palomar\"\n").is_ok());
        assert!(of("[kafka]\nbrokers = \"user:hunter2@host:9\"\ntopics = [\"t\"]\n").contains("kafka.password_env"));
    }

    #[test]
    fn takes_a_group_and_refuses_what_is_not_a_property_by_its_line() {
        let kafka = "[kafka]\nbrokers = \"h:9\"\ntopics = [\"t\"]\n";
        let group = |text: &str| match run(&format!("{kafka}{text}")).unwrap().input {
            Input::Kafka(kafka) => kafka.client.group,
            _ => panic!("kafka was named"),
        };
        assert_eq!((group(""), group("group = \"night-shift\"\n")), ("fink".to_owned(), "night-shift".to_owned()));
        assert_eq!(
            run(&format!("{kafka}group = \"\"\n")).unwrap_err(),
            "fink.toml:4: kafka.group: is empty: name a group, such as \"fink\""
        );
        let refused = |property: &str| run(&format!("{kafka}properties = {{ {property} }}\n")).unwrap_err();
        let of = |property: &str| refused(property).strip_prefix("fink.toml:4: kafka.properties: ").map(str::to_owned).unwrap();
        assert_eq!(of("\"group.id\" = \"x\""), "group.id can't be set here: kafka.group (or --group) says it");
        assert!(of("\"auto.offset.reset\" = \"latest\"").contains("reading depends on it"));
        assert_eq!(of("\"clinet.id\" = \"x\""), "clinet.id: librdkafka has no such property");
        let error = of("\"socket.timeout.ms\" = \"hunter2\"");
        assert!(error.contains("socket.timeout.ms") && !error.contains("hunter2"), "{error}");
        assert!(of("\"sasl.password\" = \"hunter2\"").contains("kafka.password_env"));
    }

    #[test]
    fn takes_the_login_of_the_registry_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let password = format!("password_file = \"{}\"\n", file.display());
        let registry = "[schemas]\nregistry = \"http://h:8081\"\n";
        let run_ = run(&format!("{registry}username = \"u\"\n{password}")).unwrap();
        assert!(!format!("{run_:?}").contains("hunter2"));
        let (name, secret) = run_.schemas.login.unwrap();
        assert_eq!((name.as_str(), secret.reveal().unwrap().as_str()), ("u", "hunter2"));
        for half in ["username = \"u\"\n", &password, "username = \"u\"\npassword_env = \"FINK_NO_SUCH_VARIABLE\"\n"] {
            let error = run(&format!("{registry}{half}")).unwrap_err();
            assert!(error.contains("schemas.") && !error.contains("hunter2"), "{error}");
        }
        assert!(run(&format!("[schemas]\nusername = \"u\"\n{password}")).unwrap_err().contains("no schemas.registry"));
    }

    #[test]
    fn takes_the_password_from_where_it_is_kept_and_never_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let text = format!(
            "[kafka]\nbrokers = \"h:9\"\ntopics = [\"t\"]\nsecurity = \"sasl_ssl\"\nusername = \"u\"\npassword_file = \"{}\"\n",
            file.display()
        );
        let run_ = run(&text).unwrap();
        assert!(!format!("{run_:?}").contains("hunter2"));
        let Input::Kafka(kafka) = run_.input else { panic!("kafka was named") };
        let sasl = kafka.client.sasl.unwrap();
        assert_eq!(sasl.password.reveal().unwrap(), "hunter2");
        assert!(sasl.mechanism == Mechanism::ScramSha512 && kafka.client.tls.is_some());
        let without = text.lines().filter(|line| !line.starts_with("password")).map(|line| format!("{line}\n")).collect::<String>();
        assert!(run(&without).unwrap_err().contains("kafka.password_env"));
        let error = run("[archive]\nstore = { aws_secret_access_key = \"x\" }\n").unwrap_err();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
    }
}
