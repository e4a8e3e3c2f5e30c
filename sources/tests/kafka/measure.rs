//! What reading costs: `cargo test --release -p fink-sources --test kafka measure -- --ignored --nocapture`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fink_sources::lanes::Origin;
use rdkafka::producer::Producer;

use crate::cluster::Cluster;
use crate::real::fresh;
use crate::run::{Run, config, rules};

/// CPU seconds so far, user and system, of these threads of ours; of those that are gone, none.
fn cpu_s(threads: &BTreeSet<String>) -> f64 {
    let stats = threads.iter().filter_map(|thread| std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok());
    stats.map(|stat| stat.split(' ').next().expect("time").parse::<f64>().expect("nanoseconds") / 1e9).sum()
}

/// Our threads.
fn threads() -> BTreeSet<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks");
    tasks.map(|task| task.expect("task").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
#[ignore = "a measurement"]
fn what_reading_and_idling_cost() {
    let Some(kafka) = Cluster::alone() else { return };
    let topic = fresh("measured");
    kafka.create(&topic, 4, &[]);
    for partition in 0..4 {
        kafka.send(&topic, partition, 0..2500, 70_000);
    }
    let (begun, sending) = (Instant::now(), cpu_s(&threads()));
    let mut run = Run::start(&config(&kafka.brokers, &topic), &Arc::default(), rules(Origin::Earliest));
    run.until("first", |run| !run.messages.is_empty());
    println!("first message after {:.3} s", begun.elapsed().as_secs_f64());
    while run.reader.caught_up_to().is_none() || run.inlet.waiting().0 > 0 {
        if run.draw() {
            // Payloads are not kept: their pages would be the cost.
            run.messages.clear();
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // Those of the source, of this test, and of clients that are gone by now.
    let ours = threads();
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_s(&ours) - sending);
    println!("10,000 messages of 70 kB: {wall:.2} s, {:.1} µs of CPU each", cpu * 1e6 / 10_000.0);
    let cpu = cpu_s(&ours);
    std::thread::sleep(Duration::from_secs(30));
    println!("idle: {:.2} % of a core", (cpu_s(&ours) - cpu) / 30.0 * 100.0);
    // The producer's threads are not counted, and it is driven from one that is not either.
    let (brokers, to) = (kafka.brokers.clone(), topic.clone());
    let (begun, cpu) = (Instant::now(), cpu_s(&ours));
    let sender = std::thread::spawn(move || {
        let producer = Cluster::own(brokers).producer(&[("linger.ms", "0")]);
        for number in 0..1000 {
            crate::cluster::send(&producer, &to, 0, number..number + 1, 70_000);
            producer.poll(Duration::ZERO);
            std::thread::sleep(Duration::from_millis(20));
        }
        Producer::flush(&producer, Duration::from_secs(30)).expect("flush");
    });
    let mut seen = 0;
    while seen < 1000 {
        while run.draw() {
            seen += run.messages.len();
            run.messages.clear();
        }
        // As often as a worker is woken.
        std::thread::sleep(Duration::from_millis(20));
    }
    sender.join().expect("sender");
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_s(&ours) - cpu);
    println!("{:.0} a second: {:.2} % of a core, {:.0} µs of CPU each", 1000.0 / wall, cpu / wall * 100.0, cpu * 1e6 / 1000.0);
}
