//! The files of the driver that read what a connection carries, without its hundred dependencies:
//! those take minutes to instrument, and have no part in it.
#![allow(dead_code, unreachable_pub, reason = "the driver uses and exports more of them")]

#[path = "../../driver/src/transport/body.rs"]
pub(crate) mod body;
#[path = "../../driver/src/transport/frame.rs"]
pub(crate) mod frame;
