//! What the allocator is told: it reads its settings before `main`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::careful::can_reexecute;

/// How long freed memory is kept before the system has it back. Batches and pages of files, tens of megabytes each, are freed
/// by another thread than they were taken by, some seconds later; by default each would come back page by page, zeroed.
pub const KEEP_FREED_MS: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10000");

/// Begins again, as the same process, with that setting; for what moves alerts by the gigabyte. Does nothing in a program that
/// is not `fink`, or where the setting is made.
pub fn keep_freed() {
    if !can_reexecute() || std::env::var_os(KEEP_FREED_MS.0).is_some() {
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
