//! What it costs to make simulated alerts, on one core: `cargo run --release -p fink-sources --example simulator_cost`.

use std::time::{Duration, Instant};

use fink_sources::simulator::{AlertOptions, Framing, Generator, SimulatorConfig};

fn main() {
    let sizes = [("small", AlertOptions::small()), ("full", AlertOptions::full())];
    for (name, alerts) in sizes {
        for framing in [Framing::Container, Framing::Datum] {
            let config =
                SimulatorConfig { alerts: AlertOptions { framing, ..alerts.clone() }, ..SimulatorConfig::new(1, 1_795_460_400_000) };
            let mut generator = Generator::new(&config);
            let (begin, mut count, mut bytes) = (Instant::now(), 0, 0);
            while begin.elapsed() < Duration::from_secs(2) {
                for _ in 0..100 {
                    bytes += generator.message(count % 4, i64::from(count / 4)).len();
                    count += 1;
                }
            }
            let seconds = begin.elapsed().as_secs_f64();
            let (rate, size) = (f64::from(count) / seconds, bytes as f64 / f64::from(count));
            println!("{name:5} {framing:5} {rate:8.0} alerts/s {:6.1} us an alert {size:7.0} bytes an alert", 1e6 / rate);
        }
    }
}
