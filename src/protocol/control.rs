//! What is said on the control socket: one JSON object a line, a request and then its reply.
//!
//! `{"method":"drain","params":{"window_ms":30000}}`, `reload`, `status`; a successor says
//! `take_over`, gets the listeners, and says `taken_over` on the same connection once it accepts.
//! Not here: the socket, and what is done. Invariant: a field that means nothing here is refused.

use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Send every client away.
    Drain {
        /// Over this time, milliseconds; none: as long as the settings say.
        window_ms: Option<u64>,
    },
    /// Read settings, certificates and access rules again.
    Reload,
    /// Say how it is.
    Status,
    /// Give a successor the listeners.
    TakeOver,
    /// The successor accepts now: accept nobody any more, and drain.
    TakenOver,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    method: String,
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    params: Params,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window_ms: Option<u64>,
}

impl Params {
    const fn is_empty(&self) -> bool {
        self.window_ms.is_none()
    }
}

const METHODS: [(&str, Request); 5] = [
    ("drain", Request::Drain { window_ms: None }),
    ("reload", Request::Reload),
    ("status", Request::Status),
    ("take_over", Request::TakeOver),
    ("taken_over", Request::TakenOver),
];

impl Request {
    /// Reads a line, which is changed by that.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &mut [u8]) -> Result<Self, Refusal> {
        let bad = |message| Refusal { code: "request_bad".into(), message };
        let Line { method, params } =
            simd_json::serde::from_slice(line).map_err(|error| bad(error.to_string()))?;
        let known = METHODS.iter().find(|(name, _)| *name == method);
        match known.map(|(_, request)| *request) {
            Some(Self::Drain { .. }) => Ok(Self::Drain { window_ms: params.window_ms }),
            Some(_) if !params.is_empty() => Err(bad(format!("{method} has no window_ms"))),
            Some(request) => Ok(request),
            None => {
                let methods = METHODS.map(|(name, _)| name).join(", ");
                let message = format!("there is no such method; there are {methods}");
                Err(Refusal { code: "method_unknown".into(), message })
            }
        }
    }

    /// The line.
    #[must_use]
    pub fn to_line(self) -> String {
        let window_ms = if let Self::Drain { window_ms } = self { window_ms } else { None };
        let named = |request: Self| match request {
            Self::Drain { .. } => matches!(self, Self::Drain { .. }),
            request => request == self,
        };
        let (method, _) =
            METHODS.iter().find(|(_, request)| named(*request)).expect("every request is listed");
        line(&Line { method: (*method).into(), params: Params { window_ms } })
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A word for programs.
    pub code: String,
    /// What is wrong, and the cure.
    pub message: String,
}

/// The answer: `success`, and what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Whether it was done.
    pub success: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// `serving`, `draining` or `stopping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Clients that are in or about to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    /// The time that a drain has left, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// What was read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reloaded: Option<Vec<String>>,
    /// Settings that have changed, and are in force after a restart only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_restart: Option<Vec<String>>,
    /// What the listeners are for that come behind the line, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<String>>,
}

impl Reply {
    /// It was done.
    #[must_use]
    pub fn done() -> Self {
        Self { success: true, ..Self::default() }
    }

    /// It was not.
    #[must_use]
    pub fn refused(refusal: Refusal) -> Self {
        Self { error: Some(refusal), ..Self::default() }
    }

    /// Reads a line, which is changed by that; none if it is no reply.
    #[must_use]
    pub fn parse(line: &mut [u8]) -> Option<Self> {
        simd_json::serde::from_slice(line).ok()
    }

    /// The line.
    #[must_use]
    pub fn to_line(&self) -> String {
        line(self)
    }
}

fn line(message: &impl Serialize) -> String {
    let mut text = simd_json::serde::to_string(message).expect("it has text and numbers only");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Refusal> {
        Request::parse(line.to_owned().as_bytes().to_vec().as_mut_slice())
    }

    #[test]
    fn every_request_is_read_as_it_was_written() {
        let timed = Request::Drain { window_ms: Some(5) };
        for request in METHODS.map(|(_, request)| request).into_iter().chain([timed]) {
            assert_eq!(parse(request.to_line().trim_end()), Ok(request));
        }
        assert_eq!(timed.to_line(), "{\"method\":\"drain\",\"params\":{\"window_ms\":5}}\n");
        assert_eq!(Request::Reload.to_line(), "{\"method\":\"reload\"}\n");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (line, code) in [
            ("", "request_bad"),
            ("{}", "request_bad"),
            (r#"{"method":"drain","params":{"window":5}}"#, "request_bad"),
            (r#"{"method":"drain","params":{"window_ms":-5}}"#, "request_bad"),
            (r#"{"method":"reload","params":{"window_ms":5}}"#, "request_bad"),
            (r#"{"method":"restart"}"#, "method_unknown"),
        ] {
            assert_eq!(parse(line).unwrap_err().code, code, "{line}");
        }
    }

    #[test]
    fn a_reply_has_only_what_belongs_to_it() {
        let reply = Reply { clients: Some(3), window_ms: Some(30_000), ..Reply::done() };
        let line = reply.to_line();
        assert_eq!(line, "{\"success\":true,\"clients\":3,\"window_ms\":30000}\n");
        assert_eq!(Reply::parse(line.into_bytes().as_mut_slice()), Some(reply));
        assert_eq!(Reply::parse(&mut b"hello".to_vec()), None);
    }
}
