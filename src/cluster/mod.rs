//! What the members of a cluster tell about each other.

pub mod info;
