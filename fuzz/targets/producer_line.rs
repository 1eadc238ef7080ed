//! Any bytes as one line of a producer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanfare::sources::properties::producer_line(bytes));
