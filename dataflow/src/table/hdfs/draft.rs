//! A file of HDFS from its creation under a name of its own to its renaming.

use std::time::Duration;

use hdfs_native::file::FileWriter;
use hdfs_native::{Client, HdfsError, WriteOptions};
use object_store::PutPayload;
use object_store::path::Path;

type Result<T> = std::result::Result<T, HdfsError>;

/// How long the closing of a file takes when nothing is in its way.
const ASKED: Duration = Duration::from_millis(20);
/// How long the NameNode may take to answer whether a file is complete; after that the client sleeps, and is woken.
const ASKED_AGAIN: Duration = Duration::from_millis(60);
/// How often it is asked before the file counts as not written.
const ASKED_TIMES: u32 = 20;
/// How often the writing of a small file, or the start of a large one, is tried.
pub(super) const ATTEMPTS: u32 = 14;
/// How long one step of a put may take: its beginning, a piece of its bytes, its end. Another attempt, on other nodes, may
/// well be faster. A large file takes as long as it takes, while its pieces go.
const STEP: Duration = Duration::from_secs(5);
/// Bytes of a piece: slower than this in a step is standing still.
const PIECE: usize = 1 << 20;
/// The pause after the first attempt; it doubles from there on, up to a second.
const PAUSE: Duration = Duration::from_millis(20);

/// The pause after an attempt that failed.
pub(super) fn pause(attempt: u32) -> Duration {
    (PAUSE * 2u32.saturating_pow(attempt - 1)).min(Duration::from_secs(1))
}

/// How many copies an attempt asks for; `None`: as many as configured.
///
/// A data node that died is still given out for ten minutes, unless so configured otherwise, and the client can't tell the
/// NameNode to leave it out. Three copies on three nodes would then fail every time: fewer avoid the dead node by luck, and the
/// rest are made by the NameNode afterwards.
fn copies(attempt: u32) -> Option<u32> {
    match attempt {
        ..=2 => None,
        3..=6 => Some(2),
        _ => Some(1),
    }
}

/// One step of a put, bounded.
async fn step<T>(what: &str, path: &str, done: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(STEP, done).await {
        Ok(result) => result,
        Err(_) => Err(HdfsError::OperationFailed(format!("{what} {path}: no answer within {STEP:?}"))),
    }
}

/// A file that is being written.
pub(super) struct Draft {
    client: Client,
    file: FileWriter,
    temporary: String,
    target: String,
    length: usize,
    /// The copies to be made after the file is whole, where it is written with fewer.
    copies: Option<u32>,
}

impl Draft {
    /// Begins the file that is to be at `location`. Nothing is seen there before it is finished.
    pub(super) async fn begin(client: &Client, location: &Path, attempt: u32) -> Result<Self> {
        let target = format!("/{location}");
        let (folder, name) = target.rsplit_once('/').ok_or_else(|| HdfsError::InvalidPath(target.clone()))?;
        // Dotted: readers pass over it.
        let temporary = format!("{folder}/.{name}.{}.tmp", uuid::Uuid::new_v4().simple());
        let begun = async {
            let file = client.create(&temporary, WriteOptions::default()).await?;
            let Some(fewer) = copies(attempt) else { return Ok((file, None)) };
            let configured = client.get_file_info(&temporary).await?.replication.filter(|copies| *copies > fewer);
            if configured.is_some() {
                client.set_replication(&temporary, fewer).await?;
            }
            Ok((file, configured))
        };
        let (file, copies) = step("beginning", &target, begun).await?;
        Ok(Self { client: client.clone(), file, temporary, target, length: 0, copies })
    }

    /// Adds to its end.
    pub(super) async fn write(&mut self, payload: PutPayload) -> Result<()> {
        for mut bytes in payload {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                self.length += piece.len();
                step("writing", &self.target, self.file.write_bytes(piece)).await?;
            }
        }
        Ok(())
    }

    /// Closes the file and puts it in its place.
    pub(super) async fn finish(&mut self, overwrite: bool) -> Result<()> {
        let target = self.target.clone();
        step("ending", &target, self.end(overwrite)).await
    }

    async fn end(&mut self, overwrite: bool) -> Result<()> {
        self.close().await?;
        self.client.rename(&self.temporary, &self.target, overwrite).await?;
        if let Some(copies) = self.copies
            && let Err(error) = self.client.set_replication(&self.target, copies).await
        {
            tracing::warn!(path = self.target, copies, %error, "file has fewer copies than configured");
        }
        Ok(())
    }

    /// Takes it away. Best effort: where it was renamed it is there no more, and what stays is swept one day (see
    /// [`crate::table::leftovers`]).
    pub(super) async fn discard(self) {
        if let Err(error) = step("discarding", &self.temporary, self.client.delete(&self.temporary, false)).await {
            tracing::debug!(path = self.temporary, %error, "unfinished file stays");
        }
    }

    /// Closes the file without the client's nap of half a second.
    ///
    /// The client asks the NameNode to complete the file as soon as the data nodes have acknowledged its end, often before a
    /// data node has reported the block there, and then sleeps for 500 ms before it asks again. The NameNode shows the whole
    /// length once it was asked; from then on the data is committed, and closing again does nothing but ask again.
    async fn close(&mut self) -> Result<()> {
        let mut committed = false;
        for _ in 0..ASKED_TIMES {
            let mut closing = std::pin::pin!(self.file.close());
            match tokio::time::timeout(if committed { ASKED_AGAIN } else { ASKED }, &mut closing).await {
                // The answer to our question before this one was on its way when we stopped waiting for it, and was yes.
                Ok(Err(HdfsError::RPCError(_, text))) if committed && text.contains("is not open for writing") => return Ok(()),
                Ok(closed) => return closed,
                Err(_) => {}
            }
            // Before that nothing may be abandoned: the end of the file may be on its way.
            while !committed {
                committed = self.client.get_file_info(&self.temporary).await?.length == self.length;
                if !committed && let Ok(closed) = tokio::time::timeout(ASKED, &mut closing).await {
                    return closed;
                }
            }
        }
        // A node died, and the length shown was that of the mended pipeline: the end of the file was abandoned after all.
        Err(HdfsError::OperationFailed(format!("{} was not completed", self.temporary)))
    }
}
