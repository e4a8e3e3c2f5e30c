//! What a service says of itself, as Prometheus reads it: text, a line a figure.

use std::fmt::{Display, Write};

use crate::services::watch::Latency;
use crate::session::Figures;

/// A page of metrics.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// One figure with what it is about, then its values by label.
    fn figure<V: Display>(&mut self, name: &str, kind: &str, about: &str, values: impl IntoIterator<Item = (String, V)>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        // Writing to a text can't fail.
        let _ = writeln!(self.text, "# HELP fink_{name} {about}\n# TYPE fink_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.text, "fink_{name}{labels} {value}");
        }
    }
}

/// The figures of now.
pub(super) fn text(figures: &Figures) -> String {
    let mut page = Page::default();
    let plain = |value: u64| [(String::new(), value)];
    let became = [("archived", figures.archived), ("rejected", figures.rejected), ("empty", figures.empty)];
    let became = became.map(|(what, count)| (label(&[("became", what)]), count));
    page.figure("messages_total", "counter", "Messages made durable since the start, by what they became.", became);
    page.figure("bytes_total", "counter", "Bytes of their keys and payloads.", plain(figures.bytes));
    page.figure("commits_total", "counter", "Entries put into the ledger since the start.", plain(figures.commits));
    page.figure("in_flight_bytes", "gauge", "Bytes of messages between source and archive.", plain(figures.in_flight_bytes));
    let last = figures.last_commit_ms.map(|ms| (String::new(), ms as f64 / 1e3));
    page.figure("last_commit_timestamp_seconds", "gauge", "When the last entry was put.", last);
    page.figure("in_trouble", "gauge", "1 while something is tried again.", plain(u64::from(figures.trouble.is_some())));
    if let Some(services) = &figures.services {
        let left_out = plain(u64::from(services.left_out.is_some()));
        page.figure("services_left_out", "gauge", "1 where services were asked for and left out, since they ended the archive.", left_out);
        let until = services.until_ms.map(|ms| (String::new(), ms as f64 / 1e3));
        page.figure("services_until_timestamp_seconds", "gauge", "All that was archived by then is in the answers.", until);
        let entries = services.entries.map(|entries| (String::new(), entries));
        page.figure("services_entries", "gauge", "Entries of the archive's ledger that are in the answers.", entries);
        let observed = services.pace.observed_until_ms.map(|ms| (String::new(), ms as f64 / 1e3));
        let about = "The latest time of observation of live alerts that are in the answers.";
        page.figure("services_observed_until_timestamp_seconds", "gauge", about, observed);
        let away = services.away.map(|away| (String::new(), away.objects));
        page.figure("services_away_objects", "gauge", "Objects whose light curves are in the archive alone.", away);
        let back = services.away.map(|away| (String::new(), away.back));
        page.figure("services_back_objects_total", "counter", "Objects whose light curves came back to memory.", back);
        let about = "1 when the services' answers know all that the archive held at the start.";
        page.figure("services_complete", "gauge", about, plain(u64::from(services.complete)));
        let history = services.history.map(|(read, of)| [("read", read), ("all", of)].map(|(what, n)| (label(&[("alerts", what)]), n)));
        page.figure(
            "services_history",
            "gauge",
            "Alerts of the archive that the services read at the start.",
            history.into_iter().flatten(),
        );
        page.figure(
            "services_failed",
            "gauge",
            "1 where the archive's history can't be read.",
            plain(u64::from(services.failed.is_some())),
        );
        if let Some(tables) = &services.tables {
            page.figure("tables_rows_total", "counter", "Rows written to the services' tables.", plain(tables.rows));
            let about = "1 when the services' tables are exact at a Moment of this process.";
            page.figure("tables_exact", "gauge", about, plain(u64::from(tables.moment.is_some())));
            page.figure("tables_waiting", "gauge", "Changes that wait for the services' tables.", plain(tables.waiting));
            let failed = plain(tables.failed.len() as u64 + u64::from(tables.trouble.is_some()));
            page.figure("tables_failed", "gauge", "The services' tables that can't be written.", failed);
        }
        let pace = &services.pace;
        let alerts = [("in", pace.alerts_in), ("answered", pace.alerts_answered)].map(|(stage, n)| (label(&[("stage", stage)]), n));
        page.figure("services_alerts_total", "counter", "Live alerts that came in, and that answers know.", alerts);
        let quantiles = |of: &str, latency: &Latency| {
            let all = [("0.5", latency.median_ms), ("0.99", latency.p99_ms), ("1", latency.max_ms)];
            all.map(|(quantile, ms)| (label(&[("of", of), ("quantile", quantile)]), ms / 1e3))
        };
        let all = [("batch", &pace.batch), ("end_to_end", &pace.end_to_end)];
        let all = all.into_iter().filter_map(|(of, latency)| Some(quantiles(of, latency.as_ref()?))).flatten();
        let about = "From when an alert's message was taken (batch), or sent (end_to_end), to when answers know it; of the last minute.";
        page.figure("services_latency_seconds", "gauge", about, all);
    }
    let Some(standing) = &figures.standing else { return page.text };
    let lanes = || standing.lanes.iter().map(|lane| (label(&[("lane", lane.lane.as_str())]), lane));
    page.figure("behind_messages", "gauge", "Offsets that are not durable yet.", lanes().map(|(labels, lane)| (labels, lane.behind)));
    let soon = lanes().filter_map(|(labels, lane)| Some((labels, lane.caught_up_in_s?)));
    page.figure("caught_up_in_seconds", "gauge", "When a lane will have caught up, as it went lately.", soon);
    let until = lanes().filter_map(|(labels, lane)| Some((labels, lane.archived_until_ms? as f64 / 1e3)));
    page.figure("archived_until_timestamp_seconds", "gauge", "What the source had by then is archived.", until);
    let observed = lanes().filter_map(|(labels, lane)| Some((labels, lane.observed_until_ms? as f64 / 1e3)));
    page.figure("observed_until_timestamp_seconds", "gauge", "The latest time of observation of what is archived.", observed);
    page.figure("lost_offsets", "gauge", "Offsets that the source no longer held.", plain(standing.holes));
    let logs = || {
        standing.logs.iter().map(|log| (label(&[("topic", log.topic.as_str()), ("partition", log.partition.to_string().as_str())]), log))
    };
    page.figure("log_end", "gauge", "The offset after a log's last.", logs().map(|(labels, log)| (labels, log.held.1)));
    let archived = logs().map(|(labels, log)| (labels, log.archived_to));
    page.figure("log_archived_to", "gauge", "The first offset that is not archived.", archived);
    page.text
}

