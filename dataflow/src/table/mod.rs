//! Object stores, the ledger, and Delta tables: what the archive is made of, shared by those who write and read it.

pub mod delta;
mod engine;
pub mod entry;
pub mod fault;
mod hdfs;
pub mod ledger;
pub mod leftovers;
pub mod light;
mod local;
pub mod marks;
pub mod object;
pub mod pieces;
pub mod store;
#[cfg(test)]
mod testing;

pub use delta::{Applied, Table, TableError};
pub use ledger::{Ledger, LedgerError, Put};
pub use store::{Archive, StoreError};
