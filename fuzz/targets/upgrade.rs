//! An upgrade request is accepted or refused, completely, whatever its bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::upgrade(data));
