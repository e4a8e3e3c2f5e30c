//! A service of one's own: an aggregate per object, the range of its brightness in each band. Asked by the object's name.
//!
//!     cargo run --example aggregate -- start archive range --simulator --archive ./archive --http 8089
//!     curl 'http://127.0.0.1:8089/api/v1/own/range?key=ZTF26aaaaaaa'

use std::process::ExitCode;

use fink::own::{Answers, Inputs, Own};
use serde::{Deserialize, Serialize};

/// What is answered, in thousandths of a magnitude.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Range {
    band: char,
    alerts: usize,
    brightest_mmag: i32,
    faintest_mmag: i32,
}

fn build<'s>(inputs: Inputs<'s>) -> Answers<'s> {
    use differential_dataflow::AsCollection;
    use timely::dataflow::operators::vec::Map;
    // Each alert as its object and band, its id and its brightness: equal rows are one, so duplicates count once.
    let seen = inputs.alerts.flat_map(|(alert, moment, change)| {
        let point = &alert.detection.point;
        let (magnitude, _) = point.magnitude()?;
        let key = (alert.object.name().to_owned(), char::from(point.band.0));
        Some(((key, (point.id, (magnitude * 1000.0).round() as i32)), moment, change))
    });
    // Whatever of an object changes, its group is looked at again: late alerts and retractions need no thought.
    let ranges = seen.as_collection().reduce_named("range", |(_object, band), points, output| {
        let brightness = || points.iter().filter(|(_, count)| *count > 0).map(|((_, mmag), _)| *mmag);
        if let (Some(brightest_mmag), Some(faintest_mmag)) = (brightness().min(), brightness().max()) {
            output.push((Range { band: *band, alerts: brightness().count(), brightest_mmag, faintest_mmag }, 1));
        }
    });
    Answers::by_key(ranges.map(|((object, _band), range)| (object, range)))
}

fn main() -> ExitCode {
    fink::own::program([Own::new("range", "keeps each object's range of brightness, by band", build)])
}
