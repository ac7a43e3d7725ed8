//! Text of an integer graph.
