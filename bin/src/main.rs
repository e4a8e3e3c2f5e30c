//! The program `fink`: see [`fink::cli`].

use std::process::ExitCode;

/// Batches of tens of megabytes come and go: glibc's allocator gives their pages back each time, this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fink::own::program([])
}
