//! How far a subscription has got, over all its connections: what of the server's frames is new,
//! what is missing, and where to go on after a connection.
//!
//! Values in, values out: frames are taken in, [`Item`]s given out. The rules are those of
//! `docs/PROTOCOL.md`. Not here: the connection and the clock ([`super::subscriber`]). Invariant:
//! everything up to [`Progress::place`] was given, or is covered by a gap, or superseded on terms
//! that say so; and no event is given twice, unless a gap on its channel came in between.

use std::collections::HashMap;
use std::sync::Arc;

use super::agreed::{Agreed, Skips};
use super::frame::Frame;
use super::item::{Cause, Control, Event, Gap, Item, Link, Notice, owned};
use super::place::Place;
use crate::protocol::channel::Pattern;

/// What a subscription has seen.
#[derive(Debug)]
pub struct Progress {
    patterns: Vec<String>,
    wants_snapshot: bool,
    /// A hole ends the connection, because the next one may bring what is missing.
    is_strict: bool,
    /// Of the last welcome, or of the place to start from.
    epoch: Option<Arc<str>>,
    /// Everything up to it was given; none: there is no place to go on at.
    whole: Option<u64>,
    /// The highest `seq` that was given or accounted for.
    last: u64,
    /// There was a subscription, or a place to start from.
    has_begun: bool,
    channels: HashMap<Box<str>, Channel>,
    connection: Connection,
}

/// What holds for the present connection.
#[derive(Debug, Default)]
struct Connection {
    /// For people.
    security: Option<String>,
    /// It goes on for another one, or from a place.
    is_again: bool,
    /// It was asked to resume.
    has_asked: bool,
    /// Its epoch is another one than before.
    is_anew: bool,
    /// The `seq` of the reply: what comes after it is live.
    boundary: Option<u64>,
    /// Up to it nothing that is missing is a hole.
    accounted: u64,
    recovery: Option<Recovery>,
    agreed: Agreed,
    /// The server has moved this client to a slower tier.
    is_slowed: bool,
    /// The server has ended some of the subscriptions.
    is_partial: bool,
}

/// A snapshot or a replay under way.
#[derive(Debug)]
struct Recovery {
    /// Patterns whose end has not come.
    pending: Vec<String>,
    /// The lowest `seq` of the ends that have come.
    end: u64,
}

/// What was seen of one channel.
#[derive(Debug, Default)]
struct Channel {
    /// The last `seq` on it.
    last: u64,
    /// The last `seq` of the receipts that name it.
    accounted: u64,
    seen: Seen,
    /// What was agreed; none: not looked up on this connection.
    skips: Option<Skips>,
}

/// The last `seq` of a channel without a key, and of each key: on these it always rises.
#[derive(Debug, Default)]
pub(super) struct Seen {
    keyless: u64,
    keys: HashMap<Box<str>, u64>,
}

/// Something is missing that was promised, and the connection is no good.
#[derive(Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where.
    pub channel: String,
    /// The event that never came.
    pub seq: u64,
}

/// What an event is, seen from its channel.
enum Judged {
    New(Link),
    Again,
    /// Something after this `seq` is missing.
    Hole(u64),
}

impl Progress {
    /// Nothing seen yet, of `patterns`; everything up to `place` is had, if there is one.
    #[must_use]
    pub fn new(patterns: Vec<String>, wants_snapshot: bool, place: Option<Place>) -> Self {
        let (epoch, whole) = place.map(|place| (place.epoch, place.seq)).unzip();
        Self {
            patterns,
            wants_snapshot,
            is_strict: true,
            has_begun: epoch.is_some(),
            epoch,
            whole,
            last: whole.unwrap_or_default(),
            channels: HashMap::new(),
            connection: Connection::default(),
        }
    }

    /// Makes a hole a [`Gap`] instead of the end of the connection.
    #[must_use]
    pub fn lenient(mut self) -> Self {
        self.is_strict = false;
        self
    }

