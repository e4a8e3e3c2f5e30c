//! How each column is written in Parquet.
