//! See `checks::formats::catchup_state` in the library beside this.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| jetwake_fuzz::checks::formats::catchup_state(input));
