//! Our own columns beside the survey's.
