//! The commands, a file each.

pub mod check;
pub mod hole;
pub mod init;
pub mod rejects;
pub mod show;
pub mod start;
pub mod stop;
