//! What is done to alerts: decoding, the surveys' differences, and the services. Pure over streams: no file, no network,
//! no clock.
//!
//! | module | what it is |
//! |---|---|
//! | [`decode`] | messages into Arrow batches, once; what can't be decoded goes whole to the rejects |
//! | [`surveys`] | what differs from survey to survey, as data; light rows out of batches |
//! | [`objects`] | light curves and what follows from them, by object |
//! | [`catalogue`] | from a catalogue's bytes to rows with a place |
//! | [`crossmatch`] | what stands at an object's place |
//! | [`classify`] | what an object is taken for, when that changed, and why |
//! | [`monitor`] | linear counters |

pub mod catalogue;
pub mod classify;
pub mod crossmatch;
pub mod decode;
pub mod monitor;
pub mod objects;
pub mod surveys;
