//! A service that misbehaves, to try what that does to others: `FINK_TEST_SERVICE` asks for it, in any build.
//!
//! | value | what it does |
//! |---|---|
//! | `panic:N` | panics at each worker's N-th alert |
//! | `block:N` | holds its worker for 10 s at each N-th alert |
//! | `eat:N` | from each worker's N-th alert on, takes 16 MiB an alert and gives nothing back |

use std::time::Duration;

use fink_dataflow::Moment;
use fink_operators::objects::LightAlerts;
use timely::dataflow::operators::Inspect;

/// How long it blocks.
const BLOCK: Duration = Duration::from_secs(10);
/// How much it eats at a time, in bytes.
const BITE: usize = 16 << 20;

/// Passes alerts on, and misbehaves as it was asked to.
pub(super) fn trial(alerts: LightAlerts<'_, Moment>) -> LightAlerts<'_, Moment> {
    let Ok(asked) = std::env::var("FINK_TEST_SERVICE") else { return alerts };
    let Some((what, every)) = asked.split_once(':').and_then(|(what, every)| Some((what.to_owned(), every.parse::<usize>().ok()?))) else {
        tracing::error!(asked, "FINK_TEST_SERVICE is none of panic:N, block:N, eat:N");
        return alerts;
    };
    tracing::warn!(asked, "a service misbehaves, as FINK_TEST_SERVICE asks");
    let (mut seen, mut eaten) = (0_usize, Vec::new());
    alerts.inspect(move |_| {
        seen += 1;
        let due = seen.is_multiple_of(every);
        match what.as_str() {
            "panic" if due => panic!("the test service panics at its alert {seen}"),
            "block" if due => std::thread::sleep(BLOCK),
            "eat" if seen >= every => eaten.push(vec![7_u8; BITE]),
            _ => {}
        }
    })
}
