//! The simulator: a stream that lives in the process and behaves as a Kafka topic does, with nothing to install.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what a stream is a function of, and its identity |
//! | [`generate`] | the message at any partition and offset |
//! | [`record`] | the alert, its schema and encoding |
//! | [`send`] | the same stream, or a folder of files, sent to a real Kafka |
//! | [`folder`] | the folder's messages |
//! | [`records`] | what was seen, as the surveys' records: ZTF 4.02, LSST 11.0 |
//! | [`cutouts`] | what was seen, as pictures in FITS files |
//! | [`survey`] | the synthetic sky's survey: any alert of any visit |
//! | [`seen`] | what one alert of the synthetic sky says, before it is a record |
//!
//! The stream has partitions and offsets; each message is a function of the configuration, its partition and its
//! offset, so any of them can be asked for again after any restart. How far it reaches is a function of the clock, the
//! rate and the stored start. Nothing is kept: the logs reach back to offset 0 for ever.

mod class;
pub mod config;
pub mod cutouts;
mod dice;
#[cfg(test)]
mod example;
pub mod folder;
pub mod generate;
mod heavens;
mod light;
pub mod record;
pub mod records;
pub mod seen;
pub mod send;
mod sky;
mod source;
mod stamp;
pub mod survey;

pub use config::{AlertOptions, ConfigError, Framing, Rate, SimulatorConfig};
pub use generate::Generator;
pub use source::{Simulator, system_clock};
