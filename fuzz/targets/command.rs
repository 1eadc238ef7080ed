//! A command is read or refused, and a refusal is always valid JSON.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::command(data));
