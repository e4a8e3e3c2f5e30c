//! The archive: Parquet files in Delta tables, committed by the ledger.
//!
//! ```text
//! decoded ─► operator ─► writer thread ─► groups ─► committer ─► ledger ─► tables
//!            (a worker)   (a worker)                (a process)
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`group`] | closed files and the spans that they stand for: what is committed together |
//! | [`operator`] | the end of the graph; its output frontier is what is durable |
//! | [`writer`] | the thread that turns alerts into Parquet files |
//! | [`routes`] | which table a writer's schema goes to |
//! | [`columns`] | our own columns beside the survey's |
//! | [`types`] | table schemas, and how they grow |
//! | [`properties`] | how each column is written in Parquet |
//! | [`encode`] | one Parquet file in the making |
//! | [`files`] | the files that a writer has open |
//! | [`memory`] | the bound on what open files hold |
//! | [`upload`] | storing closed files |
//! | [`rewrite`] | several files into one, row for row |
//! | [`commit`] | the committer's decisions, without threads or clock |
//! | [`merge`] | one entry of many groups and requests |
//! | [`committer`] | the thread that carries them out |
//! | [`deputies`] | the committer as a cluster's other processes see it |
//! | [`compacting`] | when small files become large ones, and which |
//! | [`fence`] | who may write |
//! | [`opening`] | how a writer takes the archive, and what tables lack: decisions |
//! | [`upkeep`] | checkpoints, snapshots, clean logs, vacuum: when |
//! | [`vacuum`] | which files nobody can need any more |

pub mod columns;
pub mod commit;
#[cfg(test)]
mod commit_tests;
pub mod committer;
#[cfg(test)]
mod committer_tests;
pub mod compacting;
pub mod deputies;
pub(crate) mod driver;
pub mod encode;
pub mod fence;
pub mod files;
pub mod group;
pub mod memory;
pub mod merge;
pub mod opening;
pub mod operator;
pub mod properties;
pub mod rewrite;
pub mod routes;
mod start;
pub mod types;
pub mod upkeep;
pub mod upload;
pub mod vacuum;
pub mod writer;

#[cfg(test)]
mod samples;
