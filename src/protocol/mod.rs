//! Everything that is spoken: pure values in, values out; no socket, no clock, no executor.

pub mod binary;
pub mod channel;
pub mod command;
pub mod control;
pub mod data;
pub mod encoding;
pub mod event;
mod exact;
pub mod json;
pub mod policy;
pub mod query;
pub mod refusal;
pub mod reply;
pub mod sse;
pub mod state_hash;
pub mod terms;
pub mod tls;
pub mod whoami;
pub mod ws;
