//! What the kernel knows of one client's connection: TCP_INFO.
//!
//! Read for a few connections at a time. Not here: what is made of it. Invariant: what a kernel
//! does not know is 0.

use std::os::fd::RawFd;

use crate::protocol::whoami::Tcp;

/// Some of `struct tcp_info` (linux/tcp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpInfo {
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
    /// How much it varies, microseconds.
    pub rtt_variance_us: u32,
    /// Segments that were sent again, since the connection began.
    pub retransmits: u32,
    /// Segments that are not acknowledged yet.
    pub unacked: u32,
    /// Bytes in the socket that were not sent yet.
    pub unsent_bytes: u32,
    /// The client's receive window, bytes.
    pub window_bytes: u32,
    /// The latest rate at which the client took bytes, bytes a second.
    pub delivery_rate: u64,
    /// Time in which there was something to send, microseconds.
    pub busy_us: u64,
    /// The part of it in which the client's receive window was full.
    pub window_limited_us: u64,
    /// The part of it in which this server's send buffer was too small.
    pub buffer_limited_us: u64,
    /// Bytes sent, those that were sent again included.
    pub sent_bytes: u64,
}

/// Words of the structure as Linux 5.5 has it.
const WORDS: usize = 58;

impl TcpInfo {
    /// Of a socket; none if it is not a TCP socket that is open.
    #[must_use]
    pub fn of(socket: RawFd) -> Option<Self> {
        let mut words = [0_u32; WORDS];
        let mut len = libc::socklen_t::try_from(size_of_val(&words)).expect("a small constant");
        // SAFETY: the kernel writes at most `len` bytes, and all of them are words.
        let result = unsafe {
            libc::getsockopt(
                socket,
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                words.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        (result == 0).then(|| Self::from_words(&words))
    }

    /// Places as in the structure: 8 bytes of flags, then words and, aligned, pairs of them.
    fn from_words(words: &[u32; WORDS]) -> Self {
        let long = |at: usize| {
            let (low, high) = (u64::from(words[at]), u64::from(words[at + 1]));
            if cfg!(target_endian = "little") { high << 32 | low } else { low << 32 | high }
        };
        Self {
            unacked: words[6],
            rtt_us: words[17],
            rtt_variance_us: words[18],
            retransmits: words[25],
            unsent_bytes: words[36],
            delivery_rate: long(40),
            busy_us: long(42),
            window_limited_us: long(44),
            buffer_limited_us: long(46),
            sent_bytes: long(50),
            window_bytes: words[57],
        }
    }
}

impl From<TcpInfo> for Tcp {
    fn from(info: TcpInfo) -> Self {
        Self {
            rtt_us: info.rtt_us.into(),
            retransmits: info.retransmits.into(),
            unsent_bytes: info.unsent_bytes.into(),
            busy_ms: info.busy_us / 1_000,
            window_limited_ms: info.window_limited_us / 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[7; 10_000]).unwrap();
        client.read_exact(&mut [0; 10_000]).unwrap();
        let info = TcpInfo::of(server.as_raw_fd()).unwrap();
        assert_eq!((info.sent_bytes, info.unsent_bytes), (10_000, 0), "{info:?}");
        assert!((1..1_000_000).contains(&info.rtt_us), "{info:?}");
        assert!(info.window_bytes > 1_000 && info.retransmits < 100, "{info:?}");
        assert!(info.window_limited_us <= info.busy_us, "{info:?}");
        assert_eq!(TcpInfo::of(-1), None);
    }
}
