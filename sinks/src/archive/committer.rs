//! The committer.
