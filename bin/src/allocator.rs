//! What the allocators are told, ours and that of the C libraries: they read their settings before `main`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::careful::can_reexecute;

/// How long freed memory is kept before the system has it back. Batches and pages of files, tens of megabytes each, are freed
/// by another thread than they were taken by, some seconds later; by default each would come back page by page, zeroed.
pub const KEEP_FREED_MS: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10000");

/// The same for librdkafka, which answers of several megabytes go through: by default glibc maps each anew, and unmaps it.
const KEEP_MAPPED: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=536870912");

/// Begins again, as the same process, with these settings; for what moves alerts by the gigabyte. Does nothing in a program that
/// is not `fink`, or where the first is made; the second is left to whoever has made it.
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
    again.args(arguments).env(KEEP_FREED_MS.0, KEEP_FREED_MS.1);
    if std::env::var_os(KEEP_MAPPED.0).is_none() {
        again.env(KEEP_MAPPED.0, KEEP_MAPPED.1);
    }
    // It returns only where it failed; what runs then is as right, and a little slower.
    let _ = again.exec();
}
