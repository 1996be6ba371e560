//! The cluster: who holds which stream and consumer, and what clients are told of it.
//!
//! The rooms: `assignments` is the state of the meta group, `recovery` what a restart gathers of
//! its log before anything starts, `inflight` what its leader proposed; `servers` is what is known
//! of servers, `placement` chooses among them for streams and `consumer_group` for consumers;
//! `api` reads what clients ask, `stream_request` and `consumer_request` decide on it, by the rules of
//! `stream_check`, `consumer_check` and `levels`; `meta` is the machine of the meta group, and
//! `wishes` what its leader makes of them;
//! `info` and `alternates` tell clients where a stream is, `info_request` who of its members does.

pub mod alternates;
pub mod api;
pub mod assignments;
pub mod consumer_check;
pub mod consumer_group;
pub mod consumer_request;
pub mod inflight;
pub mod info;
pub mod info_request;
pub mod levels;
pub mod meta;
pub mod placement;
pub mod recovery;
pub mod servers;
pub mod stream_check;
pub mod stream_request;
pub mod wishes;
