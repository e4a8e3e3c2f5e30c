//! The ground that fink stands on: what time is, what has been dealt with, and what flows between the parts.
//!
//! | module | what it is |
//! |---|---|
//! | [`moment`] | `Moment`, the two-dimensional timestamp of the graph |
//! | [`clock`] | the state machine that issues Moments and decides when late data rolls in |
//! | [`beats`] | the clock as an operator, and the source operator that follows it |
//! | [`late`] | the source operator of what came before: one epoch ahead of live data |
//! | [`publish`] | the end of a maintained answer: publishes what has become final |
//! | [`coverage`] | which offsets of which logs have been dealt with |
//! | [`message`] | logs, messages and the chunks that sources hand over |
//! | [`alerts`] | decoded alerts as Arrow batches, and what could not be decoded |
//! | [`detection`] | the light row: what the services know of an alert, whichever survey sent it |
//! | [`ports`] | what a source must offer |
//! | [`budget`] | the bound on bytes in flight |
//! | [`mesh`] | the connections between the processes of a cluster |
//! | [`post`] | letters between them |
//! | [`ticks`] | where ticks come from: the wall clock, or a hand |
//! | [`rules`] | the rules of the spine, which tests may break to see that they would find out |
//! | [`table`] | object stores, the ledger, and Delta tables |
//!
//! Nothing here knows a survey, a broker or a command line.

pub mod alerts;
pub mod beats;
pub mod budget;
pub mod clock;
pub mod coverage;
pub mod detection;
pub mod late;
pub mod mesh;
pub mod message;
pub mod moment;
pub mod ports;
pub mod post;
pub mod publish;
pub mod rules;
pub mod table;
pub mod ticks;

pub use coverage::{Coverage, Intervals};
pub use message::{Chunk, Log, Message};
pub use moment::Moment;
