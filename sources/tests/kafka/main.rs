//! The Kafka source and its reader: against a mock cluster always, and against a real Kafka where one is named.
//!
//! `FINK_TEST_KAFKA=HOST:PORT` names it; with `FINK_TEST_KAFKA_DIR`, the folder that `tests/servers/kafka.sh` started it in
//! (with `KAFKA_SASL=1`), logins and restarts are tested too. Without, those tests say that they were skipped.

mod cluster;
mod faults;
mod measure;
mod mock;
mod proxy;
mod real;
mod run;
