//! Where alerts go.
//!
//! | module | what it is |
//! |---|---|
//! | [`archive`] | Parquet files in Delta tables, committed by the ledger |
//! | [`rejects`] | what could not be decoded, whole, as a table of the archive |

pub mod archive;
pub mod rejects;
