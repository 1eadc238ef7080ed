//! Sources that share one feed, and wait for it.

use std::time::Duration;

use super::*;
use crate::handoff::ring::ring;
use crate::limits::BATCH_BYTES_MAX;
use crate::nats::outlet;
use crate::protocol::event::Kind;

const SOURCES: usize = 20;

fn feed(rings: Vec<Sender<Arc<Batch>>>) -> Feed {
    Feed::new(Sequencer::new(1, 1), rings, Arc::new(Telemetry::new(1)), Arc::default())
}

fn event(data: &[u8]) -> Event<'_> {
    Event { channel: "a", key: None, kind: Kind::Update, ts: None, data }
}

#[test]
fn many_sources_that_wait_for_one_ring_do_not_swell_a_batch() {
    let (sender, mut receiver) = ring(1);
    let data = vec![b'1'; BATCH_BYTES_MAX];
    let bytes = data.len();
    let (all_wait, waiting) = std::sync::mpsc::channel();
    let thread = executor::start("feed", None, move || async move {
        let feed = feed(vec![sender]);
        let left = Rc::new(Cell::new(SOURCES));
        for _ in 0..SOURCES {
            let (feed, data, left) = (feed.clone(), data.clone(), Rc::clone(&left));
            executor::spawn(async move {
                for _ in 0..3 {
                    feed.room().await;
                    feed.offer(&event(&data), 0).unwrap();
                }
                feed.publish().await;
                left.set(left.get() - 1);
            });
        }
        // Tasks begin in order, so by now every source has come to its first wait.
        executor::spawn(async move { all_wait.send(()).unwrap() });
        while left.get() > 0 {
            executor::sleep(Duration::from_millis(1)).await;
        }
    })
    .unwrap();
    waiting.recv().unwrap();
    let mut events = 0;
    while events < 3 * SOURCES {
        let Some(batch) = receiver.receive() else {
            std::thread::yield_now();
            continue;
        };
        assert!(batch.bytes.len() <= bytes, "{} events in one batch", batch.events.len());
        events += batch.events.len();
    }
    thread.join().unwrap();
}

#[test]
fn all_sources_that_wait_for_a_stream_go_on_when_it_takes_something() {
    let (outlet, mut take) = outlet(1);
    let (all_wait, waiting) = std::sync::mpsc::channel();
    let thread = executor::start("feed", None, move || async move {
        let feed = feed(vec![]);
        feed.forward_to(outlet);
        let sources: Vec<_> = (0..SOURCES)
            .map(|_| {
                let feed = feed.clone();
                glommio::spawn_local(async move {
                    feed.offer(&event(b"1"), 0).unwrap();
                    feed.publish().await;
                })
            })
            .collect();
        executor::spawn(async move { all_wait.send(()).unwrap() });
        let all = async {
            for source in sources {
                source.await;
            }
        };
        executor::within(Duration::from_secs(20), all).await.expect("somebody was not woken");
    })
    .unwrap();
    waiting.recv().unwrap();
    let mut events = 0;
    while !thread.is_finished() {
        events += take().unwrap_or_default();
        std::thread::yield_now();
    }
    thread.join().unwrap();
    events += std::iter::from_fn(take).sum::<usize>();
    assert_eq!(events, SOURCES);
}

#[test]
fn a_stream_that_takes_nothing_more_does_not_keep_the_end_waiting() {
    let (outlet, take) = outlet(1);
    let thread = executor::start("feed", None, move || async move {
        let feed = feed(vec![]);
        feed.forward_to(outlet);
        for _ in 0..2 {
            feed.offer(&event(b"1"), 0).unwrap();
            executor::within(Duration::from_millis(10), feed.publish()).await;
        }
        feed.settle().await;
    })
    .unwrap();
    thread.join().unwrap();
    drop(take);
}

#[test]
fn what_is_offered_after_the_end_gets_to_nobody_and_no_source_takes_it_for_published() {
    let (sender, mut receiver) = ring(4);
    let thread = executor::start("feed", None, move || async move {
        let feed = feed(vec![sender]);
        feed.offer(&event(b"1"), 0).unwrap();
        feed.publish().await;
        feed.close();
        // Nothing was offered: there is nothing to wait for.
        feed.publish().await;
        feed.offer(&event(b"2"), 0).unwrap();
        let publish = || executor::within(Duration::from_millis(10), feed.publish());
        // Of two that have a part in it as well.
        assert!(publish().await.is_none() && publish().await.is_none());
    })
    .unwrap();
    thread.join().unwrap();
    let seqs = |batch: Arc<Batch>| batch.events.iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!(receiver.receive().map(seqs), Some(vec![1]));
    assert!(receiver.receive().is_none());
}
