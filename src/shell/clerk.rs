//! Answers the questions that a core is asked, a little at each tick, and samples round trips.
//!
//! Tables are gone through a part at a time, so that a question holds the core no longer than a
//! step of the sweep. Not here: who asks ([`super::mailbox`]), and what is known of a client
//! ([`crate::fanout::shard::inspect`]). Invariant: one question is worked on at a time.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use crate::fanout::Now;
use crate::fanout::connection::ConnectionId;
use crate::fanout::shard::inspect::{Sort, Survey};
use crate::handoff::batch::ChannelId;
use crate::limits::{RTT_SAMPLES_PER_TICK, SURVEY_PLACES, SURVEY_SOCKETS};

use super::clock;
use super::mailbox::{Answer, Drill, Letter, Listed, Mailbox, Question};
use super::net::cut;
use super::shard_loop::Core;
use super::tcp_info::TcpInfo;

/// One core's.
#[derive(Debug)]
pub(super) struct Clerk {
    mailbox: Arc<Mailbox>,
    work: Option<Work>,
    drill: Option<Cuts>,
    /// Place in the table of sockets where sampling goes on.
    sample_at: usize,
}

/// A question that takes more than one tick.
#[derive(Debug)]
enum Work {
    Connections(Letter, Option<Sort>, Survey<ConnectionId>),
    Channels(Letter, Survey<ChannelId>),
}

/// A drill under way: one walk over the table of sockets.
#[derive(Debug)]
struct Cuts {
    drill: Drill,
    begun_ns: u64,
    /// Places of the table.
    places: usize,
    at: usize,
    /// Generation of the first connection that came too late for it.
    generation: u32,
}

impl Clerk {
    pub(super) const fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, work: None, drill: None, sample_at: 0 }
    }

    /// Works for a little.
    pub(super) fn tick(&mut self, core: &Core, now: Now) {
        self.sample(core);
        if let Some(cuts) = &mut self.drill
            && cuts.go_on(core, now)
        {
            self.drill = None;
        }
        if self.work.is_none()
            && let Some(letter) = self.mailbox.take()
        {
            self.begin(core, letter, now);
        }
        self.work = match self.work.take() {
            Some(Work::Connections(letter, ..) | Work::Channels(letter, ..))
                if letter.is_abandoned() =>
            {
                None
            }
            Some(Work::Connections(letter, sort, survey)) => {
                connections(core, letter, sort, survey, now)
            }
            Some(Work::Channels(letter, survey)) => channels(core, letter, survey),
            None => None,
        };
    }

    fn begin(&mut self, core: &Core, letter: Letter, now: Now) {
        match letter.question.clone() {
            Question::Connections { sort, limit } => {
                self.work = Some(Work::Connections(letter, sort, Survey::new(limit)));
            }
            Question::Channels { limit } => {
                self.work = Some(Work::Channels(letter, Survey::new(limit)));
            }
            Question::Subscribers(channels) => {
                let shard = core.shard.borrow();
                let counts = channels.iter().map(|&id| shard.subscribers(id)).collect();
                letter.answer(Answer::Subscribers(counts));
            }
            Question::Kick(id) => {
                letter.answer(Answer::Kicked(core.shard.borrow_mut().handle_kick(id, now)));
            }
            Question::Drill(drill) => {
                let is_free = self.drill.is_none();
                if is_free {
                    let (places, at) = (core.sockets.borrow().places(), 0);
                    let generation = core.shard.borrow().generation();
                    let begun_ns = now.monotonic_ns;
                    self.drill = Some(Cuts { drill, begun_ns, places, at, generation });
                }
                letter.answer(Answer::Drilling(is_free));
            }
        }
    }

    /// Asks the kernel for the round trips of the next few clients.
    fn sample(&mut self, core: &Core) {
        let sockets = core.sockets.borrow();
        let places = sockets.places();
        for _ in 0..RTT_SAMPLES_PER_TICK.min(places) {
            self.sample_at = if self.sample_at + 1 >= places { 0 } else { self.sample_at + 1 };
            let info =
                sockets.at(self.sample_at).and_then(|(_, descriptor)| TcpInfo::of(descriptor));
            // Before the first sample there is none.
            if let Some(info) = info.filter(|info| info.rtt_us > 0) {
                core.counters().times.rtt_us.record(u64::from(info.rtt_us));
            }
        }
    }
}

