//! See `checks::formats::stream_message` and `structured::stream_message` in the library beside this.
#![no_main]

use jetwake_fuzz::{checks::formats, structured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    formats::stream_message(input);
    // Too short an input makes no value, and shows nothing.
    let _ = structured::stream_message(input);
});
