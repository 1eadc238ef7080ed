//! `fanfare verify`: is what a client has what the server has?
//!
//! Not here: the hash (`client::state`). Invariant: what is called equal was compared after the
//! same event.

use std::io::{Write, stdout};

use serde::Deserialize;

use super::credentials::{TokenFlags, TrustFlags};
use super::ends::{LOOK_PERIOD, seconds_ns};
use super::failure::{Failure, failure, no_signals, written};
use crate::client::state::{Digest, State};
use crate::client::{Item, Notice, Policy, Subscriber, Subscription, Terms};
use crate::limits::VERIFY_MS;
use crate::protocol::channel::check_name;
use crate::protocol::json::write_string;
use crate::shell::clock;
use crate::shell::signals::Stop;

const MS_NS: u64 = 1_000_000;

/// Subscribes to channels and compares what came of them with what the server has.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Server, such as ws://127.0.0.1:9001/v1 or wss://HOST:PORT/v1; or several nodes, with commas
    /// between them
    url: String,
    /// Channels, by their whole names
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Give up after this many seconds
    #[arg(long, default_value = "30")]
    seconds: f64,
    #[command(flatten)]
    token: TokenFlags,
    #[command(flatten)]
    trust: TrustFlags,
}

/// A channel that is not compared yet.
struct Open {
    channel: String,
    /// What the server has, once it has said so.
    theirs: Option<Digest>,
    asked_ns: u64,
}

/// What a comparison needs.
struct Comparison {
    state: State,
    open: Vec<Open>,
    /// The snapshot has come.
    is_whole: bool,
    /// Why nothing can be compared.
    failed: Option<String>,
    /// When the last request was made, and when the next one may be, monotonic nanoseconds.
    asked_ns: u64,
    due_ns: u64,
    /// How long to wait since the server has said that it was asked too often; zero: it has not.
    pause_ms: u64,
    /// Results, to be printed.
    lines: String,
    has_difference: bool,
}

/// The answer of a server.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Theirs<'a>,
}

#[derive(Deserialize)]
struct Theirs<'a> {
    channel: &'a str,
    seq: u64,
    values: u64,
    hash: &'a str,
}

impl Verify {
    /// Compares each channel once.
    ///
    /// # Errors
    /// A wrong name, URL or file; a refusal; a gap; no time at which both can be compared; or a
    /// difference.
    pub fn run(&self) -> Result<(), Failure> {
        for channel in &self.channels {
            check_name(channel)
                .map_err(|error| Failure::Usage(format!("channel `{channel}`: {error}")))?;
        }
        let stop = Stop::install_once().map_err(no_signals)?;
        let terms = Terms { policy: Some(Policy::All), ..Terms::default() };
        let subscription = Subscription::new(&self.url, &self.channels).terms(terms);
        let mut subscriber = subscription
            .credential(self.token.credential())
            .trust(self.trust.files())
            .without_reconnect()
            .start()
            .map_err(failure)?;
        let mut comparison = Comparison::new(&self.channels);
        self.compare(&mut subscriber, &mut comparison, &stop)?;
        subscriber.close();
        if comparison.has_difference { Err(Failure::Said) } else { Ok(()) }
    }

    fn compare(
        &self,
        subscriber: &mut Subscriber,
        comparison: &mut Comparison,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let end_ns = clock::now().monotonic_ns.saturating_add(seconds_ns(self.seconds));
        while !comparison.open.is_empty() {
            let read = subscriber.read(LOOK_PERIOD, |item| comparison.take(item));
            written(write!(stdout(), "{}", std::mem::take(&mut comparison.lines)))?;
            read.map_err(failure)?;
            if let Some(why) = comparison.failed.take() {
                return Err(Failure::Run(why));
            }
            let now_ns = clock::now().monotonic_ns;
            if stop.asked() > 0 || now_ns >= end_ns {
                let left: Vec<_> =
                    comparison.open.iter().map(|open| open.channel.as_str()).collect();
                let left = left.join(", ");
                return Err(Failure::Run(format!("not compared in time: {left}")));
            }
            if let Some(request) = comparison.request(now_ns) {
                subscriber.ask(&request);
            }
        }
        Ok(())
    }
}

