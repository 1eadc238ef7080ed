//! The flush: sharing, rotation, the bounds of a send, heartbeats.

use std::collections::BTreeSet;

use super::super::*;
use super::shard;
use crate::access::Member;
use crate::fanout::Now;
use crate::fanout::sequencer::Sequencer;
use crate::limits::{FLUSH_SENDS_FAST, FLUSH_SENDS_MAX, GATHER_SLICES_MAX, TURN_BYTES_MAX};
use crate::protocol::encoding::Encoding;
use crate::protocol::event::{Event, Kind};

const NOW: Now = Now { monotonic_ns: 1, unix_ns: 1_700_000_000_000_000_000 };
const SECOND_NS: u64 = 1_000_000_000;

/// A shard with a sequencer before it; its sockets take everything.
struct Bench {
    shard: Shard,
    sequencer: Sequencer,
    plan: Plan,
}

impl Bench {
    fn new() -> Self {
        Self { shard: shard(), sequencer: Sequencer::new(10, 10), plan: Plan::default() }
    }

    /// A connection that subscribes to `pattern` and has read the answers.
    fn subscriber(&mut self, pattern: &str) -> ConnectionId {
        let id = self.shard.handle_open(Member::anyone(), Encoding::Json, NOW);
        let text = format!(
            r#"{{"method":"subscribe","params":{{"channels":["{pattern}"],"snapshot":false}}}}"#
        );
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.shard.handle_bytes(id, &mut frame, NOW);
        while self.shard.is_pass_due() {
            self.pass();
        }
        id
    }

    fn publish(&mut self, channels: &[&str]) {
        for channel in channels {
            let event = Event { channel, key: None, kind: Kind::Update, ts: None, data: b"1" };
            self.sequencer.handle_event(&event, NOW.unix_ns).unwrap();
        }
        self.shard.handle_batch(&self.sequencer.next_batch().unwrap(), Now::default());
    }

    /// Makes the next sends; false when there are none.
    fn plan_and_send(&mut self) -> bool {
        self.shard.next_sends(&mut self.plan);
        self.shard.handle_sent(&self.plan, &everything(&self.plan), NOW, &mut Vec::new());
        !self.plan.is_empty()
    }

    /// One pass; its plans.
    fn pass(&mut self) -> Vec<Plan> {
        let mut plans = Vec::new();
        self.shard.begin_pass();
        while self.plan_and_send() {
            plans.push(std::mem::take(&mut self.plan));
        }
        self.shard.end_pass();
        self.shard.check_invariants();
        plans
    }
}

/// What sockets that take everything make of a plan.
fn everything(plan: &Plan) -> Vec<Outcome> {
    plan.sends().map(|(_, run)| Outcome::Took(run.bytes)).collect()
}

#[test]
fn members_of_a_cohort_are_sent_the_same_bytes_of_the_log() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.subscriber("a.>");
    }
    bench.publish(&["a.x", "a.y", "b.z", "a.x"]);
    let plans = bench.pass();
    let [plan] = &plans[..] else { panic!("{plans:?}") };
    assert_eq!((plan.len(), plan.runs.len()), (3, 1));
    assert!(plan.runs[0].bytes > 0);
    // Neighbours are one slice; the event that nobody wants cuts it in two.
    assert_eq!(plan.slices.len(), 2);
}

#[test]
fn nobody_is_always_first() {
    let mut bench = Bench::new();
    let members: BTreeSet<_> = (0..4).map(|_| bench.subscriber(">")).collect();
    let mut first = BTreeSet::new();
    for _ in 0..members.len() {
        bench.publish(&["a"]);
        first.insert(bench.pass()[0].connections[0]);
    }
    assert_eq!(first, members);
}

#[test]
fn a_burst_beyond_one_send_is_cut_and_each_part_waits_for_the_one_before() {
    let mut bench = Bench::new();
    bench.subscriber("a");
    bench.subscriber("a");
    let channels = ["a", "b"].repeat(GATHER_SLICES_MAX + 10);
    bench.publish(&channels);
    let plans = [(); 2].map(|()| bench.pass());
    let sent: Vec<_> = plans.iter().flatten().map(|plan| (plan.len(), plan.slices.len())).collect();
    assert_eq!(sent, [(2, GATHER_SLICES_MAX), (2, 10)]);
}

