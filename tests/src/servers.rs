//! Real Kafka, HDFS, schema registry and S3, for as long as a value lives.
//!
//! The scripts of `tests/servers/` start and stop them. Where a server can't be had (no Java, no Maven, no Go) `start`
//! says so and returns `None`: the test is skipped. With `FINK_REQUIRE_SERVERS=1` that is a failure, but for S3 without Go.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::places;

/// A server that runs.
pub struct Server {
    script: PathBuf,
    folder: TempDir,
    /// Its first port on 127.0.0.1.
    pub port: u16,
}

/// What may be asked of a running server.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// It ends at once.
    Kill,
    /// It stands still.
    Stop,
    /// It goes on.
    Continue,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

fn available(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Go's own installer puts it where often no path leads.
    let go = std::env::var_os("GOROOT").map(|root| Path::new(&root).join("bin"));
    std::env::split_paths(&path).chain(go).any(|folder| folder.join(program).is_file())
}

/// Whether these programs are here; says so and demands them where servers are required.
fn needs(what: &str, programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|p| !available(p)).collect();
    if missing.is_empty() {
        return true;
    }
    println!("skipped: {what} needs {missing:?}");
    assert!(std::env::var_os("FINK_REQUIRE_SERVERS").is_none(), "FINK_REQUIRE_SERVERS is set, and {what} needs {missing:?}");
    false
}

impl Server {
    fn start(script: &str, ports: u16, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let script = places::root().join("tests/servers").join(script);
        let folder = places::scratch(&script.file_stem().expect("a script has a name").to_string_lossy());
        let server = Self { script, folder, port: places::ports(ports) };
        server.up_with(more, environment);
        server
    }

    fn up_with(&self, more: &[&str], environment: &[(&str, &str)]) {
        let port = self.port.to_string();
        let mut command = Command::new(&self.script);
        command.arg("start").arg(self.folder.path()).arg(port).args(more).envs(environment.iter().copied()).stdout(Stdio::null());
        // A test that is killed drops nothing: the server's own guard stops it then.
        command.env("FINK_OWNER", std::process::id().to_string());
        assert!(command.status().expect("a script of ours can be run").success(), "{} did not start", self.script.display());
    }

    fn run(&self, command: &str, more: &[&str]) {
        let status = Command::new(&self.script).arg(command).arg(self.folder.path()).args(more).stdout(Stdio::null()).status();
        assert!(status.expect("a script of ours can be run").success(), "{} {command} {more:?} failed", self.script.display());
    }

    /// The server's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(&self.script).arg("stop").arg(self.folder.path()).stdout(Stdio::null()).status();
    }
}

/// A Kafka broker.
pub struct Kafka(Server);

impl Kafka {
    /// Starts one.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with settings of `kafka.sh`.
    #[must_use]
    pub fn start_with(environment: &[(&str, &str)]) -> Option<Self> {
        needs("Kafka", &["java", "mvn"]).then(|| Self(Server::start("kafka.sh", 4, &[], environment)))
    }

    /// Its bootstrap address.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.0.port)
    }

    /// Its address for SASL over TLS, where it was started with `KAFKA_SASL=1`.
    #[must_use]
    pub fn secure_brokers(&self) -> String {
        format!("127.0.0.1:{}", self.0.port + 2)
    }

    /// The certificate that clients of [`Kafka::secure_brokers`] must trust.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.0.folder().join("tls/ca.pem")
    }

    /// Signals it; after a kill [`Kafka::up`] brings it back with its data.
    pub fn signal(&self, signal: Signal) {
        self.0.run("signal", &[signal.name()]);
    }

    /// Starts it again.
    pub fn up(&self) {
        self.0.up_with(&[], &[]);
    }
}

/// An HDFS of several data nodes.
pub struct Hdfs(Server);

