//! The driver: turns sockets, disk and timers into events, and commands back into them.

pub mod disk;
