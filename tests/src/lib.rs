//! Whole-system tests: the program against real servers, killed, stopped and starved, and judged by readers that are not ours.
//!
//! | module | what it is |
//! |---|---|
//! | [`places`] | where things are: the program, the scripts, the surveys' alerts, room for scratch |
//! | [`servers`] | real Kafka, HDFS, schema registry and S3, for as long as a value lives |
//! | [`process`] | the program as a child: started, watched, stopped, killed, its CPU and memory |
//! | [`datum`], [`template`] | real alerts in as many different copies as wanted, at the size and cost of the original |
//! | [`epochs`] | live and late operators on random schedules, and an oracle |
//! | [`flow`] | alerts that keep coming |
//! | [`topic`] | what was sent to a topic, message by message |
//! | [`truth`] | what the simulator says that it sent, and the topic that it sent it to |
//! | [`lsst`] | Rubin's schemas and messages |
//! | [`judge`] | checks by the program itself, and by deltalake, polars, pyarrow and fastavro |
//! | [`answers`] | what running services answer |
//! | [`namespaces`] | machines on one, whose network can be cut |
//! | [`visible`] | when rows become visible to a Delta reader |
//!
//! Everything here panics where it can't go on: it is for tests and benchmarks. The tests themselves are under
//! `tests/tests/`, behind the feature `integration`.

pub mod answers;
pub mod datum;
pub mod epochs;
pub mod flow;
pub mod judge;
pub mod lsst;
pub mod namespaces;
pub mod places;
pub mod process;
pub mod servers;
pub mod template;
pub mod topic;
pub mod truth;
pub mod visible;
