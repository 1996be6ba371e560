//! The catchup of a stream: a follower whose log was replaced by a snapshot asks for the messages
//! it lacks.

pub(super) mod follower;
pub mod leader;
pub mod peers;
pub(super) mod stopped;
