//! The driver: turns sockets, disk and timers into events, and commands back into them.

#[cfg(feature = "nats")]
pub mod adopt;
pub mod client;
pub mod clock;
pub mod decode;
pub mod demo;
pub mod disk;
pub mod runtime;
pub mod server;
pub mod settings;
#[cfg(feature = "nats")]
pub mod tap;
pub mod trace_file;
pub mod transport;
