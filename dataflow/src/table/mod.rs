//! Object stores, the ledger, and Delta tables: what the archive is made of, shared by those who write and read it.

pub mod entry;
