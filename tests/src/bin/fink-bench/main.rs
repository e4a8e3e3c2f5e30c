//! What fink costs: measured against the floors of the same machine, the same alerts and the same code.
//!
//! Everything it starts (Kafka, HDFS, the program itself) is real, and ends with it. Build with `--release`, and the
//! program too: `cargo build --release -p fink -p fink-tests`.

mod answers;
mod cluster;
mod epochs;
mod follow;
mod hydration;
mod late;
mod live;
mod load;
mod path;
mod replay;
mod services;
mod simulator;

use clap::{Parser, Subcommand};

/// The program's allocator, so that what is measured in this process costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What fink costs.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// CPU, throughput and memory of draining Kafka (a), of decoding and writing Parquet (b), of the whole program (c)
    Path(path::PathArguments),
    /// A steady stream: from Kafka's append to what a Delta reader sees
    Latency(live::LatencyArguments),
    /// A visit of Rubin's: thousands of alerts at once, and when all of them are durable
    Visit(live::VisitArguments),
    /// What it costs to wait
    Idle(live::IdleArguments),
    /// Peak memory over a backlog of many nights interleaved
    Memory(load::MemoryArguments),
    /// Thousands of commits: files, logs, and whether commits stay as cheap as the first
    Commits(load::CommitsArguments),
    /// A backlog beside live alerts: what each costs the other
    Late(late::LateArguments),
    /// Services in the archive's process and in their own: from append to answer, and what sick ones do to the archive
    Follow(follow::FollowArguments),
    /// An archived night read again, against its first reading from Kafka
    Replay(replay::ReplayArguments),
    /// The simulator: alerts made on one core, sent from disk into a Kafka, and memory over a million
    Simulator(simulator::SimulatorArguments),
    /// Fills a topic of a Kafka that runs with alerts of real size, all different
    Fill(path::FillArguments),
    /// Epochs of late rows rolled in by the hundred, and what they cost
    Epochs(epochs::EpochsArguments),
    /// Two processes of one worker against one of two, and one partition for two workers
    Cluster(cluster::ClusterArguments),
    /// The services on one worker: CPU an alert, memory a detection
    Services(services::ServicesArguments),
    /// A restart over ten million archived alerts: when live alerts are answered for, and when all are
    Hydration(hydration::HydrationArguments),
    /// A stream from Kafka: how soon answers know an alert
    Answers(answers::AnswersArguments),
    /// A large catalogue loaded, and rows of another changed, while services run
    Catalogs(answers::CatalogsArguments),
    /// Objects and cones asked for at a steady rate while alerts come in
    Reads(answers::ReadsArguments),
    /// The services up to one of them, in this process
    #[command(hide = true)]
    ServicesUpto(services::UptoArguments),
    /// (a) alone, in this process
    #[command(hide = true)]
    Drain(path::DrainArguments),
    /// (b) alone, in this process
    #[command(hide = true)]
    Encode(path::EncodeArguments),
}

fn main() {
    match Arguments::parse().mode {
        Mode::Path(arguments) => path::run(&arguments),
        Mode::Latency(arguments) => live::latency(&arguments),
        Mode::Visit(arguments) => live::visit(&arguments),
        Mode::Idle(arguments) => live::idle(&arguments),
        Mode::Memory(arguments) => load::memory(&arguments),
        Mode::Commits(arguments) => load::commits(&arguments),
        Mode::Late(arguments) => late::late(&arguments),
        Mode::Follow(arguments) => follow::follow(&arguments),
        Mode::Replay(arguments) => replay::replay(&arguments),
        Mode::Simulator(arguments) => simulator::simulator(&arguments),
        Mode::Fill(arguments) => path::fill(&arguments),
        Mode::Epochs(arguments) => epochs::epochs(&arguments),
        Mode::Cluster(arguments) => cluster::cluster(&arguments),
        Mode::Answers(arguments) => answers::answers(&arguments),
        Mode::Catalogs(arguments) => answers::catalogs(&arguments),
        Mode::Reads(arguments) => answers::reads(&arguments),
        Mode::Services(arguments) => services::run(&arguments),
        Mode::Hydration(arguments) => hydration::run(&arguments),
        Mode::ServicesUpto(arguments) => services::upto(&arguments),
        Mode::Drain(arguments) => path::drain(&arguments),
        Mode::Encode(arguments) => path::encode(&arguments),
    }
}
