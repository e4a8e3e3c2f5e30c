//! The sign of life that a supervisor gets from each of its processes: a byte a second, through a pipe.
//!
//! The pipe is the process's standard input, written to: nobody else would read or write it, and it ends with either of the
//! two. A process whose supervisor is gone stops in order.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Set where standard input is a supervisor's pipe: to which process this is.
pub(crate) const SUPERVISED: &str = "FINK_SUPERVISED";
/// How often a process says that it lives.
const EVERY: Duration = Duration::from_millis(500);
/// It waits for others, or prepares.
const WAITS: u8 = b'w';
/// Its graph runs.
const RUNS: u8 = b'r';

/// What a process says.
#[derive(Clone)]
pub(crate) struct Pulse {
    says: Arc<AtomicU8>,
}

impl Pulse {
    /// Begins to say that this process lives, where it has a supervisor; `stop` is set when that one is gone.
    pub(crate) fn start(stop: Arc<AtomicBool>) -> std::io::Result<Self> {
        let says = Arc::new(AtomicU8::new(WAITS));
        if std::env::var_os(SUPERVISED).is_some() {
            let mut pipe = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
            let byte = says.clone();
            std::thread::Builder::new().name("pulse".to_owned()).spawn(move || {
                while pipe.write_all(&[byte.load(Ordering::Relaxed)]).is_ok() {
                    std::thread::sleep(EVERY);
                }
                if !stop.swap(true, Ordering::Relaxed) {
                    tracing::warn!("the supervisor is gone: this process stops, after its open commit");
                }
            })?;
        }
        Ok(Self { says })
    }

    /// From now on it says that its graph runs.
    pub(crate) fn runs(&self) {
        self.says.store(RUNS, Ordering::Relaxed);
    }
}

/// What a supervisor heard of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// When last.
    pub at: Instant,
    /// Whether its graph runs.
    pub runs: bool,
}

/// Listens to the pulse of a process that was started now; ends with it.
pub(crate) fn listen(mut pipe: impl Read + Send + 'static) -> std::io::Result<Arc<Mutex<Heard>>> {
    let heard = Arc::new(Mutex::new(Heard { at: Instant::now(), runs: false }));
    let noted = heard.clone();
    std::thread::Builder::new().name("pulse".to_owned()).spawn(move || {
        let mut byte = [0];
        while matches!(pipe.read(&mut byte), Ok(1)) {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Heard { at: Instant::now(), runs: byte[0] == RUNS };
        }
    })?;
    Ok(heard)
}
