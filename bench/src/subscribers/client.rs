//! One client: what it says to the server, and what it makes of what the server says.
//!
//! Bytes in, bytes out; the socket is the worker's. Invariant: bytes that do not make a whole frame
//! yet are left to the next read.

use std::fmt::Write;

use fanfare::protocol::ws::client::{Request, parse_answer};
use fanfare::protocol::ws::frame::{Opcode, write_masked};
use mio::net::TcpStream;
use rustls::ClientConnection;

use super::recorder::{Counted, Recorder};
use super::unpacked::Unpacked;
use crate::continuity::{Ledger, Verdict};
use crate::frames;
use crate::nats::Stream;
use crate::orders::Plan;
use crate::payload;
use crate::server::Subscribe;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Away,
    Connecting,
    Upgrading,
    /// Open, and nothing is subscribed to.
    Open,
    Subscribing,
    Live,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Option<TcpStream>,
    pub(super) tls: Option<Box<ClientConnection>>,
    pub(super) stage: Stage,
    /// Read, and not a whole frame yet.
    pub(super) rest: Vec<u8>,
    /// To be written.
    pub(super) output: Vec<u8>,
    pub(super) ledger: Ledger,
    pub(super) nats: Option<Box<Stream>>,
    /// Of the window.
    pub(super) deliveries: u64,
    pub(super) places: u64,
    pub(super) placed: u32,
    /// What did not come since the last report, and how much of it the server has told.
    pub(super) missing: u64,
    pub(super) told: u64,
    pub(super) stalled: bool,
    /// Its messages are measured, and not only waited for.
    pub(super) measured: bool,
    /// It was dropped, and no message has come since.
    pub(super) away: bool,
}

/// What all clients of a worker share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) plan: Plan,
    /// Of the upgrade.
    pub(super) key: String,
    pub(super) recorder: Recorder,
    /// With compression.
    pub(super) unpacked: Option<Unpacked>,
    /// Clients that were dropped and are back, and when the last of them was.
    pub(super) back: u64,
    pub(super) back_ns: u64,
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) struct Ended(pub(super) String);

impl Client {
    pub(super) fn new(ledger: Ledger, stalled: bool, measured: bool) -> Self {
        Self {
            stream: None,
            tls: None,
            stage: Stage::Away,
            rest: Vec::new(),
            output: Vec::new(),
            ledger,
            nats: None,
            deliveries: 0,
            places: 0,
            placed: 0,
            missing: 0,
            told: 0,
            stalled,
            measured,
            away: false,
        }
    }

    /// The connection is there: the upgrade, or whatever else comes first.
    pub(super) fn connected(&mut self, common: &Common) {
        let plan = &common.plan;
        self.stage = Stage::Upgrading;
        if plan.kind == Subscribe::Frames {
            self.shaken_hands();
            return;
        }
        let request = Request {
            host: &plan.server.to_string(),
            path: &plan.path,
            key: &common.key,
            subprotocol: None,
            token: None,
            deflate: plan.deflate,
        };
        request.write(&mut self.output);
    }

