//! A question to the admin address of a running server, and the whole answer.
//!
//! Not here: what is asked and what the answer means. Invariant: an answer is whole, or an error;
//! and the token is in no error.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::limits::{ADMIN_ANSWER_BYTES_MAX, ANSWER_MS, CLIENT_CONNECT_MS};
use crate::shell::dial::{ClientError, connect_tcp, has_port};

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum InquiryError {
    /// What was typed is no address.
    #[error("`{0}` is not an admin address, such as 127.0.0.1:9003")]
    Address(String),
    /// Nobody listens there.
    #[error("nothing listens at {0}; start the server with `fanfare serve --admin {0}`")]
    Absent(String),
    /// The connection could not be made, or broke.
    #[error("cannot ask {0}: {1}")]
    Broken(String, io::Error),
    /// What came is no answer of an admin address.
    #[error("{0} does not answer as an admin address: {1}")]
    Strange(String, &'static str),
    /// The server refuses, and says why.
    #[error("{text}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What the server says, without the end of the line.
        text: String,
    },
}

/// The admin address of a server, and what to show there.
#[derive(Clone)]
pub struct Inquiry {
    address: String,
    token: Option<Box<str>>,
}

impl std::fmt::Debug for Inquiry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Inquiry").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Inquiry {
    /// One to `HOST:PORT` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// Something else.
    pub fn new(address: &str, token: Option<&str>) -> Result<Self, InquiryError> {
        let bare = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        if !has_port(bare) || bare.starts_with(':') || bare.contains(['/', ' ', '\r', '\n']) {
            return Err(InquiryError::Address(address.to_owned()));
        }
        Ok(Self { address: bare.to_owned(), token: token.map(Into::into) })
    }

    /// The address, without what stood in front of it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The body of the answer to `method path`.
    ///
    /// # Errors
    /// No connection, an answer that is not whole, a refusal.
    pub fn ask(&self, method: &str, path: &str) -> Result<Vec<u8>, InquiryError> {
        let broken = |error| InquiryError::Broken(self.address.clone(), error);
        let mut stream = connect_tcp(&self.address).map_err(|error| match error {
            ClientError::Refused(address) => InquiryError::Absent(address),
            ClientError::Connect(_, error) | ClientError::Io(error) => broken(error),
            other => broken(io::Error::other(other.to_string())),
        })?;
        stream.set_read_timeout(Some(Duration::from_millis(ANSWER_MS))).map_err(broken)?;
        stream.set_write_timeout(Some(Duration::from_millis(CLIENT_CONNECT_MS))).map_err(broken)?;
        // A server without a token answers to addresses only, not to names.
        let host = stream.peer_addr().map_err(broken)?.to_string();
        stream.write_all(self.head(method, path, &host).as_bytes()).map_err(broken)?;
        let mut answer = Vec::new();
        stream.take(ADMIN_ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(broken)?;
        let (status, body) =
            body(&answer).map_err(|what| InquiryError::Strange(self.address.clone(), what))?;
        match status {
            200..=299 => Ok(body.to_vec()),
            _ => {
                let text = String::from_utf8_lossy(body).trim_end().to_owned();
                Err(InquiryError::Refused { status, text })
            }
        }
    }

    fn head(&self, method: &str, path: &str, host: &str) -> String {
        let token = self.token.as_deref();
        let shown =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{shown}\r\n")
    }
}

/// Status and body of an answer that is whole.
fn body(answer: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).map_err(|_| "it is not HTTP/1.1")?;
    let httparse::Status::Complete(start) = parsed else { return Err("it ended early") };
    let length =
        response.headers.iter().find(|one| one.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|one| std::str::from_utf8(one.value).ok()?.parse::<usize>().ok());
    let length = length.ok_or("it has no length")?;
    let body = answer.get(start..).and_then(|rest| rest.get(..length)).ok_or("it ended early")?;
    Ok((response.code.ok_or("it has no status")?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n";
        assert_eq!(body(whole), Ok((404, &b"no\n"[..])));
        for end in 0..whole.len() {
            assert!(body(&whole[..end]).is_err(), "{end}");
        }
        assert_eq!(body(b"SSH-2.0-x\r\n\r\n"), Err("it is not HTTP/1.1"));
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\nx"), Err("it has no length"));
    }

    #[test]
    fn what_was_typed_is_an_address_or_refused_by_name() {
        for good in ["127.0.0.1:9003", "http://[::1]:9003/", "localhost:9003"] {
            assert!(Inquiry::new(good, None).is_ok(), "{good}");
        }
        for bad in ["9003", ":9003", "127.0.0.1", "https://a:1", "a:1/stats", "a:1\r\nx:1"] {
            let error = Inquiry::new(bad, None).unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:9003"), "{bad}: {error}");
        }
        let inquiry = Inquiry::new("127.0.0.1:9003", Some("secret")).unwrap();
        assert!(!format!("{inquiry:?}").contains("secret"));
        assert!(
            inquiry
                .head("GET", "/stats", "a:1")
                .contains("\r\nAuthorization: Bearer secret\r\n\r\n")
        );
    }
}
