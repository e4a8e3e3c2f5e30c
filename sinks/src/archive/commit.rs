//! The committer's decisions.
