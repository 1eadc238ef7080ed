//! Scripted streams, and chance against a model of two nodes that lag, skip and die.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::client::frame::Frame;
use crate::client::item::Cause;

const A: SideNumber = 0;
const B: SideNumber = 1;

/// What came out, as short words.
#[derive(Default)]
struct Script {
    merge: Merge,
    given: Vec<String>,
}

impl Script {
    /// Both sides have everything up to 0.
    fn new() -> Self {
        let mut script = Self::default();
        for number in [A, B] {
            script.up(number).items(number, [], Some(0));
        }
        script.given.clear();
        script
    }

    fn items(
        &mut self,
        number: SideNumber,
        items: impl IntoIterator<Item = Item<'static>>,
        whole: Option<u64>,
    ) -> &mut Self {
        let given = &mut self.given;
        self.merge.handle_items(number, items, whole, &mut |item| match item {
            Item::Event(event) => given.push(format!("{}{}", event.channel, event.seq)),
            Item::Gap(gap) => given.push(format!("gap {}-{}", gap.from, gap.to)),
            _ => {}
        });
        self
    }

    fn up(&mut self, number: SideNumber) -> &mut Self {
        let connected = Notice::Connected { seq: 0, is_again: false, security: None };
        let whole = Some(self.merge.sides[number].whole);
        let whole = whole.filter(|_| self.merge.sides[number].from.is_some());
        self.items(number, [Item::Notice(connected)], whole)
    }

    fn down(&mut self, number: SideNumber) -> &mut Self {
        let given = &mut self.given;
        self.merge.handle_loss(number, &mut |item| match item {
            Item::Event(event) => given.push(format!("{}{}", event.channel, event.seq)),
            Item::Gap(gap) => given.push(format!("gap {}-{}", gap.from, gap.to)),
            _ => {}
        });
        self
    }

    /// Events of `c`.
    fn take(&mut self, number: SideNumber, seqs: impl IntoIterator<Item = u64>) -> &mut Self {
        for seq in seqs {
            self.items(number, [event("c", seq, Link::Follows)], Some(seq));
        }
        self
    }

    fn lose(&mut self, number: SideNumber, from: u64, to: u64, channel: &str) -> &mut Self {
        self.items(number, [gap(channel, from, to)], Some(to))
    }

    fn gives(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(self.given, expected);
        self.given.clear();
        self
    }
}

fn event(channel: &str, seq: u64, link: Link) -> Item<'static> {
    let text = format!(r#"{{"channel":"{channel}","seq":{seq},"prev":0,"data":0}}"#);
    let mut scratch = text.clone().into_bytes();
    let frame = Frame::parse(&mut scratch).unwrap();
    Item::Event(Event::of(&frame, &text, link)).into_owned().unwrap()
}

fn gap(channel: &str, from: u64, to: u64) -> Item<'static> {
    let channels = vec![channel.to_owned()];
    Item::Gap(Gap { channels, from, to, missed: None, cause: Cause::Server("slow".into()) })
}

#[test]
fn the_first_of_each_is_given_whichever_side_it_comes_from() {
    let mut script = Script::new();
    script.take(A, [1, 2]).take(B, [1, 2, 3, 4]).take(A, [3, 4, 5]);
    script.gives(&["c1", "c2", "c3", "c4", "c5"]);
    assert_eq!(script.merge.place(), Some(5));
}

#[test]
fn a_side_that_dies_while_the_other_one_is_behind_leaves_no_gap_and_nothing_twice() {
    let mut script = Script::new();
    script.take(A, [1, 2, 3, 4]).take(B, [1, 2]).down(A).take(B, [3, 4, 5]);
    script.gives(&["c1", "c2", "c3", "c4", "c5"]);
    script.up(A).take(A, [5, 6]).down(B).take(A, [7]).gives(&["c6", "c7"]);
}

#[test]
fn what_one_side_has_lost_the_other_one_brings_in_order_also_when_it_comes_later() {
    let mut script = Script::new();
    script.take(A, [1]).lose(A, 2, 4, "c").take(A, [5, 6]).gives(&["c1"]);
    script.take(B, [1, 2, 3]).gives(&["c2", "c3"]);
    script.take(B, [4, 5, 6, 7]).gives(&["c4", "c5", "c6", "c7"]);
}

#[test]
fn what_both_have_lost_is_one_gap() {
    let mut script = Script::new();
    script.lose(A, 2, 4, "c").lose(B, 2, 4, "c").take(A, [5]).take(B, [5, 6]);
    script.gives(&["gap 2-4", "c5", "c6"]);
}

#[test]
fn when_the_side_dies_that_was_to_fill_a_gap_it_is_given() {
    let mut script = Script::new();
    script.lose(A, 2, 4, "c").take(A, [5]).gives(&[]);
    script.down(B).gives(&["gap 2-4", "c5"]);
}

#[test]
fn a_gap_of_another_channel_holds_nothing_back() {
    let mut script = Script::new();
    script.lose(A, 2, 4, "d").take(A, [5]).gives(&["c5"]);
}

