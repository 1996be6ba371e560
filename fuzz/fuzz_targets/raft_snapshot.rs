//! See `checks::formats::raft_snapshot` and `structured::raft_snapshot` in the library beside this.
#![no_main]

use jetwake_fuzz::{checks::formats, structured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    formats::raft_snapshot(input);
    // Too short an input makes no value, and shows nothing.
    let _ = structured::raft_snapshot(input);
});
