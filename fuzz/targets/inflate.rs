//! A compressed payload gives the same whatever was inflated before; what was compressed comes
//! back.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::inflate(data));
