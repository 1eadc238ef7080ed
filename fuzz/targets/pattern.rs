//! A pattern matches exactly what the naive reading of its tokens matches.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::pattern(data));
