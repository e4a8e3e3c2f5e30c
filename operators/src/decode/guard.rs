//! A panic inside decoding costs one message, not the process.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fault::{CRASHED, Fault};

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is decoding now: a panic hook lets such a panic unwind, and ends the process on any other.
#[must_use]
pub fn decoding() -> bool {
    DECODING.get()
}

/// Runs `decode`; a panic in it becomes a fault. Whatever `decode` was changing must be thrown away then.
pub(super) fn guarded<T>(decode: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    DECODING.set(true);
    let result = catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(false);
    result.unwrap_or_else(|panic| Err(Fault::new(CRASHED, format!("decoding panicked: {}", text(&*panic)))))
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_fault_and_only_decoding_is_guarded() {
        assert!(!decoding());
        assert_eq!(guarded(|| Ok(decoding())), Ok(true));
        let fault = guarded::<()>(|| panic!("index {} of {}", 3, 2)).unwrap_err();
        assert_eq!((fault.word, fault.reason.as_str()), (CRASHED, "decoding panicked: index 3 of 2"));
        assert!(!decoding());
    }
}
