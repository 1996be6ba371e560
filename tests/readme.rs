//! The README's loop is the one of the crate's documentation, which is compiled and run.

/// The lines of the first Rust block, without what stands before each.
fn first_block(text: &str, prefix: &str) -> Vec<String> {
    let strip = |line: &str| line.strip_prefix(prefix).unwrap_or(line).trim_start().to_string();
    text.lines()
        .map(|line| line.strip_prefix(prefix).unwrap_or(line))
        .skip_while(|line| !line.trim_start().starts_with("```"))
        .skip_while(|line| line.trim() != "```" && line.trim() != "```rust")
        .skip(1)
        .take_while(|line| line.trim() != "```")
        .map(strip)
        .filter(|line| !line.starts_with("# "))
        .collect()
}

#[test]
fn the_readme_shows_the_loop_that_is_tested() {
    let documented = first_block(include_str!("../src/lib.rs"), "//!");
    let readme = include_str!("../README.md");
    let (_, section) = readme.split_once("<!-- loop").expect("the README marks the loop");
    let shown = first_block(section, "\u{0}");
    assert!(documented.len() > 20, "the documentation has an example");
    assert_eq!(shown, documented);
}
