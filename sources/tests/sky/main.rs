//! The sky as `fink start simulator` sends it, judged by the messages alone: their pictures, their light curves, their readers.
//!
//! Nothing here looks into the simulator but for the truth, and for which alerts are an object's: what an astronomer has who joins
//! the truth's table.

mod light;
mod readers;
mod shares;
mod stamps;
mod stream;
