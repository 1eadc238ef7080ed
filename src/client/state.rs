//! What a client makes of its events, as a hash that a server can be asked for, too.
//!
//! Of each channel the frames that still count: of a key the newest, of a book its newest snapshot
//! and all since. `docs/PROTOCOL.md` has the rule. Not here: asking. Invariant: equal frames that
//! count give equal hashes, and a state that lacks one gives another hash.

use std::collections::{BTreeMap, HashMap};

use crc32fast::Hasher;

use super::item::Event;
use crate::protocol::event::Kind;
use crate::protocol::state_hash::{self, KEYLESS};

/// The state of every channel.
#[derive(Debug, Default)]
pub struct State(HashMap<Box<str>, Channel>);

#[derive(Debug, Default)]
struct Channel {
    /// Of its newest event.
    seq: u64,
    /// By the key as it stands in frames, which is the order of the hash.
    slots: BTreeMap<Box<str>, Slot>,
}

#[derive(Debug)]
struct Slot {
    is_book: bool,
    /// Over the frames that count.
    crc: Hasher,
}

/// The state of one channel in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The `seq` of the channel's newest event.
    pub seq: u64,
    /// How many keys there are.
    pub values: u64,
    /// Over all of them, 8 hexadecimal digits.
    pub hash: String,
}

impl State {
    /// Takes the next event.
    pub fn handle_event(&mut self, event: &Event<'_>) {
        if !self.0.contains_key(&*event.channel) {
            self.0.insert(event.channel.as_ref().into(), Channel::default());
        }
        let channel = self.0.get_mut(&*event.channel).expect("it was just looked for");
        channel.seq = channel.seq.max(event.seq);
        let key = event.key_json();
        let is_snapshot = event.kind == Kind::Snapshot;
        match channel.slots.get_mut(key.unwrap_or(KEYLESS)) {
            Some(slot) => {
                slot.is_book |= is_snapshot;
                if is_snapshot || !slot.is_book {
                    slot.crc = Hasher::new();
                }
                slot.crc.update(event.text().as_bytes());
            }
            // An event without a key stands for nothing but itself.
            None if key.is_none() && !is_snapshot => {}
            None => {
                let mut crc = Hasher::new();
                crc.update(event.text().as_bytes());
                let slot = Slot { is_book: is_snapshot, crc };
                channel.slots.insert(key.unwrap_or(KEYLESS).into(), slot);
            }
        }
    }

    /// The state of a channel; none: nothing of it has come.
    #[must_use]
    pub fn digest(&self, channel: &str) -> Option<Digest> {
        let Channel { seq, slots } = self.0.get(channel)?;
        let values = slots.iter().map(|(key, slot)| (key.as_bytes(), slot.crc.clone().finalize()));
        let hash = format!("{:08x}", state_hash::of_values(values));
        Some(Digest { seq: *seq, values: slots.len() as u64, hash })
    }
}

#[cfg(test)]
mod tests {
    use flate2::Crc;

    use super::*;
    use crate::client::Link;
    use crate::client::frame::Frame;

    fn feed(state: &mut State, text: &str) {
        let mut scratch = text.as_bytes().to_vec();
        let frame = Frame::parse(&mut scratch).unwrap();
        state.handle_event(&Event::of(&frame, text, Link::Follows));
    }

    fn event(kind: &str, key: &str, seq: u64) -> String {
        let key = if key.is_empty() { String::new() } else { format!(r#""key":{key},"#) };
        format!(r#"{{"channel":"a","type":"{kind}",{key}"seq":{seq},"prev":0,"data":{seq}}}"#)
    }

    /// The hash of lines, by the rule in words.
    fn hash(slots: &[(&str, &[String])]) -> String {
        let crc = |bytes: &[u8]| {
            let mut crc = Crc::new();
            crc.update(bytes);
            crc.sum()
        };
        let lines: String = slots
            .iter()
            .map(|(key, frames)| format!("{key}:{:08x}\n", crc(frames.concat().as_bytes())))
            .collect();
        format!("{:08x}", crc(lines.as_bytes()))
    }

    #[test]
    fn the_newest_of_a_key_a_book_since_its_snapshot_and_no_event_without_a_key_count() {
        let mut state = State::default();
        assert_eq!(state.digest("a"), None);
        let mut texts = Vec::new();
        for (kind, key, seq) in [
            ("update", r#""z""#, 1),
            ("update", "", 2),
            ("update", r#""q\"\\\u0001""#, 3),
            ("update", r#""z""#, 4),
            ("update", r#""b""#, 5),
            ("snapshot", r#""b""#, 6),
            ("update", r#""b""#, 7),
        ] {
            texts.push(event(kind, key, seq));
            feed(&mut state, texts.last().unwrap());
        }
        let slots: [(&str, &[String]); 3] = [
            (r#""b""#, &texts[5..7]),
            (r#""q\"\\\u0001""#, &texts[2..3]),
            (r#""z""#, &texts[3..4]),
        ];
        let expected = Digest { seq: 7, values: 3, hash: hash(&slots) };
        assert_eq!(state.digest("a"), Some(expected));
        let (book, change) = (event("snapshot", "", 8), event("update", "", 9));
        feed(&mut state, &book);
        feed(&mut state, &change);
        let both = [book, change];
        let [b, q, z] = slots;
        let expected = hash(&[b, q, z, ("null", &both)]);
        assert_eq!(state.digest("a").unwrap(), Digest { seq: 9, values: 4, hash: expected });
    }

    #[test]
    fn the_hash_is_the_crc_32_of_zlib() {
        let mut state = State::default();
        feed(&mut state, &event("update", "", 1));
        // Of nothing.
        assert_eq!(state.digest("a").unwrap().hash, "00000000");
        assert_eq!(hash(&[]), "00000000");
        let mut crc = Crc::new();
        crc.update(b"123456789");
        assert_eq!(crc.sum(), 0xcbf4_3926, "the check value of CRC-32");
    }
}
