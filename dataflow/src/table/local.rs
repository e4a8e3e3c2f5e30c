//! Local disk as an object store: [`LocalFileSystem`] with fsync, and large files past the page cache.
//!
//! Copying a large file into the page cache, page by page, costs more than encoding it did, and pushes out what readers use.
//! Nobody reads it soon: what small commits left is compacted, and these files are large already. So its bytes go to the disk
//! straight from where they are (`O_DIRECT`), wherever the file system can; else as any other file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result,
};

use super::pieces::{ALIGNMENT, Pieces};

/// Files from this size on go past the page cache: bytes. Those of a second of a quiet stream are smaller, and read soon.
const LARGE: usize = 16 << 20;
/// Pieces given to the disk by one call.
const PIECES_MAX: usize = 16;

/// Folders of this machine.
#[derive(Debug)]
pub(super) struct Local {
    inner: LocalFileSystem,
}

impl Local {
    pub(super) fn new() -> Self {
        Self { inner: LocalFileSystem::new().with_fsync(true) }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Writes a file past the page cache and gives it its name when it is whole and on disk; `false` where that can't be done
/// here, and nothing is left of it then.
fn put_past_cache(path: &FilePath, payload: &PutPayload) -> io::Result<bool> {
    let Some(folder) = path.parent().filter(|folder| folder.is_dir()) else { return Ok(false) };
    // A name that LocalFileSystem knows for a file in the making, and does not list.
    let draft = PathBuf::from(format!("{}#1", path.display()));
    let file = match OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(&draft) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::AlreadyExists) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let done = write_aligned(&file, payload).and_then(|()| {
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    });
    match done {
        Ok(()) => Ok(true),
        Err(error) => {
            // What is left of it is an orphan, and listed by nobody.
            let _ = std::fs::remove_file(&draft);
            // A disk whose sectors are larger than our pages says so at the first write.
            if error.kind() == ErrorKind::InvalidInput { Ok(false) } else { Err(error) }
        }
    }
}

/// Writes whole pages from where they are, and the rest by way of pieces that are filled up; the file then ends where its bytes do.
fn write_aligned(file: &File, payload: &PutPayload) -> io::Result<()> {
    let (mut whole, mut rest, mut odd_bytes) = (Vec::<&[u8]>::new(), Pieces::default(), 0);
    for piece in payload {
        let fits = odd_bytes == 0 && piece.as_ptr().align_offset(ALIGNMENT) == 0;
        let (pages, odd) = piece.split_at(if fits { piece.len() - piece.len() % ALIGNMENT } else { 0 });
        if !pages.is_empty() {
            whole.push(pages);
        }
        rest.write_all(odd)?;
        odd_bytes += odd.len();
    }
    let fill = odd_bytes.next_multiple_of(ALIGNMENT) - odd_bytes;
    rest.write_all(&[0; ALIGNMENT][..fill])?;
    let rest = rest.into_bytes();
    whole.extend(rest.iter().map(Bytes::as_ref));
    let mut at = 0;
    for pages in whole.chunks(PIECES_MAX) {
        at = write_all(file, pages, at)?;
    }
    if fill > 0 { file.set_len(at - fill as u64) } else { Ok(()) }
}

/// Writes runs of whole pages one after another from `at` on; returns where they end.
fn write_all(file: &File, pages: &[&[u8]], mut at: u64) -> io::Result<u64> {
    let mut slices: Vec<IoSlice<'_>> = pages.iter().map(|run| IoSlice::new(run)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let written = rustix::io::pwritev(file, left, at)?;
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        at += written as u64;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(at)
}

#[async_trait]
impl ObjectStore for Local {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if payload.content_length() < LARGE || !matches!(opts.mode, PutMode::Overwrite) || !opts.attributes.is_empty() {
            return self.inner.put_opts(location, payload, opts).await;
        }
        let path = self.inner.path_to_filesystem(location)?;
        let bytes = payload.clone();
        let done = tokio::task::spawn_blocking(move || put_past_cache(&path, &bytes)).await;
        let failed = |source| object_store::Error::Generic { store: "local", source };
        match done {
            Ok(Ok(true)) => Ok(PutResult { e_tag: None, version: None, extensions: Default::default() }),
            Ok(Ok(false)) => self.inner.put_opts(location, payload, opts).await,
            Ok(Err(error)) => Err(failed(error.into())),
            Err(error) => Err(failed(error.into())),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::super::store::{open, wait};
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 31 % 253) as u8).collect()
    }

    /// Payloads of these bytes: in pieces of the pool, and in parts that lie and end anywhere.
    fn payloads(text: &[u8]) -> [PutPayload; 3] {
        let mut pieces = Pieces::default();
        pieces.write_all(text).expect("memory takes it");
        let odd = text.chunks(777_777).map(|part| Bytes::copy_from_slice(part));
        let mut mixed = Pieces::default();
        mixed.write_all(&text[..text.len() / 2]).expect("memory takes it");
        let mixed = mixed.into_bytes().into_iter().chain([Bytes::copy_from_slice(&text[text.len() / 2..])]);
        [pieces.into_bytes().into_iter().collect(), odd.collect(), mixed.collect()]
    }

    #[test]
    fn a_large_file_has_its_bytes_whatever_their_pieces() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        for length in [LARGE, LARGE + 1, LARGE + ALIGNMENT, 2 * LARGE + 12_345] {
            let text = text(length);
            for (n, payload) in payloads(&text).into_iter().enumerate() {
                let path = folder.path().join(format!("{length}-{n}"));
                if !put_past_cache(&path, &payload).expect("there is room") {
                    return println!("skipped: this file system can't write past the page cache");
                }
                assert!(std::fs::read(&path).expect("it is there") == text, "{length} bytes, form {n}");
            }
        }
        assert!(
            std::fs::read_dir(folder.path()).expect("it is there").all(|entry| !entry
                .expect("it is there")
                .path()
                .to_string_lossy()
                .contains('#'))
        );
    }

    #[test]
    fn the_store_takes_large_and_small_ones_in_folders_old_and_new() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let archive = open(&folder.path().display().to_string(), &Default::default()).expect("it is a folder");
        wait(async move {
            for (name, length) in [("new/a", LARGE), ("new/b", LARGE + 5), ("new/c", 10), ("new/b", LARGE + 6)] {
                let text = text(length);
                archive
                    .store()
                    .put_opts(&archive.path(name), payloads(&text)[0].clone(), PutOptions::default())
                    .await
                    .expect("it is stored");
                assert!(archive.read(&archive.path(name)).await.expect("it is there").expect("it is there") == text);
            }
            let listed: Vec<ObjectMeta> = archive.store().list(Some(&archive.path("new"))).try_collect().await.expect("it lists");
            assert_eq!(listed.len(), 3);
        });
    }
}