fn connections(
    core: &Core,
    letter: Letter,
    sort: Option<Sort>,
    mut survey: Survey<ConnectionId>,
    now: Now,
) -> Option<Work> {
    let shard = core.shard.borrow();
    let sockets = core.sockets.borrow();
    let is_whole = match sort {
        Some(sort) => shard.survey_connections(&mut survey, SURVEY_PLACES, |shard, one, id| {
            shard.sort_key(one, id, sort)
        }),
        None => shard.survey_connections(&mut survey, SURVEY_SOCKETS, |_, _, id| {
            let socket = sockets.see(id).map(|place| place.descriptor.as_raw_fd());
            socket.and_then(TcpInfo::of).map_or(0, |info| u64::from(info.rtt_us))
        }),
    };
    if !is_whole {
        return Some(Work::Connections(letter, sort, survey));
    }
    let listed = survey.found().into_iter().filter_map(|id| {
        let report = shard.report(id, now)?;
        let place = sockets.see(id)?;
        Some(Listed {
            report,
            peer: place.peer_address(),
            open_ms: now.monotonic_ns.saturating_sub(place.opened_ns) / 1_000_000,
            cipher: place.cipher(),
            tcp: TcpInfo::of(place.descriptor.as_raw_fd()),
        })
    });
    let listed = listed.collect();
    letter.answer(Answer::Connections(listed));
    None
}

fn channels(core: &Core, letter: Letter, mut survey: Survey<ChannelId>) -> Option<Work> {
    let shard = core.shard.borrow();
    if !shard.survey_channels(&mut survey, SURVEY_PLACES) {
        return Some(Work::Channels(letter, survey));
    }
    let found = survey.found();
    letter.answer(Answer::Channels(found.iter().map(|&id| shard.channel_report(id)).collect()));
    None
}

impl Cuts {
    /// Cuts those whose time has come; true when the drill is over.
    fn go_on(&mut self, core: &Core, now: Now) -> bool {
        let window_ns = u128::from(clock::nanoseconds(self.drill.window).max(1));
        let passed_ns = u128::from(now.monotonic_ns.saturating_sub(self.begun_ns));
        let due = self.places as u128 * passed_ns / window_ns;
        let due = usize::try_from(due).unwrap_or(usize::MAX).min(self.places);
        let end = due.min(self.at + SURVEY_PLACES);
        for place in self.at..end {
            let Some((id, descriptor)) = core.sockets.borrow().at(place) else { continue };
            let is_older = self.generation.wrapping_sub(id.generation).cast_signed() > 0;
            if is_older && is_chosen(id, self.drill.parts) {
                cut(descriptor);
                core.shard.borrow_mut().handle_drill(id);
            }
        }
        self.at = self.at.max(end);
        self.at >= self.places
    }
}

/// Whether a connection is among this many parts of a million: a fixed mixture of its numbers.
const fn is_chosen(id: ConnectionId, parts: u32) -> bool {
    let mixed = (id.index ^ id.generation.rotate_left(16)).wrapping_mul(0x9E37_79B1);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x85EB_CA77);
    (mixed ^ mixed >> 13) % 1_000_000 < parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_chosen_whatever_the_ids_are() {
        for stride in [1, 7, 1_000] {
            let ids = (0..10_000).map(|n| ConnectionId { index: n, generation: n * stride });
            let chosen = ids.filter(|&id| is_chosen(id, 300_000)).count();
            assert!((2_700..3_300).contains(&chosen), "{stride}: {chosen}");
        }
        let id = ConnectionId { index: 3, generation: 9 };
        assert!(is_chosen(id, 1_000_000) && !is_chosen(id, 0));
    }
}
