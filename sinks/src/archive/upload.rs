//! Storing closed files, and handing a group on when all of its files are stored.
//!
//! A put that fails is tried again under a fresh name, for as long as it takes: a full disk or a store that is away stops
//! the intake (what is not stored counts against [`Memory`](super::memory::Memory)), and loses nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fink_dataflow::table::entry::DataFile;
use fink_dataflow::table::fault::failpoint;
use fink_dataflow::table::store::{Archive, runtime};
use object_store::ObjectStoreExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::files::ClosedFile;
use super::group::{Group, GroupSink};

/// Puts that run at once, of one writer.
const PUTS_MAX: usize = 8;
/// The slowest store that is waited for: a put may take as long as a small one may, and this much more for its bytes.
const BYTES_A_SECOND_MIN: u64 = 1 << 20;
/// The waits between attempts, the last again and again.
const WAITS_MS: [u64; 6] = [50, 200, 500, 1000, 2000, 5000];

/// What keeps a writer from storing its files, for people to see; `None` while all is well.
pub type Stuck = Arc<Mutex<Option<String>>>;

/// A file on its way to the store, and its table.
pub type Stored = JoinHandle<(Arc<str>, DataFile)>;

/// Stores the files of one writer.
pub struct Uploader {
    archive: Archive,
    stuck: Stuck,
    puts: Arc<Semaphore>,
    groups: mpsc::UnboundedSender<(Group, Vec<Stored>)>,
    ended: JoinHandle<()>,
}

impl Uploader {
    /// Stores files in `archive`, and gives groups to `sink` in order.
    #[must_use]
    pub fn new(archive: Archive, stuck: Stuck, sink: Arc<dyn GroupSink>) -> Self {
        let (groups, mut closed) = mpsc::unbounded_channel::<(Group, Vec<Stored>)>();
        let ended = runtime().spawn(async move {
            while let Some((mut group, stored)) = closed.recv().await {
                for file in stored {
                    // A put never gives up; its task ends early only when the runtime does.
                    let Ok(file) = file.await else { return };
                    group.files.push(file);
                }
                failpoint("file-closed");
                sink.commit(group);
            }
        });
        Self { archive, stuck, puts: Arc::new(Semaphore::new(PUTS_MAX)), groups, ended }
    }

    /// Begins to store a file.
    pub fn put(&self, file: ClosedFile) -> Stored {
        let (archive, stuck, puts) = (self.archive.clone(), Arc::clone(&self.stuck), Arc::clone(&self.puts));
        runtime().spawn(async move {
            let _permit = puts.acquire().await.expect("the semaphore is never closed");
            persist(&archive, &stuck, file).await
        })
    }

    /// Hands a group on as soon as its files are stored.
    pub fn close(&self, group: Group, stored: Vec<Stored>) {
        // It fails only when the runtime has ended, and the process with it.
        let _ = self.groups.send((group, stored));
    }

    /// Waits until all groups are handed on.
    pub fn finish(self) {
        drop(self.groups);
        let _ = runtime().block_on(self.ended);
    }
}

/// Stores a file, under one name or another.
pub(crate) async fn persist(archive: &Archive, stuck: &Stuck, mut file: ClosedFile) -> (Arc<str>, DataFile) {
    let mut waits = WAITS_MS.iter().chain(std::iter::repeat(&WAITS_MS[WAITS_MS.len() - 1]));
    let mut failures = 0;
    let put_max = archive.patience() + Duration::from_secs(file.file.size / BYTES_A_SECOND_MIN);
    loop {
        let location = archive.path(&format!("{}/{}", file.table, file.file.path));
        let put = tokio::time::timeout(put_max, archive.store().put(&location, file.payload.clone())).await;
        let reason = match put {
            Ok(Ok(_)) => break,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {put_max:?}"),
        };
        failures += 1;
        tracing::warn!(file = %location, size = file.file.size, failures, reason, "could not store a file; trying again");
        *stuck.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("can't store {location}: {reason}"));
        tokio::time::sleep(Duration::from_millis(*waits.next().expect("the last repeats"))).await;
        // The put that failed may yet be carried out: its name is never used for another.
        file.rename();
    }
    if failures > 0 {
        tracing::info!(failures, "storing files again");
        *stuck.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
    file.file.modified_ms = chrono::Utc::now().timestamp_millis();
    (file.table, file.file)
}
