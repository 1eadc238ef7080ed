//! Two connections at once, to different nodes if there are several: of each event the first one
//! is given.
//!
//! Each side is a [`Subscriber`] in a thread of its own, which goes on by itself where its
//! connection ends. Not here: what is given of what they bring ([`super::merge`]). Invariant: what
//! is merged is of one epoch; a side with another one is left until the other side has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::connector::Places;
use super::error::Error;
use super::item::{Item, Notice};
use super::merge::{Merge, SideNumber};
use super::place::Place;
use super::subscriber::Subscriber;
use super::subscription::Subscription;
use crate::limits::{PAIR_READS_MAX, PAIR_SPARE_MS};
use crate::shell::clock;

/// How long a thread reads before it looks whether it is still wanted.
const STEP: Duration = Duration::from_millis(100);

/// Two connections of one subscription.
#[derive(Debug)]
pub struct Pair {
    merge: Merge,
    epoch: Option<Arc<str>>,
    reads: Receiver<Read>,
    /// What a side's thread is asked for.
    orders: Arc<[Order; 2]>,
    /// Of which of its subscribers a side is taken from.
    turns: [u32; 2],
    /// Why a side has ended for good.
    ended: [Option<Error>; 2],
}

/// What a thread looks at between two reads.
#[derive(Debug, Default)]
struct Order {
    /// To count by another epoch is no use now.
    is_spare: AtomicBool,
    is_over: AtomicBool,
}

/// What one read of a side has brought.
#[derive(Debug)]
struct Read {
    number: SideNumber,
    turn: u32,
    epoch: Option<Arc<str>>,
    items: Vec<Item<'static>>,
    whole: Option<u64>,
    error: Option<Error>,
}

impl Pair {
    pub(super) fn new(subscription: &Subscription) -> Result<Self, Error> {
        let (sender, reads) = sync_channel(PAIR_READS_MAX);
        let orders: Arc<[Order; 2]> = Arc::default();
        let places = Arc::new(Places::default());
        for number in 0..2 {
            let side = Side {
                number,
                subscription: subscription.clone(),
                orders: Arc::clone(&orders),
                places: Arc::clone(&places),
                sender: sender.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("side {number}"));
            thread.spawn(move || side.run()).map_err(Error::Thread)?;
        }
        let epoch = subscription.place.as_ref().map(|place| Arc::clone(&place.epoch));
        let (merge, ended) = (Merge::default(), [None, None]);
        Ok(Self { merge, epoch, reads, orders, turns: [0; 2], ended })
    }

    /// Takes what one read of either side has brought, within `patience`.
    ///
    /// # Errors
    /// Both connections have ended for good, with the error of the later one. There is nothing
    /// more.
    pub fn read(
        &mut self,
        patience: Duration,
        mut give: impl FnMut(Item<'static>),
    ) -> Result<(), Error> {
        match self.reads.recv_timeout(patience) {
            Ok(read) => self.handle_read(read, &mut give),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Over),
        }
    }

    /// The place to go on at after everything that was given; see [`Subscriber::place`].
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        Some(Place { epoch: Arc::clone(self.epoch.as_ref()?), seq: self.merge.place()? })
    }

    /// Channels that something came of.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.merge.channel_count()
    }

    fn handle_read(
        &mut self,
        read: Read,
        give: &mut dyn FnMut(Item<'static>),
    ) -> Result<(), Error> {
        let Read { number, turn, epoch, items, whole, error } = read;
        if turn >= self.turns[number] && self.admit(number, epoch, give) {
            let is_other = |item: &Item<'_>| !matches!(item, Item::Notice(Notice::Anew));
            self.merge.handle_items(number, items.into_iter().filter(is_other), whole, give);
            if !self.merge.is_up(number) {
                // Nothing is compared with it any more: one that was set aside may take over.
                self.orders[1 - number].is_spare.store(false, Ordering::Relaxed);
            }
        }
        let Some(error) = error else { return Ok(()) };
        self.merge.handle_loss(number, give);
        self.orders[1 - number].is_spare.store(false, Ordering::Relaxed);
        if self.ended[1 - number].is_some() {
            return Err(error);
        }
        give(Item::Notice(Notice::Ended { why: error.to_string() }));
        self.ended[number] = Some(error);
        Ok(())
    }

    /// Whether what has come is of the epoch that is merged; where nothing else is, it is from now
    /// on.
    fn admit(
        &mut self,
        number: SideNumber,
        epoch: Option<Arc<str>>,
        give: &mut dyn FnMut(Item<'static>),
    ) -> bool {
        if epoch.is_none() || epoch == self.epoch {
            return true;
        }
        if self.epoch.is_some() && self.merge.is_up(1 - number) {
            self.set_aside(number, give);
            return false;
        }
        if self.epoch.is_some() {
            self.merge.reset(give);
            give(Item::Notice(Notice::Anew));
        }
        self.epoch = epoch;
        true
    }

    /// A side that counts by another epoch is of no use while the other one has a connection.
    fn set_aside(&mut self, number: SideNumber, give: &mut dyn FnMut(Item<'static>)) {
        self.turns[number] += 1;
        self.merge.handle_loss(number, give);
        self.orders[number].is_spare.store(true, Ordering::Relaxed);
        give(Item::Notice(Notice::Spare));
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for order in &*self.orders {
            order.is_over.store(true, Ordering::Relaxed);
        }
    }
}

/// The thread of one side.
struct Side {
    number: SideNumber,
    subscription: Subscription,
    orders: Arc<[Order; 2]>,
    places: Arc<Places>,
    sender: SyncSender<Read>,
}

impl Side {
    fn run(self) {
        let mut turn = 0;
        loop {
            let mut subscriber = Subscriber::new(self.subscription.clone());
            subscriber.join(Arc::clone(&self.places), self.number);
            if self.follow(subscriber, turn).is_none() {
                return;
            }
            turn += 1;
            let end_ns = clock::now().monotonic_ns + PAIR_SPARE_MS * 1_000_000;
            while self.order().is_spare.load(Ordering::Relaxed)
                && clock::now().monotonic_ns < end_ns
            {
                if self.is_over() {
                    return;
                }
                clock::sleep_until(clock::now().monotonic_ns + clock::nanoseconds(STEP));
            }
            self.order().is_spare.store(false, Ordering::Relaxed);
        }
    }

    /// Reads until it is set aside; nothing: it is over.
    fn follow(&self, mut subscriber: Subscriber, turn: u32) -> Option<()> {
        loop {
            let mut items = Vec::new();
            let read = subscriber.read(STEP, |item| items.extend(item.into_owned()));
            let is_last = read.is_err();
            let whole = subscriber.place().map(|place| place.seq);
            let epoch = subscriber.epoch();
            let error = read.err();
            let read = Read { number: self.number, turn, epoch, items, whole, error };
            if (read.error.is_some() || !read.items.is_empty() || read.whole.is_some())
                && self.sender.send(read).is_err()
            {
                return None;
            }
            if self.is_over() {
                subscriber.close();
                return None;
            }
            if is_last {
                return None;
            }
            if self.order().is_spare.load(Ordering::Relaxed) {
                subscriber.close();
                return Some(());
            }
        }
    }

    fn order(&self) -> &Order {
        &self.orders[self.number]
    }

    fn is_over(&self) -> bool {
        self.order().is_over.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
