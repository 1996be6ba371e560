//! The `jetwake` program.
fn main() {}
