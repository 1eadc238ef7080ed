//! A server's answer is taken or refused, whatever its bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::client_response(data));
