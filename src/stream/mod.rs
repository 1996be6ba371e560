//! One replicated stream on top of a group.

pub mod catchup;
