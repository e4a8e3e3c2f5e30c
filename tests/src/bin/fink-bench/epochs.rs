//! What epochs cost: the same rows with hundreds of epochs rolled in while live rows come, and all in one epoch.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use fink_dataflow::late::Close;
use fink_tests::epochs::{Play, run};
use fink_tests::process::{cpu, resident};
use serde_json::json;
use timely::Config;

/// Arguments of `epochs`.
#[derive(Args)]
pub(crate) struct EpochsArguments {
    /// Rounds of late rows, each enough for an epoch; on a quick machine two of three are an epoch of their own
    #[arg(long, default_value_t = 540)]
    epochs: u64,
    /// Late rows of an epoch
    #[arg(long, default_value_t = 2_000)]
    rows: u64,
    /// Live rows that come meanwhile
    #[arg(long, default_value_t = 2_000)]
    live: u64,
    /// Keys
    #[arg(long, default_value_t = 5_000)]
    keys: u64,
    /// Workers
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Runs of each kind, by turns; the least counts
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

/// CPU of a run, rolls, and memory at each roll.
struct Cost {
    cpu: Duration,
    rolls: u32,
    memory: Vec<u64>,
}

fn cost(arguments: &EpochsArguments, one_lane: bool) -> Cost {
    // A round is a tenth of an epoch, and a tick two rounds: a tick without late rows would end their epoch.
    let play = Play {
        seed: 1,
        keys: arguments.keys,
        rounds: arguments.epochs * 10,
        live: arguments.live / 10,
        late: arguments.rows / 10,
        steady: true,
        one_lane,
        pace: Duration::from_millis(10),
        tick: Duration::from_millis(20),
        close: Close { messages: usize::try_from(arguments.rows).expect("fits"), ticks: 1_000 },
        kept: false,
    };
    let memory = Arc::new(Mutex::new(Vec::new()));
    let noted = memory.clone();
    let before = cpu(std::process::id()).expect("it runs");
    let seen = run(Config::process(arguments.workers), play, move |_| noted.lock().expect("no panic").push(resident(std::process::id())));
    let cpu = cpu(std::process::id()).expect("it runs") - before;
    let memory = std::mem::take(&mut *memory.lock().expect("no panic"));
    Cost { cpu, rolls: seen.rolls, memory }
}

/// Rolls epoch after epoch.
pub(crate) fn epochs(arguments: &EpochsArguments) {
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        one.push(cost(arguments, true));
        many.push(cost(arguments, false));
    }
    let least = |costs: &[Cost]| costs.iter().map(|cost| cost.cpu).min().expect("one run at least").as_secs_f64();
    let (with, without) = (least(&many), least(&one));
    let memory = &many[many.len() - 1].memory;
    let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len().max(1) as f64 / 1e6;
    let third = memory.len() / 3;
    let (early, late) = (mean(&memory[third..2 * third]), mean(&memory[2 * third..]));
    let rolls = many.iter().map(|cost| cost.rolls).min().unwrap_or(0);
    println!(
        "{rolls} epochs of {} late rows beside {} live ones each, {} keys, {} workers, least of {} runs:",
        arguments.rows, arguments.live, arguments.keys, arguments.workers, arguments.runs
    );
    println!("    CPU {with:.2} s, all in one epoch {without:.2} s: {:.2}", with / without);
    println!("    memory in the second third of the rolls {early:.1} MB, in the last {late:.1} MB: {:.2}", late / early);
    println!("{}", json!({ "rolls": rolls, "cpu_s": with, "cpu_one_s": without, "ratio": with / without, "memory_growth": late / early }));
}
