//! From what one core was measured to do to the nodes that a number of clients takes.
//!
//! A core brings its clients up to the head of the log in turns. With `n` clients, `s` for a send
//! and `e` more for each event in it, a turn takes `t = n * (s + e * rate * t)`: the longer it
//! takes, the more events share a send. Solved for the turn that is allowed, that is the number of
//! clients of a core. Not here: the figures ([`super::measured`]). Invariant: the low end of an
//! answer is never above its high end.

use super::measured::{Measured, Range};
use crate::limits::{CONNECTIONS_MAX, LOG_BYTES, RETAINED_BYTES};

/// Bytes around the data of an event: the members of its frame, with names of common length.
const ENVELOPE_BYTES: f64 = 150.0;
/// Bytes of Ethernet, IP and TCP around each segment.
const SEGMENT_BYTES: f64 = 90.0;
/// Bytes of a segment's payload.
const SEGMENT_PAYLOAD_BYTES: f64 = 1_448.0;
/// Bytes of subject, headers and framing around an event in the stream.
const STREAM_BYTES: f64 = 200.0;
/// Bytes of data that the runs were taken with.
const MEASURED_BYTES: f64 = 256.0;

/// What is to be carried, and on what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) clients: u64,
    pub(super) rate: f64,
    pub(super) bytes: u64,
    pub(super) share: f64,
    pub(super) latency_ms: f64,
    pub(super) cores: u64,
    pub(super) network_gbit: f64,
    pub(super) headroom: f64,
    pub(super) spare: u64,
    pub(super) is_tls: bool,
    pub(super) keep_hours: f64,
}

/// What bounds the clients of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Cores,
    Network,
    Connections,
}

impl Bound {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Network => "network",
            Self::Connections => "connections",
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Cores => "cores: a turn through all clients takes too long",
            Self::Network => "the network of a node",
            Self::Connections => "the setting connections_max of a core",
        }
    }
}

/// The answer.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) nodes: Range,
    pub(super) clients_of_node: Range,
    pub(super) clients_of_core: Range,
    pub(super) bound: Bound,
    pub(super) node_bytes: Range,
    pub(super) node_gbit: Range,
    pub(super) all_gbit: Range,
    /// Until the clients of a node that died are connected to the others.
    pub(super) comeback_s: Range,
    pub(super) stream_in_gbit: f64,
    pub(super) stream_out_gbit: Range,
    pub(super) stream_bytes: f64,
    pub(super) remarks: Vec<&'static str>,
}

/// Works it out.
pub(super) fn plan(ask: &Ask, measured: &Measured) -> Plan {
    #[expect(clippy::cast_precision_loss, reason = "counts that people type")]
    let (clients, cores, bytes, spare) =
        (ask.clients as f64, ask.cores as f64, ask.bytes as f64, ask.spare as f64);
    #[expect(clippy::cast_precision_loss, reason = "settings far below 2^52")]
    let (connections, log_bytes) = (CONNECTIONS_MAX as f64, (LOG_BYTES + RETAINED_BYTES) as f64);
    let rate = ask.rate * ask.share;
    let by_core = by_core(ask, measured, rate, bytes).map(|count| count.min(connections));
    let client_gbit = client_bytes(rate, bytes).map(|bytes| bytes * 8.0 / 1e9);
    let by_network = client_gbit.turned(|gbit| ask.headroom * ask.network_gbit / gbit);
    let by_cores = by_core.map(|count| count * cores);
    let of_node = Range {
        low: by_cores.low.min(by_network.low).max(1.0),
        high: by_cores.high.min(by_network.high).max(1.0),
    }
    .map(f64::floor);
    let nodes = of_node.turned(|of_node| (clients / of_node).ceil() + spare);
    // What is there in the end: no more than the clients, over the nodes that are not to spare.
    let held = nodes.turned(|nodes| (clients / (nodes - spare).max(1.0)).min(clients));
    let bound = if by_network.low < by_cores.low {
        Bound::Network
    } else if by_core.low >= connections {
        Bound::Connections
    } else {
        Bound::Cores
    };
    let connection =
        if ask.is_tls { measured.tls_connection_bytes } else { measured.connection_bytes };
    let fixed = cores * log_bytes;
    let handshakes = measured.handshakes_per_s;
    let comeback =
        |of_node: f64, nodes: f64, per_s: f64| of_node / ((nodes - 1.0).max(1.0) * cores * per_s);
    let node_gbit = Range { low: held.low * client_gbit.low, high: held.high * client_gbit.high };
    let event_gbit = (bytes + STREAM_BYTES) * 8.0 / 1e9;
    let stream_in_gbit = ask.rate * event_gbit;
    let stream_out_gbit = nodes.map(|nodes| nodes * stream_in_gbit);
    let mut remarks = Vec::new();
    if ask.is_tls {
        remarks.push("one event in a send over TLS was not measured on its own: a wide range");
    }
    if stream_out_gbit.high > ask.headroom * ask.network_gbit {
        remarks.push("one stream cannot feed all nodes: give each region or rack a mirror");
    }
    if ask.rate > measured.ingest_per_s.low {
        remarks.push("more events than one node takes in: split the feed over several streams");
    }
    if nodes.high < spare + 2.0 {
        remarks.push("one node would do; the others are there for when it is gone");
    }
    Plan {
        nodes,
        clients_of_node: held,
        clients_of_core: by_core.map(f64::floor),
        bound,
        node_bytes: Range {
            low: fixed + held.low * connection.low,
            high: fixed + held.high * connection.high,
        },
        node_gbit,
        all_gbit: client_gbit.map(|gbit| gbit * clients),
        comeback_s: Range {
            low: comeback(held.low, nodes.high, handshakes.high),
            high: comeback(held.high, nodes.low, handshakes.low),
        },
        stream_in_gbit,
        stream_out_gbit,
        stream_bytes: ask.rate * (bytes + STREAM_BYTES) * ask.keep_hours * 3_600.0,
        remarks,
    }
}

