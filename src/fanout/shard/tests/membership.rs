//! A client's credential over its life, at a time that the test sets.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::*;
use super::{drain, pass, settings};
use crate::access::keys::NewKey;
use crate::access::{Access, Credential, Gate};
use crate::fanout::Now;
use crate::fanout::sequencer::Sequencer;
use crate::limits::{EXPIRY_WARNING_MS, SWEEP_MS, SWEEP_STEP_MS};
use crate::protocol::encoding::Encoding;
use crate::protocol::event::{Event, Kind};
use crate::protocol::ws::frame::{Opcode, write_masked};
use crate::protocol::ws::reader::{Message, Reader, Role};
use crate::telemetry::Telemetry;

const SECOND_NS: u64 = 1_000_000_000;

fn access(text: &str) -> Access {
    let name = format!("fanfare-membership-{}.toml", ulid::Ulid::generate());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    let access = Access::load(&path);
    std::fs::remove_file(path).unwrap();
    access.unwrap()
}

/// A shard with one client, and what that hears.
struct World {
    shard: Shard,
    gate: Arc<Gate>,
    id: ConnectionId,
    now: Now,
}

impl World {
    fn new(text: &str, credential: Option<&str>) -> Self {
        let gate = Arc::new(Gate::new(access(text)));
        // Nobody answers pings here.
        let settings =
            ShardSettings { gate: Arc::clone(&gate), ping_ns: 0, idle_ns: 0, ..settings() };
        let mut shard = Shard::new(settings, Arc::new(Telemetry::new(1)), 0);
        let member = match credential {
            Some(token) => gate.admit(Some(&Credential::Bearer(token.into())), 0).unwrap(),
            None => gate.stranger(),
        };
        let id = shard.handle_open(member, Encoding::Json, Now::default());
        let mut world = Self { shard, gate, id, now: Now::default() };
        assert_eq!(world.hears()[0]["type"], "welcome");
        world
    }

    /// Lets a time pass, with the sweep.
    fn pass(&mut self, ns: u64) {
        let end_ns = self.now.unix_ns + ns;
        while self.now.unix_ns < end_ns {
            let step_ns = (SWEEP_STEP_MS * 1_000_000).min(end_ns - self.now.unix_ns);
            self.now.unix_ns += step_ns;
            self.now.monotonic_ns += step_ns;
            self.shard.handle_tick(self.now);
        }
    }

