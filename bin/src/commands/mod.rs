//! The commands, a file each.

pub mod ask;
pub mod catalog;
pub mod check;
mod classes;
pub mod cone;
pub mod counts;
pub mod hole;
pub mod init;
pub(crate) mod misplaced;
pub mod object;
mod part;
mod plot;
pub mod rejects;
pub mod replay;
pub mod show;
mod simulate;
pub mod simulator;
pub mod start;
pub mod stop;
mod truths;