impl Hdfs {
    /// Starts one of so many data nodes, with so many copies of each block.
    #[must_use]
    pub fn start(nodes: u16, replication: u16) -> Option<Self> {
        let copies = replication.to_string();
        let start = || Self(Server::start("hdfs.sh", 10 + 3 * nodes, &[&nodes.to_string()], &[("HDFS_REPLICATION", &copies)]));
        needs("HDFS", &["java", "mvn", "curl"]).then(start)
    }

    /// A URL below its root.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("hdfs://127.0.0.1:{}/{path}", self.0.port)
    }

    /// The folder with the clients' configuration, for `HADOOP_CONF_DIR`.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.0.folder().join("conf")
    }

    /// Signals `nn` or `dn0`, `dn1`, …
    pub fn signal(&self, daemon: &str, signal: Signal) {
        self.0.run("signal", &[daemon, signal.name()]);
    }

    /// Starts a daemon that was killed.
    pub fn up(&self, daemon: &str) {
        self.0.run("up", &[daemon]);
    }

    /// Copies a folder out to the local disk, for readers without an HDFS client.
    pub fn copy_out(&self, path: &str, to: &Path) {
        self.0.run("dfs", &["-get", path, &to.to_string_lossy()]);
    }

    /// What HDFS' own file check says of everything that it holds.
    #[must_use]
    pub fn fsck(&self) -> String {
        let output = Command::new(&self.0.script).arg("fsck").arg(self.0.folder()).arg("/").output().expect("a script of ours can be run");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A schema registry, its content kept in memory.
pub struct Registry(Server);

impl Registry {
    /// Starts one.
    #[must_use]
    pub fn start() -> Option<Self> {
        needs("the schema registry", &["java", "mvn", "curl"]).then(|| Self(Server::start("registry.sh", 2, &[], &[])))
    }

    /// The base URL of its Confluent API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.0.port)
    }

    /// Registers a schema under a subject; returns its id.
    #[must_use]
    pub fn register(&self, subject: &str, schema: &str) -> u32 {
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        let url = format!("{}/subjects/{subject}/versions", self.url());
        let kind = "Content-Type: application/vnd.schemaregistry.v1+json";
        let mut curl = Command::new("curl");
        curl.args(["-fsS", "--noproxy", "*", "-X", "POST", "-H", kind, "--data-binary", "@-", &url]);
        let answer: serde_json::Value =
            serde_json::from_str(&crate::process::pipe(&mut curl, body.as_bytes())).expect("the registry answers JSON");
        u32::try_from(answer["id"].as_u64().expect("an id")).expect("ids are small")
    }

    /// Signals it. What it held is gone after a kill.
    pub fn signal(&self, signal: Signal) {
        self.0.run("signal", &[signal.name()]);
    }

    /// Starts it again, empty.
    pub fn up(&self) {
        self.0.up_with(&[], &[]);
    }
}

/// An S3 server with the bucket `archive`.
pub struct S3(Server);

impl S3 {
    /// Starts one.
    #[must_use]
    pub fn start() -> Option<Self> {
        let built = places::cache().join("jars/versitygw-v1.8.0/versitygw").is_file();
        // Nothing else needs Go: who has none tests the rest, even where servers are required.
        if !built && !available("go") {
            println!("skipped: S3 needs Go to build its server");
            return None;
        }
        (built || needs("S3", &["curl"])).then(|| Self(Server::start("s3.sh", 1, &[], &[])))
    }

    /// The settings that a client needs, as environment variables.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.0.port);
        let all = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "fink"),
            ("AWS_SECRET_ACCESS_KEY", "fink-secret"),
            ("NO_PROXY", "127.0.0.1"),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The folder that holds what is stored in the bucket.
    #[must_use]
    pub fn bucket(&self) -> PathBuf {
        self.0.folder().join("data/archive")
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) {
        self.0.run("signal", &[signal.name()]);
    }

    /// Starts it again with its data.
    pub fn up(&self) {
        self.0.up_with(&[], &[]);
    }
}
