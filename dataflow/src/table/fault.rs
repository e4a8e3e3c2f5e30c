//! Faults on purpose: a process that dies at a named point, and a store that fails, lies or hangs.
//!
//! [`failpoint`] is compiled into the program and costs one load when `FINK_FAILPOINT` is unset; kill tests set it. So is
//! [`pace`], by which a load test has hours of the store's time pass in minutes.
//! [`FaultyStore`] wraps a store in tests of everything that puts, reads or deletes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};
use rustix::process::{Signal, getpid, kill_process};

/// A point of the program at which the process is to end.
struct Failpoint {
    name: String,
    signal: Signal,
    /// On which pass it strikes.
    strikes: u64,
    /// It strikes each time that it sees this, and stands still instead of ending if it is a pair with `true`.
    mark: Option<(Vec<u8>, bool)>,
    passes: AtomicU64,
}

impl Failpoint {
    /// Reads `name[!stop][:count]`, or `name[!hang]@mark`.
    fn parse(text: &str) -> Option<Self> {
        if let Some((name, mark)) = text.split_once('@') {
            let (name, hangs) = name.strip_suffix("!hang").map_or((name, false), |name| (name, true));
            let mark = (!mark.is_empty()).then(|| (mark.as_bytes().to_vec(), hangs));
            return mark.is_some().then(|| Self {
                name: name.to_owned(),
                signal: Signal::KILL,
                strikes: 0,
                passes: AtomicU64::new(0),
                mark,
            });
        }
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let (name, signal) = name.strip_suffix("!stop").map_or((name, Signal::KILL), |name| (name, Signal::STOP));
        let strikes = count.parse().ok()?;
        (!name.is_empty()).then(|| Self { name: name.to_owned(), signal, strikes, passes: AtomicU64::new(0), mark: None })
    }

    /// Counts a pass of `name`; whether this is the one.
    fn strikes(&self, name: &str) -> bool {
        name == self.name && self.passes.fetch_add(1, Ordering::Relaxed) + 1 == self.strikes
    }
}

static FAILPOINT: LazyLock<Option<Failpoint>> =
    LazyLock::new(|| std::env::var("FINK_FAILPOINT").ok().and_then(|text| Failpoint::parse(&text)));

/// Ends the process by SIGKILL where `FINK_FAILPOINT=<name>[:count]` asks for it, on the count-th pass (the first, if none is
/// given); stops it by SIGSTOP where the name given ends in `!stop`.
pub fn failpoint(name: &str) {
    let Some(point) = FAILPOINT.as_ref() else { return };
    if point.strikes(name) {
        tracing::warn!("failpoint {name}");
        eprintln!("failpoint {name}");
        kill_process(getpid(), point.signal).expect("a process may signal itself");
    }
}

/// Ends the process by SIGKILL where `FINK_FAILPOINT=<name>@<mark>` asks for it and `bytes` hold the mark; stands still for ever
/// where the name given ends in `!hang`.
pub fn failpoint_on(name: &str, bytes: &[u8]) {
    let Some(Failpoint { name: asked, mark: Some((mark, hangs)), .. }) = FAILPOINT.as_ref() else { return };
    if name != asked || !bytes.windows(mark.len()).any(|window| window == mark) {
        return;
    }
    eprintln!("failpoint {name}");
    while *hangs {
        std::thread::sleep(Duration::from_secs(1));
    }
    kill_process(getpid(), Signal::KILL).expect("a process may signal itself");
}

static PACE: LazyLock<f64> = LazyLock::new(|| {
    let pace = std::env::var("FINK_STORE_PACE").ok().and_then(|text| text.parse().ok());
    pace.filter(|pace: &f64| pace.is_finite() && *pace >= 1.0).unwrap_or(1.0)
});

/// How many times as fast as ours the stores' clocks run: `FINK_STORE_PACE`, by which a load test plays hours in minutes; else 1.
#[must_use]
pub fn pace() -> f64 {
    *PACE
}

/// The store, with a clock that runs at [`pace`].
pub(super) fn paced(store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    if pace() > 1.0 { Arc::new(FaultyStore { pace: pace(), ..FaultyStore::new(store) }) } else { store }
}

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// A whole put, or the completion of one in parts.
    Put,
    /// A read, or a look at an object's metadata.
    Get,
    /// A deletion.
    Delete,
}

/// How it goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It fails, and nothing was done.
    Fails,
    /// It is done, and reported as failed.
    Lies,
    /// It never returns, and nothing was done.
    Hangs,
    /// It is done, and never returns.
    HangsAfter,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fails, Self::Lies, Self::Hangs, Self::HangsAfter];
}

