//! Tables of maintained answers: what services know, for whoever reads Delta.
//!
//! ```text
//!  a worker's updates ─► slot ─┐                                         ┌─► residue: desired minus published (at a start)
//!  another worker's   ─► slot ─┴─► waiting ──► due ──────────────────────┴─► files ─► one entry of the ledger ─► tables
//!  (operators)                     (a thread: what is final at a closed Moment that the archive holds)
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | [`table`] | an output: its name, its columns, and how its rows become Arrow's |
//! | [`seat`] | a worker's end: takes updates where they are made, and waits for nobody |
//! | [`pending`] | an output's updates from there on: what is final, as rows |
//! | [`residue`] | what the answer has and the table has not, and the reverse, by content |
//! | [`store`] | rows to files, and back |
//! | [`consolidate`] | a table without what came and went |
//! | [`driver`] | the thread: when what is published, and consolidated |
//! | [`stand`] | what it says of itself |
//!
//! A table is `services/<name>`, rolled forward from the ledger as all are. Its rows are the output's columns and three more:
//! `epoch` and `tick`, the closed Moment at which they were published, and `diff`, how often the row came (or, negative, went).
//! At each version the sum of differences by row is the answer at the greatest Moment in it, neither more nor less:
//!
//! 1. All outputs of a process are published together, as of one Moment, in one entry: an edit of the archive's committer, under
//!    its fence. What is killed before the entry is in the ledger has published nothing; after it, the next start rolls the tables on.
//! 2. A Moment is published when every update up to it has come, and the archive holds every alert of it. So a table knows of no
//!    alert that a restart would have to take back.
//! 3. A new process reads the table back, sums the differences, and takes them from the answer once that knows all of history.
//!    It publishes what is left, which is nothing where nothing changed: not who wrote a row counts, but its content.
//! 4. Operators hand updates over and go on. If more wait than may, the output is given up until the next start, which
//!    publishes the difference; the archive does not notice.
//!
//! History is consolidated when a table has twice the rows that it had after the last time: rows that came and went are left
//! out. The sums stay, of the newest Moment and of all later ones; an edit that changes no answer (`dataChange` false).

pub mod consolidate;
pub mod driver;
pub mod pending;
pub mod residue;
pub mod seat;
pub mod stand;
pub mod store;
pub mod table;
#[cfg(test)]
mod tests;

pub use driver::{Outputs, OutputsOptions, OutputsParts};
pub use seat::{Durable, Seat};
pub use stand::Stand;
pub use table::Output;
