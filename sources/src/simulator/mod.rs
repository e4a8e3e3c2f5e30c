//! The simulator: a stream that lives in the process and behaves as a Kafka topic does, with nothing to install.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what a stream is a function of, and its identity |
//! | [`survey`] | the survey that looks at the sky: any alert of any visit |
//! | [`seen`] | what one alert of the synthetic sky says, before it is a record |
//! | [`records`] | what was seen, as the surveys' records: ZTF 4.02, LSST 11.0 |
//! | [`cutouts`] | what was seen, as pictures in FITS files |
//! | [`generate`] | the message at any partition and offset |
//! | [`pace`], [`trouble`] | when each message is sent, and what goes wrong |
//! | [`send`] | the same stream, or a folder of files, sent to a real Kafka |
//! | [`truth`] | what was sent, and what is true of it |
//!
//! Within: `heavens` (the objects), `light` (their light curves), `ahead` (messages made before their turn), `dice` (chance).
//!
//! The stream has partitions and offsets; each message is a function of the configuration, its partition and its
//! offset, so any of them can be asked for again after any restart. How far it reaches is a function of the clock, the
//! rate and the stored start. Nothing is kept: the logs reach back to offset 0 for ever.

mod ahead;
mod class;
pub mod config;
pub mod cutouts;
mod dice;
#[cfg(test)]
mod example;
pub mod generate;
mod heavens;
mod light;
pub mod pace;
pub mod records;
pub mod seen;
pub mod send;
mod source;
pub mod survey;
pub mod trouble;
pub mod truth;

pub use config::{AlertOptions, ConfigError, Rate, SimulatorConfig};
pub use generate::Generator;
pub use records::frame::Framing;
pub use source::{Simulator, system_clock};
