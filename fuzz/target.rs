//! The program of every target; its name says which one it is.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lxm::fuzz::run(env!("CARGO_BIN_NAME"), input));
