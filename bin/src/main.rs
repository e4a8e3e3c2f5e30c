//! The program `fink`: see [`fink::cli`].

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// Batches of tens of megabytes come and go: glibc's allocator gives their pages back each time, this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
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
