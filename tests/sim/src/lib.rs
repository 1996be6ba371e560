//! A simulated cluster of real nodes.