impl Comparison {
    fn new(channels: &[String]) -> Self {
        let open = |channel: &String| Open { channel: channel.clone(), theirs: None, asked_ns: 0 };
        Self {
            state: State::default(),
            open: channels.iter().map(open).collect(),
            is_whole: false,
            failed: None,
            asked_ns: 0,
            due_ns: 0,
            pause_ms: 0,
            lines: String::new(),
            has_difference: false,
        }
    }

    fn take(&mut self, item: Item<'_>) {
        match item {
            Item::Event(event) => {
                self.state.handle_event(&event);
                self.look_at(&event.channel);
            }
            Item::Gap(gap) => self.failed = Some(format!("{gap}; there is nothing to compare")),
            Item::Notice(Notice::Whole { .. }) => self.is_whole = true,
            Item::Notice(_) => {}
            Item::Control(control) => {
                if control.frame.method == Some("verify") {
                    if control.frame.success == Some(true) {
                        self.take_answer(control.text);
                    } else {
                        self.wait_longer();
                    }
                }
            }
        }
    }

    /// What is refused counts as well, so each wait is longer than the one before.
    fn wait_longer(&mut self) {
        self.pause_ms = (self.pause_ms * 2).max(VERIFY_MS);
        self.due_ns = self.asked_ns + self.pause_ms * MS_NS;
    }

    fn take_answer(&mut self, text: &str) {
        (self.due_ns, self.pause_ms) = (0, 0);
        let mut scratch = text.as_bytes().to_vec();
        let Ok(Answer { result }) = simd_json::serde::from_slice(&mut scratch) else { return };
        let Theirs { channel, seq, values, hash } = result;
        if let Some(open) = self.open.iter_mut().find(|open| open.channel == channel) {
            open.theirs = Some(Digest { seq, values, hash: hash.to_owned() });
            self.look_at(channel);
        }
    }

    /// Compares a channel if both are at the same event.
    fn look_at(&mut self, channel: &str) {
        let Some(at) = self.open.iter().position(|open| open.channel == channel) else { return };
        let Some(theirs) = &self.open[at].theirs else { return };
        let Some(ours) = self.state.digest(channel).filter(|ours| ours.seq == theirs.seq) else {
            return;
        };
        let Digest { seq, values, hash } = &ours;
        let line = if ours == *theirs {
            format!("equal    {channel}  seq {seq}  values {values}  hash {hash}\n")
        } else {
            let there = format!("values {}  hash {}", theirs.values, theirs.hash);
            format!("differs  {channel}  seq {seq}  values {values}  hash {hash}, there {there}\n")
        };
        self.has_difference |= ours != *theirs;
        self.lines.push_str(&line);
        self.open.swap_remove(at);
    }

