//! The services in the graph: their answers equal a plain reference at every closed Moment, on any number of workers, whatever
//! comes live, late or from history; and the program gives the same ones after it was killed.

#![allow(unreachable_pub, reason = "a test has no outside")]

mod bound;
mod catalogs;
mod follow;
mod graph;
mod kills;
mod own;
mod program;
mod reference;
mod rolls;
mod tables;
