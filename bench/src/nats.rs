//! The messages of a NATS server, whose protocol is a stream of its own inside WebSocket frames.
//!
//! Not here: the frames. Invariant: however the stream is cut, every message is handed out once,
//! whole and in order.

/// What a server said beside messages, since somebody last looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    pub info: bool,
    pub ping: bool,
    pub pong: bool,
    pub error: bool,
}

/// One connection's stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// The beginning of what has not come whole.
    rest: Vec<u8>,
    pub heard: Heard,
    /// Of the frame in progress.
    pub frame_left: usize,
}

impl Stream {
    /// Takes the next bytes, and hands out the payload of every message that they complete.
    pub fn take(&mut self, bytes: &[u8], mut message: impl FnMut(&[u8])) {
        if self.rest.is_empty() {
            let used = self.parse(bytes, &mut message);
            self.rest.extend_from_slice(&bytes[used..]);
            return;
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let used = self.parse(&rest, &mut message);
        rest.drain(..used);
        self.rest = rest;
    }

    fn parse(&mut self, bytes: &[u8], message: &mut impl FnMut(&[u8])) -> usize {
        let mut at = 0;
        while let Some(length) = line(&bytes[at..]) {
            let text = &bytes[at..at + length];
            let after = at + length + 2;
            if let Some(subject) = text.strip_prefix(b"MSG ") {
                let end = after + payload_bytes(subject);
                if bytes.len() < end + 2 {
                    return at;
                }
                message(&bytes[after..end]);
                at = end + 2;
                continue;
            }
            self.heard.info |= text.starts_with(b"INFO");
            self.heard.ping |= text.starts_with(b"PING");
            self.heard.pong |= text.starts_with(b"PONG");
            self.heard.error |= text.starts_with(b"-ERR");
            at = after;
        }
        at
    }
}

/// Bytes before the first CR LF.
fn line(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    end.checked_sub(1)
}

/// The last word of `subject sid [reply-to] bytes`.
fn payload_bytes(words: &[u8]) -> usize {
    let digits = words.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    digits.iter().fold(0, |value, digit| value * 10 + usize::from(digit & 0x0f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_whole_and_once_at_every_split_point() {
        let text =
            b"INFO {\"a\":1}\r\n+OK\r\nMSG bench 1 5\r\nhello\r\nPING\r\nMSG bench 1 0\r\n\r\n\
            MSG bench 1 reply.x 10\r\na\r\nMSG b c\r\nPONG\r\n-ERR 'x'\r\n";
        let expected: [&[u8]; 3] = [b"hello", b"", b"a\r\nMSG b c"];
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut stream = Stream::default();
                let mut got: Vec<Vec<u8>> = Vec::new();
                for part in [&text[..first], &text[first..second], &text[second..]] {
                    stream.take(part, |message| got.push(message.to_vec()));
                }
                assert_eq!(got, expected, "cut at {first} and {second}");
                let all = Heard { info: true, ping: true, pong: true, error: true };
                assert_eq!(stream.heard, all);
                assert!(stream.rest.is_empty());
            }
        }
    }
}
