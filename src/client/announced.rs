//! Binary messages as the text that says the same: everything behind it knows only that.
//!
//! Not here: their layout ([`crate::protocol::binary`]). Invariant: ids are those of one
//! connection.

use rustc_hash::FxHashMap;

use super::frame::Frame;
use crate::protocol::binary::{self, Unreadable};

/// The channels of a connection by the ids that its server has announced.
#[derive(Debug, Default)]
pub struct Announced {
    names: FxHashMap<u32, String>,
    text: Vec<u8>,
}

/// Why a binary message says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncedError {
    /// It is none of ours.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Its channel's id was never announced.
    #[error("the server sent an event of channel {0}, which it has not announced")]
    Unknown(u32),
}

impl Announced {
    /// Takes the ids of a reply, or of a notice.
    pub fn learn(&mut self, frame: &Frame<'_>) {
        let of_patterns = frame.outcomes().filter_map(|outcome| outcome.ids.as_ref());
        for (name, &id) in frame.ids.iter().chain(of_patterns).flatten() {
            self.names.insert(id, (*name).to_owned());
        }
    }

    /// The text of the same event in the JSON form; none of what a later server may send.
    ///
    /// # Errors
    /// The server's fault.
    pub fn text(&mut self, message: &[u8]) -> Result<Option<&str>, AnnouncedError> {
        let Some(event) = binary::read(message)? else { return Ok(None) };
        let Some(name) = self.names.get(&event.channel) else {
            return Err(AnnouncedError::Unknown(event.channel));
        };
        let text = event.json_text(name, &mut self.text);
        std::str::from_utf8(text).map(Some).map_err(|_| Unreadable::NotUtf8.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::data::envelope::Envelope;
    use crate::protocol::ws::frame::payload;

    const TEXT: &str =
        r#"{"channel":"a.b","type":"update","seq":2,"prev":1,"ts_in":3,"data":1.50}"#;

    fn message(id: u32) -> Vec<u8> {
        let event = Envelope::find(TEXT.as_bytes()).unwrap();
        let parts = binary::frame(id, &event);
        let mut frame = vec![0; parts.len()];
        parts.write(&mut frame);
        payload(&frame).to_vec()
    }

    #[test]
    fn a_message_says_what_the_text_would_once_its_channel_is_announced() {
        let mut announced = Announced::default();
        assert_eq!(announced.text(&message(7)), Err(AnnouncedError::Unknown(7)));
        let result = r#"[{"channel":"x"},{"channel":"a.*","ids":{"a.b":7}}]"#;
        let reply = format!(r#"{{"method":"subscribe","success":true,"result":{result}}}"#);
        let mut reply = reply.into_bytes();
        announced.learn(&Frame::parse(&mut reply).unwrap());
        assert_eq!(announced.text(&message(7)), Ok(Some(TEXT)));
        let mut notice = br#"{"channel":"control","type":"channels","ids":{"a.b":9}}"#.to_vec();
        announced.learn(&Frame::parse(&mut notice).unwrap());
        assert_eq!(announced.text(&message(9)), Ok(Some(TEXT)));
    }
}
