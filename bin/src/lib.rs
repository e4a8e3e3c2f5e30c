//! fink, the alert broker: the graph, its configuration and its command line.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | the configuration: defaults, file and flags |
//! | [`settings`] | what a run is told to do, all resolved |
//! | [`run`] | starts the graph and waits for its end |
//! | [`session`] | a running service as its people see it |

pub mod config;
pub mod run;
pub mod session;
pub mod settings;