/// Clients of a core whose turn through all of them takes no longer than is allowed.
fn by_core(ask: &Ask, measured: &Measured, rate: f64, bytes: f64) -> Range {
    let turn_ns = ask.latency_ms * 1e6;
    // What is copied grows with the bytes; below those of the runs it is not known to shrink.
    let size = ((bytes + ENVELOPE_BYTES) / (MEASURED_BYTES + ENVELOPE_BYTES)).max(1.0);
    let (event, send) = if ask.is_tls {
        let ratio = measured.tls_event_ns.high / measured.event_ns.low;
        let send = measured.send_ns;
        (measured.tls_event_ns, Range { low: send.low, high: send.high * ratio })
    } else {
        (measured.event_ns, measured.send_ns)
    };
    let clients = |send_ns: f64, event_ns: f64| {
        let events = rate * ask.latency_ms / 1e3;
        ask.headroom * turn_ns / (send_ns + event_ns * size * events)
    };
    Range { low: clients(send.high, event.high), high: clients(send.low, event.low) }
}

/// Bytes a second on the wire to one client: many events in a segment, or each in its own.
fn client_bytes(rate: f64, bytes: f64) -> Range {
    let frame = bytes + ENVELOPE_BYTES;
    let full = rate * frame * (1.0 + SEGMENT_BYTES / SEGMENT_PAYLOAD_BYTES);
    let alone = rate * (frame + SEGMENT_BYTES * (frame / SEGMENT_PAYLOAD_BYTES).ceil());
    Range { low: full.min(alone), high: full.max(alone) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASK: Ask = Ask {
        clients: 100_000,
        rate: 100.0,
        bytes: 256,
        share: 1.0,
        latency_ms: 20.0,
        cores: 16,
        network_gbit: 25.0,
        headroom: 0.5,
        spare: 1,
        is_tls: false,
        keep_hours: 24.0,
    };

    #[test]
    fn a_core_that_is_planned_in_full_serves_what_it_was_measured_to_serve() {
        // The run `capacity`: 1,000 clients and 6,400 events a second in turns of some 16 ms.
        let ask = Ask { rate: 6_400.0, latency_ms: 16.0, headroom: 1.0, cores: 1, ..ASK };
        let answer = plan(&ask, &Measured::recorded());
        let Range { low, high } = answer.clients_of_core;
        assert!(low > 500.0 && high < 1_500.0, "{low} to {high}");
    }

    #[test]
    fn each_bound_can_be_the_first() {
        let measured = Measured::recorded();
        assert_eq!(plan(&ASK, &measured).bound, Bound::Cores);
        let thin = Ask { network_gbit: 1.0, ..ASK };
        assert_eq!(plan(&thin, &measured).bound, Bound::Network);
        let idle = Ask { rate: 0.01, latency_ms: 10_000.0, ..ASK };
        assert_eq!(plan(&idle, &measured).bound, Bound::Connections);
    }

    proptest! {
        #[test]
        fn every_range_is_one_and_the_nodes_hold_all_clients(
            clients in 1_u64..10_000_000,
            rate in 0.01_f64..100_000.0,
            bytes in 1_u64..100_000,
            share in 0.001_f64..1.0,
            cores in 1_u64..256,
            is_tls: bool,
            spare in 0_u64..5,
        ) {
            let ask = Ask { clients, rate, bytes, share, cores, is_tls, spare, ..ASK };
            let answer = plan(&ask, &Measured::recorded());
            let ranges = [
                answer.nodes, answer.clients_of_node, answer.clients_of_core, answer.node_bytes,
                answer.node_gbit, answer.all_gbit, answer.comeback_s, answer.stream_out_gbit,
            ];
            for Range { low, high } in ranges {
                prop_assert!(low <= high && low.is_finite() && high.is_finite());
            }
            let Range { low, high } = answer.nodes;
            let held = (high - spare as f64) * answer.clients_of_node.low;
            prop_assert!(held >= clients as f64 * 0.999, "{held} of {clients} on {low} to {high}");
        }
    }
}
