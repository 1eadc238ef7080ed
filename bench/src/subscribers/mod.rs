//! `fanfare-bench subscribers`: one process of clients, told what to do by lines of JSON.
//!
//! Not here: what is measured of the server. Invariant: the process ends when its standard input
//! does, so no run leaves clients behind.

use std::io::{BufRead, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use mio::Waker;

use self::worker::{Lines, Worker};
use crate::cpus;
use crate::orders::{Answer, Count, Order, Plan};

pub use self::connect::{session, tls};

mod client;
mod connect;
mod recorder;
mod transfer;
mod unpacked;
mod worker;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(200);
/// Files beside the clients' sockets.
const OTHER_FILES: u64 = 64;

/// Serves orders from standard input until it ends.
///
/// # Errors
/// An order that is none.
pub fn run() -> Result<(), String> {
    let mut threads: Option<Threads> = None;
    for line in stdin().lock().lines() {
        let line = line.map_err(|error| format!("standard input: {error}"))?;
        let order: Order =
            serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))?;
        match (&threads, order) {
            (_, Order::Quit) => break,
            (None, Order::Connect(plan)) => match Threads::start(&plan) {
                Ok(started) => {
                    threads = Some(started);
                    say(&threads.as_ref().expect("just started").answers());
                }
                Err(why) => say(&Answer::Failed(why)),
            },
            (Some(threads), order) => {
                let answered = !matches!(order, Order::Window(_));
                threads.tell(&order);
                if answered {
                    say(&threads.answers());
                }
            }
            (None, _) => say(&Answer::Failed("'connect' comes first".into())),
        }
    }
    Ok(())
}

fn say(answer: &Answer) {
    let line = serde_json::to_string(answer).expect("an answer is plain data");
    let mut out = stdout().lock();
    // When nobody listens, standard input ends as well.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

struct Threads {
    orders: Vec<(Sender<Order>, Waker)>,
    answers: Receiver<Answer>,
    settled: Arc<AtomicU64>,
}

impl Threads {
    fn start(plan: &Plan) -> Result<Self, String> {
        cpus::open_files(plan.count + OTHER_FILES).map_err(|error| error.to_string())?;
        let (answer, answers) = channel();
        let settled = Arc::new(AtomicU64::new(0));
        let count = plan.cpus.len().max(1) as u64;
        let mut orders = Vec::new();
        for place in 0..count {
            let (tell, told) = channel();
            let lines =
                Lines { orders: told, answers: answer.clone(), settled: Arc::clone(&settled) };
            let (worker, waker) = Worker::new(share(plan, place, count), lines)?;
            let thread = thread::Builder::new().name(format!("clients-{place}"));
            thread.spawn(|| worker.run()).map_err(|error| format!("a thread: {error}"))?;
            orders.push((tell, waker));
        }
        Ok(Self { orders, answers, settled })
    }

    fn tell(&self, order: &Order) {
        for (orders, waker) in &self.orders {
            // A thread that is gone has said why.
            let _ = orders.send(order.clone());
            let _ = waker.wake();
        }
    }

    /// One answer of each thread, put together.
    fn answers(&self) -> Answer {
        let mut sum = Answer::Ready;
        let mut waiting = self.orders.len();
        while waiting > 0 {
            let answer = match self.answers.recv_timeout(PROGRESS) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => {
                    say(&Answer::Progress { live: self.settled.load(Ordering::Relaxed) });
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Answer::Failed("a thread of clients has ended; see above".into());
                }
            };
            waiting -= 1;
            sum = match (sum, answer) {
                (_, Answer::Failed(why)) => return Answer::Failed(why),
                (Answer::Count(a), Answer::Count(b)) => Answer::Count(Count {
                    deliveries: a.deliveries + b.deliveries,
                    away: a.away + b.away,
                    back_ns: a.back_ns.max(b.back_ns),
                    disconnected: a.disconnected + b.disconnected,
                }),
                (Answer::Report(mut all), Answer::Report(more)) => {
                    all.extend(more);
                    Answer::Report(all)
                }
                (_, answer) => answer,
            };
        }
        sum
    }
}

/// One thread's part of the clients, on its CPU.
fn share(plan: &Plan, place: u64, count: u64) -> Plan {
    let from = plan.count * place / count;
    let to = plan.count * (place + 1) / count;
    let cpu = plan.cpus.get(usize::try_from(place).expect("a small number"));
    let part = (to - from) as f64 / plan.count.max(1) as f64;
    Plan {
        first: plan.first + from,
        count: to - from,
        cpus: cpu.copied().into_iter().collect(),
        churn_per_s: plan.churn_per_s * part,
        changes_per_s: plan.changes_per_s * part,
        ..plan.clone()
    }
}
