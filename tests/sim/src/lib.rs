//! A simulated cluster of real nodes: the same [`Node`](jetwake::node::Node) that a driver runs,
//! with a network, disks and clocks that follow from one seed.
//!
//! * [`Cluster`] is for scenarios: a test kills, cuts, pauses and asks, lets time pass, and in the
//!   end lets the cluster settle. Every rule of [`checkers`] is checked meanwhile.
//! * [`lone::Lone`] is for situations of one node: a test plays its peers, its disk and the clock.
//! * [`workload::run`] plays one seed: load, faults that the seed draws, healing, checks.
//!
//! Nothing here reads a clock, an environment that changes a run, or a hash map's order; a run has
//! no threads. The same seed does the same, byte for byte.
//!
//! ```
//! use jetwake_sim::{Cluster, Setup};
//! let mut cluster = Cluster::new(1, Setup::plain(3));
//! let leader = cluster.wait_for_leader(jetwake::ids::GroupId(0));
//! cluster.crash(leader);
//! let next = cluster.wait_for_leader(jetwake::ids::GroupId(0));
//! assert_ne!(leader, next);
//! ```
#![forbid(unsafe_code)]

pub mod agenda;
pub mod batches;
#[cfg(feature = "canaries")]
pub mod canaries;
pub mod checkers;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod coverage;
pub mod deliveries;
pub mod dice;
pub mod disk;
pub mod faults;
pub mod history;
pub mod ledger;
pub mod log;
pub mod lone;
pub mod membership;
pub mod network;
pub mod plain;
pub mod process;
pub mod record;
pub mod records;
pub mod report;
pub mod script;
pub mod setup;
pub mod shrink;
pub mod steps;
pub mod store;
pub mod story;
pub mod trace;
pub mod wording;
pub mod workload;

pub use client::ClientPlan;
pub use cluster::Cluster;
pub use membership::Change;
pub use network::Machine;
pub use setup::Setup;
