//! The real program over real sockets: what a subscriber, a producer and an operator can rely on.
//!
//! Goal: every promise of `docs/PROTOCOL.md` and of the command line, seen from outside. Method:
//! the built `fanfare` in a child process on ports that the kernel picks; peers that wait for what
//! they can see, with a deadline. Not here: the whole recorded day (`whole_capture`).

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod access;
mod admission;
mod client_certificates;
mod commands;
mod control;
mod drain;
mod journal;
mod logs;
mod metrics;
mod nats;
mod nats_odd;
mod nats_secured;
mod nats_server;
mod operator;
mod read_back;
mod reconnect;
mod recording;
mod recovery_clients;
mod refusals;
mod reload;
mod scale;
mod service;
mod slow;
mod sources;
mod stop;
mod streams;
mod support;
mod terms;
mod tls;
mod tools;
mod top;
mod upgrade;
mod websocket;
