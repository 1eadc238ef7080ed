//! fanfare: an io_uring, thread-per-core, high-fan-out WebSocket broadcaster for market data.
//!
//! # Layout
//!
//! Floors, imports go down only (`tests/tidy.rs` enforces it):
//!
//! | floor | what lives there |
//! | --- | --- |
//! | [`cli`] | what was typed, and what a person sees |
//! | [`server`] | start-up and shutdown order |
//! | [`sources`] | what turns the outside into events |
//! | [`client`] | a subscriber that goes on through lost connections |
//! | [`shell`] | the only place that names glommio, io_uring, sockets and the clock |
//! | [`nats`] | the only place that names NATS and tokio: streams and buckets |
//! | [`fanout`] | pure: sequencer, frame log, cohorts, connections, shard |
//! | [`journal`] | what was published, on disk: records, segments, checkpoints, recovery |
//! | [`handoff`] | the only cross-core data path: batch, ring, doorbell |
//! | [`access`] | who may do what, decided before a channel opens |
//! | [`protocol`] | pure: WebSocket, channel names, events, commands, replies |
//! | [`doctor`] | what a host should be like, and what this one is like |
//! | [`telemetry`] | per-core counters, merged on read |
//! | [`config`], [`limits`] | settings as they are meant; every bound with unit and reason |

pub mod access;
pub mod cli;
pub mod client;
pub mod config;
pub mod doctor;
pub mod fanout;
pub mod handoff;
pub mod journal;
pub mod limits;
pub mod nats;
pub mod protocol;
pub mod server;
pub mod shell;
pub mod sources;
pub mod telemetry;
