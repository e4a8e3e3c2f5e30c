//! The clock as an operator.
