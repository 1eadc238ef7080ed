//! Reading back, against a shard that was there: what is sent must be the same bytes.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::{drain, pass, settings};
use crate::access::Member;
use crate::fanout::connection::Phase;
use crate::fanout::sequencer::Sequencer;
use crate::handoff::passage::{Answer, Lapse, Passage, Past};
use crate::limits::READERS_MAX;
use crate::protocol::encoding::Encoding;
use crate::protocol::event::{Event, Kind};
use crate::protocol::ws::close::CloseReason;
use crate::protocol::ws::frame::{Opcode, write_masked};

/// A shard that had everything, one that came late, and the stream that both are fed from.
pub(super) struct Play {
    there: Shard,
    pub(super) late: Shard,
    sequencer: Sequencer,
    stream: Vec<Arc<Batch>>,
}

/// Events of two keys, of a book and of a stream; by their numbers.
fn event(number: u64, data: &str) -> Event<'_> {
    let kind = if number.is_multiple_of(11) { Kind::Snapshot } else { Kind::Update };
    let (channel, key, kind) = match number % 4 {
        0 => ("quote", Some(if number.is_multiple_of(8) { "a\"b" } else { "c" }), Kind::Update),
        1 => ("book", None, kind),
        _ => ("trade", None, Kind::Update),
    };
    Event {
        channel,
        key,
        kind,
        ts: number.is_multiple_of(3).then_some(number),
        data: data.as_bytes(),
    }
}

impl Play {
    /// After so many events, of which the late shard has the newest values only.
    pub(super) fn new(events: u64) -> Self {
        Self::with(settings(), events)
    }

    fn with(settings: ShardSettings, events: u64) -> Self {
        let shard = |settings| {
            let shard = Shard::new(settings, Arc::new(Telemetry::new(1)), 0);
            shard.telemetry.stream.is_up.set(1);
            shard.telemetry.stream.first_seq.set(1);
            shard
        };
        let mut play = Self {
            there: shard(settings.clone()),
            late: shard(ShardSettings { reads_back: true, is_shared: true, ..settings }),
            sequencer: Sequencer::new(10, 10),
            stream: Vec::new(),
        };
        for number in 1..=events {
            play.publish(&event(number, &number.to_string()));
        }
        play.late.handle_batch(&Batch { is_sparse: true, ..Batch::default() }, Now::default());
        play
    }

    fn publish(&mut self, event: &Event<'_>) {
        let seq = self.sequencer.handle_event(event, 7).unwrap();
        let batch = self.sequencer.next_batch().unwrap();
        assert_eq!(seq, self.stream.len() as u64 + 1);
        self.there.handle_batch(&batch, Now::default());
        self.late.handle_batch(&batch, Now::default());
        self.stream.push(batch);
    }

    /// A passage of so many events.
    fn passage(&self, from: u64, count: u64) -> Arc<Passage> {
        let mut passage = Passage::new(from);
        for batch in &self.stream {
            let event = &batch.events[0];
            if !(from..from + count).contains(&event.seq) {
                continue;
            }
            let (seq, prev, ts_in) = (event.seq, event.prev, event.ts_in);
            passage.to = seq;
            let event = self::event(seq, std::str::from_utf8(batch.data(event)).unwrap());
            passage.push(&Past { seq, prev, ts_in, event });
        }
        Arc::new(passage)
    }

    /// Answers the late shard's questions; returns how many there were.
    fn answer(&mut self, count: u64) -> usize {
        let mut asked = 0;
        while let Some(from) = self.late.next_ask() {
            let outcome = Ok(self.passage(from, count));
            self.late.handle_answer(Answer { from, outcome });
            asked += 1;
        }
        asked
    }

    /// What the late shard sends, answered passage by passage.
    pub(super) fn read(&mut self, count: u64) -> Vec<u8> {
        let mut bytes = drain(&mut self.late);
        while self.answer(count) > 0 {
            bytes.extend(drain(&mut self.late));
        }
        self.late.check_invariants();
        bytes
    }

