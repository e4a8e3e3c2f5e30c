//! The committer over real stores.
