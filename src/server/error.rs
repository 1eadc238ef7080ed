//! Why a server could not start: cause and cure.

use std::io;
use std::path::PathBuf;

use crate::access::AccessError;
use crate::journal::JournalError;
use crate::nats::NatsError;
use crate::shell::certificates::CertificateError;
use crate::shell::checks::HostError;
use crate::shell::control::ControlError;

/// Why a server could not start: cause and cure.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host does not allow it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The access rules cannot be in force.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The stream or the bucket cannot be used.
    #[error("nats: {0}")]
    Nats(#[from] NatsError),
    /// The journal was checked, and could not be read again; or the stream cannot be taken in.
    #[error("what was before could not be taken in: {0}")]
    Restore(io::Error),
    /// The file of the admin token cannot be used.
    #[error(
        "admin_token_file {}: {reason}; make one with: head -c 32 /dev/urandom | base64 > {}",
        .path.display(), .path.display()
    )]
    AdminToken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An address cannot be bound.
    #[error("{what} {address}: {source}{}", cure(.what, .address, .source))]
    Bind {
        /// Which setting.
        what: &'static str,
        /// The address.
        address: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The server before does not give its listeners, or does not make way.
    #[error("take_over: {0}")]
    TakeOver(#[from] ControlError),
    /// The kernel takes no program that chooses a listener.
    #[error("steer_by_cpu: {0}; it needs Linux 4.6 and SO_ATTACH_REUSEPORT_CBPF")]
    Steering(io::Error),
    /// Nobody can wait at the listeners.
    #[error("waiting at the listeners: {0}; try: sudo sysctl -w fs.epoll.max_user_watches=65536")]
    Doorman(io::Error),
    /// A thread could not be started or pinned.
    #[error("thread {name} on core {core}: {reason}; is the core in `taskset -p $$`?")]
    Thread {
        /// The thread.
        name: String,
        /// Its core.
        core: String,
        /// The executor's words.
        reason: String,
    },
}

fn cure(what: &str, address: &str, error: &io::Error) -> String {
    let unix = [SOURCE_UNIX, "control"].contains(&what);
    let port = address.rsplit(':').next().unwrap_or_default();
    match error.kind() {
        io::ErrorKind::AddrInUse if unix => {
            format!("; somebody listens there (ss -lxp 'src = {address}'), or it is no socket")
        }
        io::ErrorKind::AddrInUse => {
            format!("; find who listens there with: ss -lptn 'sport = :{port}'")
        }
        io::ErrorKind::PermissionDenied if unix => {
            "; use a folder that this user may write to".into()
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need: sudo setcap cap_net_bind_service+ep fanfare".into()
        }
        io::ErrorKind::AddrNotAvailable => "; list this host's addresses with: ip addr".into(),
        io::ErrorKind::NotFound => "; create its folder with: mkdir -p".into(),
        _ => String::new(),
    }
}

/// What the addresses of sources are called, in errors and for a successor.
pub(super) const SOURCE_TCP: &str = "source tcp";
/// See [`SOURCE_TCP`].
pub(super) const SOURCE_TLS: &str = "source tls";
/// See [`SOURCE_TCP`].
pub(super) const SOURCE_UNIX: &str = "source unix";

/// The error of an address that cannot be bound.
pub(super) fn bind_error(
    what: &'static str,
    address: impl ToString,
    source: io::Error,
) -> StartError {
    StartError::Bind { what, address: address.to_string(), source }
}

/// The error of a thread that runs on any core.
pub(super) fn no_thread(name: &str, error: &io::Error) -> StartError {
    StartError::Thread { name: name.to_owned(), core: "any".into(), reason: error.to_string() }
}

/// The error of listeners that nobody can wait at.
pub(super) const fn no_doorman(source: io::Error) -> StartError {
    StartError::Doorman(source)
}
