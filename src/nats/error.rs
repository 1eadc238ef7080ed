//! Why a stream cannot be used: cause and cure.

use std::path::PathBuf;

/// Why a stream or a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// No server can be reached.
    #[error("{servers}: {reason}; is nats-server running there, and what does its log say?")]
    Connect {
        /// What was tried.
        servers: String,
        /// The client's words.
        reason: String,
    },
    /// A server does not let us in.
    #[error("{servers}: nats-server refuses {shown}; {cure}")]
    Denied {
        /// What was tried.
        servers: String,
        /// What it was shown, without what is secret of it.
        shown: String,
        /// What may help.
        cure: &'static str,
    },
    /// A server's certificate is not good.
    #[error("{servers}: {reason}; {cure}")]
    Untrusted {
        /// What was tried.
        servers: String,
        /// The TLS library's words.
        reason: String,
        /// What may help.
        cure: String,
    },
    /// A file of the URL cannot be read.
    #[error("{}: {reason}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The servers have no JetStream, or it does not answer.
    #[error(
        "{servers}: JetStream does not answer ({reason}); nats-server needs -js, and a cluster a \
         majority of its servers"
    )]
    NoJetStream {
        /// Which.
        servers: String,
        /// The client's words.
        reason: String,
    },
    /// There is no such stream.
    #[error(
        "stream {stream}: there is none at {servers}; make it with: fanfare publish --create \
         'nats://{servers}/{stream}' /dev/null"
    )]
    NoStream {
        /// Where.
        servers: String,
        /// Which.
        stream: String,
    },
    /// There is no such bucket.
    #[error("bucket {bucket}: there is none at {servers}; make it with: nats kv add {bucket}")]
    NoBucket {
        /// Where.
        servers: String,
        /// Which.
        bucket: String,
    },
    /// The stream does not let its messages be read directly.
    #[error(
        "stream {0}: its messages cannot be read directly; allow it with: nats stream edit {0} \
         --allow-direct"
    )]
    NoDirect(String),
    /// The stream has other subjects.
    #[error(
        "stream {stream} takes {found}, and not {wanted}; name what its subjects begin with, as in \
         ?subject=md.{{channel}}"
    )]
    Subjects {
        /// Which.
        stream: String,
        /// What it takes.
        found: String,
        /// What is asked for.
        wanted: String,
    },
    /// The server is too old.
    #[error("{0}: nats-server {1} is too old; 2.11 or later reads many subjects at once")]
    TooOld(String, String),
    /// A request was refused.
    #[error("stream {stream}: {what}: {reason}")]
    Refused {
        /// Which.
        stream: String,
        /// What was asked.
        what: &'static str,
        /// The server's words.
        reason: String,
    },
    /// The stream has more than there is room for.
    #[error(
        "stream {stream}: {found} subjects; raise channels_max and keys_max, or narrow subject="
    )]
    TooManySubjects {
        /// Which.
        stream: String,
        /// How many.
        found: usize,
    },
    /// No thread.
    #[error("thread nats: {0}")]
    Thread(std::io::Error),
    /// The thread has ended without a word.
    #[error("the nats thread has failed; its last words are in the log above")]
    Gone,
}

impl NatsError {
    /// Whether it may be different a moment later: servers that are still starting, and another one
    /// of several `servers`.
    #[must_use]
    pub const fn may_pass(&self, servers: usize) -> bool {
        match self {
            Self::Connect { .. } | Self::NoJetStream { .. } => true,
            Self::Denied { .. } | Self::Untrusted { .. } => servers > 1,
            _ => false,
        }
    }
}
