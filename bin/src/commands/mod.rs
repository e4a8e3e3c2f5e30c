//! The commands, a file each.

pub mod check;
pub mod hole;
pub mod init;
pub mod rejects;
pub mod replay;
pub mod show;
mod simulate;
pub mod simulator;
pub mod start;
pub mod stop;