/// A fault: the calls numbered `from..from + times` (from 0) of those whose path contains `path`.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which calls are counted.
    pub call: Call,
    /// What their paths contain.
    pub path: String,
    /// The first that goes wrong.
    pub from: u64,
    /// How many do.
    pub times: u64,
    /// How.
    pub kind: Kind,
}

/// A store that goes wrong as told. Clones share what is planned and what was counted.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Vec<(Fault, u64)>>>,
    struck: Arc<AtomicU64>,
    age_ms: Arc<AtomicU64>,
    ahead_ms: Arc<AtomicU64>,
    pace: f64,
}

impl FaultyStore {
    /// `inner`, without any fault yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, plan: Arc::default(), struck: Arc::default(), age_ms: Arc::default(), ahead_ms: Arc::default(), pace: 1.0 }
    }

    /// From now on every object looks that much older than it is, but those that are put to ask the time (`_fink/clock/`).
    pub fn age(&self, by: Duration) {
        self.age_ms.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// From now on the store's clock looks ahead of this machine's by that much.
    pub fn ahead(&self, by: Duration) {
        self.ahead_ms.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn aged(&self, mut meta: ObjectMeta) -> ObjectMeta {
        meta.last_modified += Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed));
        if self.pace > 1.0 {
            // The clocks agree at the beginning of 1970, whatever process asks.
            let ms = meta.last_modified.timestamp_millis() as f64 * self.pace;
            meta.last_modified = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap_or(meta.last_modified);
        }
        if !meta.location.as_ref().contains("_fink/clock/") {
            meta.last_modified -= Duration::from_millis(self.age_ms.load(Ordering::Relaxed));
        }
        meta
    }

    /// Plans a fault beside those planned before; its count starts here.
    pub fn plan(&self, fault: Fault) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).push((fault, 0));
    }

    /// Forgets all that is planned.
    pub fn heal(&self) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many calls went wrong so far.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }

    fn fault(&self, call: Call, path: &Path) -> Option<Kind> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hit = None;
        for (fault, passed) in plan.iter_mut().filter(|(f, _)| f.call == call && path.as_ref().contains(&f.path)) {
            if (fault.from..fault.from.saturating_add(fault.times)).contains(passed) {
                hit = hit.or(Some(fault.kind));
            }
            *passed += 1;
        }
        if hit.is_some() {
            self.struck.fetch_add(1, Ordering::Relaxed);
        }
        hit
    }

    async fn call<T>(&self, call: Call, path: &Path, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.fault(call, path) {
            None => work.await,
            Some(Kind::Fails) => Err(injected()),
            Some(Kind::Lies) => work.await.and_then(|_| Err(injected())),
            Some(Kind::Hangs) => std::future::pending().await,
            Some(Kind::HangsAfter) => {
                drop(work.await);
                std::future::pending().await
            }
        }
    }
}

fn injected() -> object_store::Error {
    object_store::Error::Generic { store: "FaultyStore", source: "injected".into() }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({:?})", self.inner)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.call(Call::Put, location, self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(FaultyUpload { inner, location: location.clone(), store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.call(Call::Get, location, self.inner.get_opts(location, options)).await?;
        result.meta = self.aged(result.meta);
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let one = futures::stream::once(std::future::ready(Ok(location.clone()))).boxed();
                    let mut done = store.inner.delete_stream(one);
                    store.call(Call::Delete, &location, async { done.next().await.unwrap_or_else(|| Ok(location.clone())) }).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        self.inner.list(prefix).map_ok(move |meta| store.aged(meta)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        self.inner.list_with_offset(prefix, offset).map_ok(move |meta| store.aged(meta)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut result = self.inner.list_with_delimiter(prefix).await?;
        result.objects = result.objects.into_iter().map(|meta| self.aged(meta)).collect();
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call(Call::Put, to, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.call(Call::Put, to, self.inner.rename_opts(from, to, options)).await
    }
}

/// A put in parts, of which the completion counts as the put.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    store: FaultyStore,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> object_store::UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, location) = (self.store.clone(), self.location.clone());
        store.call(Call::Put, &location, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_a_name_a_count_and_a_signal() {
        let point = Failpoint::parse("table-commit:3").expect("it is one");
        assert_eq!(point.signal, Signal::KILL);
        let passes: Vec<bool> =
            ["table-commit", "mid-file", "table-commit", "table-commit", "table-commit"].map(|name| point.strikes(name)).into();
        assert_eq!(passes, [false, false, false, true, false]);
        let point = Failpoint::parse("vacuum!stop").expect("it is one");
        assert_eq!(point.signal, Signal::STOP);
        assert!(!point.strikes("vacuum!stop") && point.strikes("vacuum"));
        assert!(Failpoint::parse("").is_none() && Failpoint::parse("x:many").is_none());
    }
}
