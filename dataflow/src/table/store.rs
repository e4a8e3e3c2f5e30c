//! Where an archive lives: a folder on local disk, on HDFS or in an S3 bucket, seen as an object store.
//!
//! A path or URL becomes an [`Archive`]: the store, and the folder within it. Whatever differs from store to store ends
//! here: local files are fsynced, HDFS gets the timeouts and retries that its client lacks, S3 its options from the
//! environment. All I/O of stores runs on one small runtime of the process ([`runtime`]), so that synchronous code may wait
//! for it ([`wait`]) and connections outlive whoever opened them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::runtime::{Handle, Runtime};
use url::Url;

use super::fault::paced;
use super::hdfs::Hdfs;
use super::local::Local;

/// How long one small read or write of a store may take before it counts as failed: longer than a NameNode's restart
/// was seen to stall a call (12 s).
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request to S3 may take, if the user does not say. The client's default of 30 s cuts off the whole put of a large
/// file on a slow line, each time anew; what writes files bounds them by their size.
const S3_TIMEOUT: &str = "300 seconds";

/// Why an archive can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text names no place.
    #[error("`{place}` is not a place for an archive: {reason}; give a path, file:///path, hdfs://host:port/path or s3://bucket/path")]
    Place {
        /// What was given.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A local folder can't be made.
    #[error("can't create the folder {folder}: choose one that this user may write, or create it first")]
    Folder {
        /// The folder.
        folder: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The store does not answer, or refuses.
    #[error("can't {action} at {url}: check that it is reachable and that this user may write there")]
    Store {
        /// The archive.
        url: String,
        /// What was tried.
        action: &'static str,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
}

/// A folder in a store. Cheap to clone.
#[derive(Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    url: Url,
    root: Path,
    patience: Duration,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({})", self.url)
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

/// Opens the archive at a plain path or a URL (`file://`, `hdfs://`, `s3://`), and creates a local folder where there is none.
///
/// `options` are passed to the store: Hadoop's names (`dfs.…`, `fs.…`) for HDFS, object_store's (`aws_endpoint`, …) for S3,
/// which also reads `AWS_*` from the environment. Nothing is asked of a remote store here; see [`Archive::check`].
///
/// # Errors
/// When the text names no place, or the folder can't be created.
pub fn open(place: &str, options: &BTreeMap<String, String>) -> Result<Archive, StoreError> {
    let archive = find(place, options)?;
    let store = paced(Arc::clone(archive.store()));
    Ok(archive.with_store(store))
}

fn find(place: &str, options: &BTreeMap<String, String>) -> Result<Archive, StoreError> {
    let wrong = |reason: &str| StoreError::Place { place: place.to_owned(), reason: reason.to_owned() };
    if place.trim().is_empty() {
        return Err(wrong("it is empty"));
    }
    let Some((scheme, _)) = place.split_once("://") else { return local(std::path::Path::new(place)) };
    let url = Url::parse(place).map_err(|e| wrong(&e.to_string()))?;
    match scheme {
        "file" => local(&url.to_file_path().map_err(|()| wrong("a file URL has three slashes and an absolute path"))?),
        "hdfs" => {
            if url.host_str().is_none_or(str::is_empty) {
                return Err(wrong("the NameNode's host (or the name service) is missing"));
            }
            let store = Hdfs::open(&url, options).map_err(|e| wrong(&e.to_string()))?;
            Archive::at(Arc::new(store), url).map_err(|e| wrong(&e))
        }
        "s3" | "s3a" => {
            let store = s3(&url, options).map_err(|e| wrong(&e.to_string()))?;
            Archive::at(store, url).map_err(|e| wrong(&e))
        }
        other => Err(wrong(&format!("`{other}` is not a kind of store that fink knows"))),
    }
}

fn local(folder: &std::path::Path) -> Result<Archive, StoreError> {
    let shown = folder.display().to_string();
    let failed = |source| StoreError::Folder { folder: shown.clone(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let folder = std::fs::canonicalize(folder).map_err(failed)?;
    let wrong = |reason: String| StoreError::Place { place: shown.clone(), reason };
    let url = Url::from_directory_path(&folder).map_err(|()| wrong("it has no URL".into()))?;
    let root = Path::from_absolute_path(&folder).map_err(|e| wrong(e.to_string()))?;
    let store = Arc::new(Local::new());
    Ok(Archive { store, url, root, patience: PATIENCE })
}

fn s3(url: &Url, options: &BTreeMap<String, String>) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env().with_url(url.as_str());
    if std::env::var_os("AWS_TIMEOUT").is_none() {
        builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), S3_TIMEOUT);
    }
    for (key, value) in options {
        builder = builder.with_config(key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()?, value);
    }
    // A server of one's own without TLS was asked for by name: no second word is needed.
    if builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    Ok(Arc::new(builder.build()?))
}

impl Archive {
    /// The folder that `url` names in `store`.
    ///
    /// # Errors
    /// When the URL's path is none that a store can hold.
    pub fn at(store: Arc<dyn ObjectStore>, mut url: Url) -> Result<Self, String> {
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let root = Path::from_url_path(url.path()).map_err(|e| e.to_string())?;
        Ok(Self { store, url, root, patience: PATIENCE })
    }

    /// A fresh archive in memory, for tests.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::at(Arc::new(InMemory::new()), Url::parse("memory:///archive/").expect("it is a URL")).expect("its path is plain")
    }

    /// The same folder through another store: to inject faults, or to count calls.
    #[must_use]
    pub fn with_store(self, store: Arc<dyn ObjectStore>) -> Self {
        Self { store, ..self }
    }

    /// The same archive with another bound on one small read or write.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The store; paths within it come from [`Archive::path`].
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The folder's URL, ending in `/`.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The archive as a person would write it: a plain path where it is local.
    #[must_use]
    pub fn place(&self) -> String {
        match self.url.to_file_path() {
            Ok(path) if self.url.scheme() == "file" => path.components().collect::<std::path::PathBuf>().display().to_string(),
            _ => self.url.as_str().trim_end_matches('/').to_owned(),
        }
    }

    /// The store's path of `relative`, which is below the archive's folder, with `/`.
    #[must_use]
    pub fn path(&self, relative: &str) -> Path {
        relative.split('/').filter(|part| !part.is_empty()).fold(self.root.clone(), |path, part| path.join(part))
    }

    /// How long one small read or write may take before it counts as failed.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Puts, reads and deletes a small object, so that a store that is away or read-only is told at once.
    ///
    /// # Errors
    /// When any of the three fails.
    pub async fn check(&self) -> Result<(), StoreError> {
        let path = self.path(&format!("_fink/clock/{}", uuid::Uuid::new_v4()));
        let failed = |action| move |source| StoreError::Store { url: self.place(), action, source };
        self.within(self.store.put(&path, PutPayload::from_static(b"?"))).await.map_err(failed("write"))?;
        self.within(self.store.head(&path)).await.map_err(failed("read"))?;
        self.within(self.store.delete(&path)).await.map_err(failed("delete"))
    }

    /// The time of the store's clock: it stamps an object that is put for this.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clock(&self) -> object_store::Result<chrono::DateTime<chrono::Utc>> {
        let path = self.path(&format!("_fink/clock/{}", uuid::Uuid::new_v4().simple()));
        self.within(self.store.put(&path, PutPayload::from_static(b"?"))).await?;
        let now = self.within(self.store.head(&path)).await.map(|meta| meta.last_modified);
        drop(self.within(self.store.delete(&path)).await);
        now
    }

    /// Puts a small object, if there is none under that path yet.
    pub(super) async fn create(&self, path: &Path, body: PutPayload) -> object_store::Result<()> {
        self.within(self.store.put_opts(path, body, PutMode::Create.into())).await.map(|_| ())
    }

    /// The bytes of an object; `None` where there is none.
    pub(super) async fn read(&self, path: &Path) -> object_store::Result<Option<bytes::Bytes>> {
        match self.within(async { self.store.get(path).await?.bytes().await }).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `call`, or an error when it takes longer than the archive's patience.
    pub(super) async fn within<T>(&self, call: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
        within(self.patience, call).await
    }
}

