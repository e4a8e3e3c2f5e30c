//! HDFS as an object store, with what its client lacks.
//!
//! `hdfs-native` has no timeout on calls to the NameNode, tries one data node only to begin a block (nearly half of the
//! small writes fail while a dead node is not yet declared dead), and fails a pipeline of three nodes on exactly three when
//! one dies. So every call here is bounded, small puts are retried whole, and the client goes on with the nodes that it has.
//! Its `close()` sleeps half a second whenever the NameNode has not heard of the block yet: 62-85 % of small puts with one
//! data node, 2 % with three. Woken early (`Draft::close`), the median put of 4 kB takes 25-30 ms instead of 520 with one node,
//! and the 99th percentile 80-110 ms instead of 530-660 (200 puts, loopback, a machine under load).
//! A put writes a file of its own (a dotted name that readers pass over) and renames it: that is the put-if-absent.

mod draft;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hdfs_native::{Client, ClientBuilder, HdfsError};
use hdfs_native_object_store::HdfsObjectStore;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::sync::{Mutex, oneshot};
use url::Url;

use self::draft::{ATTEMPTS, Draft, pause};
use super::store::{runtime, within};

/// How long one call or one piece of a stream may take: a NameNode's restart was seen to stall calls for 12 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every client of ours is told; options given by the user win.
const DEFAULTS: [(&str, &str); 1] = [("dfs.client.block.write.replace-datanode-on-failure.best-effort", "true")];

/// The store.
#[derive(Clone)]
pub(super) struct Hdfs {
    client: Client,
    inner: HdfsObjectStore,
    name: String,
}

impl Hdfs {
    /// A client of the NameNode or name service in `url`, with Hadoop's options on top of those of `HADOOP_CONF_DIR`.
    pub(super) fn open(url: &Url, options: &BTreeMap<String, String>) -> std::result::Result<Self, HdfsError> {
        let mut service = url.clone();
        service.set_path("");
        let config = DEFAULTS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).chain(options.clone());
        let config: BTreeMap<String, String> = config.collect();
        let client = ClientBuilder::new().with_url(service.as_str()).with_config(config).with_io_runtime(runtime().clone()).build()?;
        Ok(Self { inner: HdfsObjectStore::new(client.clone()), client, name: service.to_string() })
    }

    /// One attempt to put a file: written under a name of its own, then renamed. It ends when a step of it stands still.
    async fn attempt(&self, location: &Path, payload: PutPayload, overwrite: bool, attempt: u32) -> std::result::Result<(), HdfsError> {
        let mut draft = Draft::begin(&self.client, location, attempt).await?;
        let done = async {
            draft.write(payload).await?;
            draft.finish(overwrite).await
        };
        let done = done.await;
        if done.is_err() {
            draft.discard().await;
        }
        done
    }
}

fn store_error(error: HdfsError) -> object_store::Error {
    let path = match &error {
        HdfsError::AlreadyExists(path) | HdfsError::FileNotFound(path) => path.clone(),
        _ => String::new(),
    };
    let exists = matches!(error, HdfsError::AlreadyExists(_));
    let source = Box::new(error);
    match (path.is_empty(), exists) {
        (true, _) => object_store::Error::Generic { store: "HDFS", source },
        (false, true) => object_store::Error::AlreadyExists { path, source },
        (false, false) => object_store::Error::NotFound { path, source },
    }
}

/// A stream that ends with an error when its next piece takes too long.
fn timed<T: Send + 'static>(stream: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
    futures::stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        match tokio::time::timeout(PATIENCE, stream.next()).await {
            Ok(None) => None,
            Ok(Some(item)) => Some((item, Some(stream))),
            Err(_) => {
                let source = format!("no answer within {PATIENCE:?}").into();
                Some((Err(object_store::Error::Generic { store: "HDFS", source }), None))
            }
        }
    })
    .boxed()
}

