//! Every maintained answer equals its slow, plain reference at every closed Moment: over random orders, duplicates, late
//! rows, retractions and catalogue changes, with 1, 2 and 4 workers, by typed and by serialising channels.
#![allow(unreachable_pub, reason = "a test has no outside")]

mod harness;
mod plain;
mod world;

mod matches;
mod objects;
mod stored;
