//! Where things are: the program, the scripts, the surveys' alerts, room for scratch.

use std::env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace").to_path_buf()
}

/// Real alerts and schemas, which are not part of the project: `FINK_SHARED`, or the folder `shared` beside the workspace.
#[must_use]
pub fn shared() -> Option<PathBuf> {
    let given = env::var_os("FINK_SHARED").map(PathBuf::from);
    let found = given.into_iter().chain(root().ancestors().skip(1).map(|above| above.join("shared"))).find(|p| p.join("data").is_dir());
    if found.is_none() {
        println!("skipped: no real alerts here (set FINK_SHARED to the folder that holds data/)");
        assert!(env::var_os("FINK_REQUIRE_SERVERS").is_none(), "FINK_REQUIRE_SERVERS is set, and there are no real alerts");
    }
    found
}

/// The files of a folder of the shared data, in order of name.
#[must_use]
pub fn data(folder: &str, extension: &str) -> Option<Vec<PathBuf>> {
    let folder = shared()?.join("data").join(folder);
    let list = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = list.filter_map(|f| Some(f.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    Some(files)
}

/// The program: `FINK_BIN`, or the one of the same build as this test.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(given) = env::var_os("FINK_BIN") {
        return given.into();
    }
    let this = env::current_exe().expect("a process knows its program");
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join("fink")).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("no program beside {}: build it (cargo build -p fink) or set FINK_BIN", this.display()))
}

/// Room outside of the repository, kept between runs: jars, the Python environment.
#[must_use]
pub fn cache() -> PathBuf {
    let given = env::var_os("FINK_CACHE").map(PathBuf::from);
    given.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache/fink"))
}

/// A folder for one test, removed when the value is dropped; on a real disk (`/tmp` may be memory). `FINK_KEEP=1` keeps it.
#[must_use]
pub fn scratch(name: &str) -> tempfile::TempDir {
    let above = cache().join("run");
    std::fs::create_dir_all(&above).unwrap_or_else(|e| panic!("{}: {e}", above.display()));
    let mut folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(above).expect("a scratch folder can be made");
    if env::var_os("FINK_KEEP").is_some() {
        println!("kept: {}", folder.path().display());
        folder.disable_cleanup(true);
    }
    folder
}

/// The first of `count` consecutive ports that nobody listens on, below the ports that the kernel hands out.
#[must_use]
pub fn ports(count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1000 {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let first = 12_000 + u16::try_from((std::process::id() * 97 + turn * 41) % 18_000).expect("below 18,000");
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} free ports");
}

/// Whether the long form of the tests is asked for (`FINK_FULL=1`).
#[must_use]
pub fn full() -> bool {
    env::var_os("FINK_FULL").is_some_and(|v| v != "0")
}
