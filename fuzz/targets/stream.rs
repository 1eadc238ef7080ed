//! Any bytes as a producer's stream, cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanfare::sources::properties::stream(bytes));
