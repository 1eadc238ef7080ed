//! The judge judged: histories and messages made by hand, and what it says to them.

use super::{Asked, Given, History, Judge, Policy, Setup, Start, Wish};

use std::rc::Rc;

/// One client, a list of events, and messages in the server's place.
struct Play {
    history: History,
    judge: Judge,
    asked: u64,
}

impl Play {
    /// A client that has subscribed to everything under these terms, from the first event on.
    fn under(wish: Wish) -> Self {
        Self::with(Setup { log_bytes: 1_024, tier_moves: true, ..Setup::default() }, wish)
    }

    fn with(setup: Setup, wish: Wish) -> Self {
        let mut play = Self {
            history: History::default(),
            judge: Judge::new("the client", Rc::new(setup)),
            asked: 0,
        };
        play.say(r#"{"channel":"control","type":"welcome","seq":0}"#);
        play.subscribe(">", wish, 0);
        play
    }

    fn policy(policy: Policy) -> Self {
        Self::under(Wish { policy: Some(policy), ..Wish::default() })
    }

    fn subscribe(&mut self, pattern: &str, wish: Wish, seq: u64) {
        self.asked += 1;
        self.judge.ask(self.asked, Asked::Subscribe(wish, Start::default()));
        let terms = super::terms::Terms::agree(&wish, None);
        let mut text = format!(
            r#"{{"method":"subscribe","success":true,"req_id":{},"result":[{{"channel":"{pattern}",
            "policy":"{}","seq":{seq},"matched":0"#,
            self.asked,
            terms.policy.word()
        );
        for (name, number) in [
            ("max_age_ms", terms.max_age_ms),
            ("max_lag_bytes", terms.max_lag_bytes),
            ("interval_ms", terms.interval_ms),
        ] {
            if let Some(number) = number {
                text += &format!(r#","{name}":{number}"#);
            }
        }
        self.say(&(text + "}]}"));
    }

    fn unsubscribe(&mut self, pattern: &str, seq: u64) {
        self.asked += 1;
        self.judge.ask(self.asked, Asked::Unsubscribe);
        self.say(&format!(
            r#"{{"method":"unsubscribe","success":true,"req_id":{},
            "result":[{{"channel":"{pattern}","seq":{seq}}}]}}"#,
            self.asked
        ));
    }

    /// Appends events: a channel, then `/key` where there is one, then `!` for a snapshot.
    fn events(&mut self, names: &[&'static str]) {
        for name in names {
            let snapshot = name.ends_with('!');
            let name = name.trim_end_matches('!');
            let (channel, key) = name.split_once('/').map_or((name, None), |(c, k)| (c, Some(k)));
            let data = format!("\"{}\"", "x".repeat(200));
            self.history.push(Given { channel, key, snapshot, ts: None, data });
        }
    }

    fn say(&mut self, text: &str) {
        let mut frame = vec![0x81, 126];
        frame.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(text.as_bytes());
        self.judge.receive(&frame, &self.history);
    }

    fn deliver(&mut self, seqs: &[u64]) {
        for &seq in seqs {
            let event = self.history.event(seq).clone();
            let key = event.key.map(|key| format!(r#""key":"{key}","#)).unwrap_or_default();
            self.say(&format!(
                r#"{{"channel":"{}","type":"{}",{key}"seq":{seq},"prev":{},"data":{}}}"#,
                self.history.name(seq),
                if event.snapshot { "snapshot" } else { "update" },
                event.prev,
                event.data
            ));
        }
    }

    fn receipt(&mut self, channels: &str, from: u64, to: u64, missed: u64, cause: &str) {
        let recover = super::recover(cause);
        self.say(&format!(
            r#"{{"channel":"control","type":"gap","channels":{channels},"from":{from},"to":{to},
            "missed":{missed},"cause":"{cause}","recover":"{recover}"}}"#
        ));
    }

    fn finish(&mut self) {
        self.judge.finish(&self.history);
    }
}

const FIVE: [&str; 5] = ["t.a"; 5];

#[test]
fn exact_receipts_pass_also_when_ranges_overlap() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&["t.a", "b.a!", "t.a", "b.a!", "b.a", "t.a", "t.a"]);
    play.deliver(&[1]);
    play.receipt(r#"["b.a","t.a"]"#, 2, 6, 3, "slow");
    play.events(&["b.a!", "t.a"]);
    play.receipt(r#"["b.a","t.a"]"#, 4, 9, 4, "slow");
    play.deliver(&[8]);
    play.finish();
    assert_eq!(play.judge.totals.missed, 7);
}

#[test]
#[should_panic(expected = "was never sent")]
fn all_is_not_conflated() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&["q.a/x", "q.a/x"]);
    play.deliver(&[2]);
}

