//! Text of a graph.
