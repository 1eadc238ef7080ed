//! Threads for input that blocks (files, standard input): they hand chunks over through a ring.
//!
//! The executor's thread never waits for a disk or a pipe; a full ring makes the worker wait, so a
//! slow server pauses the input and nothing piles up.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::handoff::ring::{Receiver, Sender, ring};

/// Chunks that may wait between a worker and its source.
const CHUNKS: usize = 4;

/// The worker's end: blocks while the ring is full.
#[derive(Debug)]
pub struct Chunks<T> {
    sender: Sender<T>,
    waker: Waker,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<T> Chunks<T> {
    /// Hands a chunk over; false when nobody wants more, so that the worker should end.
    pub fn send(&mut self, mut chunk: T) -> bool {
        let context = Context::from_waker(&self.waker);
        loop {
            match self.sender.send(chunk) {
                Ok(()) => return true,
                Err(_) if self.sender.is_closed() => return false,
                Err(back) => chunk = back,
            }
            while self.sender.poll_room(&context) == Poll::Pending {
                thread::park();
            }
        }
    }
}

/// Starts a thread that runs `work`, and returns where its chunks come out.
///
/// # Errors
/// The kernel's reason to refuse the thread.
pub fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(&mut Chunks<T>) + Send + 'static,
) -> io::Result<Receiver<T>> {
    let (sender, receiver) = ring(CHUNKS);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        work(&mut Chunks { sender, waker });
    })?;
    Ok(receiver)
}

/// The next chunk; `None` when the worker has ended.
pub async fn next<T>(receiver: &mut Receiver<T>) -> Option<T> {
    poll_fn(|context| receiver.poll_receive(context)).await
}
