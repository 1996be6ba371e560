//! See `checks::lives` in the library beside this.
#![no_main]

use jetwake_fuzz::checks::lives;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| lives::raft_group(input));
