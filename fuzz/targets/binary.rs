//! A binary message is an event or an error, whatever its bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::binary(data));
