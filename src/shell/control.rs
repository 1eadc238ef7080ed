//! The control socket: lines, and the descriptors of listeners, between processes of one host.
//!
//! A Unix socket that only its owner may connect to. It blocks, for a bounded time, and is served
//! by a thread beside the executors. Not here: what the lines say ([`crate::protocol::control`])
//! and what is done. Invariant: a descriptor that was received is owned, and closed if nobody wants
//! it.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::limits::{CONTROL_ANSWER_MS, CONTROL_BYTES_MAX, CONTROL_DESCRIPTORS_MAX, CONTROL_MS};
use crate::protocol::control::{Reply, Request};

/// The mode of a control socket: only its owner may connect.
pub const CONTROL_MODE: u32 = 0o600;

/// Why a server cannot be asked, or says no.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers at its control socket.
    #[error(
        "control socket {}: {source}; it must be that of a running server of this user \
        (its setting `control`)", .path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It answers that it does not do it, or something else.
    #[error("control socket {}: {message}", .path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// Its words.
        message: String,
    },
    /// The server before has given its listeners, and goes on or is gone.
    #[error(
        "control socket {}: the server before does not make way ({why}), so this one ends; where \
        that one is gone for good, start this one without take_over", .path.display()
    )]
    InTheWay {
        /// The socket.
        path: PathBuf,
        /// What it has said, or what is known of it.
        why: String,
    },
}

impl ControlError {
    /// The same of a server that has given its listeners.
    pub(super) fn in_the_way(self) -> Self {
        match self {
            Self::Unreachable { path, source } => {
                let is_mute = source.kind() == io::ErrorKind::WouldBlock;
                let why = if is_mute { "no answer".into() } else { source.to_string() };
                Self::InTheWay { path, why }
            }
            Self::Refused { path, message } => Self::InTheWay { path, why: message },
            error @ Self::InTheWay { .. } => error,
        }
    }
}

/// Where control connections come in.
#[derive(Debug)]
pub struct ControlListener(UnixListener);

/// One end of a control connection.
#[derive(Debug)]
pub struct ControlStream {
    stream: UnixStream,
    /// Where it leads, for errors.
    path: PathBuf,
    input: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl ControlListener {
    /// A listener at a Unix socket, perhaps one of another process before.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn new(listener: OwnedFd) -> io::Result<Self> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The next connection; none if nobody comes for `patience`.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn accept(&self, patience: Duration) -> io::Result<Option<ControlStream>> {
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match self.0.accept() {
            Ok((stream, _)) => ControlStream::new(stream, PathBuf::new()).map(Some),
            // Another process has taken it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl ControlStream {
    /// Connects to the process that listens at `path`.
    ///
    /// # Errors
    /// That nobody listens there, or not for this user.
    pub fn connect(path: &Path) -> Result<Self, ControlError> {
        UnixStream::connect(path)
            .and_then(|stream| Self::new(stream, path.to_owned()))
            .map_err(|source| ControlError::Unreachable { path: path.to_owned(), source })
    }

    fn new(stream: UnixStream, path: PathBuf) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(Duration::from_millis(CONTROL_MS)))?;
        Ok(Self { stream, path, input: Vec::new(), descriptors: Vec::new() })
    }

    /// Sends a request and takes its reply.
    ///
    /// # Errors
    /// That the server does not answer, or says no.
    pub fn ask(&mut self, request: Request) -> Result<Reply, ControlError> {
        let patience = Duration::from_millis(CONTROL_ANSWER_MS);
        let line = self.write(&request.to_line()).and_then(|()| self.read_line(patience));
        let line = line.and_then(|line| line.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        match Reply::parse(&mut line.map_err(|source| self.failed(source))?) {
            Some(reply) if reply.success => Ok(reply),
            reply => {
                let message = reply.and_then(|reply| reply.error).map(|error| error.message);
                let other = || "what answers there is no fanfare server".into();
                let message = message.unwrap_or_else(other);
                Err(ControlError::Refused { path: self.path.clone(), message })
            }
        }
    }

    /// The error of a stream that failed.
    pub(super) fn failed(&self, source: io::Error) -> ControlError {
        ControlError::Unreachable { path: self.path.clone(), source }
    }

    /// Whether the peer has said something that was not read, or has ended.
    #[must_use]
    pub fn has_news(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let look = || poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&at_once));
        !self.input.is_empty() || retry_on_intr(look) != Ok(0)
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn write(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(line.as_bytes())
    }

