//! The tests' harness with bytes of libFuzzer's choice.

#![no_main]
#![allow(dead_code, reason = "the tests use more of it")]

#[path = "../../tests/h2_io/anything.rs"]
mod anything;
#[path = "../../tests/h2_io/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| anything::pass(data));
