//! HDFS as an object store, with what its client lacks.
//!
//! `hdfs-native` has no timeout on calls to the NameNode, tries one data node only to begin a block (nearly half of the
//! small writes fail while a dead node is not yet declared dead), and fails a pipeline of three nodes on exactly three when
//! one dies. So every call here is bounded, small puts are retried whole, and the client goes on with the nodes that it has.
//! A put writes a file of its own (a dotted name that readers pass over) and renames it: that is the put-if-absent.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};
use hdfs_native_object_store::HdfsObjectStore;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use url::Url;

use super::store::{runtime, within};

/// How long one call, one attempt of a small put, or one piece of a stream may take: a NameNode's restart was seen to stall
/// calls for 12 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a small put is tried. Half of them fail while a data node is dead and not yet known to be.
const ATTEMPTS: u32 = 8;
/// The pause before the second attempt; it doubles from there on, up to a second.
const PAUSE: Duration = Duration::from_millis(20);

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

    /// One attempt to put a small file: written under a name of its own, then renamed.
    async fn attempt(&self, location: &Path, payload: PutPayload, overwrite: bool) -> std::result::Result<(), HdfsError> {
        let target = format!("/{location}");
        let (folder, name) = target.rsplit_once('/').ok_or_else(|| HdfsError::InvalidPath(target.clone()))?;
        let temporary = format!("{folder}/.{name}.{}.tmp", uuid::Uuid::new_v4().simple());
        let done = async {
            let mut file = self.client.create(&temporary, WriteOptions::default()).await?;
            for bytes in payload {
                file.write_bytes(bytes).await?;
            }
            file.close().await?;
            self.client.rename(&temporary, &target, overwrite).await
        };
        let done = tokio::time::timeout(PATIENCE, done)
            .await
            .unwrap_or_else(|_| Err(HdfsError::OperationFailed(format!("no answer within {PATIENCE:?} to a put of {target}"))));
        if done.is_err() {
            // Best effort: where the rename did happen the file is there no more, and what stays is swept as an orphan.
            drop(tokio::time::timeout(PATIENCE, self.client.delete(&temporary, false)).await);
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
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.attempt(location, payload.clone(), overwrite).await {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS || matches!(error, HdfsError::AlreadyExists(_)) => return Err(store_error(error)),
                Err(error) => tracing::debug!(%location, attempt, %error, "put failed, tried again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = within(PATIENCE, self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(TimedUpload(inner)))
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

/// A file written in parts, each of which has its time.
#[derive(Debug)]
struct TimedUpload(Box<dyn MultipartUpload>);

#[async_trait]
impl MultipartUpload for TimedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        within(PATIENCE * 3, self.0.put_part(data)).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        within(PATIENCE * 3, self.0.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        within(PATIENCE, self.0.abort()).await
    }
}
