//! A service of one's own: a score of each alert, from nothing but the alert. Asked by the alert's id.
//!
//!     cargo run --example score -- start archive score --simulator --archive ./archive --http 8089
//!     curl 'http://127.0.0.1:8089/api/v1/own/score?key=2501234567890000'

use std::process::ExitCode;

use differential_dataflow::AsCollection;
use fink::own::{Answers, Inputs, Own};
use fink_dataflow::detection::LightAlert;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;

/// What is answered. A collection holds what can be ordered: no bare floats, hence a score in thousandths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Score {
    object: String,
    thousandths: u32,
}

/// How sudden an alert is: near 1 for a bright source that has no past.
fn score(alert: &LightAlert) -> Score {
    let (magnitude, error) = alert.detection.point.magnitude().unwrap_or((99.0, 99.0));
    let bright = ((21.0 - magnitude) / 6.0).clamp(0.0, 1.0);
    let sure = 1.0 / (1.0 + 10.0 * error);
    let new = 1.0 / f64::from(1 + alert.detection.traits.detections.max(0));
    Score { object: alert.object.name().to_owned(), thousandths: (bright * sure * new * 1000.0).round() as u32 }
}

fn build<'s>(inputs: Inputs<'s>) -> Answers<'s> {
    // An alert that comes twice is one alert: `distinct` holds its answer once.
    let scores = inputs.alerts.map(|(alert, moment, change)| ((alert.detection.point.id.to_string(), score(&alert)), moment, change));
    Answers::by_key(scores.as_collection().distinct())
}

fn main() -> ExitCode {
    fink::own::program([Own::new("score", "says of each alert how sudden it is", build)])
}
