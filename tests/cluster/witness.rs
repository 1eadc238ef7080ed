//! What is published, who reads it, and whether each of them has got it.
//!
//! The order of a channel's events is known before they are published; the stream decides their
//! `seq`. Not here: how clients go from node to node, which `fanfare::client` does. Invariant: a
//! client with policy `all` is right if each of its channels is the capture's from the first event
//! to the last, its links included; and of every `seq` all clients have seen the same bytes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanfare::client::{Error, Event, Item, Notice, Pair, Policy, Subscriber, Subscription, Terms};

use crate::day::Day;
use crate::support::eventually;

const STEP: Duration = Duration::from_millis(50);

/// A line of the producer, and when it is due in the capture.
pub(crate) struct Line {
    pub(crate) text: Vec<u8>,
    pub(crate) at: Duration,
}

/// What is published.
pub(crate) struct Truth {
    pub(crate) lines: Vec<Line>,
    names: Vec<String>,
    numbers: HashMap<String, usize>,
    /// Of each channel the data of its events, in order.
    channels: Vec<Vec<Box<str>>>,
    patterns: [&'static str; 3],
    /// A hash of the frame of each `seq`; 0: nobody has got it.
    frames: Vec<AtomicU64>,
}

impl Truth {
    pub(crate) fn new(day: &Day, span: Duration) -> Self {
        let (mut lines, mut channels) = (Vec::new(), Vec::<Vec<Box<str>>>::new());
        let (mut names, mut numbers) = (Vec::new(), HashMap::new());
        let mut first = None;
        day.for_each(|event| {
            let ts = event.ts.unwrap_or_default();
            let at = Duration::from_nanos(ts.saturating_sub(*first.get_or_insert(ts)));
            if at >= span {
                return;
            }
            let number = *numbers.entry(event.channel.to_owned()).or_insert_with(|| {
                names.push(event.channel.to_owned());
                channels.push(Vec::new());
                channels.len() - 1
            });
            channels[number].push(std::str::from_utf8(event.data).unwrap().into());
            let mut text = Vec::new();
            event.write_line(&mut text);
            lines.push(Line { text, at });
        });
        // A sequence may have numbers that no event has.
        let frames = (0..=2 * lines.len()).map(|_| AtomicU64::new(0)).collect();
        Self { lines, names, numbers, channels, patterns: day.groups, frames }
    }

    pub(crate) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Which channels a pattern matches.
    fn wanted(&self, pattern: &str) -> Vec<usize> {
        let pattern = fanfare::protocol::channel::Pattern::parse(pattern).unwrap();
        (0..self.names.len()).filter(|&number| pattern.matches(&self.names[number])).collect()
    }
}

/// What everybody is up against, and whether it is over.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    subscribed: AtomicUsize,
    is_calm: AtomicBool,
    is_over: AtomicBool,
}

impl Weather {
    pub(crate) fn wait_until_all_have_subscribed(&self, count: usize) {
        eventually("all have subscribed", || self.subscribed.load(Ordering::Relaxed) >= count);
    }

    /// Everything was published; whoever does not have it after `patience` never will.
    pub(crate) fn calm(self: &Arc<Self>, patience: Duration) {
        self.is_calm.store(true, Ordering::Relaxed);
        let weather = Arc::clone(self);
        std::thread::spawn(move || {
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline && Arc::strong_count(&weather) > 2 {
                std::thread::sleep(STEP);
            }
            weather.is_over.store(true, Ordering::Relaxed);
        });
    }
}

/// What became of one client.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    events: u64,
    connections: u64,
    resumes: u64,
    is_pair: bool,
    wrong: Option<String>,
}

/// A client in its thread.
pub(crate) struct Reader(JoinHandle<Outcome>);

enum Connections {
    One(Box<Subscriber>),
    Two(Box<Pair>),
}

impl Reader {
    /// Every third one has two connections, every fifth one conflates; each wants something else.
    pub(crate) fn start(
        number: usize,
        nodes: &str,
        truth: &Arc<Truth>,
        weather: &Arc<Weather>,
    ) -> Self {
        let (truth, weather) = (Arc::clone(truth), Arc::clone(weather));
        let pattern = match number % 8 {
            0 => ">".to_owned(),
            1..=3 => truth.patterns[number % 3].to_owned(),
            _ => truth.names[number % truth.names.len()].clone(),
        };
        let policy = if number % 5 == 4 { Policy::Latest } else { Policy::All };
        let terms = Terms { policy: Some(policy), ..Terms::default() };
        let subscription = Subscription::new(nodes, [pattern.clone()]).terms(terms);
        let is_pair = number % 3 == 2;
        let connections = if is_pair {
            Connections::Two(Box::new(subscription.start_pair().unwrap()))
        } else {
            Connections::One(Box::new(subscription.start().unwrap()))
        };
        let thread = std::thread::Builder::new().name(format!("reader {number}"));
        let run = move || {
            let wanted = truth.wanted(&pattern);
            let progress = truth.names.iter().map(|_| Progress::default()).collect();
            let mut watch = Watch {
                name: format!("reader {number}, `{pattern}`, {policy:?}, pair: {is_pair}"),
                truth: &truth,
                weather: &weather,
                wanted,
                policy,
                progress,
                is_counted: false,
                outcome: Outcome { is_pair, ..Outcome::default() },
                trace: Vec::new(),
            };
            watch.follow(connections);
            watch.outcome
        };
        Self(thread.spawn(run).unwrap())
    }

    pub(crate) fn end(self) -> Outcome {
        self.0.join().unwrap()
    }
}

