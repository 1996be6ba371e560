//! A stream's machine between a log that never fails and a store in memory: what it does with
//! requests, records, crashes, snapshots and catchups.

mod apply;
mod batch;
mod bounds;
mod catchup;
mod counter;
mod crash;
mod defects;
mod function_of_log;
mod mend;
mod publish;
mod rig;
mod schedule;
mod serving;
mod sourced;
mod transform;
mod upstream;
