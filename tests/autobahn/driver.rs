//! Sends the frames of a case in one cut or another, and compares what comes back.
//!
//! Invariant: everything that comes until the stream ends is compared, so that nothing comes that
//! is not in the case.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::cases::{Case, End, Frame, Heard};
use crate::echo::Echo;
use crate::talk::{Talk, masked};

/// How a case's bytes are cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Not at all.
    Whole,
    /// Between frames.
    Frames,
    /// After each byte.
    Bytes,
    /// Into pieces of a length that fits nothing.
    Pieces,
}

impl Cut {
    pub(crate) const ALL: [Self; 4] = [Self::Whole, Self::Frames, Self::Bytes, Self::Pieces];

    /// Whether a case can be sent so in a reasonable time.
    pub(crate) fn is_for(self, case: &Case) -> bool {
        let bytes: usize = case.frames.iter().map(|frame| frame.payload.len() + 14).sum();
        match self {
            Self::Whole => true,
            Self::Frames => (2..100).contains(&case.frames.len()),
            Self::Bytes => bytes <= 2_000,
            Self::Pieces => (2_000..2 << 20).contains(&bytes),
        }
    }

    fn write(self, stream: &mut TcpStream, frames: &[Vec<u8>]) {
        let whole;
        let pieces: Vec<&[u8]> = match self {
            Self::Frames => frames.iter().map(Vec::as_slice).collect(),
            Self::Whole | Self::Bytes | Self::Pieces => {
                whole = frames.concat();
                let length = match self {
                    Self::Bytes => 1,
                    Self::Pieces => 997,
                    Self::Whole | Self::Frames => whole.len().max(1),
                };
                whole.chunks(length).collect()
            }
        };
        for piece in pieces {
            // The server may have seen enough.
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    }
}

/// Runs a case over a connection of its own.
///
/// # Errors
/// What came instead of what must.
pub(crate) fn run(echo: &Echo, case: &Case, cut: Cut) -> Result<(), String> {
    let mut talk = Talk::open(echo.connect(), None);
    let frame = |frame: &Frame| masked(frame.first, &frame.payload);
    let mut frames: Vec<_> = case.frames.iter().map(frame).collect();
    let last = match case.end {
        End::Ours => {
            frames.push(masked(0x88, &1000_u16.to_be_bytes()));
            Some(1000)
        }
        End::Closed(code) | End::Failed(code) => code,
    };
    // Beside the reading, because neither side takes all that the other has to say.
    let mut writing = talk.stream.try_clone().unwrap();
    let writer = thread::spawn(move || cut.write(&mut writing, &frames));
    let heard: Vec<_> = std::iter::from_fn(|| talk.next()).collect();
    let _gone = talk.stream.shutdown(Shutdown::Both);
    writer.join().unwrap();
    let mut expected = case.heard.clone();
    expected.push(Heard::Close(last));
    if heard == expected {
        Ok(())
    } else {
        Err(format!("{} {cut:?}: {heard:?}, not {expected:?}", case.name))
    }
}
