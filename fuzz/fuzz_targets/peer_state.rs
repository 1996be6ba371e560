//! See `checks::formats::peer_state` and `structured::peer_state` in the library beside this.
#![no_main]

use jetwake_fuzz::{checks::formats, structured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    formats::peer_state(input);
    // Too short an input makes no value, and shows nothing.
    let _ = structured::peer_state(input);
});
