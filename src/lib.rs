//! Replicates streams of messages the way NATS JetStream clusters do, with no I/O inside.
//!
//! # The contract
//!
//! A [`Node`](node::Node) is driven by three kinds of calls, in this order and no other:
//!
//! 1. `handle_*`: [`Node::handle`](node::Node::handle) takes one [`Event`](event::Event), a fact: a
//!    message arrived, a write is on disk, a client asks. It is the only call that changes anything
//!    but the queue of commands.
//! 2. `poll_*`: [`Node::poll`](node::Node::poll) gives one [`Command`](command::Command), until there
//!    is none: send, write, read, answer. Handing in all events that are ready before polling makes
//!    larger batches; it is never required.
//! 3. [`Node::deadline`](node::Node::deadline) tells when to hand in
//!    [`Event::DeadlineReached`](event::Event::DeadlineReached), and why.
//! 4. Everything else only looks: [`Node::status`](node::Node::status),
//!    [`Node::health`](node::Node::health), [`Node::config`](node::Node::config).
//!
//! Time is an argument, randomness a seed: the same events give the same commands, byte for byte.
//! What a message promises is on disk before [`Node::poll`](node::Node::poll) hands it out, because
//! durability is an event too. Input never panics; a panic is a bug of ours.
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use bytes::Bytes;
//! use jetwake::command::{Answer, Command};
//! use jetwake::config::{Config, GroupConfig, GroupKind};
//! use jetwake::event::{Event, Opened, Request};
//! use jetwake::ids::{GroupId, GroupName, RequestId};
//! use jetwake::limits::{Limits, Timers};
//! use jetwake::node::Node;
//! use jetwake::time::Time;
//!
//! /// Hands events in and performs commands until nothing is left to do.
//! fn drive(node: &mut Node, now: &mut Time, mut events: VecDeque<Event>) -> Vec<Answer> {
//!     let mut answers = Vec::new();
//!     loop {
//!         match (events.pop_front(), node.deadline()) {
//!             (Some(event), _) => node.handle(*now, event), // one thing happened
//!             (None, Some((when, _why))) => {
//!                 *now = when; // a driver sleeps until then, or until something happens
//!                 node.handle(*now, Event::DeadlineReached);
//!             }
//!             (None, None) => return answers,
//!         }
//!         while let Some(command) = node.poll() {
//!             match command {
//!                 // A driver writes and syncs first; many writes may share the sync.
//!                 Command::Write { id, .. } => events.push_back(Event::Written { through: id }),
//!                 Command::Answer { answer, .. } => answers.push(answer),
//!                 _ => {} // nobody to send to: the group has a single member
//!             }
//!         }
//!     }
//! }
//!
//! let group = GroupConfig {
//!     name: GroupName::new("LEDGER")?,
//!     members: vec!["n1".into()],
//!     kind: GroupKind::Plain,
//! };
//! let (limits, timers) = (Limits::default(), Timers::default());
//! let (name, domain, seed) = ("n1".into(), "".into(), 7);
//! let mut node = Node::new(Config { name, domain, seed, limits, timers, groups: vec![group] })?;
//! let (mut now, group) = (Time::ZERO, GroupId(0));
//!
//! let opened = Event::Opened { group, disk: Opened::default() };
//! drive(&mut node, &mut now, VecDeque::from([opened]));
//!
//! let (subject, header, payload) = (Bytes::new(), Bytes::new(), Bytes::from_static(b"paid 5"));
//! let request = Request::Publish { subject, header, payload };
//! let asked = Event::Request { id: RequestId::new(1), group, request };
//! let answers = drive(&mut node, &mut now, VecDeque::from([asked]));
//! assert_eq!(answers, [Answer::Json(Bytes::from_static(b"{\"index\":2}"))]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rooms
//!
//! [`wire`] turns bytes into types and back; [`raft`] is one group's consensus; [`stream`] is one
//! replicated stream on top of a group, [`consumer`] one consumer of a stream; [`cluster`] says which
//! of them is where; [`node`] holds all groups of a server. Every bound is a field
//! of [`limits::Limits`].
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod budget;
#[cfg(feature = "canaries")]
pub mod canary;
#[cfg(not(feature = "canaries"))]
mod canary;
pub mod cluster;
pub mod command;
pub mod config;
pub mod consumer;
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
pub mod subject_transform;
pub mod time;
pub mod trace;
pub mod wire;