    /// The next line without its end, for which each part may take `patience`; none when the peer
    /// has ended.
    ///
    /// # Errors
    /// The kernel's reason, or a line that is too long.
    pub fn read_line(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        self.stream.set_read_timeout(Some(patience))?;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let mut line: Vec<_> = self.input.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            if self.input.len() > CONTROL_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if self.receive()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Sends descriptors, behind a line that says what they are.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn send_descriptors(&mut self, descriptors: &[impl AsFd]) -> io::Result<()> {
        for some in descriptors.chunks(CONTROL_DESCRIPTORS_MAX) {
            let borrowed: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut buffer = SendAncillaryBuffer::new(&mut space);
            let fits = buffer.push(SendAncillaryMessage::ScmRights(&borrowed));
            debug_assert!(fits, "the buffer is made for so many");
            // They travel with a byte of the stream; an end of line is one that nobody misses.
            let line = [IoSlice::new(b"\n")];
            retry_on_intr(|| sendmsg(&self.stream, &line, &mut buffer, SendFlags::NOSIGNAL))?;
        }
        Ok(())
    }

    /// Takes exactly `count` descriptors, which come behind the last line.
    ///
    /// # Errors
    /// The kernel's reason, or that fewer come or more.
    pub fn receive_descriptors(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        while self.descriptors.len() < count {
            if self.receive()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.input.clear();
        if self.descriptors.len() > count {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(std::mem::take(&mut self.descriptors))
    }

    /// Reads once; how many bytes came.
    fn receive(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4 << 10];
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut buffer = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let read = retry_on_intr(|| {
            recvmsg(&self.stream, &mut [IoSliceMut::new(&mut bytes)], &mut buffer, flags)
        })?;
        for message in buffer.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.input.extend_from_slice(&bytes[..read.bytes]);
        Ok(read.bytes)
    }
}

/// Bytes beside a message that carries descriptors.
const SPACE: usize = rustix::cmsg_space!(ScmRights(CONTROL_DESCRIPTORS_MAX));

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    use crate::shell::listener;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn bind(name: &str) -> (PathBuf, ControlListener) {
        let path = std::env::temp_dir().join(format!("fanfare-{name}-{}", std::process::id()));
        let listener = listener::unix(&path, CONTROL_MODE).unwrap();
        (path, ControlListener::new(listener.into()).unwrap())
    }

    #[test]
    fn lines_and_any_number_of_listeners_go_from_one_end_to_the_other() {
        let (path, control) = bind("control");
        let listeners: Vec<_> = (0..2 * CONTROL_DESCRIPTORS_MAX + 1)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let sender = thread::spawn(move || {
            let mut peer = control.accept(PATIENCE).unwrap().unwrap();
            assert_eq!(peer.read_line(PATIENCE).unwrap().unwrap(), b"give");
            peer.write("here\n").unwrap();
            peer.send_descriptors(&listeners).unwrap();
            peer.read_line(PATIENCE).unwrap()
        });
        let mut peer = ControlStream::connect(&path).unwrap();
        peer.write("give\n").unwrap();
        assert_eq!(peer.read_line(PATIENCE).unwrap().unwrap(), b"here");
        let received = peer.receive_descriptors(addresses.len()).unwrap();
        let received: Vec<_> =
            received.into_iter().map(|l| TcpListener::from(l).local_addr().unwrap()).collect();
        assert_eq!(received, addresses);
        drop(peer);
        assert_eq!(sender.join().unwrap(), None, "the end is an end");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn nobody_is_waited_for_longer_than_asked() {
        let (path, control) = bind("nobody");
        assert!(control.accept(Duration::from_millis(1)).unwrap().is_none());
        let _peer = ControlStream::connect(&path).unwrap();
        let mut mute = control.accept(PATIENCE).unwrap().unwrap();
        let error = mute.read_line(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        std::fs::remove_file(&path).unwrap();
    }
}