    /// The place to go on at: everything up to it was given.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let epoch = self.epoch.as_ref().filter(|epoch| !epoch.is_empty())?;
        Some(Place { epoch: Arc::clone(epoch), seq: self.whole? })
    }

    /// What its `seq` belong to; none: no server has greeted, and there was no place.
    #[must_use]
    pub const fn epoch(&self) -> Option<&Arc<str>> {
        self.epoch.as_ref()
    }

    /// Channels that something came of.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// A new connection begins, secured like this; what is to be asked of it is the
    /// [`Self::place`] of now.
    pub fn handle_connection(&mut self, security: Option<String>) {
        let (is_again, has_asked) = (self.has_begun, self.place().is_some());
        self.connection = Connection { security, is_again, has_asked, ..Connection::default() };
        for channel in self.channels.values_mut() {
            channel.skips = None;
        }
    }

    /// Takes a frame, whose JSON text is `text`, and gives out what it means.
    ///
    /// # Errors
    /// A hole: the frame was not taken, and nothing that follows it may be.
    pub fn handle_frame<'a>(
        &mut self,
        frame: &'a Frame<'a>,
        text: &'a str,
        give: &mut dyn FnMut(Item<'_>),
    ) -> Result<(), Hole> {
        if frame.is_data() {
            return self.handle_data(frame, text, give);
        }
        give(Item::Control(Control { frame, text }));
        match (frame.kind, frame.method) {
            _ if frame.success == Some(false) => {}
            (Some("welcome"), _) => self.handle_welcome(frame, give),
            (Some("heartbeat"), _) => self.handle_heartbeat(frame.seq.unwrap_or_default()),
            (Some("snapshot_end" | "replay_end"), _) => self.handle_end(frame, give),
            (Some("gap"), _) => give(Item::Gap(self.handle_receipt(frame))),
            (Some("unsubscribed"), _) => give(Item::Notice(self.handle_unsubscribed(frame))),
            (Some("tier"), _) => self.connection.is_slowed = frame.interval_ms > Some(0),
            (None, Some("subscribe")) => self.handle_reply(frame, give),
            _ => {}
        }
        Ok(())
    }

    fn handle_data<'a>(
        &mut self,
        frame: &'a Frame<'a>,
        text: &'a str,
        give: &mut dyn FnMut(Item<'_>),
    ) -> Result<(), Hole> {
        let (Some(name), Some(seq)) = (frame.channel, frame.seq) else { return Ok(()) };
        let link = match self.judge(name, frame, seq) {
            Judged::Again => return Ok(()),
            Judged::New(link) => link,
            Judged::Hole(_) if self.is_strict => {
                let seq = frame.prev.unwrap_or_default();
                return Err(Hole { channel: name.to_owned(), seq });
            }
            Judged::Hole(after) => {
                give(Item::Gap(Gap {
                    channels: vec![name.to_owned()],
                    from: after + 1,
                    to: frame.prev.unwrap_or_default(),
                    missed: None,
                    cause: Cause::Hole,
                }));
                Link::Breaks
            }
        };
        let channel = self.channels.get_mut(name).expect("it was just judged");
        channel.note(frame.key, seq);
        self.handle_last(seq);
        let is_in_order = !self.connection.agreed.is_sampled() && !self.connection.is_slowed;
        if is_in_order {
            self.handle_whole(seq);
        }
        give(Item::Event(Event::of(frame, text, link)));
        Ok(())
    }

    fn judge(&mut self, name: &str, frame: &Frame<'_>, seq: u64) -> Judged {
        let connection = &self.connection;
        if !self.channels.contains_key(name) {
            self.channels.insert(name.into(), Channel::default());
        }
        let channel = self.channels.get_mut(name).expect("it was just looked for");
        if seq <= channel.seen.last(frame.key) {
            return Judged::Again;
        }
        let skips = channel.skips.get_or_insert_with(|| connection.agreed.skips(name));
        // `prev` counts every event of the channel: once it has keys, any may have been skipped.
        if *skips == Skips::Keyed && frame.key.is_some() {
            *skips = Skips::Anything;
        }
        let boundary = connection.boundary.unwrap_or_default();
        let is_first = connection.boundary.is_none() && channel.last == 0;
        let known = channel.last.max(channel.accounted).max(connection.accounted);
        match frame.prev {
            _ if connection.recovery.is_some() && seq <= boundary => Judged::New(Link::Recovered),
            Some(prev) if prev > known && !is_first => match skips {
                Skips::Anything => Judged::New(Link::Skips),
                Skips::Keyed | Skips::Nothing => Judged::Hole(known),
            },
            _ => Judged::New(Link::Follows),
        }
    }

    fn handle_welcome(&mut self, frame: &Frame<'_>, give: &mut dyn FnMut(Item<'_>)) {
        let epoch = frame.epoch.unwrap_or_default();
        let is_anew = self.epoch.as_deref().is_some_and(|before| before != epoch);
        if is_anew {
            self.channels.clear();
            (self.whole, self.last) = (None, 0);
        }
        self.epoch = Some(epoch.into());
        self.connection.is_anew = is_anew;
        give(Item::Notice(Notice::Connected {
            seq: frame.seq.unwrap_or_default(),
            is_again: self.connection.is_again,
            security: self.connection.security.clone(),
        }));
        if is_anew {
            give(Item::Notice(Notice::Anew));
        }
    }

    /// Everything after the boundary will come; what is to come of what was before it?
    fn handle_reply(&mut self, frame: &Frame<'_>, give: &mut dyn FnMut(Item<'_>)) {
        let good = || frame.outcomes().filter(|outcome| outcome.error.is_none());
        // One request has one boundary.
        let Some(boundary) = good().filter_map(|outcome| outcome.seq).max() else { return };
        let is_resumed = good().all(|outcome| outcome.resumed == Some(true));
        let Connection { is_again, has_asked, .. } = self.connection;
        self.connection.agreed.handle_reply(frame);
        self.connection.boundary = Some(boundary);
        // A node that is behind the one before it sends nothing up to what was named.
        let had = self.whole.filter(|_| is_resumed).unwrap_or_default();
        self.connection.accounted = boundary.max(had);
        let before = self.last;
        self.has_begun = true;
        self.handle_last(boundary);
        if self.wants_snapshot || is_resumed {
            let pending = good().filter_map(|outcome| outcome.channel).map(str::to_owned);
            let pending = pending.collect();
            self.connection.recovery = Some(Recovery { pending, end: u64::MAX });
        } else {
            self.handle_whole(boundary);
        }
        if is_resumed {
            let seq = self.whole.unwrap_or(before);
            give(Item::Notice(Notice::Resumed { seq }));
        } else if is_again && has_asked {
            let why = good().find_map(|outcome| outcome.why).unwrap_or("unknown").to_owned();
            if why == "ahead" {
                // What the server has lost cannot be named to it again.
                self.whole = None;
            }
            give(Item::Notice(Notice::NotResumed { why }));
        } else if is_again && before < boundary {
            let (channels, from, to) = (self.patterns.clone(), before + 1, boundary);
            let gap = Gap { channels, from, to, missed: None, cause: Cause::Reconnect };
            self.forget(&gap);
            give(Item::Gap(gap));
        } else if is_again && !self.connection.is_anew {
            give(Item::Notice(Notice::Resumed { seq: before }));
        }
    }

    fn handle_heartbeat(&mut self, seq: u64) {
        self.connection.accounted = self.connection.accounted.max(seq);
        if self.connection.boundary.is_some() {
            self.handle_last(seq);
            self.handle_whole(seq);
        }
    }

    fn handle_end(&mut self, frame: &Frame<'_>, give: &mut dyn FnMut(Item<'_>)) {
        let Some(recovery) = &mut self.connection.recovery else { return };
        let ended = frame.channels.as_deref().unwrap_or_default();
        recovery.pending.retain(|pattern| !ended.contains(&pattern.as_str()));
        recovery.end = recovery.end.min(frame.seq.unwrap_or_default());
        if !recovery.pending.is_empty() {
            return;
        }
        let seq = recovery.end;
        self.connection.recovery = None;
        self.connection.accounted = self.connection.accounted.max(seq);
        self.handle_last(seq);
        self.handle_whole(seq);
        give(Item::Notice(Notice::Whole { seq }));
    }

    fn handle_receipt(&mut self, frame: &Frame<'_>) -> Gap {
        let gap = Gap::of(frame);
        self.handle_last(gap.to);
        for name in &gap.channels {
            match self.channels.get_mut(name.as_str()) {
                Some(channel) => channel.accounted = channel.accounted.max(gap.to),
                // A pattern, or a channel of which nothing has come.
                None => self.connection.accounted = self.connection.accounted.max(gap.to),
            }
        }
        self.forget(&gap);
        gap
    }

    /// Some subscriptions have ended: a later one of them begins where it is then, and there is no
    /// place at which all go on.
    fn handle_unsubscribed(&mut self, frame: &Frame<'_>) -> Notice {
        let seq = frame.seq.unwrap_or_default();
        self.whole = None;
        self.last = self.last.min(seq);
        self.connection.is_partial = true;
        let cause = frame.cause.unwrap_or("unknown").to_owned();
        Notice::Unsubscribed { channels: owned(frame.channels.as_deref()), seq, cause }
    }

    /// Something came or was accounted for; what has ended stays where it was.
    fn handle_last(&mut self, seq: u64) {
        if !self.connection.is_partial {
            self.last = self.last.max(seq);
        }
    }

    /// Everything up to `seq` was given, unless something older is still to come.
    fn handle_whole(&mut self, seq: u64) {
        let Connection { boundary, recovery, is_partial, .. } = &self.connection;
        if boundary.is_some() && recovery.is_none() && !is_partial {
            self.whole = self.whole.max(Some(seq));
        }
    }

    /// What comes of a gap's channels is new, whatever of it came before.
    fn forget(&mut self, gap: &Gap) {
        let patterns: Vec<_> =
            gap.channels.iter().filter_map(|name| Pattern::parse(name).ok()).collect();
        for (name, channel) in &mut self.channels {
            if patterns.iter().any(|pattern| pattern.matches(name)) {
                channel.seen = Seen::default();
            }
        }
    }
}

impl Channel {
    fn note(&mut self, key: Option<&str>, seq: u64) {
        self.last = self.last.max(seq);
        self.seen.note(key, seq);
    }
}

impl Seen {
    /// The last `seq` without a key, or of this one; 0: none came.
    pub(super) fn last(&self, key: Option<&str>) -> u64 {
        match key {
            None => self.keyless,
            Some(key) => self.keys.get(key).copied().unwrap_or_default(),
        }
    }

    /// Something came.
    pub(super) fn note(&mut self, key: Option<&str>, seq: u64) {
        match key {
            None => self.keyless = seq,
            Some(key) => match self.keys.get_mut(key) {
                Some(seen) => *seen = seq,
                None => drop(self.keys.insert(key.into(), seq)),
            },
        }
    }
}

#[cfg(test)]
mod tests;