    fn asks(&mut self, method: &str, params: &Value) -> Value {
        let text = json!({"method": method, "params": params}).to_string();
        let mut frame = Vec::new();
        write_masked(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        self.shard.handle_bytes(self.id, &mut frame, self.now);
        self.hears().remove(0)
    }

    /// Messages but heartbeats; a close as its code.
    fn hears(&mut self) -> Vec<Value> {
        let mut bytes = drain(&mut self.shard);
        let (mut reader, mut at, mut heard) = (Reader::new(Role::Client, 1 << 16), 0, Vec::new());
        loop {
            let mut used = 0;
            match reader.next_message(&mut bytes[at..], &mut used).unwrap() {
                Some(Message::Text(text)) => heard.push(serde_json::from_str(text).unwrap()),
                Some(Message::Close { code, .. }) => heard.push(json!(code)),
                Some(_) => {}
                None => break,
            }
            at += used;
        }
        heard.retain(|message: &Value| message["type"] != "heartbeat");
        heard
    }
}

fn rule(key: &NewKey, rights: &str) -> String {
    format!("[[key]]\nid = \"a\"\nsha256 = \"{}\"\n{rights}\n", key.sha256)
}

#[test]
fn a_credential_that_ends_is_announced_once_and_then_closes() {
    let key = NewKey::generate("a").unwrap();
    let until = |time: &str| rule(&key, &format!("subscribe = [\">\"]\nexpires = {time}"));
    let mut world = World::new(&until("1970-01-01T00:10:00Z"), Some(&key.credential));
    world.asks("subscribe", &json!({"channels": "x"}));
    world.pass(600 * SECOND_NS - EXPIRY_WARNING_MS * 1_000_000 - SECOND_NS);
    assert_eq!(world.hears(), Vec::<Value>::new());
    world.pass(3 * SECOND_NS);
    let warnings = world.hears();
    assert_eq!((warnings.len(), &warnings[0]["type"]), (1, &json!("auth_expiring")));
    // The operator gives the key more time, and it is warned again before that ends.
    world.gate.replace(access(&until("1970-01-01T00:20:00Z")));
    world.pass(600 * SECOND_NS);
    assert_eq!(world.hears()[0]["type"], "auth_expiring");
    let reply = world.asks("auth", &json!({"token": key.credential}));
    assert_eq!(reply["result"]["expires"], 1_200 * SECOND_NS, "{reply}");
    world.pass(58 * SECOND_NS + SWEEP_MS * 1_000_000);
    let heard = world.hears();
    assert_eq!(
        (heard.len(), &heard[0]["type"], &heard[1]),
        (2, &json!("auth_expiring"), &json!(4002))
    );
}

#[test]
fn rules_that_change_take_from_those_who_are_in_what_they_lost() {
    let key = NewKey::generate("a").unwrap();
    let mut world = World::new(&rule(&key, "subscribe = [\">\"]"), Some(&key.credential));
    for (channel, policy) in [("a", "auto"), ("b", "auto"), ("b.c", "all")] {
        world.asks("subscribe", &json!({"channels": channel, "policy": policy}));
    }
    let lost = |world: &mut World, rights: &str| {
        world.gate.replace(access(&rule(&key, rights)));
        world.pass(SWEEP_MS * 1_000_000);
        world.hears()
    };
    assert_eq!(lost(&mut world, "subscribe = [\">\"]"), Vec::<Value>::new(), "nothing was lost");
    let heard = lost(&mut world, "subscribe = [\"b.>\", \"b\"]");
    assert_eq!((&heard[0]["channels"], &heard[0]["cause"]), (&json!(["a"]), &json!("forbidden")));
    let heard = lost(&mut world, "subscribe = [\"b.>\", \"b\"]\npolicies = [\"auto\"]");
    assert_eq!(heard[0]["channels"], json!(["b.c"]), "it has a policy that is not allowed now");
    let held = world.asks("list", &json!({}));
    assert_eq!(held["result"][0]["channel"], "b", "{held}");
    // The secret is another one: whoever has the old one is out.
    let newer = NewKey::generate("a").unwrap();
    world.gate.replace(access(&rule(&newer, "subscribe = [\">\"]")));
    world.pass(SWEEP_MS * 1_000_000);
    assert_eq!(world.hears(), [json!(4003)]);
}

#[test]
fn rules_that_change_bring_back_nothing_that_has_just_ended() {
    let key = NewKey::generate("a").unwrap();
    let mut world = World::new(&rule(&key, "subscribe = [\">\"]"), Some(&key.credential));
    let limited = json!({"channels": "a.>", "policy": "unsubscribe", "max_lag_bytes": 1_024});
    world.asks("subscribe", &limited);
    world.asks("subscribe", &json!({"channels": "b", "policy": "all"}));
    let mut sequencer = Sequencer::new(10, 10);
    let mut publish = |world: &mut World| {
        let data = format!("\"{}\"", "x".repeat(2_000));
        let (channel, data) = ("a.x", data.as_bytes());
        let event = Event { channel, key: None, kind: Kind::Update, ts: None, data };
        sequencer.handle_event(&event, 7).unwrap();
        world.shard.handle_batch(&sequencer.next_batch().unwrap(), world.now);
    };
    publish(&mut world);
    pass(&mut world.shard, 0);
    publish(&mut world);
    world.gate.replace(access(&rule(&key, "subscribe = [\"a.>\"]")));
    world.pass(SWEEP_MS * 1_000_000);
    world.shard.handle_writable(world.id);
    let heard = world.hears();
    let said: Vec<_> = (heard.iter().filter(|message| message["channel"] == "control"))
        .map(|message| (message["type"].clone(), message["cause"].clone()))
        .collect();
    let expected = [("gap", "max_lag_bytes"), ("unsubscribed", "max_lag_bytes")];
    let expected = expected.iter().chain(&[("unsubscribed", "forbidden")]);
    let expected: Vec<_> = expected.map(|(what, cause)| (json!(what), json!(cause))).collect();
    assert_eq!(said, expected, "{heard:#?}");
    assert_eq!(world.asks("list", &json!({}))["result"], json!([]));
}

#[test]
fn a_stranger_is_closed_when_its_time_is_over_and_a_member_is_not() {
    let key = NewKey::generate("a").unwrap();
    let text = rule(&key, "subscribe = [\">\"]");
    let mut world = World::new(&text, None);
    world.pass(4 * SECOND_NS);
    assert_eq!(world.hears(), Vec::<Value>::new());
    assert_eq!(world.asks("list", &json!({}))["error"]["code"], "auth_required");
    world.pass(2 * SECOND_NS);
    assert_eq!(world.hears(), [json!(4001)]);

    let mut world = World::new(&text, None);
    assert_eq!(world.asks("auth", &json!({"token": key.credential}))["success"], true);
    world.pass(10 * SECOND_NS);
    assert_eq!(world.hears(), Vec::<Value>::new());
    assert_eq!(world.asks("auth", &json!({"token": "a.wrong"}))["success"], false);
    assert_eq!(world.asks("subscribe", &json!({"channels": "x"}))["success"], true);
}