/// Labels in braces, their values escaped.
fn label(labels: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    format!("{{{}}}", labels.iter().map(one).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::bound::AwayStand;
    use crate::services::desk::Stand;
    use crate::services::watch::Pace;
    use crate::standing::{LaneStanding, LogStanding, Standing};

    #[test]
    fn every_figure_is_named_once_and_labelled() {
        let lane = LaneStanding { lane: "live".to_owned(), behind: 7, archived_until_ms: Some(2_500), ..LaneStanding::default() };
        let log = LogStanding { topic: "a\"b".to_owned(), partition: 3, held: (1, 9), archived_to: 5, ..LogStanding::default() };
        let standing = Standing { lanes: vec![lane], logs: vec![log], ..Standing::default() };
        let tables = Some(fink_sinks::outputs::Stand { rows: 9, moment: Some("0.4".to_owned()), ..Default::default() });
        let took = Latency { median_ms: 500.0, p99_ms: 1_020.0, max_ms: 1_100.0 };
        let pace = Pace { alerts_in: 7, end_to_end: Some(took), observed_until_ms: Some(4_500), ..Pace::default() };
        let away = Some(AwayStand { nights: 9, objects: 6, back: 2 });
        let services = Stand { complete: true, history: Some((4, 8)), tables, pace, away, ..Stand::default() };
        let text = text(&Figures { archived: 12, standing: Some(standing), services: Some(services), ..Figures::default() });
        for line in [
            "fink_messages_total{became=\"archived\"} 12",
            "fink_behind_messages{lane=\"live\"} 7",
            "fink_archived_until_timestamp_seconds{lane=\"live\"} 2.5",
            "fink_services_complete 1",
            "fink_services_history{alerts=\"all\"} 8",
            "fink_services_observed_until_timestamp_seconds 4.5",
            "fink_services_away_objects 6",
            "fink_services_back_objects_total 2",
            "fink_tables_rows_total 9",
            "fink_tables_exact 1",
            "fink_services_alerts_total{stage=\"in\"} 7",
            "fink_services_latency_seconds{of=\"end_to_end\",quantile=\"0.99\"} 1.02",
            "fink_log_archived_to{topic=\"a\\\"b\",partition=\"3\"} 5",
        ] {
            assert!(text.lines().any(|each| each == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("caught_up_in"), "a figure that is not known is not there");
        assert_eq!(text.matches("# TYPE fink_behind_messages gauge").count(), 1);
    }
}