    /// What is to be asked now, of one channel at a time; an answer that came too late for its
    /// event is asked for again.
    fn request(&mut self, now_ns: u64) -> Option<String> {
        if !self.is_whole || now_ns < self.due_ns {
            return None;
        }
        let is_due = |open: &&mut Open| now_ns >= open.asked_ns + VERIFY_MS * MS_NS;
        let open = self.open.iter_mut().filter(is_due).min_by_key(|open| open.asked_ns)?;
        (open.asked_ns, self.asked_ns) = (now_ns, now_ns);
        self.due_ns = now_ns + VERIFY_MS * MS_NS;
        let mut request = br#"{"method":"verify","params":{"channel":"#.to_vec();
        write_string(&mut request, &open.channel);
        request.extend_from_slice(b"}}");
        Some(String::from_utf8(request).expect("a name is ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Link;
    use crate::client::frame::Frame;
    use crate::client::item::{Control, Event};

    fn give(comparison: &mut Comparison, text: &str) {
        let mut scratch = text.as_bytes().to_vec();
        let frame = Frame::parse(&mut scratch).unwrap();
        comparison.take(if frame.is_data() {
            Item::Event(Event::of(&frame, text, Link::Follows))
        } else {
            Item::Control(Control { frame: &frame, text })
        });
    }

    fn event(seq: u64) -> String {
        format!(r#"{{"channel":"a","type":"update","key":"k","seq":{seq},"prev":0,"data":{seq}}}"#)
    }

    fn answer(seq: u64, hash: &str) -> String {
        format!(
            r#"{{"method":"verify","success":true,"result":
                {{"channel":"a","seq":{seq},"values":1,"hash":"{hash}"}}}}"#
        )
    }

    fn hash_after(events: &[u64]) -> String {
        let mut comparison = Comparison::new(&["a".into()]);
        events.iter().for_each(|&seq| give(&mut comparison, &event(seq)));
        comparison.state.digest("a").unwrap().hash
    }

    fn asked(comparison: &mut Comparison, now_ms: u64) -> Option<char> {
        let request = comparison.request(now_ms * MS_NS)?;
        let channel = request.strip_prefix(r#"{"method":"verify","params":{"channel":""#)?;
        channel.strip_suffix("\"}}").unwrap().chars().next()
    }

    #[test]
    fn nothing_is_asked_before_the_snapshot_is_whole_and_then_once_a_second() {
        let mut comparison = Comparison::new(&["a".into()]);
        assert_eq!(asked(&mut comparison, 5_000), None);
        comparison.take(Item::Notice(Notice::Whole { seq: 0 }));
        assert_eq!(asked(&mut comparison, 5_000), Some('a'));
        assert_eq!(asked(&mut comparison, 5_999), None);
        assert_eq!(asked(&mut comparison, 6_000), Some('a'));
    }

    #[test]
    fn channels_are_asked_for_in_turn_and_later_if_that_was_too_often() {
        const LIMITED: &str =
            r#"{"method":"verify","success":false,"error":{"code":"rate_limited"}}"#;
        let mut comparison = Comparison::new(&["a".into(), "b".into()]);
        comparison.take(Item::Notice(Notice::Whole { seq: 0 }));
        assert_eq!(asked(&mut comparison, 5_000), Some('a'));
        assert_eq!(asked(&mut comparison, 5_001), None, "it has not answered");
        give(&mut comparison, &answer(1, "0"));
        assert_eq!(asked(&mut comparison, 5_002), Some('b'));
        give(&mut comparison, LIMITED);
        assert_eq!(asked(&mut comparison, 6_001), None);
        assert_eq!(asked(&mut comparison, 6_002), Some('a'));
        give(&mut comparison, LIMITED);
        assert_eq!(asked(&mut comparison, 8_001), None, "twice as long");
        assert_eq!(asked(&mut comparison, 8_002), Some('b'));
        give(&mut comparison, &answer(1, "0"));
        assert_eq!(asked(&mut comparison, 8_003), Some('a'));
    }

    #[test]
    fn both_are_compared_after_the_same_event_whichever_comes_first() {
        let mut comparison = Comparison::new(&["a".into()]);
        give(&mut comparison, &event(1));
        give(&mut comparison, &answer(2, &hash_after(&[1, 2])));
        assert_eq!(comparison.open.len(), 1);
        give(&mut comparison, &event(2));
        assert!(comparison.open.is_empty() && comparison.lines.starts_with("equal    a  seq 2"));
        let mut comparison = Comparison::new(&["a".into()]);
        give(&mut comparison, &event(3));
        give(&mut comparison, &answer(2, "00000000"));
        assert_eq!(comparison.open.len(), 1, "it is too late for this one");
        give(&mut comparison, &answer(3, "00000000"));
        assert!(
            comparison.has_difference && comparison.lines.contains("there values 1  hash 0000")
        );
    }
}
