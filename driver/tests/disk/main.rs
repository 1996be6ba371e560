//! The disk of a node, on real files.

mod faults;
mod log;
mod parts;
mod rig;
mod store;