#[test]
fn what_waits_behind_a_gap_is_bounded() {
    let mut script = Script::new();
    let end = 5 + PAIR_HELD_MAX as u64;
    script.lose(A, 2, 4, "c").take(A, 5..end).gives(&[]);
    script.take(A, [end]);
    assert_eq!(script.given.len(), PAIR_HELD_MAX + 2);
    assert_eq!(script.given[0], "gap 2-4");
    let mut script = Script::new();
    for number in 0..=PAIR_GAPS_MAX as u64 {
        script.lose(A, 10 * number + 1, 10 * number + 5, "c");
    }
    script.gives(&["gap 1-5"]);
}

#[test]
fn a_side_that_joins_late_fills_nothing_from_before() {
    let mut script = Script::default();
    script.up(A).items(A, [], Some(100)).up(B).items(B, [], Some(500));
    script.take(B, [501]).lose(A, 101, 200, "c").gives(&["c501", "gap 101-200"]);
}

#[test]
fn behind_a_gap_that_was_given_a_snapshot_is_whole() {
    let mut script = Script::new();
    script.down(B).take(A, [1, 2]).gives(&["c1", "c2"]);
    let items = [gap("c", 3, 9), event("c", 1, Link::Recovered), event("c", 9, Link::Recovered)];
    script.items(A, items, None).gives(&["gap 3-9", "c1", "c9"]);
    let end = Item::Notice(Notice::Whole { seq: 9 });
    script.items(A, [end, event("c", 9, Link::Recovered)], Some(9)).gives(&[]);
}

#[test]
fn another_epoch_begins_anew_and_a_gap_that_waited_is_given() {
    let mut script = Script::new();
    script.take(A, [1, 2]).lose(A, 3, 4, "c").gives(&["c1", "c2"]);
    let given = &mut script.given;
    script.merge.reset(&mut |item| {
        given.push(if matches!(item, Item::Gap(_)) { "gap" } else { "?" }.into());
    });
    script.take(B, [1]).gives(&["gap", "c1"]);
}

/// What happens to one of two readers of the same events.
#[derive(Debug, Clone)]
enum Step {
    /// It gets so many more.
    Read(u64),
    /// So many are skipped for it, on the channel of the first of them, with a receipt.
    Skip(u64),
    /// Its connection ends; the next one goes on where it was.
    Cut,
}

fn steps() -> impl Strategy<Value = Vec<(SideNumber, Step)>> {
    let step = prop_oneof![
        6 => (1_u64..8).prop_map(Step::Read),
        1 => (1_u64..4).prop_map(Step::Skip),
        1 => Just(Step::Cut),
    ];
    prop::collection::vec((0_usize..2, step), 1..120)
}

fn channel_of(seq: u64) -> &'static str {
    ["x", "y"][usize::from(seq.is_multiple_of(3))]
}

proptest! {
    #[test]
    fn nothing_comes_twice_or_out_of_order_and_only_what_both_have_lost_may_be_missing(
        steps in steps(),
    ) {
        const END: u64 = 200;
        let mut script = Script::new();
        let mut at = [0_u64; 2];
        let mut lost = [BTreeSet::new(), BTreeSet::new()];
        let all = [(A, Step::Read(END)), (B, Step::Read(END))];
        for (number, step) in steps.into_iter().chain(all) {
            let here = at[number];
            match step {
                Step::Read(count) => {
                    for seq in here + 1..=(here + count).min(END) {
                        let item = event(channel_of(seq), seq, Link::Follows);
                        script.items(number, [item], Some(seq));
                        at[number] = seq;
                    }
                }
                Step::Skip(count) if here < END => {
                    let to = (here + count).min(END);
                    let channel = channel_of(here + 1);
                    script.items(number, [gap(channel, here + 1, to)], Some(here));
                    for seq in here + 1..=to {
                        if channel_of(seq) == channel {
                            lost[number].insert(seq);
                        } else {
                            let item = event(channel_of(seq), seq, Link::Follows);
                            script.items(number, [item], Some(seq));
                        }
                    }
                    script.items(number, [], Some(to));
                    at[number] = to;
                }
                Step::Skip(_) => {}
                Step::Cut => {
                    script.down(number).up(number);
                }
            }
        }
        let mut last = BTreeMap::new();
        let (mut came, mut told) = (BTreeSet::new(), BTreeSet::new());
        for word in &script.given {
            if let Some(range) = word.strip_prefix("gap ") {
                let (from, to) = range.split_once('-').unwrap();
                told.extend(from.parse::<u64>().unwrap()..=to.parse().unwrap());
                continue;
            }
            let (channel, seq) = word.split_at(1);
            let seq: u64 = seq.parse().unwrap();
            prop_assert!(last.insert(channel, seq).is_none_or(|before| before < seq), "{word}");
            came.insert(seq);
        }
        for seq in 1..=END {
            let is_lost = lost.iter().all(|lost| lost.contains(&seq));
            prop_assert!(came.contains(&seq) || told.contains(&seq), "{seq} is gone");
            prop_assert!(!is_lost || !came.contains(&seq));
        }
        if script.merge.sides.iter().all(|side| side.gaps.is_empty()) {
            prop_assert!(told.is_empty());
        }
        prop_assert_eq!(script.merge.place(), Some(END));
    }
}