impl fmt::Debug for Hdfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Hdfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[async_trait]
impl ObjectStore for Hdfs {
    /// Tried whole, several times. A put-if-absent that reports `AlreadyExists` may have met its own earlier attempt, whose
    /// rename was reported as failed: who asks must read the object back.
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let overwrite = match opts.mode {
            PutMode::Create => false,
            PutMode::Overwrite => true,
            PutMode::Update(_) => {
                return Err(object_store::Error::NotImplemented { operation: "conditional update".into(), implementer: "HDFS".into() });
            }
        };
        for attempt in 1.. {
            match self.attempt(location, payload.clone(), overwrite, attempt).await {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS || matches!(error, HdfsError::AlreadyExists(_)) => return Err(store_error(error)),
                Err(error) => tracing::debug!(%location, attempt, %error, "put failed, tried again"),
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, location: &Path, _opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let (ready, before) = oneshot::channel();
        let _ = ready.send(());
        Ok(Box::new(Upload { client: self.client.clone(), location: location.clone(), draft: Arc::default(), before }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = within(PATIENCE, self.inner.get_opts(location, options)).await?;
        if let GetResultPayload::Stream(stream) = result.payload {
            result.payload = GetResultPayload::Stream(timed(stream));
        }
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        timed(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        timed(self.inner.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        within(PATIENCE, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        within(PATIENCE, self.inner.rename_opts(from, to, options)).await
    }
}

/// A file written in parts, one after the other in the order in which they were given; renamed when complete.
struct Upload {
    client: Client,
    location: Path,
    /// `None` before the first part.
    draft: Arc<Mutex<Option<Draft>>>,
    /// Resolves when all parts so far are written; is dropped by one that failed.
    before: oneshot::Receiver<()>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", self.location)
    }
}

fn broken() -> object_store::Error {
    object_store::Error::Generic { store: "HDFS", source: "an earlier part of the file was not written".into() }
}

/// Begins a file with its first part, as often as it takes: it is then that a dead data node is met.
async fn begin(client: &Client, location: &Path, data: PutPayload) -> std::result::Result<Draft, HdfsError> {
    for attempt in 1.. {
        let tried = async {
            let mut draft = Draft::begin(client, location, attempt).await?;
            match draft.write(data.clone()).await {
                Ok(()) => Ok(draft),
                Err(error) => {
                    draft.discard().await;
                    Err(error)
                }
            }
        };
        match tried.await {
            Err(error) if attempt < ATTEMPTS => tracing::debug!(%location, attempt, %error, "file was not begun, tried again"),
            done => return done,
        }
        tokio::time::sleep(pause(attempt)).await;
    }
    unreachable!("the last attempt returns")
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (written, next) = oneshot::channel();
        let before = std::mem::replace(&mut self.before, next);
        let (client, location, draft) = (self.client.clone(), self.location.clone(), self.draft.clone());
        let write = async move {
            before.await.map_err(|_| broken())?;
            let mut draft = draft.lock().await;
            match draft.as_mut() {
                Some(draft) => draft.write(data).await.map_err(store_error)?,
                None => *draft = Some(begin(&client, &location, data).await.map_err(store_error)?),
            }
            // Nobody waits for it when the upload was dropped.
            let _ = written.send(());
            Ok(())
        };
        within(PATIENCE * 3, write).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = async {
            (&mut self.before).await.map_err(|_| broken())?;
            let mut draft = self.draft.lock().await;
            if draft.is_none() {
                *draft = Some(begin(&self.client, &self.location, PutPayload::new()).await.map_err(store_error)?);
            }
            draft.as_mut().expect("it was begun above").finish(true).await.map_err(store_error)
        };
        within(PATIENCE * 3, done).await?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn abort(&mut self) -> Result<()> {
        let draft = self.draft.lock().await.take();
        let discard = async {
            if let Some(draft) = draft {
                draft.discard().await;
            }
            Ok(())
        };
        within(PATIENCE, discard).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::table::store::{open, wait};

    #[test]
    fn parts_are_written_in_the_order_in_which_they_were_given() {
        let Ok(url) = std::env::var("FINK_TEST_HDFS") else { return println!("skipped: FINK_TEST_HDFS is not set") };
        let archive = open(&format!("{url}/parts-{}", uuid::Uuid::new_v4()), &BTreeMap::new()).expect("it is a URL");
        wait(async move {
            let path = archive.path("a/b.parquet");
            let mut upload = archive.store().put_multipart_opts(&path, PutMultipartOptions::default()).await.expect("HDFS works");
            let parts: Vec<_> = (0..20u8).map(|n| upload.put_part(PutPayload::from(vec![n; 100_000]))).collect();
            // Polled from the last on.
            futures::future::try_join_all(parts.into_iter().rev()).await.expect("HDFS works");
            assert_eq!(archive.read(&path).await.expect("HDFS works"), None, "nothing is seen before it is whole");
            upload.complete().await.expect("HDFS works");
            let read = archive.read(&path).await.expect("HDFS works").expect("it is there");
            assert_eq!(read.to_vec(), (0..20u8).flat_map(|n| vec![n; 100_000]).collect::<Vec<_>>());
            let left = archive.store().list_with_delimiter(Some(&archive.path("a"))).await.expect("HDFS works");
            assert_eq!(left.objects.len(), 1);
        });
    }

    /// Prints how long small puts take: `FINK_TEST_HDFS=hdfs://… cargo test -p fink-dataflow small_puts -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures, and asserts nothing"]
    fn small_puts() {
        let Ok(url) = std::env::var("FINK_TEST_HDFS") else { return println!("skipped: FINK_TEST_HDFS is not set") };
        let archive = open(&format!("{url}/puts-{}", uuid::Uuid::new_v4()), &BTreeMap::new()).expect("it is a URL");
        let puts = wait(async move {
            let mut puts = Vec::new();
            for number in 0..200 {
                let begun = Instant::now();
                let body = PutPayload::from(vec![b'x'; 4096]);
                archive.store().put_opts(&archive.path(&format!("{number}")), body, PutMode::Create.into()).await.expect("HDFS works");
                puts.push(begun.elapsed().as_millis());
            }
            puts.sort_unstable();
            puts
        });
        let slow = puts.iter().filter(|ms| **ms >= 400).count();
        println!("p50 {} p90 {} p99 {} max {} ms, {slow} of 200 at 400 ms or more", puts[100], puts[180], puts[198], puts[199]);
    }
}
