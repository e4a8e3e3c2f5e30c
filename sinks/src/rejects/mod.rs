//! The table of what could not be decoded.
