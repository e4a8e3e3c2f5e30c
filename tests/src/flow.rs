//! Alerts that keep coming while a test goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::template::Template;
use crate::topic::{Fate, Topic};

/// A producer in a thread of its own: so many alerts a second, each another copy, spread over the partitions.
pub struct Flow {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Topic>,
}

impl Flow {
    /// Starts to send.
    #[must_use]
    pub fn start(topic: Topic, templates: Arc<Vec<Template>>, per_second: u32) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || run(topic, &templates, per_second, &end, &count));
        Self { stop, sent, thread }
    }

    /// How many were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops; all that was sent is on the broker.
    #[must_use]
    pub fn stop(self) -> Topic {
        self.stop.store(true, Ordering::Relaxed);
        let topic = self.thread.join().expect("the producer does not panic");
        topic.flush();
        topic
    }
}

fn run(mut topic: Topic, templates: &[Template], per_second: u32, stop: &AtomicBool, sent: &AtomicU64) -> Topic {
    let (start, interval) = (Instant::now(), Duration::from_secs(1) / per_second);
    for k in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep((start + interval * k).saturating_duration_since(Instant::now()));
        copy(&mut topic, templates, u64::from(k));
        sent.fetch_add(1, Ordering::Relaxed);
    }
    topic
}

/// Sends copy `k`: a template and a partition by turns.
pub fn copy(topic: &mut Topic, templates: &[Template], k: u64) {
    let template = &templates[usize::try_from(k).expect("fits") % templates.len()];
    let partition = i32::try_from(k % u64::try_from(topic.partitions()).expect("partitions")).expect("a partition");
    // The topic's own count goes into the seed: what follows differs from what came before it.
    topic.send(partition, &template.message(topic.sent() + 1), Fate::Records(1));
}

/// Sends so many copies at once.
pub fn copies(topic: &mut Topic, templates: &[Template], count: u64) {
    (0..count).for_each(|k| copy(topic, templates, k));
    topic.flush();
}
