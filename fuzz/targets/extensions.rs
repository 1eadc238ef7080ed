//! What a server agrees to is what a client reads from its answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::extensions(data));
