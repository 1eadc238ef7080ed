//! What crosses from the ingest thread to a shard: the only shared state of the data path.
//!
//! A [`batch::Batch`] travels through a bounded single-producer, single-consumer [`ring`]; a
//! [`doorbell`] wakes whichever side is parked. A [`passage::Passage`] comes the same way from the
//! thread that reads a stream again. Not here: what becomes of a batch (`fanout`).

pub mod batch;
pub mod doorbell;
pub mod passage;
pub mod ring;

/// The primitives that the doorbell is made of; its loom test puts loom's in their place.
mod sync {
    pub(super) use atomic_waker::AtomicWaker;
}