/// `call`, or an error when it takes longer than `patience`. What it does may still happen.
pub(super) async fn within<T>(patience: Duration, call: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(result) => result,
        Err(_) => Err(object_store::Error::Generic { store: "fink", source: format!("no answer within {patience:?}").into() }),
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("fink-store")
        .enable_all()
        .build()
        .expect("the system has threads to give")
});

/// The runtime on which the I/O of all stores runs.
#[must_use]
pub fn runtime() -> &'static Handle {
    RUNTIME.handle()
}

/// Runs `future` on the stores' runtime and waits for it. Blocks: not for asynchronous code.
///
/// # Panics
/// When the future does.
pub fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (give, take) = std::sync::mpsc::sync_channel(1);
    runtime().spawn(async move {
        // The taker waits below for as long as the giver lives.
        let _ = give.send(future.await);
    });
    take.recv().expect("the future did not panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: &str) -> Result<Archive, StoreError> {
        open(place, &[("aws_region", "here")].map(|(k, v)| (k.to_owned(), v.to_owned())).into())
    }

    #[test]
    fn a_place_is_a_path_or_a_url() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let path = folder.path().join("with space/and more");
        let plain = open(&path.display().to_string(), &BTreeMap::new()).expect("it is made");
        assert!(path.is_dir());
        let url = open(&format!("file://{}", path.display()).replace(' ', "%20"), &BTreeMap::new()).expect("it is there");
        assert_eq!(plain.url(), url.url());
        assert_eq!(plain.place(), path.canonicalize().expect("it is there").display().to_string());
        wait(async move { url.check().await }).expect("it can be written");
        let bucket = at("s3://bucket/some/folder").expect("nothing is asked of it yet");
        assert_eq!(bucket.path("alerts/x.parquet").as_ref(), "some/folder/alerts/x.parquet");
        assert_eq!(bucket.place(), "s3://bucket/some/folder");
        assert_eq!(at("hdfs://127.0.0.1:9/a/b").expect("nothing is asked of it yet").path("c").as_ref(), "a/b/c");
    }

    #[test]
    fn what_is_no_place_is_refused_with_a_reason() {
        for wrong in ["", "  ", "ftp://host/x", "gs://bucket", "hdfs:///x", "s3://"] {
            assert!(matches!(at(wrong), Err(StoreError::Place { .. })), "{wrong}");
        }
        let unknown = open("s3://bucket/x", &[("no_such_option".to_owned(), String::new())].into());
        assert!(matches!(unknown, Err(StoreError::Place { .. })));
        assert!(matches!(at("/proc/no/such"), Err(StoreError::Folder { .. })));
    }
}
