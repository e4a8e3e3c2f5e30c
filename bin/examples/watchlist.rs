//! A service of one's own: a join with a table of one's own that changes. `watchlist.csv` holds lines `NAME,WHO`: an object, and
//! who wants to know of it; lines may come and go while it runs. Asked by who: what are my objects now?
//!
//!     echo ZTF26aaaaaaa,me > watchlist.csv
//!     cargo run --example watchlist -- start archive watchlist --simulator --archive ./archive --http 8089
//!     curl 'http://127.0.0.1:8089/api/v1/own/watchlist?key=me'

use std::process::ExitCode;

use fink::own::{Answers, Inputs, Own};
use fink_operators::objects::Summary;
use serde::{Deserialize, Serialize};

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Watched {
    object: String,
    class: String,
    alerts: u32,
}

fn build<'s>(inputs: Inputs<'s>) -> Answers<'s> {
    let watched = inputs.table("watchlist").flat_map(|line| {
        let (object, who) = line.split_once(',')?;
        Some((object.trim().to_owned(), who.trim().to_owned()))
    });
    // Two collections, joined by the object: a change of either corrects what was answered.
    let classes = inputs.classes.map(|(object, classes)| {
        let class = classes.current().map_or("Unknown".to_owned(), |change| change.class().to_string());
        (object, class)
    });
    let summaries = inputs.summaries.as_collection(|object, summary: &Summary| (*object, summary.alerts));
    let known = summaries.join(classes).map(|(object, (alerts, class))| (object.name().to_owned(), (alerts, class)));
    let answers = watched.join(known).map(|(object, (who, (alerts, class)))| (who, Watched { object, class, alerts }));
    Answers::by_key(answers)
}

fn main() -> ExitCode {
    let about = "says of the objects of watchlist.csv what they are taken for";
    fink::own::program([Own::new("watchlist", about, build).with_table("watchlist", "watchlist.csv")])
}