#[test]
fn latest_is_conflated_while_slow() {
    let mut play = Play::policy(Policy::Auto);
    play.judge.be_slow();
    play.events(&["q.a/x", "q.a/y", "q.a/x", "t.a"]);
    play.deliver(&[2, 3, 4]);
    play.finish();
    assert_eq!((play.judge.totals.delivered, play.judge.totals.superseded), (3, 1));
}

#[test]
#[should_panic(expected = "was never sent")]
fn latest_is_not_conflated_for_a_client_that_keeps_up() {
    let mut play = Play::policy(Policy::Latest);
    play.events(&["q.a/x", "q.a/x"]);
    play.deliver(&[2]);
}

#[test]
#[should_panic(expected = "event 3 of q.a")]
fn latest_is_not_conflated_any_more_once_its_client_has_caught_up() {
    let mut play = Play::policy(Policy::Latest);
    play.judge.be_slow();
    play.events(&["q.a/x", "q.a/x"]);
    play.deliver(&[2]);
    play.judge.be_level(2);
    play.events(&["q.a/x", "q.a/x"]);
    play.deliver(&[4]);
}

#[test]
fn latest_is_conflated_again_when_its_client_falls_behind_again() {
    let mut play = Play::policy(Policy::Latest);
    play.events(&["q.a/x"]);
    play.judge.be_level(1);
    play.judge.be_slow();
    play.events(&["q.a/x", "q.a/x"]);
    play.deliver(&[1, 3]);
    play.judge.be_level(3);
    play.finish();
    assert_eq!(play.judge.totals.superseded, 1);
}

#[test]
#[should_panic(expected = "was not full")]
fn a_client_that_has_caught_up_gets_no_receipt() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&FIVE);
    play.deliver(&[1, 2, 3, 4, 5]);
    play.judge.be_level(5);
    play.events(&FIVE);
    play.receipt(r#"["t.a"]"#, 6, 10, 5, "slow");
}

#[test]
#[should_panic(expected = "was never sent")]
fn the_newest_value_of_a_key_is_not_lost() {
    let mut play = Play::policy(Policy::Latest);
    play.judge.be_slow();
    play.events(&["q.a/x", "q.a/x", "q.a/y"]);
    play.deliver(&[3]);
    play.finish();
}

#[test]
fn a_newest_value_that_was_receipted_may_be_followed_by_another() {
    let mut play = Play::policy(Policy::Latest);
    play.judge.be_slow();
    play.events(&["q.a/x", "q.a/y", "q.a/z", "q.a/y", "q.a/y", "q.a/y", "q.a/y", "q.a/y"]);
    play.receipt(r#"["q.a"]"#, 1, 8, 1, "slow");
    play.events(&["q.a/x"]);
    play.deliver(&[3, 8, 9]);
    play.finish();
    assert_eq!((play.judge.totals.missed, play.judge.totals.superseded), (1, 5));
}

#[test]
#[should_panic(expected = "nothing was overwritten")]
fn a_number_that_is_no_event_is_no_loss() {
    let mut play = Play::policy(Policy::All);
    play.events(&["t.a"]);
    play.history.skip();
    play.events(&["t.a"]);
    play.deliver(&[1]);
    play.say(
        r#"{"channel":"control","type":"gap","channels":["t.a"],"from":2,"to":2,"cause":"slow",
        "recover":"snapshot"}"#,
    );
}

#[test]
#[should_panic(expected = "counts 1 too many")]
fn a_receipt_does_not_count_what_was_delivered() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&FIVE);
    play.receipt(r#"["t.a"]"#, 1, 5, 5, "slow");
    play.deliver(&[5]);
    play.finish();
}

#[test]
#[should_panic(expected = "count too few")]
fn a_receipt_counts_all_that_is_missing() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&FIVE);
    play.receipt(r#"["t.a"]"#, 1, 5, 4, "slow");
    play.finish();
}

#[test]
#[should_panic(expected = "counts more than the 5 that are open")]
fn a_receipt_counts_no_more_than_there_was() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&FIVE);
    play.receipt(r#"["t.a"]"#, 1, 5, 6, "slow");
}

#[test]
#[should_panic(expected = "was not full")]
fn a_client_that_keeps_up_gets_no_receipt() {
    let mut play = Play::policy(Policy::All);
    play.events(&FIVE);
    play.receipt(r#"["t.a"]"#, 1, 5, 5, "slow");
}

#[test]
#[should_panic(expected = "the cause max_age holds for no open event")]
fn a_receipt_for_age_needs_a_limit_of_age() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&FIVE);
    play.receipt(r#"["t.a"]"#, 1, 5, 5, "max_age");
}

