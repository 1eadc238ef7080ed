//! The rules against scripted streams: what is given, what is dropped, what is missing, and where
//! to go on.

use proptest::prelude::*;

use super::*;

/// A subscription, and everything that it has given as short words.
struct Script {
    progress: Progress,
    given: Vec<String>,
}

impl Script {
    fn new(patterns: &[&str]) -> Self {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Self { progress: Progress::new(patterns, true, None), given: Vec::new() }
    }

    fn from(place: &str) -> Self {
        let place = place.parse().ok();
        Self { progress: Progress::new(vec![">".into()], true, place), given: Vec::new() }
    }

    /// A connection to a server of this epoch.
    fn connect(&mut self, epoch: &str) -> &mut Self {
        self.progress.handle_connection(None);
        self.say(&format!(r#"{{"channel":"control","type":"welcome","epoch":"{epoch}","seq":0}}"#))
    }

    fn try_say(&mut self, text: &str) -> Result<(), Hole> {
        let mut scratch = text.as_bytes().to_vec();
        let frame = Frame::parse(&mut scratch).unwrap();
        let given = &mut self.given;
        self.progress.handle_frame(&frame, text, &mut |item| match item {
            Item::Event(event) => given.push(format!("{}{}", event.channel, event.seq)),
            Item::Gap(gap) => given.push(format!("gap {}-{} {}", gap.from, gap.to, gap.cause)),
            Item::Notice(Notice::Connected { .. }) | Item::Control(_) => {}
            Item::Notice(Notice::Anew) => given.push("anew".into()),
            Item::Notice(Notice::Resumed { seq }) => given.push(format!("resumed {seq}")),
            Item::Notice(Notice::NotResumed { why }) => given.push(why),
            Item::Notice(Notice::Whole { seq }) => given.push(format!("whole {seq}")),
            Item::Notice(Notice::Unsubscribed { .. }) => given.push("unsubscribed".into()),
            Item::Notice(other) => panic!("{other:?}"),
        })
    }

    fn say(&mut self, text: &str) -> &mut Self {
        self.try_say(text).unwrap();
        self
    }

    fn control(&mut self, kind: &str, members: &str) -> &mut Self {
        self.say(&format!(r#"{{"channel":"control","type":"{kind}",{members}}}"#))
    }

    /// The answer to a subscription to `>`.
    fn reply(&mut self, policy: &str, seq: u64, more: &str) -> &mut Self {
        self.say(&format!(
            r#"{{"method":"subscribe","success":true,"result":[
                {{"channel":">","policy":"{policy}","seq":{seq},"matched":1{more}}}]}}"#
        ))
    }

    fn resumed(&mut self, policy: &str, seq: u64) -> &mut Self {
        self.reply(policy, seq, r#","resumed":true"#)
    }

    fn refused(&mut self, policy: &str, seq: u64, why: &str) -> &mut Self {
        self.reply(policy, seq, &format!(r#","resumed":false,"why":"{why}""#))
    }

    fn end(&mut self, kind: &str, seq: u64) -> &mut Self {
        self.control(kind, &format!(r#""channels":[">"],"seq":{seq}"#))
    }

    fn heartbeat(&mut self, seq: u64) -> &mut Self {
        self.control("heartbeat", &format!(r#""seq":{seq}"#))
    }

    fn receipt(&mut self, channel: &str, from: u64, to: u64) -> &mut Self {
        self.control(
            "gap",
            &format!(r#""channels":["{channel}"],"from":{from},"to":{to},"cause":"slow""#),
        )
    }

    fn try_event(&mut self, channel: &str, seq: u64, prev: u64) -> Result<(), Hole> {
        let (channel, key) = channel.split_once(':').map_or((channel, None), |(c, k)| (c, Some(k)));
        let key = key.map(|key| format!(r#""key":"{key}","#)).unwrap_or_default();
        self.try_say(&format!(
            r#"{{"channel":"{channel}","type":"update",{key}"seq":{seq},"prev":{prev},"data":0}}"#
        ))
    }

    fn event(&mut self, channel: &str, seq: u64, prev: u64) -> &mut Self {
        self.try_event(channel, seq, prev).unwrap();
        self
    }

    /// A connection with a snapshot that is whole at `seq`.
    fn begun(policy: &str, seq: u64) -> Self {
        let mut script = Self::new(&[">"]);
        script.connect("01A").reply(policy, seq, "").end("snapshot_end", seq);
        script.given.clear();
        script
    }

    fn gives(&mut self, given: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.given), given);
        self
    }

    fn goes_on_at(&mut self, place: &str) -> &mut Self {
        let at = self.progress.place().map_or_else(|| "nowhere".to_owned(), |at| at.to_string());
        assert_eq!(at, place);
        self
    }
}

#[test]
fn the_place_is_before_a_recovery_until_it_ends_and_then_follows_what_is_live() {
    let mut script = Script::new(&[">"]);
    script.connect("01A").goes_on_at("nowhere").reply("all", 10, "").goes_on_at("nowhere");
    // A snapshot is not in order over its keys, and its links say nothing.
    script.event("q:b", 9, 7).event("q:a", 4, 3).event("book", 6, 2).event("book", 8, 6);
    script.heartbeat(10).goes_on_at("nowhere");
    script.end("snapshot_end", 10).goes_on_at("01A:10");
    script.gives(&["q9", "q4", "book6", "book8", "whole 10"]);
    script.event("t", 11, 5).goes_on_at("01A:11").event("q:a", 13, 9).goes_on_at("01A:13");
    script.heartbeat(20).goes_on_at("01A:20").gives(&["t11", "q13"]);

    script.connect("01A").goes_on_at("01A:20").resumed("all", 24).goes_on_at("01A:20");
    script.event("t", 21, 11).event("q:a", 24, 13).goes_on_at("01A:20");
    script.end("replay_end", 24).goes_on_at("01A:24").event("t", 25, 21).goes_on_at("01A:25");
    script.gives(&["resumed 20", "t21", "q24", "whole 24", "t25"]);
}

#[test]
fn what_replaces_something_of_a_snapshot_under_way_may_come_before_its_end() {
    let mut script = Script::new(&[">"]);
    script.connect("01A").reply("latest", 10, "").event("q:a", 4, 3).event("q:b", 12, 11);
    script.goes_on_at("nowhere").end("snapshot_end", 12).goes_on_at("01A:12");
    script.gives(&["q4", "q12", "whole 12"]);
}

#[test]
fn a_recovery_has_ended_when_every_pattern_has() {
    let mut script = Script::new(&["a", "b"]);
    script.connect("01A").say(
        r#"{"method":"subscribe","success":true,"result":[
            {"channel":"a","policy":"all","seq":5},{"channel":"b","policy":"all","seq":5}]}"#,
    );
    script.control("snapshot_end", r#""channels":["a"],"seq":5"#).goes_on_at("nowhere");
    script.control("snapshot_end", r#""channels":["b"],"seq":5"#).goes_on_at("01A:5");
}

#[test]
fn without_a_snapshot_the_place_is_the_boundary() {
    let mut script = Script::new(&[">"]);
    script.progress.wants_snapshot = false;
    script.connect("01A").reply("all", 10, "").goes_on_at("01A:10");
    // A resume that was taken is a replay all the same.
    script.connect("01A").resumed("all", 12).goes_on_at("01A:10");
    script.event("a", 12, 3).end("replay_end", 12).goes_on_at("01A:12");
}

#[test]
fn no_event_is_given_twice() {
    let mut script = Script::begun("auto", 10);
    script.event("t", 11, 0).event("q:a", 12, 0).event("q:b", 13, 12).event("t", 11, 0);
    script.gives(&["t11", "q12", "q13"]);
    script.connect("01A").refused("auto", 20, "too_old");
    script.event("q:b", 13, 12).event("q:a", 15, 13).end("snapshot_end", 20);
    script.gives(&["too_old", "q15", "whole 20"]).goes_on_at("01A:20");
}

#[test]
fn after_a_gap_a_snapshot_of_its_channels_is_given_whole() {
    let mut script = Script::begun("all", 10);
    script.event("book", 11, 0).event("book", 12, 11).event("t", 13, 0).event("q:a", 14, 0);
    script.connect("01A").refused("all", 30, "too_old").receipt("book", 15, 30);
    script.event("book", 11, 0).event("book", 12, 11).event("book", 29, 28).event("q:a", 14, 0);
    script.end("snapshot_end", 30);
    script.gives(&[
        "book11",
        "book12",
        "t13",
        "q14",
        "too_old",
        "gap 15-30 slow",
        "book11",
        "book12",
        "book29",
        "whole 30",
    ]);
}

#[test]
fn a_hole_is_a_link_to_what_never_came_and_nothing_accounts_for() {
    let mut script = Script::begun("all", 10);
    script.event("a", 11, 7).event("b", 12, 10); // Both before the boundary.
    let hole = Hole { channel: "a".into(), seq: 13 };
    assert_eq!(script.try_event("a", 14, 13), Err(hole));
    script.goes_on_at("01A:12");
    script.heartbeat(13).event("a", 14, 13); // Now it is known to be of no concern here.
    script.receipt("b", 15, 19).event("b", 20, 19);
    assert!(script.try_event("a", 21, 18).is_err(), "the receipt names another channel");
    script.receipt("*", 15, 19).event("a", 21, 18);
}

#[test]
fn where_newer_events_stand_for_older_ones_there_is_no_hole() {
    let mut script = Script::begun("auto", 10);
    script.event("q:a", 11, 0).event("q:b", 20, 15);
    script.event("q", 30, 25); // The one before may have had a key.
    assert!(script.try_event("t", 31, 28).is_err(), "no event with a key: all were promised");
    Script::begun("latest", 10).event("t", 31, 28);
}

#[test]
fn a_lenient_reader_is_told_of_the_hole_and_reads_on() {
    let mut script = Script::begun("all", 10);
    script.progress.is_strict = false;
    script.event("a", 11, 0).event("a", 14, 13).event("a", 15, 14);
    script.gives(&["a11", "gap 12-13 hole", "a14", "a15"]);
}

#[test]
fn what_is_sampled_comes_late_so_only_heartbeats_move_the_place() {
    let mut script = Script::new(&[">"]);
    script.connect("01A").reply("latest", 10, r#","interval_ms":100"#).end("snapshot_end", 10);
    script.event("q:b", 15, 14).event("q:a", 12, 11).goes_on_at("01A:10");
    script.heartbeat(15).goes_on_at("01A:15");
    script.gives(&["whole 10", "q15", "q12"]);
    let mut script = Script::begun("auto", 10);
    script.control("tier", r#""interval_ms":10,"seq":10"#).event("q:a", 12, 0);
    script.goes_on_at("01A:10");
    script.control("tier", r#""interval_ms":0,"seq":12"#).event("q:a", 13, 12);
    script.goes_on_at("01A:13");
}

#[test]
fn a_server_that_began_anew_is_a_gap_and_a_new_count() {
    let mut script = Script::begun("all", 10);
    script.event("a", 11, 0).connect("01B").goes_on_at("nowhere").refused("all", 3, "epoch");
    script.control("gap", r#""channels":["a"],"from":1,"to":3,"cause":"epoch""#);
    script.event("a", 2, 1).end("snapshot_end", 3).goes_on_at("01B:3").event("a", 11, 2);
    script.gives(&["a11", "anew", "epoch", "gap 1-3 epoch", "a2", "whole 3", "a11"]);
}

#[test]
fn a_connection_lost_before_there_is_a_place_is_a_gap() {
    let mut script = Script::new(&["t.*"]);
    script.connect("01A").reply("all", 10, "").event("t.a", 11, 0).event("t.a", 12, 11);
    script.connect("01A").reply("all", 20, "").gives(&["t.a11", "t.a12", "gap 13-20 reconnect"]);
    script.connect("01A").reply("all", 20, "").gives(&["resumed 20"]);
    script.connect("01B").reply("all", 5, "").gives(&["anew", "gap 1-5 reconnect"]);
}

#[test]
fn when_a_subscription_was_ended_there_is_no_place_for_all() {
    let mut script = Script::begun("unsubscribe", 10);
    script.event("a", 11, 0);
    script.control("unsubscribed", r#""channels":["b"],"seq":11,"cause":"max_age""#);
    script.event("a", 12, 11).goes_on_at("nowhere");
    script.connect("01A").reply("unsubscribe", 15, "");
    script.gives(&["a11", "unsubscribed", "a12", "gap 12-15 reconnect"]);
    script.end("snapshot_end", 15).goes_on_at("01A:15");
}

#[test]
fn a_place_from_before_is_where_a_first_connection_begins() {
    let mut script = Script::from("01A:7");
    script.goes_on_at("01A:7").connect("01A").resumed("all", 9).event("a", 8, 3);
    script.end("replay_end", 9).gives(&["resumed 7", "a8", "whole 9"]).goes_on_at("01A:9");
    let mut script = Script::from("01A:7");
    script.connect("01B").refused("all", 9, "epoch").gives(&["anew", "epoch"]);
}

#[test]
fn a_node_that_is_behind_the_one_before_sends_on_after_what_was_named() {
    let mut script = Script::from("E:29");
    script.connect("E").resumed("all", 13);
    script.end("replay_end", 13).heartbeat(20).goes_on_at("E:29");
    script.event("a", 30, 29).gives(&["resumed 29", "whole 13", "a30"]).goes_on_at("E:30");
}

#[test]
fn what_a_server_has_lost_is_not_named_to_it_again() {
    let mut script = Script::from("E:29");
    script.connect("E").refused("all", 13, "ahead").receipt(">", 1, 13);
    assert_eq!(script.progress.place(), None);
    script.end("snapshot_end", 13).goes_on_at("E:13");
}

#[test]
fn a_reply_that_refuses_changes_nothing() {
    let mut script = Script::begun("all", 10);
    script.say(r#"{"method":"subscribe","success":false,"error":{"code":"x","message":"y"}}"#);
    script.event("a", 11, 10).goes_on_at("01A:11").gives(&["a11"]);
}

proptest! {
    /// Events of some channels, cut at any places by lost connections; each time the server
    /// replays what the client says that it lacks.
    #[test]
    fn whatever_is_cut_every_event_is_given_once_and_in_order(
        channels in prop::collection::vec(0_usize..3, 1..60),
        cuts in prop::collection::vec((0_usize..20, 0_usize..20, 0_usize..20), 0..6),
    ) {
        let mut lasts = [0; 3];
        let events: Vec<_> = channels.iter().zip(1_u64..).map(|(&channel, seq)| {
            (["a", "b", "c"][channel], seq, std::mem::replace(&mut lasts[channel], seq))
        }).collect();
        let mut script = Script::begun("all", 0);
        let place = |script: &Script| {
            usize::try_from(script.progress.place().unwrap().seq).unwrap()
        };
        let mut head = 0;
        // Some come live, some are missed, and the first replay of those is cut as well.
        for (live, missed, replayed) in cuts {
            let missed_at = (head + live).min(events.len());
            for &(channel, seq, prev) in &events[head..missed_at] {
                script.event(channel, seq, prev);
            }
            head = (missed_at + missed).min(events.len());
            script.connect("01A").resumed("all", head as u64);
            for &(channel, seq, prev) in events[place(&script)..head].iter().take(replayed) {
                script.event(channel, seq, prev);
            }
            script.connect("01A").resumed("all", head as u64);
            for &(channel, seq, prev) in &events[place(&script)..head] {
                script.event(channel, seq, prev);
            }
            script.end("replay_end", head as u64);
        }
        for &(channel, seq, prev) in &events[head..] {
            script.event(channel, seq, prev);
        }
        let is_event = |word: &String| word.starts_with(['a', 'b', 'c']);
        let given: Vec<_> = script.given.iter().filter(|word| is_event(word)).cloned().collect();
        let expected: Vec<_> =
            events.iter().map(|(channel, seq, _)| format!("{channel}{seq}")).collect();
        prop_assert_eq!(given, expected);
    }
}
