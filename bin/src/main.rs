//! The program `fink`.

fn main() {}
