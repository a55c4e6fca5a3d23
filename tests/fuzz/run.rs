//! Hands libFuzzer the target that this program is called after. From the root of the tree,
//! with cargo-fuzz installed, this fuzzes heads of responses until something breaks:
//!
//! ```text
//! cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz -s none reply_head
//! ```

#![no_main]

mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::named(env!("CARGO_BIN_NAME"))(input));
