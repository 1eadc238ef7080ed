//! Cases of single parts: encoding, parsing, numbering, handing over, reading.
//!
//! Not here: what needs a whole shard ([`super::shard`]).

use std::hint::black_box;

use fanfare::fanout::sequencer::Sequencer;
use fanfare::handoff::ring;
use fanfare::limits::{LINE_BYTES_MAX, MESSAGE_BYTES_MAX};
use fanfare::protocol::command;
use fanfare::protocol::data::{Prefix, frame};
use fanfare::protocol::event::{Event, Kind};
use fanfare::protocol::ws::frame::{Opcode, write_masked};
use fanfare::protocol::ws::mask;
use fanfare::protocol::ws::reader::{Message, Reader, Role};
use fanfare::sources::parser::Parser;

use super::case::{Case, counted};

/// Times that a case does its work.
const TIMES: u32 = 1_000;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const TS: u64 = 1_700_000_000_123_456_789;

pub const CASES: &[Case] = &[
    Case { name: "encode", unit: "frame of 256 B of data", run: encode },
    Case { name: "parse", unit: "line with 256 B of data", run: parse },
    Case { name: "sequence", unit: "event of 256 B, in batches of 100", run: sequence },
    Case { name: "ring", unit: "batch into a ring and out of it", run: ring },
    Case { name: "mask_64", unit: "64 B unmasked", run: || unmask(64) },
    Case { name: "mask_4096", unit: "4 KiB unmasked", run: || unmask(4_096) },
    Case { name: "reader", unit: "subscribe command, read and parsed", run: reader },
];

/// A JSON object of `len` bytes.
pub fn payload(len: usize) -> Vec<u8> {
    let mut data = br#"{"bid":"60001.10","ask":"60001.20","note":""#.to_vec();
    data.resize(len - 2, b'x');
    data.extend_from_slice(br#""}"#);
    data
}

/// An update with 256 B of data.
pub fn event<'a>(channel: &'a str, data: &'a [u8]) -> Event<'a> {
    Event { channel, key: None, kind: Kind::Update, ts: Some(TS), data }
}

fn encode() -> f64 {
    let (prefix, data) = (Prefix::new("trade.BTCUSDT"), payload(256));
    let mut out = vec![0; 1_024];
    counted(|| {
        for seq in 0..u64::from(TIMES) {
            let seq = 1_000_000 + seq;
            let parts = frame(&prefix, None, Kind::Update, seq, seq - 3, Some(TS), TS, &data);
            parts.write(&mut out[..parts.len()]);
            black_box(&out);
        }
    });
    TIMES.into()
}

fn parse() -> f64 {
    let data = String::from_utf8(payload(256)).unwrap();
    let line = format!(r#"{{"channel":"trade.BTCUSDT","ts":{TS},"data":{data}}}"#);
    let mut parser = Parser::new(Vec::new(), LINE_BYTES_MAX);
    parser.parse(line.as_bytes(), None).unwrap();
    counted(|| {
        for _ in 0..TIMES {
            black_box(parser.parse(black_box(line.as_bytes()), None).unwrap());
        }
    });
    TIMES.into()
}

fn sequence() -> f64 {
    let mut sequencer = Sequencer::new(10_000, 10_000);
    let channels: Vec<_> = (0..100).map(|number| format!("trade.S{number}")).collect();
    let data = payload(256);
    let mut batch = || {
        for channel in &channels {
            sequencer.handle_event(&event(channel, &data), TS).unwrap();
        }
        sequencer.next_batch()
    };
    drop(batch());
    counted(|| (0..TIMES / 100).for_each(|_| drop(black_box(batch()))));
    TIMES.into()
}

fn ring() -> f64 {
    let (mut sender, mut receiver) = ring::ring(64);
    counted(|| {
        for number in 0..TIMES {
            sender.send(number).unwrap();
            black_box(receiver.receive());
        }
    });
    TIMES.into()
}

fn unmask(len: usize) -> f64 {
    let mut bytes = vec![7; len];
    counted(|| {
        for _ in 0..TIMES {
            mask::apply(MASK, 0, black_box(&mut bytes));
        }
    });
    TIMES.into()
}

fn reader() -> f64 {
    let text = r#"{"method":"subscribe","params":{"channels":["trade.BTCUSDT"]},"req_id":7}"#;
    let mut framed = Vec::new();
    write_masked(&mut framed, Opcode::Text, text.as_bytes(), MASK);
    let mut reader = Reader::new(Role::Server, MESSAGE_BYTES_MAX);
    let mut scratch = Vec::new();
    let mut bytes = framed.clone();
    counted(|| {
        for _ in 0..TIMES {
            bytes.copy_from_slice(&framed);
            let Ok(Some(Message::Text(text))) = reader.next_message(&mut bytes, &mut 0) else {
                panic!("a whole text message");
            };
            black_box(command::parse(text, &mut scratch).unwrap());
        }
    });
    TIMES.into()
}
