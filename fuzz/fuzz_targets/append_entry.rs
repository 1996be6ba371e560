//! See `checks::formats::append_entry` and `structured::append_entry` in the library beside this.
#![no_main]

use jetwake_fuzz::{checks::formats, structured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    formats::append_entry(input);
    // Too short an input makes no value, and shows nothing.
    let _ = structured::append_entry(input);
});
