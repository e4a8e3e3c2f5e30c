//! The end of the graph.
