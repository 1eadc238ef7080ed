//! `whoami`: what a client is told of itself, and whether a delay is its own or the feed's.
//!
//! Not here: its text ([`crate::protocol::whoami`]). Invariant: what is known of the socket comes
//! from the shell; nothing here asks the kernel.

use crate::limits::{FEED_QUIET_MS, WHOAMI_CHANNELS};
use crate::protocol::command::ReqId;
use crate::protocol::whoami::{self, Lost, Socket, Verdict, Whoami};

use super::super::Now;
use super::super::connection::{Connection, ConnectionId, Lane};
use super::super::lag::Lag;
use super::inspect::Behind;
use super::{Shard, milliseconds};

/// What the verdict is reached from.
#[derive(Debug, Clone, Copy, Default)]
struct Signs {
    behind: Behind,
    is_blocked: bool,
    /// A snapshot or replay is still to be sent.
    is_recovering: bool,
    /// Time since the newest event on its channels, milliseconds.
    event_ms: Option<u64>,
    channels: usize,
    missed: u64,
    busy_ms: u64,
    window_limited_ms: u64,
}

impl Shard {
    /// Tells a client who it is.
    pub(super) fn whoami(
        &mut self,
        id: ConnectionId,
        req_id: Option<&ReqId>,
        socket: &Socket,
        now: Now,
    ) {
        let Some(connection) = self.connection(id) else { return };
        let cohort = self.cohorts.cohort(connection.cohort);
        let losses = self.losses.get(&id);
        let behind = self.behind(connection);
        let tcp = socket.tcp.unwrap_or_default();
        let signs = Signs {
            behind,
            is_blocked: connection.lane == Lane::Blocked,
            is_recovering: connection.lag.as_deref().is_some_and(is_recovering),
            event_ms: self.newest_event_ms(connection, now),
            channels: cohort.channel_count(),
            missed: losses.map_or(0, |losses| losses.missed),
            busy_ms: tcp.busy_ms,
            window_limited_ms: tcp.window_limited_ms,
        };
        let (verdict, reason) = judge(&signs);
        let last: Vec<_> = (losses.into_iter().flat_map(|losses| &losses.last))
            .map(|loss| Lost {
                channels: &loss.channels,
                more: loss.more,
                range: loss.range,
                missed: loss.missed,
                cause: loss.cause,
            })
            .collect();
        let whoami = Whoami {
            verdict: (verdict, &reason),
            id: &format!("{}-{}-{}", self.number, id.index, id.generation),
            identity: &connection.member.grant().identity.to_string(),
            core: self.number,
            set: (cohort.key.set.len(), cohort.channel_count()),
            tier_ms: connection.tier.map(|interval| interval.ms()),
            lag: (behind.events, behind.bytes, behind.ms),
            is_blocked: signs.is_blocked,
            lost: losses.map_or((0, 0), |losses| (losses.receipts, losses.missed)),
            last: &last,
            event_ms: signs.event_ms,
            subscriptions_max: self.subscriptions_max(connection),
            commands: (self.settings.command_rate, self.settings.command_burst),
            socket,
        };
        let mut text = Vec::new();
        whoami::write(&mut text, req_id, &whoami, now.unix_ns, now.unix_ns);
        self.say(id, |out| out.extend_from_slice(&text));
    }

    /// Time since the newest event on a connection's channels, as far as the log goes back; looks
    /// at [`WHOAMI_CHANNELS`] of them.
    fn newest_event_ms(&self, connection: &Connection, now: Now) -> Option<u64> {
        let cohort = self.cohorts.cohort(connection.cohort);
        let channels = cohort.channels().take(WHOAMI_CHANNELS);
        let newest = channels.flat_map(|id| self.channels.channel(id).seq_last).max()?;
        let log = &self.store.log;
        let number = log.first_after(newest.checked_sub(1)?, log.tail()..log.head());
        let entry = (number < log.head()).then(|| log.entry(number))?;
        let passed_ms = milliseconds(now.monotonic_ns).wrapping_sub(entry.time_ms);
        (entry.seq == newest).then_some(passed_ms.into())
    }
}

/// Whether a snapshot or replay is still to be sent, or live events that are read back.
fn is_recovering(lag: &Lag) -> bool {
    let mut to_come = lag.stages.iter();
    lag.recovery.is_some() || lag.reading.is_some() || to_come.any(|stage| stage.recovery.is_some())
}

/// Whose a delay is, and a sentence about it.
fn judge(signs: &Signs) -> (Verdict, String) {
    let Behind { events, bytes, ms } = signs.behind;
    let share = (100 * signs.window_limited_ms).checked_div(signs.busy_ms).unwrap_or(0);
    if signs.is_blocked || signs.is_recovering || ms > 0 && events > 0 {
        let full = match (signs.is_blocked, signs.is_recovering) {
            (true, _) => "your socket is full",
            (_, true) => "you are catching up with a snapshot or replay",
            _ => "you are catching up",
        };
        let window = match share {
            0 => String::new(),
            share => format!("; your receive window was full for {share} % of the time"),
        };
        let wait = format!("{events} events ({bytes} bytes) of up to {ms} ms ago wait for you");
        return (Verdict::You, format!("{full}: {wait}{window}"));
    }
    if signs.channels == 0 {
        return (Verdict::Feed, "none of your channels has had an event".into());
    }
    let missed = match signs.missed {
        0 => String::new(),
        missed => format!("; you were too slow for {missed} events before"),
    };
    match signs.event_ms {
        Some(ms) if ms <= FEED_QUIET_MS => {
            (Verdict::Ok, format!("you have everything; the last event came {ms} ms ago{missed}"))
        }
        Some(ms) => {
            (Verdict::Feed, format!("no event on your channels for {ms} ms; you have all{missed}"))
        }
        None => {
            let reason = "no event on your channels for as long as the log goes back; you have all";
            (Verdict::Feed, format!("{reason}{missed}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_socket_is_the_clients_and_silence_is_the_feeds() {
        let behind = Behind { events: 3, bytes: 300, ms: 900 };
        let fresh = Signs { channels: 1, event_ms: Some(5), ..Signs::default() };
        let verdict = |signs: Signs| judge(&signs);
        assert_eq!(verdict(fresh).0, Verdict::Ok);
        assert_eq!(verdict(Signs { event_ms: Some(FEED_QUIET_MS + 1), ..fresh }).0, Verdict::Feed);
        assert_eq!(verdict(Signs { event_ms: None, ..fresh }).0, Verdict::Feed);
        assert_eq!(verdict(Signs { channels: 0, ..fresh }).0, Verdict::Feed);
        assert_eq!(verdict(Signs { behind, ..fresh }).0, Verdict::You);
        assert_eq!(verdict(Signs { is_recovering: true, ..fresh }).0, Verdict::You);
        let limited = Signs { busy_ms: 10, window_limited_ms: 9, ..fresh };
        assert_eq!(verdict(limited).0, Verdict::Ok, "it is over");
        let (verdict, reason) = judge(&Signs { behind, is_blocked: true, ..limited });
        assert_eq!(verdict, Verdict::You);
        assert!(reason.contains("300 bytes") && reason.contains("90 %"), "{reason}");
        assert!(judge(&Signs { missed: 7, ..fresh }).1.contains("7 events"));
    }
}