#[test]
#[should_panic(expected = "the cause max_age holds for no open event")]
fn a_receipt_for_age_does_not_come_before_the_age() {
    let max_age_ms = Some(10);
    let mut play = Play::under(Wish { policy: Some(Policy::All), max_age_ms, ..Wish::default() });
    play.judge.be_slow();
    play.events(&FIVE);
    play.history.now_ns = 9_000_000;
    play.receipt(r#"["t.a"]"#, 1, 5, 5, "max_age");
}

#[test]
#[should_panic(expected = "a book cut in the middle")]
fn a_book_is_not_cut_in_the_middle() {
    let mut play = Play::policy(Policy::Latest);
    play.judge.be_slow();
    play.events(&["b.a!", "b.a", "b.a"]);
    play.deliver(&[1, 3]);
}

#[test]
fn a_book_goes_on_at_its_newest_snapshot_or_where_its_client_came_in() {
    let mut play = Play::policy(Policy::Latest);
    play.judge.be_slow();
    play.unsubscribe(">", 0);
    play.events(&["b.a/k!", "b.a/k"]);
    play.subscribe("b.*", Wish { policy: Some(Policy::Latest), ..Wish::default() }, 2);
    play.events(&["b.a/k", "b.a/k", "b.a/k!", "b.a/k", "b.a/k!", "b.a/k"]);
    play.deliver(&[3, 7, 8]);
    play.finish();
    assert_eq!(play.judge.totals.superseded, 3);
}

#[test]
#[should_panic(expected = "with no tick of 100 ms between")]
fn a_sampled_key_comes_once_an_interval() {
    let mut play = Play::under(Wish { interval_ms: Some(100), ..Wish::default() });
    play.history.tick();
    play.events(&["q.a/x", "q.a/x"]);
    play.deliver(&[1, 2]);
}

#[test]
fn a_sampled_key_may_come_later_than_its_neighbours_of_other_terms() {
    let mut play = Play::under(Wish { interval_ms: Some(100), ..Wish::default() });
    play.history.tick();
    play.events(&["q.a/x", "q.a/x", "t.a"]);
    play.deliver(&[3]);
    for now_ns in [100_000_000, 200_000_000] {
        play.history.now_ns = now_ns;
        play.history.tick();
        let head = play.history.head();
        play.deliver(&[if head == 3 { 2 } else { head }]);
        play.events(&["q.a/x"]);
    }
    play.deliver(&[]);
    assert_eq!((play.judge.totals.sampled, play.judge.totals.delivered), (2, 3));
}

#[test]
#[should_panic(expected = "no repeats")]
fn an_event_does_not_come_twice() {
    let mut play = Play::policy(Policy::All);
    play.events(&["t.a"]);
    play.deliver(&[1, 1]);
}

#[test]
#[should_panic(expected = "seq rises")]
fn events_come_in_order() {
    let mut play = Play::policy(Policy::All);
    play.events(&["t.a", "t.b"]);
    play.deliver(&[2, 1]);
}

#[test]
#[should_panic(expected = "was never sent: heartbeat 2")]
fn a_heartbeat_proves_that_nothing_is_missing() {
    let mut play = Play::policy(Policy::All);
    play.events(&["t.a", "t.b"]);
    play.deliver(&[1]);
    play.say(r#"{"channel":"control","type":"heartbeat","seq":2}"#);
}

#[test]
fn a_notice_ends_what_it_names_and_nothing_else() {
    let max_lag_bytes = Some(1_024);
    let wish = Wish { policy: Some(Policy::Unsubscribe), max_lag_bytes, ..Wish::default() };
    let mut play = Play::under(wish);
    play.subscribe("q.*", Wish::default(), 0);
    play.judge.be_slow();
    play.events(&["q.a/x", "t.a", "t.a", "t.a", "t.a", "t.a"]);
    play.receipt(r#"["t.a"]"#, 1, 6, 5, "max_lag_bytes");
    play.say(
        r#"{"channel":"control","type":"unsubscribed","channels":[">"],"seq":6,
        "cause":"max_lag_bytes"}"#,
    );
    play.events(&["t.a", "q.a/x"]);
    play.deliver(&[1, 8]);
    play.finish();
    assert_eq!((play.judge.totals.notices, play.judge.totals.missed), (1, 5));
}

#[test]
#[should_panic(expected = "has no policy unsubscribe")]
fn a_notice_needs_the_policy() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&FIVE);
    play.receipt(r#"["t.a"]"#, 1, 5, 5, "slow");
    play.say(
        r#"{"channel":"control","type":"unsubscribed","channels":[">"],"seq":5,"cause":"slow"}"#,
    );
}

#[test]
#[should_panic(expected = "came although it was unsubscribed")]
fn what_was_unsubscribed_stops_at_once() {
    let mut play = Play::policy(Policy::All);
    play.events(&["t.a", "t.a"]);
    play.unsubscribe(">", 2);
    play.subscribe(">", Wish::default(), 2);
    play.deliver(&[2]);
}

#[test]
fn what_stays_subscribed_follows_the_old_terms_up_to_the_answer() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&["q.a/x", "q.a/x"]);
    play.subscribe(">", Wish::default(), 2);
    play.events(&["q.a/x", "q.a/x"]);
    play.deliver(&[1, 2, 4]);
    play.finish();
    assert_eq!(play.judge.totals.superseded, 1);
}

