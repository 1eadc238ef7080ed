//! Rules about what the kernel keeps for connections: queues, buffers, tables.

use crate::limits::{LISTEN_BACKLOG, SEND_BUFFER_BYTES, UNSENT_BYTES};

use super::judgement::{Verdict, at_least, mib, set, zero};
use super::{Facts, Judgement, Need, Rule};

pub(super) const RULES: [Rule; 9] = [
    Rule("net.core.somaxconn", "accept-queue", accept_queue),
    Rule("net.ipv4.tcp_max_syn_backlog", "accept-queue", half_open),
    Rule("net.core.wmem_max", "send-buffers", send_buffer),
    Rule("net.ipv4.tcp_wmem", "receive-and-other-buffers", other_send_buffers),
    Rule("net.ipv4.tcp_rmem", "receive-and-other-buffers", receive_buffers),
    Rule("net.ipv4.tcp_mem", "tcp-memory", tcp_memory),
    Rule("net.ipv4.tcp_slow_start_after_idle", "slow-start-after-idle", slow_start),
    Rule("net.netfilter.nf_conntrack_max", "connection-tracking", tracking),
    Rule("net.ipv4.ip_local_port_range", "local-ports", ports),
];

/// Bytes to which the kernel should be able to grow a buffer: 80 Mbit/s over 100 ms.
const BUFFER_BYTES: u64 = 1 << 20;

/// Ports that a proxy or load generator on this host has with the kernel's default range.
const PORTS: u64 = 28_232;

fn accept_queue(facts: &Facts, _: Need) -> Judgement {
    at_least(facts, "net.core.somaxconn", u64::from(LISTEN_BACKLOG.unsigned_abs()), Verdict::Advice)
}

/// Counts only where SYN cookies are off.
fn half_open(facts: &Facts, _: Need) -> Judgement {
    if facts.sysctl("net.ipv4.tcp_syncookies").is_some_and(|on| on != [0]) {
        return Judgement::ok("SYN cookies are on, so it does not matter", "SYN cookies");
    }
    let least = u64::from(LISTEN_BACKLOG.unsigned_abs());
    at_least(facts, "net.ipv4.tcp_max_syn_backlog", least, Verdict::Advice)
}

fn send_buffer(facts: &Facts, _: Need) -> Judgement {
    at_least(facts, "net.core.wmem_max", SEND_BUFFER_BYTES as u64, Verdict::Advice)
}

fn other_send_buffers(facts: &Facts, _: Need) -> Judgement {
    at_least(facts, "net.ipv4.tcp_wmem", BUFFER_BYTES, Verdict::Advice)
}

fn receive_buffers(facts: &Facts, _: Need) -> Judgement {
    at_least(facts, "net.ipv4.tcp_rmem", BUFFER_BYTES, Verdict::Advice)
}

/// Stalled clients hold what is unsent, those that are gone without a word the whole buffer; the
/// kernel doubles both for its overhead.
fn tcp_memory(facts: &Facts, need: Need) -> Judgement {
    let page = facts.live.page_bytes.max(1);
    let pages = |bytes: usize| (need.clients * 2 * bytes as u64).div_ceil(page);
    let (stalled, most) = (pages(UNSENT_BYTES), pages(SEND_BUFFER_BYTES));
    let clients = need.clients;
    let wanted = format!("{most} pages ({}), for {clients} clients", mib(most * page));
    let Some(&[low, pressure, high]) = facts.sysctl("net.ipv4.tcp_mem") else {
        return Judgement::unknown(wanted, "sysctl net.ipv4.tcp_mem");
    };
    let otherwise = if high < stalled { Verdict::Wrong } else { Verdict::Advice };
    let found = format!("{high} pages ({})", mib(high * page));
    let has_room = facts.memory_bytes.is_none_or(|bytes| most * page <= bytes / 2);
    let cure = if has_room {
        let numbers = format!("{} {} {most}", low.max(most / 2), pressure.max(most * 3 / 4));
        set("net.ipv4.tcp_mem", &numbers)
    } else {
        "that is over half of this host's memory: lower send_buffer_bytes, or the clients by \
         connections_max"
            .into()
    };
    Judgement::of(high >= most, otherwise, found, wanted, cure)
}

fn slow_start(facts: &Facts, _: Need) -> Judgement {
    zero(facts, "net.ipv4.tcp_slow_start_after_idle", Verdict::Advice)
}

fn tracking(facts: &Facts, need: Need) -> Judgement {
    let wanted = "no tracking of fanfare's connections, or room for all";
    let Some(&[room]) = facts.sysctl("net.netfilter.nf_conntrack_max") else {
        return Judgement::ok("not loaded", wanted);
    };
    let used = facts.sysctl("net.netfilter.nf_conntrack_count").and_then(|count| count.first());
    let used = used.copied().unwrap_or_default();
    if used == 0 {
        return Judgement::ok("tracks nothing", wanted);
    }
    let otherwise = if room < need.clients { Verdict::Wrong } else { Verdict::Advice };
    let found = format!("tracks {used} connections of {room}");
    let cure = if room < need.clients {
        set("net.netfilter.nf_conntrack_max", &(2 * need.clients).to_string())
    } else {
        "leave fanfare's port out of it, with the commands of nft in that section".into()
    };
    Judgement::of(false, otherwise, found, wanted, cure)
}

fn ports(facts: &Facts, _: Need) -> Judgement {
    let wanted = format!("{PORTS} ports or more, if a proxy or load generator is on this host");
    let Some(&[first, last]) = facts.sysctl("net.ipv4.ip_local_port_range") else {
        return Judgement::unknown(wanted, "sysctl net.ipv4.ip_local_port_range");
    };
    let count = (last + 1).saturating_sub(first);
    let found = format!("{count}: {first} to {last}");
    let cure = set("net.ipv4.ip_local_port_range", "32768 60999");
    Judgement::of(count >= PORTS, Verdict::Advice, found, wanted, cure)
}
