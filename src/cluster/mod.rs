//! The cluster: who holds which stream and consumer, and what clients are told of it.
//!
//! The rooms: `assignments` is the state of the meta group, `recovery` what a restart gathers of
//! its log before anything starts, `meta` the group's machine; `info` describes groups.

pub mod assignments;
pub mod info;
pub mod recovery;