#[test]
fn a_tier_samples_what_conflates_from_its_seq_on() {
    let mut play = Play::policy(Policy::Auto);
    play.judge.be_slow();
    play.history.tick();
    play.events(&["q.a/x", "t.a"]);
    play.deliver(&[1, 2]);
    play.say(r#"{"channel":"control","type":"tier","interval_ms":100,"seq":2}"#);
    play.events(&["q.a/x", "t.a"]);
    play.history.now_ns = 100_000_000;
    play.history.tick();
    play.deliver(&[4, 3]);
    play.finish();
    assert_eq!((play.judge.totals.tiers, play.judge.totals.sampled), (1, 1));
}

#[test]
#[should_panic(expected = "a tier is told once")]
fn a_tier_is_told_once() {
    let mut play = Play::policy(Policy::Auto);
    play.judge.be_slow();
    for _ in 0..2 {
        play.say(r#"{"channel":"control","type":"tier","interval_ms":100,"seq":0}"#);
    }
}

#[test]
fn a_request_over_the_rate_is_counted_and_changes_nothing() {
    let mut play = Play::policy(Policy::All);
    play.judge.ask(7, Asked::Unsubscribe);
    play.say(
        r#"{"method":"unsubscribe","success":false,"req_id":7,
        "error":{"code":"rate_limited","message":"later","retryable":true}}"#,
    );
    play.events(&["t.a"]);
    play.deliver(&[1]);
    assert_eq!(play.judge.totals.rate_limited, 1);
}

#[test]
#[should_panic(expected = "4100, but nothing unsent has policy close")]
fn a_close_4100_needs_the_policy_or_a_lost_book() {
    let mut play = Play::policy(Policy::All);
    play.judge.be_slow();
    play.events(&FIVE);
    play.judge.receive(&[0x88, 2, 0x10, 0x04], &play.history);
}

#[test]
fn a_close_4100_is_right_when_the_log_has_gone_on() {
    let mut play = Play::policy(Policy::Close);
    play.judge.be_slow();
    play.events(&FIVE);
    play.judge.receive(&[0x88, 2, 0x10, 0x04], &play.history);
    play.judge.leave(&play.history);
    assert_eq!(play.judge.totals.closes, 1);
}

/// A client that has the snapshot 1 of a book and comes back at 2, where the log overtakes what is
/// replayed for it; then the book has a change and begins anew.
fn overtaken() -> Play {
    let setup = Setup { log_bytes: 1_024, ..Setup::default() };
    let judge = Judge::new("the client", Rc::new(setup));
    let mut play = Play { history: History::default(), judge, asked: 1 };
    play.events(&["b.a!", "b.a"]);
    play.say(r#"{"channel":"control","type":"welcome","seq":2}"#);
    let wish = Wish { policy: Some(Policy::All), ..Wish::default() };
    let start = Start { snapshot: false, resume: Some((true, 1)) };
    play.judge.ask(1, Asked::Subscribe(wish, start));
    play.say(
        r#"{"method":"subscribe","success":true,"req_id":1,
        "result":[{"channel":">","policy":"all","seq":2,"matched":1,"resumed":true}]}"#,
    );
    let notice = |kind: &str| {
        format!(r#"{{"channel":"control","type":"{kind}","channels":[">"],"seq":2,"req_id":1}}"#)
    };
    play.say(&notice("replay_begin"));
    play.receipt(r#"["b.a"]"#, 2, 2, 1, "slow");
    play.say(&notice("replay_end"));
    play.events(&["b.a", "b.a!", "b.a"]);
    play
}

#[test]
fn a_book_goes_on_at_its_newest_snapshot_after_a_replay_that_was_overtaken() {
    let mut play = overtaken();
    play.receipt(r#"["b.a"]"#, 3, 5, 1, "snapshot");
    play.deliver(&[4, 5]);
    play.finish();
    assert_eq!((play.judge.totals.replays_missed, play.judge.totals.missed), (1, 1));
}

#[test]
#[should_panic(expected = "a book cut in the middle")]
fn a_book_that_a_replay_has_left_something_out_of_does_not_just_go_on() {
    overtaken().deliver(&[3]);
}
