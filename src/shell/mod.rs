//! The only floor that names glommio, io_uring, sockets, signals and the clock.
//!
//! It drives the pure floors below and decides nothing itself: no policy, no protocol value is
//! matched here that a lower floor could match. Replacing the executor means rewriting this folder.

pub mod accept;
pub mod admin;
mod admission;
pub mod certificates;
pub mod changeable;
pub mod checks;
mod clerk;
pub mod client;
pub mod clock;
mod connection;
pub mod control;
mod desk;
pub mod dial;
pub mod doorman;
pub mod estate;
pub mod executor;
#[cfg(test)]
pub(crate) mod fake;
pub mod feed;
pub mod flush_ring;
mod handshake;
pub mod inquiry;
mod lane;
pub mod life;
pub mod listener;
pub mod mailbox;
pub mod net;
mod poll_set;
pub mod random;
mod rounds;
mod sealer;
pub mod shard_loop;
pub mod signals;
mod sockets;
pub mod stamp;
pub mod steering;
mod stopwatch;
pub mod supervisor;
pub mod tcp_info;
pub mod ticker;
pub mod trust;
pub mod turns;
pub mod watchdog;
mod wire;
pub mod worker;
mod writers;
