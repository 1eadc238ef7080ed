//! The only floor that names glommio, io_uring, sockets, signals and the clock.
//!
//! It drives the pure floors below and decides nothing itself: no policy, no protocol value is
//! matched here that a lower floor could match. Replacing the executor means rewriting this folder.

pub mod admin;
pub mod checks;
pub mod client;
pub mod clock;
pub mod connection;
pub mod dial;
pub mod executor;
#[cfg(test)]
pub(crate) mod fake;
pub mod feed;
pub mod flush_ring;
pub mod listener;
pub mod net;
pub mod shard_loop;
pub mod signals;
pub mod ticker;
pub mod worker;
mod writers;
