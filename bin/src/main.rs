//! The program `fink`: see [`fink::cli`].

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use tracing_subscriber::EnvFilter;

/// Batches of tens of megabytes come and go: glibc's allocator gives their pages back each time, this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long freed memory is kept before the system has it back. Batches and pages of files, tens of megabytes each, are freed
/// by another thread than they were taken by, some seconds later; by default each would come back page by page, zeroed.
const KEEP_FREED_MS: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10000");

/// Begins again, as the same process, with the settings of the allocator: it reads them before `main`.
fn set_allocator() {
    if std::env::var_os(KEEP_FREED_MS.0).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only where it failed; what runs then is as right, and a little slower.
    let _ = again.args(arguments).env(KEEP_FREED_MS.0, KEEP_FREED_MS.1).exec();
}

fn main() -> ExitCode {
    set_allocator();
    fink::signals::exit_on_panic(fink_operators::decode::decoding);
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,delta_kernel=warn,hdfs_native=warn,object_store=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| fink::LogWriter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    fink::careful::this_is_fink();
    fink::cli::run(std::env::args_os())
}
