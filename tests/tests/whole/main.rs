//! The whole system, against real servers. Needs the feature `integration`; run it with `--test-threads=1`, since each test
//! starts servers of its own and some count on the machine's cores.
//!
//! `FINK_FULL=1` runs the long forms; `FINK_REQUIRE_SERVERS=1` fails where a server can't be had, instead of skipping.

mod archive;
mod cluster;
mod deadly;
mod disk;
mod hdfs;
mod holes;
mod identity;
mod kills;
mod late;
mod readers;
mod registry;
mod rejects;
mod room;
mod s3;
mod schemas;
mod sending;
mod simulator;
mod takeover;
