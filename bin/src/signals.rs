//! Signals and panics: how a process is asked to end, and how it ends when it must.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The exit code after a panic.
pub const PANICKED: i32 = 70;

/// Has SIGTERM and Ctrl-C set `stop`; a second Ctrl-C ends the process at once.
pub(crate) fn watch(stop: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let again = stop.swap(true, Ordering::Relaxed);
            if again && signal == SIGINT {
                tracing::warn!("exits at once; what is not committed yet is read again at the next start");
                signal_hook::low_level::exit(130);
            }
            if !again {
                tracing::info!("stops: finishes the open commit (Ctrl-C again exits at once, and loses nothing either)");
            }
        }
    })?;
    Ok(())
}

/// The exit code of who prints to somebody who does not listen any more, as shells tell it: 128 and SIGPIPE.
const NOBODY_LISTENS: i32 = 141;

/// What timely says when another process of a cluster is gone, and what follows from it.
const GONE: [&str; 2] = ["timely communication error:", "MergeQueue poisoned"];

/// Has a panic of any thread end the process: workers share one fate, and a restart goes on from what is durable.
///
/// A panic that `caught` claims is left to whoever catches it.
pub fn exit_on_panic(caught: fn() -> bool) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // `fink check | head`: no fault of ours, and nothing to say of it.
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            signal_hook::low_level::exit(NOBODY_LISTENS);
        }
        if !caught() {
            if GONE.iter().any(|gone| said.contains(gone)) {
                let why = said.strip_prefix(GONE[0]).unwrap_or(said).trim();
                tracing::error!(
                    "lost another process of the cluster ({why}): this one ends too; started again, all go on from what is durable"
                );
                signal_hook::low_level::exit(i32::from(crate::cluster::AGAIN));
            }
            print(panic);
            crate::crashes::note(panic);
            signal_hook::low_level::exit(PANICKED);
        }
    }));
}
