//! See `checks::formats::sequence_set` and `structured::sequence_set` in the library beside this.
#![no_main]

use jetwake_fuzz::{checks::formats, structured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    formats::sequence_set(input);
    // Too short an input makes no value, and shows nothing.
    let _ = structured::sequence_set(input);
});
