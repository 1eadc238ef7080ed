//! A bounded single-producer, single-consumer ring between two threads.
//!
//! The ends cannot be cloned and their methods take `&mut self`, so that one producer and one
//! consumer are facts of the types. The ring never drops an item: a full ring hands the item back,
//! and [`Sender::poll_room`] waits for room. Not here: what travels (`batch`). Invariant: items
//! come out once each, in the order they went in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;

use super::doorbell::Doorbell;

#[derive(Debug)]
struct Shared<T> {
    queue: ArrayQueue<T>,
    /// Rung when an item went in, or the sender is gone.
    filled: Doorbell,
    /// Rung when an item came out, or the receiver is gone.
    drained: Doorbell,
    /// True once either end was dropped.
    closed: AtomicBool,
}

/// The producer's end.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// The consumer's end.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

/// A ring for `capacity` items, at least one.
#[must_use]
pub fn ring<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        filled: Doorbell::default(),
        drained: Doorbell::default(),
        closed: AtomicBool::new(false),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Puts an item in, or hands it back when the ring is full or nobody will take it.
    ///
    /// # Errors
    /// The item, when there is no room or the receiver is gone.
    pub fn send(&mut self, item: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(item);
        }
        self.0.queue.push(item)?;
        self.0.filled.ring();
        Ok(())
    }

    /// Ready when there is room, or when the receiver is gone.
    pub fn poll_room(&mut self, context: &Context<'_>) -> Poll<()> {
        let shared = &self.0;
        shared.drained.poll_wait(context, || {
            (!shared.queue.is_full() || shared.closed.load(Ordering::Acquire)).then_some(())
        })
    }

    /// True once the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest item, if there is one.
    pub fn receive(&mut self) -> Option<T> {
        let item = self.0.queue.pop()?;
        self.0.drained.ring();
        Some(item)
    }

    /// Ready with the oldest item, or with `None` once the sender is gone and the ring is empty.
    pub fn poll_receive(&mut self, context: &Context<'_>) -> Poll<Option<T>> {
        let shared = &self.0;
        let seen = shared.filled.poll_wait(context, || {
            // The order matters: an item sent before the sender went away must still be seen.
            let closed = shared.closed.load(Ordering::Acquire);
            match shared.queue.pop() {
                Some(item) => Some(Some(item)),
                None if closed => Some(None),
                None => None,
            }
        });
        if let Poll::Ready(Some(_)) = seen {
            shared.drained.ring();
        }
        seen
    }

    /// Items that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    /// True once the sender is gone; what it sent may still be in the ring.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.filled.ring();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.drained.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::{Wake, Waker};
    use std::thread::{self, Thread};

    use proptest::prelude::*;

    use super::*;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_bounded_queue(
            capacity in 1_usize..8,
            operations in prop::collection::vec(any::<Option<u32>>(), 0..200),
        ) {
            let (mut sender, mut receiver) = ring(capacity);
            let mut oracle = VecDeque::new();
            for operation in operations {
                match operation {
                    Some(item) if oracle.len() < capacity => {
                        prop_assert_eq!(sender.send(item), Ok(()));
                        oracle.push_back(item);
                    }
                    Some(item) => prop_assert_eq!(sender.send(item), Err(item)),
                    None => prop_assert_eq!(receiver.receive(), oracle.pop_front()),
                }
                prop_assert_eq!(receiver.len(), oracle.len());
            }
        }
    }

    /// Miri is slow, and switches threads anywhere.
    const ITEMS: u32 = if cfg!(miri) { 1_000 } else { 50_000 };

    #[test]
    fn two_threads_that_park_lose_nothing_and_keep_the_order() {
        let (mut sender, mut receiver) = ring(3);
        let producer = thread::spawn(move || {
            for item in 0..ITEMS {
                block_on(poll_fn(|context| sender.poll_room(context)));
                sender.send(item).unwrap();
            }
        });
        let mut expected = 0;
        while let Some(item) = block_on(poll_fn(|context| receiver.poll_receive(context))) {
            assert_eq!(item, expected);
            expected += 1;
        }
        assert_eq!(expected, ITEMS);
        producer.join().unwrap();
    }

    #[test]
    fn each_end_learns_that_the_other_is_gone() {
        let (mut sender, receiver) = ring(1);
        sender.send(1).unwrap();
        drop(receiver);
        assert_eq!(sender.send(2), Err(2));
        block_on(poll_fn(|context| sender.poll_room(context)));

        let (mut sender, mut receiver) = ring(1);
        sender.send(1).unwrap();
        drop(sender);
        assert_eq!(block_on(poll_fn(|context| receiver.poll_receive(context))), Some(1));
        assert_eq!(block_on(poll_fn(|context| receiver.poll_receive(context))), None);
    }
}
