//! The server's half of TLS holds, whatever its peer sends and however it is split.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::tls_session(data));
