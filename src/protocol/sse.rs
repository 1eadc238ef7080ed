//! Server-Sent Events (WHATWG HTML, section 9.2): the same messages as a stream of text, for
//! `curl -N`, browsers' `EventSource`, and networks that let no WebSocket through.
//!
//! An event is an `id` line with the place that a client goes on from, and its JSON text as `data`;
//! a control message is an event of the type `control`. Not here: the request
//! ([`super::ws::handshake`]) and who gets what (`fanout`). Invariant: [`Parts::write`] fills
//! exactly [`Parts::len`] bytes, and a reader puts together the same JSON value that was sent.

use super::data::envelope::Envelope;
use super::exact::Room;
use super::json::write_u64;
use super::ws::frame::payload;

/// The media type of a stream.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// What a stream begins with: milliseconds after which a client connects again.
pub const RETRY: &str = "retry: 2000\n\n";

const ID: &[u8] = b"id: ";
const DATA: &[u8] = b"data: ";
const CONTROL: &[u8] = b"event: control\n";
const END: &[u8] = b"\n\n";

/// An event that is laid out and not yet copied.
#[derive(Debug)]
pub struct Parts<'a> {
    epoch: &'a str,
    seq: u64,
    text: &'a [u8],
}

/// Lays out an event of a finished frame of the JSON form; none of what is not one.
#[must_use]
pub fn from_json_frame<'a>(epoch: &'a str, json_frame: &'a [u8]) -> Option<Parts<'a>> {
    let text = payload(json_frame);
    Some(Parts { epoch, seq: Envelope::find(text)?.seq, text })
}

impl Parts<'_> {
    /// Bytes of the whole event.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an event is never empty")]
    pub const fn len(&self) -> usize {
        id_len(self.epoch, self.seq) + DATA.len() + self.text.len() + END.len()
    }

    /// Copies the event into `out`.
    ///
    /// # Panics
    /// When `out` is not [`Self::len`] bytes long.
    pub fn write(&self, out: &mut [u8]) {
        let mut room = Room::of(out, self.len());
        room.put(ID);
        room.put(self.epoch.as_bytes());
        room.put(b":");
        room.put(itoa::Buffer::new().format(self.seq).as_bytes());
        room.put(b"\n");
        room.put(DATA);
        on_one_line(self.text, &mut |bytes| room.put(bytes));
        room.put(END);
        room.end();
    }
}

/// Bytes of the `id` line of an event. What is no live event goes without: a client that loses its
/// connection in the middle of a snapshot has not got everything up to any event of it.
#[must_use]
pub const fn id_len(epoch: &str, seq: u64) -> usize {
    ID.len() + epoch.len() + 1 + digits(seq) + 1
}

/// Appends a control message with the JSON text `text`. With a place, the client has everything up
/// to there, and goes on from it after a break.
pub fn control(out: &mut Vec<u8>, text: &[u8], place: Option<(&str, u64)>) {
    if let Some((epoch, seq)) = place {
        out.extend_from_slice(ID);
        out.extend_from_slice(epoch.as_bytes());
        out.push(b':');
        write_u64(out, seq);
        out.push(b'\n');
    }
    out.extend_from_slice(CONTROL);
    out.extend_from_slice(DATA);
    on_one_line(text, &mut |bytes| out.extend_from_slice(bytes));
    out.extend_from_slice(END);
}

/// Writes a JSON text with a space for each line end. There they are between tokens and mean
/// nothing; here they would end the line.
fn on_one_line(text: &[u8], put: &mut impl FnMut(&[u8])) {
    let mut from = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', text) {
        put(&text[from..at]);
        put(b" ");
        from = at + 1;
    }
    put(&text[from..]);
}

/// Decimal digits of a number.
const fn digits(number: u64) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::data::tests::Sample;
    use super::*;

    /// One event, as the specification has a reader put it together.
    #[derive(Debug, Default, PartialEq)]
    struct Read {
        id: Option<String>,
        kind: String,
        data: String,
    }

    /// A reader by the specification (WHATWG HTML, section 9.2.6), for whole streams.
    fn read(stream: &str) -> Vec<Read> {
        let (mut events, mut next) = (Vec::new(), Read::default());
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        for line in stream.split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let event = std::mem::take(&mut next);
                    let data = event.data.strip_suffix('\n').map(str::to_owned);
                    events.extend(data.map(|data| Read { data, ..event }));
                }
                "id" => next.id = Some(value.to_owned()),
                "event" => value.clone_into(&mut next.kind),
                "data" => next.data += &format!("{value}\n"),
                _ => {}
            }
        }
        events
    }

    fn written(frame: &[u8]) -> Vec<u8> {
        let parts = from_json_frame("01J", frame).unwrap();
        let mut out = vec![0; parts.len()];
        parts.write(&mut out);
        out
    }

    proptest! {
        #[test]
        fn a_reader_gets_each_event_with_its_place(
            samples in prop::collection::vec(Sample::any(), 1..4),
        ) {
            let frames = samples.iter().map(|sample| written(&sample.frame()));
            let stream: Vec<u8> = frames.flatten().collect();
            let events = read(std::str::from_utf8(&stream).unwrap());
            prop_assert_eq!(events.len(), samples.len());
            for (event, sample) in events.iter().zip(&samples) {
                let seq = sample.envelope().seq;
                prop_assert_eq!(event.id.clone(), Some(format!("01J:{seq}")));
                prop_assert_eq!(&event.kind, "");
                let text = String::from_utf8(sample.text()).unwrap().replace('\r', " ");
                prop_assert_eq!(&event.data, &text);
            }
        }

        #[test]
        fn without_its_first_line_an_event_has_no_place(sample in Sample::any()) {
            let stream = written(&sample.frame());
            let rest = &stream[id_len("01J", sample.envelope().seq)..];
            let events = read(std::str::from_utf8(rest).unwrap());
            prop_assert_eq!(events.len(), 1);
            prop_assert_eq!(&events[0].id, &None);
        }
    }

    #[test]
    fn control_messages_are_events_of_their_own_type() {
        let mut stream = RETRY.as_bytes().to_vec();
        control(&mut stream, br#"{"type":"welcome"}"#, None);
        control(&mut stream, br#"{"type":"heartbeat"}"#, Some(("01J", 0)));
        let event = |id: Option<&str>, data: &str| Read {
            id: id.map(str::to_owned),
            kind: "control".into(),
            data: data.into(),
        };
        let expected =
            [event(None, r#"{"type":"welcome"}"#), event(Some("01J:0"), r#"{"type":"heartbeat"}"#)];
        assert_eq!(read(std::str::from_utf8(&stream).unwrap()), expected);
    }
}
