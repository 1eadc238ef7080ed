//! Any bytes as the bytes of a capture file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanfare::sources::properties::capture(bytes));
