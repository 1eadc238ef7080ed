//! A journal's record is what was written, or is refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::journal_record(data));
