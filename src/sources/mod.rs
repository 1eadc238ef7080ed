//! What turns the outside into events: a file for each kind of source, and what they share.
//!
//! Lines become [`crate::protocol::event::Event`]s and go to the feed. Sockets, tasks and threads
//! come from the shell. Invariant: `data` of an event is the producer's bytes, untouched.

pub mod capture;
pub mod error;
pub mod intake;
pub mod lines;
pub mod mapping;
pub mod nats;
pub mod parser;
mod places;
pub mod producers;
pub mod properties;
pub mod publisher;
pub mod recording;
pub mod replay;
pub mod report;
pub mod span;
pub mod stdin;