    /// Without an upgrade it is live as soon as TLS, if there is any, is set up.
    pub(super) fn shaken_hands(&mut self) {
        if !self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            self.stage = Stage::Live;
        }
    }

    /// Subscribes to what its ledger has.
    pub(super) fn subscribe(&mut self, plan: &Plan) {
        self.stage = Stage::Subscribing;
        match plan.kind {
            Subscribe::Fanfare => {
                let everything = plan.channels > 1 && self.ledger.count() as u64 == plan.channels;
                let names = if everything { r#""bench.>""#.into() } else { names(&self.ledger) };
                self.say(&subscribe(&names));
            }
            Subscribe::Nats => {
                let hello =
                    format!("CONNECT {{\"verbose\":false}}\r\nSUB {} 1\r\nPING\r\n", plan.subject);
                write_masked(&mut self.output, Opcode::Binary, hello.as_bytes(), MASK);
            }
            Subscribe::Websocket | Subscribe::Frames => self.stage = Stage::Live,
        }
    }

    /// Another channel instead of one that it has; false: it has that one already.
    pub(super) fn change(&mut self, place: usize, channel: u32) -> bool {
        let Some(gone) = self.ledger.exchange(place, channel) else { return false };
        let params = format!(r#"{{"channels":["bench.{gone}"]}}"#);
        self.say(&format!(r#"{{"method":"unsubscribe","params":{params}}}"#));
        self.say(&subscribe(&format!(r#""bench.{channel}""#)));
        true
    }

    fn say(&mut self, text: &str) {
        write_masked(&mut self.output, Opcode::Text, text.as_bytes(), MASK);
    }

    /// Takes what a read brought, at its time; how many bytes of it were whole.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        common: &mut Common,
    ) -> Result<usize, Ended> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let deflate = common.plan.deflate;
            let parsed = parse_answer(bytes, &common.key, deflate)
                .map_err(|error| Ended(error.to_string()))?;
            let Some(answer) = parsed else { return Ok(0) };
            if deflate && answer.deflate.is_none_or(|agreed| agreed.server_context) {
                return Err(Ended("the server does not compress without a context".into()));
            }
            used = answer.head_len;
            self.upgraded(common);
        }
        if self.nats.is_some() {
            return self.take_nats(bytes, used, now_ns, common);
        }
        while let Some(frame) = frames::first(&bytes[used..]) {
            let payload = &bytes[used + frame.start..used + frame.end];
            match frame.opcode {
                _ if frame.is_packed => self.packed(payload, now_ns, common)?,
                frames::TEXT | frames::BINARY => self.message(payload, now_ns, common)?,
                opcode => self.control(opcode, payload)?,
            }
            used += frame.end;
        }
        Ok(used)
    }

    fn upgraded(&mut self, common: &Common) {
        self.stage = Stage::Open;
        if common.plan.kind == Subscribe::Nats {
            self.nats = Some(Box::default());
        }
        if common.plan.subscribe {
            self.subscribe(&common.plan);
        }
    }

    /// A message that was compressed.
    fn packed(&mut self, payload: &[u8], now_ns: u64, common: &mut Common) -> Result<(), Ended> {
        let Some(mut unpacked) = common.unpacked.take() else {
            return Err(Ended("the server compresses, and nobody asked it to".into()));
        };
        let done = match unpacked.text(payload) {
            Some(text) => self.message(text, now_ns, common),
            None => Err(Ended("the server sent a compressed message that is none".into())),
        };
        common.unpacked = Some(unpacked);
        done
    }

    #[inline]
    fn message(&mut self, text: &[u8], now_ns: u64, common: &mut Common) -> Result<(), Ended> {
        let bytes = common.plan.payload_bytes;
        if common.plan.kind != Subscribe::Fanfare {
            // A greeting, or whatever else a server says, has another length.
            if text.len() == bytes {
                self.event(text, now_ns, common);
            }
            return Ok(());
        }
        // `{"channel":"bench.…`; control frames have `control` there, and replies no channel.
        if text.len() > bytes && text[2] == b'c' && text[12] == b'b' {
            let end = text.len() - 1;
            self.event(&text[end - bytes..end], now_ns, common);
            return Ok(());
        }
        self.told(text)
    }

    #[inline]
    fn event(&mut self, event: &[u8], now_ns: u64, common: &mut Common) {
        if self.away {
            self.away = false;
            common.back += 1;
            common.back_ns = now_ns;
        }
        let recorder = &mut common.recorder;
        match self.ledger.take(event, common.plan.stride) {
            Verdict::New { missing } if self.measured => self.missing += missing,
            Verdict::New { .. } | Verdict::Foreign => return,
            Verdict::Again => {
                recorder.duplicates += 1;
                return;
            }
        }
        match recorder.event(payload::number(event), payload::intended_ns(event), now_ns) {
            Counted::No => return,
            Counted::Yes => {}
            Counted::Place(place) => {
                self.places += u64::from(place);
                self.placed += 1;
            }
        }
        self.deliveries += 1;
    }

    /// What fanfare says beside events.
    #[cold]
    fn told(&mut self, text: &[u8]) -> Result<(), Ended> {
        let text = String::from_utf8_lossy(text);
        if text.contains(r#""success":false"#) {
            return Err(Ended(format!("the server refused: {text}")));
        }
        if self.stage == Stage::Subscribing && text.starts_with(r#"{"method":"subscribe""#) {
            self.stage = Stage::Live;
        }
        if text.contains(r#""type":"gap""#)
            && let Some((_, missed)) = text.split_once(r#""missed":"#)
        {
            let digits = missed.split(|letter: char| !letter.is_ascii_digit()).next();
            self.told += digits.and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(())
    }

    /// Hands over what did not come, and was told or not: a receipt is for its client only.
    pub(super) fn settle(&mut self, recorder: &mut Recorder) {
        let (missing, told) = (std::mem::take(&mut self.missing), std::mem::take(&mut self.told));
        if self.measured {
            recorder.missing += missing;
            recorder.told += told;
            recorder.lost += missing.saturating_sub(told);
        }
    }

    #[cold]
    fn control(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Ended> {
        match opcode {
            frames::PING => write_masked(&mut self.output, Opcode::Pong, payload, MASK),
            frames::CLOSE => {
                let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                return Err(Ended(format!("the server closed the connection: {reason}")));
            }
            frames::CONTINUATION => return Err(Ended("the server fragments messages".into())),
            _ => {}
        }
        Ok(())
    }

    /// As [`Self::take`], for a stream that frames cut anywhere: a part of one is used as it comes.
    fn take_nats(
        &mut self,
        bytes: &[u8],
        mut used: usize,
        now_ns: u64,
        common: &mut Common,
    ) -> Result<usize, Ended> {
        let mut stream = self.nats.take().expect("the caller has looked");
        while used < bytes.len() {
            if stream.frame_left == 0 {
                let Some((opcode, start, length)) = frames::header(&bytes[used..]) else { break };
                if opcode > frames::BINARY {
                    let Some(frame) = frames::first(&bytes[used..]) else { break };
                    self.control(opcode, &bytes[used + frame.start..used + frame.end])?;
                    used += frame.end;
                    continue;
                }
                used += start;
                stream.frame_left = length;
            }
            let end = bytes.len().min(used + stream.frame_left);
            stream.frame_left -= end - used;
            stream.take(&bytes[used..end], |message| {
                if message.len() == common.plan.payload_bytes {
                    self.event(message, now_ns, common);
                }
            });
            used = end;
        }
        let heard = std::mem::take(&mut stream.heard);
        self.nats = Some(stream);
        if heard.error {
            return Err(Ended("the server answered -ERR".into()));
        }
        if heard.ping {
            write_masked(&mut self.output, Opcode::Binary, b"PONG\r\n", MASK);
        }
        if heard.pong && self.stage == Stage::Subscribing {
            self.stage = Stage::Live;
        }
        Ok(used)
    }
}

/// Channels as JSON strings, joined by commas.
fn names(ledger: &Ledger) -> String {
    let mut text = String::new();
    for channel in ledger.channels() {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, r#"{comma}"bench.{channel}""#).expect("memory takes everything");
    }
    text
}

/// Everything from now on, and nothing that was before: what was before cannot be timed.
fn subscribe(names: &str) -> String {
    let terms = r#""policy":"all","snapshot":false"#;
    format!(r#"{{"method":"subscribe","params":{{"channels":[{names}],{terms}}}}}"#)
}

#[cfg(test)]
mod tests {
    use fanfare::protocol::ws::frame::write_frame;

    use super::*;
    use crate::orders::Window;
    use crate::payload::{Said, Template};

    const BYTES: usize = 256;

    fn common(kind: Subscribe) -> Common {
        let plan = Plan {
            server: ([127, 0, 0, 1], 1).into(),
            kind,
            path: "/".into(),
            subject: "bench".into(),
            deflate: false,
            certificate: None,
            payload_bytes: BYTES,
            cpus: Vec::new(),
            first: 0,
            count: 1,
            channels: 1,
            channels_per_client: 1,
            mixed: false,
            stalled: 0.0,
            stay: None,
            churn_per_s: 0.0,
            changes_per_s: 0.0,
            stride: 1,
            subscribe: true,
            readers: crate::scenario::Readers::Sleep,
        };
        let mut recorder = Recorder::new();
        recorder.begin(Window { from_ns: 0, to_ns: u64::MAX >> 1, sample_every: 1 });
        Common { plan, key: String::new(), recorder, unpacked: None, back: 0, back_ns: 0 }
    }

    fn live(kind: Subscribe) -> Client {
        let mut client = Client::new(Ledger::new(&[0], false), false, true);
        client.stage = Stage::Live;
        client.nats = (kind == Subscribe::Nats).then(Box::default);
        client
    }

    /// What a server of this kind sends for these events, with other frames between.
    fn stream(kind: Subscribe, events: &[(u64, u64)]) -> Vec<u8> {
        let template = Template::new(BYTES).unwrap();
        let mut out = Vec::new();
        for &(number, previous) in events {
            let mut text = Vec::new();
            if kind == Subscribe::Fanfare {
                let head =
                    format!(r#"{{"channel":"bench.0","type":"update","seq":{number},"data":"#);
                text.extend_from_slice(head.as_bytes());
            }
            if kind == Subscribe::Nats {
                text.extend_from_slice(format!("MSG bench 1 {BYTES}\r\n").as_bytes());
            }
            template.write(&mut text, Said { number, previous, channel: 0, intended_ns: 5_000 });
            match kind {
                Subscribe::Fanfare => text.push(b'}'),
                Subscribe::Nats => text.extend_from_slice(b"\r\nPING\r\n"),
                Subscribe::Websocket | Subscribe::Frames => {}
            }
            write_frame(&mut out, Opcode::Text, &text);
            write_frame(&mut out, Opcode::Ping, b"x");
        }
        if kind == Subscribe::Fanfare {
            let gap =
                r#"{"channel":"control","type":"gap","channels":[],"from":3,"to":4,"missed":2}"#;
            write_frame(&mut out, Opcode::Text, gap.as_bytes());
        }
        out
    }

    #[test]
    fn every_kind_of_stream_is_counted_right_at_every_split_point() {
        let kinds = [Subscribe::Fanfare, Subscribe::Websocket, Subscribe::Nats, Subscribe::Frames];
        for kind in kinds {
            let bytes = stream(kind, &[(1, 0), (2, 1), (2, 1), (5, 4)]);
            for cut in 0..=bytes.len() {
                let (mut client, mut common) = (live(kind), common(kind));
                let used = client.take(&bytes[..cut], 9_000, &mut common).unwrap();
                let rest = client.take(&bytes[used..], 9_000, &mut common).unwrap();
                assert_eq!(used + rest, bytes.len(), "{kind:?} cut at {cut}");
                let recorder = &common.recorder;
                let counts = (recorder.deliveries, recorder.duplicates, client.missing);
                assert_eq!(counts, (3, 1, 2), "{kind:?} cut at {cut}");
                assert_eq!(client.told, if kind == Subscribe::Fanfare { 2 } else { 0 });
                assert!(!client.output.is_empty(), "pings are answered");
            }
        }
    }

    #[test]
    fn a_receipt_is_for_its_own_client_and_for_what_is_counted_beside_it() {
        let kind = Subscribe::Fanfare;
        let mut common = common(kind);
        let losing = stream(kind, &[(1, 0), (4, 3)]);
        let (mut told, mut silent, mut unmeasured) = (live(kind), live(kind), live(kind));
        unmeasured.measured = false;
        told.take(&losing, 9_000, &mut common).unwrap();
        unmeasured.take(&losing, 9_000, &mut common).unwrap();
        silent.missing = 2;
        for client in [&mut told, &mut silent, &mut unmeasured] {
            client.settle(&mut common.recorder);
            client.settle(&mut common.recorder);
        }
        let recorder = &common.recorder;
        assert_eq!((recorder.missing, recorder.told, recorder.lost), (4, 2, 2));
    }

    #[test]
    fn a_long_read_of_many_frames_is_counted_once() {
        let events: Vec<(u64, u64)> = (1..=20_000).map(|number| (number, number - 1)).collect();
        let mut bytes = Vec::new();
        let template = Template::new(BYTES).unwrap();
        for (number, previous) in events {
            let mut text = br#"{"channel":"bench.0","type":"update","seq":1,"data":"#.to_vec();
            template.write(&mut text, Said { number, previous, channel: 0, intended_ns: 5_000 });
            text.push(b'}');
            write_frame(&mut bytes, Opcode::Text, &text);
        }
        let (mut client, mut common) = (live(Subscribe::Fanfare), common(Subscribe::Fanfare));
        let used = client.take(&bytes, 9_000, &mut common).unwrap();
        assert_eq!((used, common.recorder.deliveries), (bytes.len(), 20_000));
        assert_eq!(client.missing, 0);
        let refusal = r#"{"method":"subscribe","success":false,"error":{"code":"x"}}"#;
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Opcode::Text, refusal.as_bytes());
        assert!(client.take(&bytes, 9_000, &mut common).unwrap_err().0.contains("refused"));
    }
}