    /// The same where the stream has nothing of it any more.
    fn read_nothing(&mut self) -> Vec<u8> {
        let mut bytes = drain(&mut self.late);
        while let Some(from) = self.late.next_ask() {
            self.late.handle_answer(Answer { from, outcome: Err(Lapse::Expired) });
            bytes.extend(drain(&mut self.late));
        }
        bytes
    }
}

pub(super) fn open(shard: &mut Shard, encoding: Encoding) -> ConnectionId {
    let id = shard.handle_open(Member::anyone(), encoding, Now::default());
    drain(shard);
    id
}

pub(super) fn ask(shard: &mut Shard, id: ConnectionId, method: &str, params: &Value) {
    let text = json!({ "method": method, "params": params, "req_id": 9 }).to_string();
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
    shard.handle_bytes(id, &mut frame, Now::default());
}

pub(super) fn from(seq: u64, channels: &str, policy: &str) -> Value {
    json!({ "channels": channels, "policy": policy, "resume": { "epoch": "epoch", "seq": seq } })
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn in_every_form_the_bytes_are_those_of_a_shard_that_was_there() {
    let forms = [Encoding::Json, Encoding::Deflate { window_bits: 15 }, Encoding::Binary];
    for encoding in forms {
        for (channels, policy) in [(">", "all"), ("trade", "all"), (">", "auto"), ("book", "close")]
        {
            let mut play = Play::new(300);
            let (one, other) = (open(&mut play.there, encoding), open(&mut play.late, encoding));
            let params = from(70, channels, policy);
            ask(&mut play.there, one, "subscribe", &params);
            ask(&mut play.late, other, "subscribe", &params);
            let expected = drain(&mut play.there);
            let got = play.read(40);
            assert!(got == expected, "{encoding:?} {channels} {policy}\n{}", text(&got));
            play.publish(&event(301, "1"));
            play.publish(&event(302, "2"));
            assert_eq!(drain(&mut play.late), drain(&mut play.there), "{encoding:?}");
            assert_eq!(play.late.readers, 0);
        }
    }
}

#[test]
fn event_streams_are_read_back_as_well() {
    let mut play = Play::new(300);
    let request = json!({ "method": "subscribe", "params": from(70, ">", "all") }).to_string();
    let member = Member::anyone;
    play.there.handle_stream(member(), b"", &request, Now::default()).unwrap();
    play.late.handle_stream(member(), b"", &request, Now::default()).unwrap();
    let (got, expected) = (play.read(40), drain(&mut play.there));
    assert_eq!(text(&got), text(&expected));
}

#[test]
fn clients_at_near_places_share_what_was_asked_for_once() {
    let mut play = Play::new(300);
    for place in [70, 75, 1, 300] {
        let id = open(&mut play.late, Encoding::Json);
        ask(&mut play.late, id, "subscribe", &from(place, "trade", "all"));
    }
    drain(&mut play.late);
    assert_eq!(play.answer(1_000), 1, "one passage is for all of them");
    let bytes = drain(&mut play.late);
    assert_eq!(text(&bytes).matches("replay_end").count(), 3, "the fourth missed nothing");
    assert_eq!(play.late.next_ask(), None);
}

#[test]
fn what_cannot_be_had_is_receipted_and_a_snapshot_follows() {
    for (lapse, cause) in [(Lapse::Expired, "expired"), (Lapse::Unreadable, "too_old")] {
        let mut play = Play::new(300);
        let id = open(&mut play.late, Encoding::Json);
        ask(&mut play.late, id, "subscribe", &from(70, ">", "all"));
        let bytes = drain(&mut play.late);
        assert!(text(&bytes).contains("replay_begin"));
        play.answer(100);
        let bytes = drain(&mut play.late);
        assert!(text(&bytes).contains("\"seq\":100,") && !text(&bytes).contains("\"seq\":101,"));
        let from = play.late.next_ask().unwrap();
        assert_eq!(from, 101);
        play.late.handle_answer(Answer { from, outcome: Err(lapse) });
        let got = text(&play.read(100));
        let at = |what: &str| got.find(what).unwrap_or_else(|| panic!("{what}: {got}"));
        let gap = format!("\"from\":101,\"to\":300,\"cause\":\"{cause}\"");
        assert!(at("snapshot_begin") < at(&gap) && at(&gap) < at("snapshot_end"), "{got}");
        assert!(!got.contains("replay_end") && play.late.readers == 0);
        play.publish(&event(302, "1"));
        assert!(text(&play.read(1)).contains("\"seq\":301,"));
    }
}

#[test]
fn without_a_snapshot_the_live_events_follow_the_receipt() {
    let mut play = Play::new(300);
    let id = open(&mut play.late, Encoding::Json);
    let mut params = from(70, ">", "all");
    params["snapshot"] = false.into();
    ask(&mut play.late, id, "subscribe", &params);
    drain(&mut play.late);
    play.late.handle_no_answers();
    let got = text(&drain(&mut play.late));
    assert!(got.contains("\"from\":71,\"to\":300,\"cause\":\"too_old\""), "{got}");
    assert!(got.contains("replay_end") && !got.contains("snapshot"), "{got}");
    play.publish(&event(302, "1"));
    assert!(text(&drain(&mut play.late)).contains("\"seq\":301,"));
}

/// Whether event `seq` is among what was sent.
fn has(text: &str, seq: u64) -> bool {
    text.contains(&format!("\"seq\":{seq},\"prev\""))
}

#[test]
fn live_events_that_cannot_be_read_back_bring_nothing_again() {
    // Before the first snapshot of a book.
    let mut play = Play::new(24);
    let id = open(&mut play.late, Encoding::Json);
    ask(&mut play.late, id, "subscribe", &from(5, ">", "auto"));
    drain(&mut play.late);
    for number in 25..=28 {
        play.publish(&event(number, "1"));
    }
    play.sequencer.handle_loss((29, 39));
    play.sequencer.handle_event(&event(42, "1"), 7).unwrap();
    play.late.handle_batch(&play.sequencer.next_batch().unwrap(), Now::default());
    assert_eq!(play.answer(24), 1);
    let replay = text(&drain(&mut play.late));
    assert!(has(&replay, 24) && replay.contains("replay_end") && !has(&replay, 25), "{replay}");
    let live = text(&play.read_nothing());
    assert!(live.contains("\"from\":25,\"to\":39,\"cause\":\"expired\""), "{live}");
    assert!(has(&live, 28) && has(&live, 40), "the newest value is kept: {live}");
    assert!(!has(&live, 24), "it has come already: {live}");
}

/// A shard with a small log that has books.
fn small() -> Play {
    let small = ShardSettings { log_bytes: 16 << 10, unsent_bytes_max: 4 << 10, ..settings() };
    Play::with(small, 300)
}

#[test]
fn books_that_cannot_be_read_back_live_end_the_connection_also_while_its_set_changes() {
    for changes in [false, true] {
        let mut play = small();
        let id = open(&mut play.late, Encoding::Json);
        ask(&mut play.late, id, "subscribe", &from(70, ">", "all"));
        drain(&mut play.late);
        let long = format!("\"{}\"", "x".repeat(300));
        for number in 301..=400 {
            play.publish(&event(number, &long));
        }
        assert_eq!(play.answer(300), 1);
        let got = text(&drain(&mut play.late));
        assert!(got.contains("replay_end") && !has(&got, 301), "live events are read back: {got}");
        if changes {
            let params = json!({ "channels": "x", "snapshot": false });
            ask(&mut play.late, id, "subscribe", &params);
        }
        let got = text(&play.read_nothing());
        assert!(!got.contains("\"gap\"") && !got.contains("\"prev\""), "{got}");
        let phase = play.late.connection(id).unwrap().phase;
        let is_slow = matches!(phase, Phase::Closing { reason: CloseReason::SlowConsumer, .. });
        assert!(is_slow, "changes: {changes}, {phase:?}");
    }
}

#[test]
fn a_snapshot_in_place_of_a_replay_heals_no_book_that_was_skipped_before_it() {
    let mut play = Play::new(300);
    let id = open(&mut play.late, Encoding::Json);
    let params = json!({ "channels": "book", "policy": "all", "max_lag_bytes": 1_024 });
    ask(&mut play.late, id, "subscribe", &params);
    drain(&mut play.late);
    let long = format!("\"{}\"", "x".repeat(700));
    let book = |kind, data| Event { channel: "book", key: None, kind, ts: None, data };
    play.publish(&book(Kind::Update, long.as_bytes()));
    pass(&mut play.late, 0);
    play.publish(&book(Kind::Update, long.as_bytes()));
    ask(&mut play.late, id, "subscribe", &from(70, "trade", "all"));
    // Behind the boundary the book goes on, and begins anew.
    play.publish(&book(Kind::Update, b"303"));
    play.publish(&book(Kind::Snapshot, b"304"));
    play.late.handle_writable(id);
    let got = text(&drain(&mut play.late));
    assert!(got.contains("\"from\":301,\"to\":302,\"missed\":2"), "{got}");
    let from = play.late.next_ask().unwrap();
    play.late.handle_answer(Answer { from, outcome: Err(Lapse::Unreadable) });
    let got = text(&drain(&mut play.late));
    assert!(got.contains("snapshot_end") && has(&got, 304), "{got}");
    assert!(!has(&got, 303), "a change of a book that it does not have: {got}");
}

#[test]
fn no_more_read_back_than_there_is_room_for_however_many_come_at_once() {
    let mut play = Play::with(ShardSettings { connections_max: 2_000, ..settings() }, 300);
    let ids: Vec<_> = (0..READERS_MAX + 2).map(|_| open(&mut play.late, Encoding::Json)).collect();
    let ask = |play: &mut Play, id| ask(&mut play.late, id, "subscribe", &from(70, ">", "all"));
    ids[..READERS_MAX].iter().for_each(|&id| ask(&mut play, id));
    // Who is gone before its turn has come makes room.
    play.late.handle_drill(ids[0]);
    ids[READERS_MAX..].iter().for_each(|&id| ask(&mut play, id));
    let got = text(&drain(&mut play.late));
    assert_eq!(got.matches("\"resumed\":true").count(), READERS_MAX);
    assert_eq!(got.matches("\"why\":\"too_old\"").count(), 1);
    assert_eq!(play.late.readers, READERS_MAX);
    play.read(1_000);
    let id = open(&mut play.late, Encoding::Json);
    ask(&mut play, id);
    assert!(text(&drain(&mut play.late)).contains("\"resumed\":true"), "all others are done");
}

#[test]
fn a_set_that_is_changed_meanwhile_holds_from_the_boundary_on() {
    let mut play = Play::new(300);
    let (one, other) =
        (open(&mut play.there, Encoding::Json), open(&mut play.late, Encoding::Json));
    for (shard, id) in [(&mut play.there, one), (&mut play.late, other)] {
        ask(shard, id, "subscribe", &from(70, ">", "all"));
        ask(shard, id, "unsubscribe", &json!({ "channels": ">" }));
        ask(shard, id, "subscribe", &json!({ "channels": "trade", "snapshot": false }));
    }
    let expected = drain(&mut play.there);
    assert_eq!(text(&play.read(50)), text(&expected));
    play.publish(&event(302, "1"));
    assert_eq!(text(&drain(&mut play.late)), text(&drain(&mut play.there)));
}

#[test]
fn a_client_that_waits_hears_how_far_it_has_come() {
    let mut play = Play::new(300);
    let id = open(&mut play.late, Encoding::Json);
    ask(&mut play.late, id, "subscribe", &from(70, ">", "all"));
    play.read(30);
    ask(&mut play.late, id, "subscribe", &from(70, ">", "all"));
    drain(&mut play.late);
    let at = |ms: u64| Now { monotonic_ns: ms * 1_000_000, unix_ns: 0 };
    (0..3_000).step_by(10).for_each(|ms| play.late.handle_tick(at(ms)));
    let got = text(&drain(&mut play.late));
    assert!(got.contains("{\"channel\":\"control\",\"type\":\"heartbeat\",\"seq\":70}"), "{got}");
    assert_eq!(play.answer(1_000), 1);
    assert!(text(&drain(&mut play.late)).contains("replay_end"));
}

#[test]
fn a_client_that_goes_away_meanwhile_leaves_nothing_behind() {
    let mut play = Play::new(300);
    let id = open(&mut play.late, Encoding::Json);
    ask(&mut play.late, id, "subscribe", &from(70, ">", "all"));
    drain(&mut play.late);
    let from = play.late.next_ask().unwrap();
    play.late.handle_drill(id);
    assert_eq!((play.late.readers, play.late.counters().reading_back.value()), (0, 0));
    let outcome = Ok(play.passage(from, 10));
    play.late.handle_answer(Answer { from, outcome });
    assert!(drain(&mut play.late).is_empty());
}

proptest! {
    /// A log that is overwritten all the time, sockets that take little, answers that are short and
    /// late: every event comes once, in order, or the log has overtaken a laggard that was in it.
    #[test]
    fn every_event_comes_once_or_is_receipted_whatever_the_log_does_meanwhile(
        steps in prop::collection::vec((0_u8..6, 1_usize..20_000), 1..120),
        place in 0_u64..300,
    ) {
        let long = format!("\"{}\"", "x".repeat(300));
        let small = ShardSettings { log_bytes: 16 << 10, unsent_bytes_max: 4 << 10, ..settings() };
        let mut play = Play::with(small, 300);
        let id = open(&mut play.late, Encoding::Json);
        ask(&mut play.late, id, "subscribe", &from(place, ">", "all"));
        let mut bytes = Vec::new();
        for (step, value) in steps {
            match step {
                0 | 1 => for _ in 0..1 + value % 30 {
                    let number = play.stream.len() as u64 + 1;
                    if play.late.may_append() {
                        play.publish(&event(number, &long));
                    }
                },
                2 => { play.answer(1 + value as u64 % 40); }
                _ if play.late.is_pass_due() => {
                    bytes.extend(pass(&mut play.late, value));
                    play.late.handle_writable(id);
                }
                _ => {}
            }
            play.late.check_invariants();
        }
        loop {
            bytes.extend(drain(&mut play.late));
            if play.answer(100) == 0 && !play.late.is_pass_due() {
                break;
            }
        }
        let text = text(&bytes);
        let number = |rest: &str| -> u64 {
            rest[..rest.find(',').unwrap()].parse().unwrap()
        };
        let seqs: Vec<_> = (text.match_indices(",\"prev\":"))
            .map(|(at, _)| number(&text[text[..at].rfind("\"seq\":").unwrap() + 6..]))
            .collect();
        prop_assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
        // Once it has come to the log, it is a laggard like any other.
        let lost: Vec<_> = (text.match_indices(",\"from\":"))
            .map(|(at, from)| {
                let to = at + text[at..].find("\"to\":").unwrap() + 5;
                number(&text[at + from.len()..])..=number(&text[to..])
            })
            .collect();
        for seq in place + 1..=play.stream.len() as u64 {
            let is_lost = lost.iter().any(|range| range.contains(&seq));
            prop_assert!(seqs.binary_search(&seq).is_ok() || is_lost, "{seq} of {seqs:?}");
        }
    }
}
