//! Replicates streams of messages the way NATS JetStream clusters do, with no I/O inside.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod budget;
pub mod command;
pub mod config;
pub mod context;
pub mod event;
pub mod ids;
pub mod limits;
pub mod node;
pub mod outbox;
pub mod raft;
pub mod random;
pub mod stream;
pub mod subject;
pub mod time;
pub mod trace;
pub mod wire;
