//! The whole system, against real servers.
