//! Where alerts come from.
//!
//! | module | what it is |
//! |---|---|
//! | [`lanes`] | which stretches of which logs to read: a state machine |
//! | [`reader`] | the threads that drive any source through its lanes |
//! | [`queue`] | the bounded queue from a reader to the workers |
//! | [`progress`] | what a reader says of itself |
//! | [`share`] | which logs of a source a process of a cluster reads |
//! | [`schemas`] | schemas by id, made sure of before messages that need them go on |
//! | [`registry`] | a schema registry, and a folder of schemas |
//! | [`archive`] | what an archive holds, read again |
//! | [`kafka`] | topics of a Kafka cluster |
//! | [`files`] | a folder of Avro files |
//! | [`simulator`] | a stream that lives in the process |
//!
//! A source implements [`fink_dataflow::ports::Source`] and decides nothing: what is read, in which order, and what is lost,
//! is decided here once for all of them.

pub mod archive;
pub mod files;
pub mod kafka;
pub mod lanes;
pub mod progress;
pub mod queue;
pub mod reader;
pub mod registry;
pub mod schemas;
pub mod share;
pub mod simulator;
