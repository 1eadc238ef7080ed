//! A stream split anywhere gives the same messages and the same violation as when fed whole.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::ws_reader(data));
