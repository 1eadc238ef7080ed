//! fanfare: an io_uring, thread-per-core, high-fan-out WebSocket broadcaster for market data.
//!
//! # Layout
//!
//! Floors, imports go down only (`tests/tidy.rs` enforces it):
//!
//! | floor | what lives there |
//! | --- | --- |