/// What has come of a channel.
#[derive(Debug, Clone, Default)]
struct Progress {
    count: usize,
    last: u64,
    last_data: String,
}

struct Watch<'a> {
    name: String,
    truth: &'a Truth,
    weather: &'a Weather,
    wanted: Vec<usize>,
    policy: Policy,
    progress: Vec<Progress>,
    /// It was counted as one that has subscribed.
    is_counted: bool,
    outcome: Outcome,
    trace: Vec<String>,
}

impl Watch<'_> {
    fn follow(&mut self, mut connections: Connections) {
        while self.outcome.wrong.is_none() {
            let read = match &mut connections {
                Connections::One(one) => one.read(STEP, |item| self.take(&item)),
                Connections::Two(two) => two.read(STEP, |item| self.take(&item)),
            };
            self.look(read);
            if self.weather.is_calm.load(Ordering::Relaxed) && self.has_all() {
                return;
            }
            if self.weather.is_over.load(Ordering::Relaxed) {
                let short = self.wanted.iter().filter(|&&channel| !self.has(channel));
                let short: Vec<_> = short
                    .map(|&channel| {
                        let has = self.progress[channel].count;
                        let of = self.truth.channels[channel].len();
                        format!("{} has {has} of {of}", self.truth.names[channel])
                    })
                    .collect();
                self.fail(format!("it does not have all: {}", short.join(", ")));
            }
        }
    }

    fn look(&mut self, read: Result<(), Error>) {
        if let Err(error) = read {
            self.fail(format!("it has ended: {error}"));
        }
    }

    fn has(&self, channel: usize) -> bool {
        let (progress, data) = (&self.progress[channel], &self.truth.channels[channel]);
        match self.policy {
            Policy::Latest => data.last().is_none_or(|last| **last == *progress.last_data),
            _ => progress.count == data.len(),
        }
    }

    fn has_all(&self) -> bool {
        self.wanted.iter().all(|&channel| self.has(channel))
    }

    fn fail(&mut self, what: String) {
        let from = self.trace.len().saturating_sub(24);
        let trace = self.trace[from..].join("\n    ");
        let name = &self.name;
        self.outcome.wrong.get_or_insert_with(|| format!("{name}: {what}\n    {trace}"));
    }

    fn take(&mut self, item: &Item<'_>) {
        let taken = match item {
            Item::Event(event) => self.take_event(event),
            Item::Gap(gap) => Err(format!("{gap}")),
            Item::Notice(notice) => self.take_notice(notice),
            Item::Control(_) => Ok(()),
        };
        if let Err(what) = taken {
            self.fail(what);
        }
    }

    fn take_event(&mut self, event: &Event<'_>) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        event.text().hash(&mut hasher);
        let hash = hasher.finish().max(1);
        let seq = event.seq;
        let frame = usize::try_from(seq).ok().and_then(|seq| self.truth.frames.get(seq));
        let frame = frame.ok_or_else(|| format!("no event has seq {seq}"))?;
        let known = frame.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed);
        if known.is_err_and(|known| known != hash) {
            return Err(format!("others have another frame of seq {seq}: {}", event.text()));
        }
        self.outcome.events += 1;
        let channel = self.truth.numbers.get(&*event.channel);
        let &channel = channel.ok_or_else(|| format!("no channel {}", event.channel))?;
        let progress = &mut self.progress[channel];
        if seq <= progress.last {
            return Err(format!("{seq} after {} on {}", progress.last, event.channel));
        }
        if self.policy == Policy::All {
            if event.prev != progress.last {
                return Err(format!("{seq} follows {}, not {}", event.prev, progress.last));
            }
            let expected = self.truth.channels[channel].get(progress.count);
            if expected.is_none_or(|expected| **expected != *event.data()) {
                return Err(format!("{} is not what was published: {expected:?}", event.text()));
            }
        }
        progress.count += 1;
        progress.last = seq;
        event.data().clone_into(&mut progress.last_data);
        Ok(())
    }

    fn take_notice(&mut self, notice: &Notice) -> Result<(), String> {
        self.trace.push(format!("{notice:?}"));
        match notice {
            Notice::Anew | Notice::NotResumed { .. } | Notice::Ended { .. } | Notice::Spare => {
                return Err(format!("{notice:?}"));
            }
            Notice::Lost { why, .. } if why.contains("a hole") => return Err(why.clone()),
            Notice::Connected { .. } => self.outcome.connections += 1,
            Notice::Resumed { .. } => self.outcome.resumes += 1,
            Notice::Whole { .. } if !self.is_counted => {
                self.is_counted = true;
                self.weather.subscribed.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Shows what was counted, and fails with what is wrong.
pub(crate) fn judge(outcomes: &[Outcome], truth: &Truth) {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let (events, resumes) = (sum(|o| o.events), sum(|o| o.resumes));
    println!(
        "{events} events came, over {} connections, {resumes} resumes",
        sum(|o| o.connections)
    );
    let wrong: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.wrong.as_ref()).collect();
    for what in wrong.iter().take(6) {
        eprintln!("{what}\n");
    }
    assert!(wrong.is_empty(), "{} of {} clients are wrong", wrong.len(), outcomes.len());
    let compared = truth.frames.iter().filter(|frame| frame.load(Ordering::Relaxed) != 0).count();
    assert_eq!(compared, truth.count(), "frames of the capture that somebody has got");
    // It was one.
    assert!(resumes > outcomes.len() as u64 / 2, "{resumes} resumes are no chaos");
    assert!(outcomes.iter().any(|outcome| outcome.is_pair));
}
