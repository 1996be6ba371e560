//! The disk of a node, on real files.

mod faults;
mod log;
mod rig;
mod store;
