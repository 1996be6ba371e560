//! The disk of a node, on real files.

mod log;
mod rig;
mod store;
