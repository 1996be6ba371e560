//! Who asks a node for something, whatever way the question came.

use std::fmt::Debug;

use bytes::Bytes;
use jetwake::command::Answer;
use jetwake::event::Request;

/// A client, or what stands for many of them.
pub trait Asker: Debug + Send + Sync {
    /// Takes the answer to a request of this number and weight; it goes nowhere if the client is gone.
    /// Each request is answered once.
    fn answer(&self, id: u64, weight: usize, answer: &Answer);
}

/// A request of a client.
#[derive(Debug)]
pub struct ClientRequest {
    /// The client's own number.
    pub id: u64,
    /// The stream that it is for.
    pub stream: Bytes,
    /// What is asked.
    pub request: Request,
    /// The bytes that it and its answer are counted with.
    pub weight: usize,
}
