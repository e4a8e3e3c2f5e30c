//! fink, the alert broker: the graph, its configuration and its command line.
//!
//! | module | what it is |
//! |---|---|
//! | [`allocator`] | what the allocator is told |
//! | [`cli`], [`commands`] | the command line, a file per command |
//! | [`audit`] | compares what the ledger says with what the tables hold |
//! | [`cluster`] | several processes, one graph |
//! | [`crashes`] | what panicked on this machine of late |
//! | [`config`] | the configuration: defaults, file and flags |
//! | [`settings`] | what a run is told to do, all resolved |
//! | [`follow`] | services as a process of their own, which follow an archive |
//! | [`graph`] | the graph, as one drawing |
//! | [`input`] | opens what a run listens to |
//! | [`own`] | services of one's own: the library's API for a crate that composes operators |
//! | [`repair`] | rejects and holes: what a person may set right in an archive |
//! | [`run`] | starts the graph and waits for its end |
//! | [`session`] | a running service as its people see it |
//! | [`serve`] | the web server of a running service |
//! | [`services`](mod@services) | the services' part of the graph, and how their answers are read |
//! | [`standing`] | how far every part of a running service is |
//! | [`rundir`], [`process`] | what runs on this machine |
//! | [`signals`] | how a process is asked to end |

pub mod allocator;
pub mod audit;
pub mod careful;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod crashes;
pub mod follow;
mod gauges;
pub mod graph;
pub mod input;
mod lags;
pub mod observed;
pub mod own;
pub mod process;
mod progress;
pub mod repair;
pub mod run;
pub mod rundir;
pub mod serve;
pub mod services;
pub mod session;
pub mod settings;
pub mod signals;
pub mod standing;

pub use progress::LogWriter;
