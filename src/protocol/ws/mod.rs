//! RFC 6455 and 7692, both roles, as pure functions and one small state machine.
//!
//! Not here: sockets, deadlines, and what a message means ([`crate::protocol::command`]).
//! Invariant: nothing in this module blocks, reads a clock, or grows without a bound that its
//! caller gave.

pub mod client;
pub mod close;
pub mod deflate;
pub mod extensions;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod reader;
