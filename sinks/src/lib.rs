//! Where alerts go.
//!
//! | module | what it is |
//! |---|---|
//! | [`archive`] | Parquet files in Delta tables, committed by the ledger |
//! | [`outputs`] | what services know, as tables of the archive |
//! | [`rejects`] | what could not be decoded, whole, as a table of the archive |

pub mod archive;
pub mod outputs;
pub mod rejects;