#[test]
fn each_client_is_brought_up_to_the_newest_event_at_its_turn() {
    let mut bench = Bench::new();
    bench.shard.settings.plan_sends_max = 1;
    let members: Vec<_> = (0..3).map(|_| bench.subscriber("a")).collect();
    bench.publish(&["a"]);
    let mut sent = Vec::new();
    bench.shard.begin_pass();
    while bench.plan_and_send() {
        sent.push((bench.plan.connections[0], bench.plan.runs[0].events));
        // Of another channel as well, so that frames are no neighbours.
        bench.publish(&["a", "b"]);
    }
    assert_eq!(sent.iter().map(|&(_, events)| events).collect::<Vec<_>>(), [1, 2, 3]);
    let order: Vec<_> = sent.iter().map(|&(id, _)| id).collect();
    assert_eq!(order.iter().collect::<BTreeSet<_>>(), members.iter().collect());
    let rest: Vec<_> = bench.pass().iter().map(|p| (p.connections[0], p.runs[0].events)).collect();
    let missing = [(order[1], 2), (order[2], 1), (order[0], 3)];
    assert_eq!(BTreeSet::from_iter(rest), BTreeSet::from(missing));
    assert!(!bench.shard.is_pass_due());
}

#[test]
fn submissions_are_short_while_events_come_and_long_when_none_do() {
    let mut bench = Bench::new();
    for _ in 0..FLUSH_SENDS_MAX + 100 {
        bench.subscriber("a");
    }
    let sends = |bench: &mut Bench, come: usize| {
        let mut sends = Vec::new();
        bench.shard.begin_pass();
        while bench.plan_and_send() {
            sends.push(bench.plan.len());
            if sends.len() <= come {
                bench.publish(&["a"]);
            }
        }
        sends
    };
    bench.publish(&["a"]);
    assert_eq!(sends(&mut bench, 0), [FLUSH_SENDS_MAX, 100]);
    bench.publish(&["a"]);
    assert_eq!(sends(&mut bench, 1), [FLUSH_SENDS_MAX, FLUSH_SENDS_FAST, 36]);
    let left = sends(&mut bench, 0);
    assert_eq!((left[0], left.iter().sum()), (FLUSH_SENDS_FAST, FLUSH_SENDS_MAX), "as it follows");
    bench.publish(&["a"]);
    assert_eq!(sends(&mut bench, 0), [FLUSH_SENDS_MAX, 100]);
}

#[test]
fn a_cohort_with_newer_events_waits_until_the_others_had_their_turn() {
    let mut bench = Bench::new();
    bench.shard.settings.plan_sends_max = 1;
    let (one, other) = (bench.subscriber("a"), bench.subscriber("b"));
    bench.publish(&["a", "b"]);
    let mut served = Vec::new();
    for _ in 0..3 {
        bench.shard.begin_pass();
        while bench.plan_and_send() {
            served.push(bench.plan.connections[0]);
            bench.publish(&["a", "b"]);
        }
    }
    let (first, second) = if served[0] == one { (one, other) } else { (other, one) };
    assert_eq!(served, [first, second, first, second, first, second]);
}

#[test]
fn nothing_is_appended_that_would_overwrite_what_somebody_was_not_sent() {
    let mut bench = Bench::new();
    bench.shard.settings.plan_sends_max = 1;
    for _ in 0..2 {
        bench.subscriber("a");
    }
    while bench.shard.may_append() {
        bench.publish(&["a"; 100]);
    }
    let unsent = bench.shard.store.log.position();
    assert!((TURN_BYTES_MAX..2 * TURN_BYTES_MAX).contains(&usize::try_from(unsent).unwrap()));
    bench.shard.begin_pass();
    assert!(bench.plan_and_send());
    assert!(!bench.shard.may_append(), "one of two clients has none of it");
    while bench.plan_and_send() {}
    while bench.shard.is_pass_due() {
        bench.pass();
    }
    assert!(bench.shard.may_append());
}

#[test]
fn a_heartbeat_is_for_the_quiet_only() {
    let mut bench = Bench::new();
    let quiet = bench.subscriber("quiet");
    let busy = bench.subscriber("busy");
    let later = Now { monotonic_ns: 6 * SECOND_NS, ..NOW };
    bench.publish(&["busy"]);
    bench.shard.begin_pass();
    bench.shard.next_sends(&mut bench.plan);
    assert_eq!(bench.plan.connections, [busy]);
    bench.shard.handle_sent(&bench.plan, &everything(&bench.plan), later, &mut Vec::new());
    bench.shard.next_sends(&mut bench.plan);
    bench.shard.end_pass();
    for _ in 0..200 {
        bench.shard.handle_tick(later);
    }
    bench.shard.begin_pass();
    bench.shard.next_sends(&mut bench.plan);
    let said: Vec<_> = (bench.plan.sends())
        .map(|(id, run)| {
            let bytes = bench.shard.slice(bench.plan.slices[run.slices.start]);
            (id, String::from_utf8_lossy(&bytes[2..]).into_owned())
        })
        .collect();
    let heartbeat = r#"{"channel":"control","type":"heartbeat","seq":1}"#;
    assert_eq!(said, [(quiet, heartbeat.to_owned())]);
}
