//! What is done to alerts: decoding, the surveys' differences, and the services. Pure over streams: no file, no network,
//! no clock.
//!
//! | module | what it is |
//! |---|---|
//! | [`decode`] | messages into Arrow batches, once; what can't be decoded goes whole to the rejects |
//! | [`surveys`] | what differs from survey to survey, as data |

pub mod decode;
pub mod surveys;
