//! Real nats-servers, and our nodes and tools among them: the rows of `docs/interop.md`.
//!
//! A test that finds no Go says so and passes; where `CI` is `true` it fails.

mod access;
mod bed;
mod beds;
mod catchups;
mod clients;
mod cost;
mod faults;
mod features;
mod follow;
mod gate;
mod hostile;
mod lead;
mod member;
mod nodes;
mod observe;
mod ours;
mod stand_in;
mod tap;
