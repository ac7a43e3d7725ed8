//! The `qgraph` command line.
fn main() {}
