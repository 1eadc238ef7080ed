//! The whole recorded day at full speed: every subscriber gets every event, once, in order.
//!
//! Goal: 332,200 events on 18 channels to 1,000 subscribers of `>` and 200 of single channels; each
//! gets all of its events once, in `seq` order, `prev` unbroken, `data` byte for byte as captured.
//! Method: one subscriber's stream in each reading thread is kept whole (the reference). Every
//! other subscriber's bytes must equal the reference, or the part of it on its channel, and then
//! the answer to a ping: nothing more, nothing less. At the end the reference is parsed and
//! compared with the capture, event by event. Nobody is read ahead of the thread's reference.
//!
//! The capture is not part of the repository (`FANFARE_DATA` names its folder); without it, the
//! shorter one of `examples/data` is sent to fewer subscribers.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use fanfare::protocol::ws::frame::Opcode;

use day::Day;
use support::{Client, Event, Server};

#[path = "end_to_end/day.rs"]
#[expect(dead_code, reason = "the tests with slow clients use the rest")]
mod day;

#[path = "frames/mod.rs"]
mod frames;
#[path = "end_to_end/support.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

/// Bytes that are read from one subscriber at a time.
const READ_BYTES: usize = 256 << 10;

/// Without a byte for so long, the feed is taken for stuck.
const STUCK: Duration = Duration::from_secs(60);

/// The stream of one subscriber of `>`, and each channel's part of it.
#[derive(Default)]
struct Reference {
    bytes: Vec<u8>,
    /// Where the next whole frame begins.
    split_at: usize,
    channels: HashMap<Vec<u8>, Vec<u8>>,
    events: usize,
}

impl Reference {
    /// Splits what has come into frames, and notes each one on its channel.
    fn split(&mut self) {
        while let Some((opcode, payload, len)) = frames::first(&self.bytes[self.split_at..]) {
            assert_eq!(opcode, Opcode::Text as u8, "only text frames");
            let bytes = &self.bytes[self.split_at..self.split_at + len];
            let channel = payload.strip_prefix(b"{\"channel\":\"").expect("an event");
            let channel = &channel[..channel.iter().position(|&byte| byte == b'"').unwrap()];
            match self.channels.get_mut(channel) {
                Some(part) => part.extend_from_slice(bytes),
                None => drop(self.channels.insert(channel.to_vec(), bytes.to_vec())),
            }
            self.split_at += len;
            self.events += 1;
        }
    }
}

/// One subscriber that is compared with the reference.
struct Subscriber {
    stream: TcpStream,
    /// Its channel; all of them when absent.
    channel: Option<Vec<u8>>,
    /// Bytes that came and were right.
    right: usize,
}

impl Subscriber {
    fn open(server: &Server, pattern: &str) -> TcpStream {
        let client = Client::subscribed_to_all(server, pattern);
        client.stream.set_nonblocking(true).unwrap();
        client.stream
    }

    /// Reads what is there, up to where the reference is; how many bytes that were.
    fn read(&mut self, reference: &Reference, buffer: &mut [u8]) -> usize {
        let expected = match &self.channel {
            None => &reference.bytes,
            Some(channel) => match reference.channels.get(channel) {
                Some(part) => part,
                None => return 0,
            },
        };
        let expected = &expected[self.right..];
        let room = expected.len().min(buffer.len());
        if room == 0 {
            return 0;
        }
        let count = read_some(&mut self.stream, &mut buffer[..room]);
        assert!(buffer[..count] == expected[..count], "other bytes after {}", self.right);
        self.right += count;
        count
    }

    /// Asserts that it had everything and that nothing more comes.
    fn finish(self, reference: &Reference) {
        let whole = self.channel.map_or(reference.bytes.len(), |c| reference.channels[&c].len());
        assert_eq!(self.right, whole, "a subscriber's stream is whole");
        self.stream.set_nonblocking(false).unwrap();
        let mut client = Client::taken_over(self.stream);
        client.hears_nothing_more();
    }
}

fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    match stream.read(buffer) {
        Ok(0) => panic!("the server hung up"),
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

/// Reads the reference and compares everybody else with it, until all had `events` events.
fn compare(
    mut first: TcpStream,
    mut subscribers: Vec<Subscriber>,
    events: usize,
) -> (Reference, u64) {
    let mut reference = Reference::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0_u64;
    let mut moved = Instant::now();
    loop {
        let mut count = 0;
        for _ in 0..16 {
            let taken = read_some(&mut first, &mut buffer);
            reference.bytes.extend_from_slice(&buffer[..taken]);
            count += taken;
            if taken == 0 {
                break;
            }
        }
        reference.split();
        for subscriber in &mut subscribers {
            count += subscriber.read(&reference, &mut buffer);
        }
        total += count as u64;
        if count > 0 {
            moved = Instant::now();
            continue;
        }
        if reference.events == events {
            let whole = |s: &Subscriber| match &s.channel {
                None => s.right == reference.bytes.len(),
                Some(channel) => s.right == reference.channels[channel].len(),
            };
            if subscribers.iter().all(whole) {
                break;
            }
        }
        assert!(moved.elapsed() < STUCK, "stuck at event {}", reference.events);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(reference.split_at, reference.bytes.len(), "and half a frame");
    for subscriber in subscribers {
        subscriber.finish(&reference);
    }
    Subscriber { stream: first, channel: None, right: reference.bytes.len() }.finish(&reference);
    (reference, total)
}

/// Compares a stream with the capture, event by event.
fn check(day: &Day, reference: &Reference) {
    let mut at = 0;
    let mut seq = 0;
    let mut last = HashMap::<String, u64>::new();
    day.for_each(|event| {
        let (opcode, text, frame) =
            frames::first(&reference.bytes[at..]).expect("an event of the capture");
        assert_eq!(opcode, Opcode::Text as u8, "only text frames");
        let got: Event = serde_json::from_slice(text).unwrap();
        seq += 1;
        assert_eq!((got.seq, got.channel.as_str()), (seq, event.channel));
        assert_eq!(got.prev, last.insert(got.channel.clone(), seq).unwrap_or(0), "event {seq}");
        assert_eq!(
            (got.key.as_deref(), got.ts, &*got.kind),
            (event.key, event.ts, event.kind.as_str())
        );
        assert!(got.data().as_bytes() == event.data, "the data of event {seq}");
        at += frame;
    });
    assert_eq!(at, reference.bytes.len(), "nothing behind the capture");
}

#[test]
fn every_subscriber_gets_every_event_of_a_whole_capture_once_and_in_order() {
    let day = Day::found();
    let mut counts = HashMap::<String, u64>::new();
    day.for_each(|event| *counts.entry(event.channel.to_owned()).or_default() += 1);
    let mut channels: Vec<_> = counts.keys().cloned().collect();
    channels.sort_unstable();
    let events = usize::try_from(counts.values().sum::<u64>()).unwrap();

    // On a busy machine somebody may have to wait for the reference for more than a minute.
    let patience = "--heartbeat 5m --ping-interval 0ms --peer-timeout 5m";
    let server = Server::start(&format!("--log-bytes 256MiB {patience}"));
    // Each thread has its own reference and half of the subscribers.
    let mut parts: Vec<_> = (0..2).map(|_| (Subscriber::open(&server, ">"), Vec::new())).collect();
    for number in 0..day.everything + day.single - parts.len() {
        let single = number.checked_sub(day.everything - parts.len());
        let channel = single.map(|single| &channels[single % channels.len()]);
        let stream = Subscriber::open(&server, channel.map_or(">", |channel| channel));
        let channel = channel.map(|channel| channel.as_bytes().to_vec());
        parts[number % 2].1.push(Subscriber { stream, channel, right: 0 });
    }

    let wanted = |subscriber: &Subscriber| match &subscriber.channel {
        None => events as u64,
        Some(channel) => counts[std::str::from_utf8(channel).unwrap()],
    };
    let deliveries: u64 = (parts.iter())
        .map(|(_, others)| events as u64 + others.iter().map(wanted).sum::<u64>())
        .sum();

    let begun = Instant::now();
    let (references, total) = thread::scope(|scope| {
        let threads: Vec<_> = (parts.into_iter())
            .map(|(first, others)| scope.spawn(move || compare(first, others, events)))
            .collect();
        let output = day.command(&server.sources[0], "--speed max").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        println!("{} after {:.1?}", said.trim(), begun.elapsed());
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let total: u64 = results.iter().map(|(_, total)| total).sum();
        (results.into_iter().map(|(reference, _)| reference).collect::<Vec<_>>(), total)
    });
    let seconds = begun.elapsed().as_secs_f64();
    let [one, other] = &references[..] else { unreachable!("two threads") };
    assert!(one.bytes == other.bytes, "every shard sends the same bytes");
    check(&day, one);
    let counted = ["gaps", "missed", "deliveries"].map(|name| server.counter(name));
    assert_eq!(counted, [0, 0, deliveries]);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let gigabytes = total as f64 / 1e9;
    println!(
        "{events} events on {} channels to {} + {} subscribers: {gigabytes:.1} GB compared in \
         {seconds:.1} s, {:.2} GB/s, {deliveries} deliveries",
        channels.len(),
        day.everything,
        day.single,
        gigabytes / seconds,
    );
}
