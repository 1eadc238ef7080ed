//! The subscribers' processes, as the coordinator sees them.
//!
//! Not here: what they do (`subscribers`). Invariant: they end with this value.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::orders::{Answer, Count, Order, Plan, Report, Window};

/// How long connecting may stand still.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    clients: u64,
}

impl Crew {
    /// Starts one process for each plan, and lets it connect.
    ///
    /// # Errors
    /// What a process or a connection failed at.
    pub fn connect(plans: Vec<Plan>) -> Result<Self, String> {
        let mut members = Vec::new();
        let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
        for plan in &plans {
            let mut child = Command::new(&program)
                .arg("subscribers")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| format!("{} subscribers: {error}", program.display()))?;
            let input = child.stdin.take().expect("it is piped");
            let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
            members.push(Member { child, input, output, clients: plan.count });
        }
        let mut crew = Self { members };
        for (member, plan) in crew.members.iter_mut().zip(plans) {
            member.tell(&Order::Connect(Box::new(plan)))?;
        }
        crew.wait_ready("connecting")?;
        Ok(crew)
    }

    /// Subscribes those that are only connected.
    ///
    /// # Errors
    /// What a process or a connection failed at.
    pub fn subscribe(&mut self) -> Result<(), String> {
        self.tell(&Order::Subscribe)?;
        self.wait_ready("subscribing")
    }

    /// Begins to count.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn window(&mut self, window: Window) -> Result<(), String> {
        self.tell(&Order::Window(window))
    }

    /// Drops all clients but those that stay; they come back by themselves.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn drop_all(&mut self, jitter_s: f64) -> Result<(), String> {
        self.tell(&Order::Drop { jitter_s })?;
        self.wait_ready("dropping")
    }

    /// How far they are.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn count(&mut self) -> Result<Count, String> {
        self.tell(&Order::Count)?;
        let mut sum = Count::default();
        for member in &mut self.members {
            match member.answer()? {
                Answer::Count(count) => {
                    sum.deliveries += count.deliveries;
                    sum.away += count.away;
                    sum.back_ns = sum.back_ns.max(count.back_ns);
                    sum.disconnected += count.disconnected;
                }
                other => return Err(format!("a count was asked for, and the answer is {other:?}")),
            }
        }
        Ok(sum)
    }

    /// What came of the window.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn report(&mut self, newest: &[u64]) -> Result<Vec<Report>, String> {
        self.tell(&Order::Report { newest: newest.to_vec() })?;
        let mut all = Vec::new();
        for member in &mut self.members {
            match member.answer()? {
                Answer::Report(reports) => all.extend(reports),
                other => {
                    return Err(format!("a report was asked for, and the answer is {other:?}"));
                }
            }
        }
        Ok(all)
    }

    /// The processes, for what they use.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.child.id()).collect()
    }

    fn tell(&mut self, order: &Order) -> Result<(), String> {
        self.members.iter_mut().try_for_each(|member| member.tell(order))
    }

    fn wait_ready(&mut self, what: &str) -> Result<(), String> {
        let all: u64 = self.members.iter().map(|member| member.clients).sum();
        let bar = bar(what, all);
        let mut before = 0;
        for member in &mut self.members {
            let (mut last, mut since) = (0, Instant::now());
            loop {
                match member.next()? {
                    Answer::Ready => break,
                    Answer::Progress { live } => {
                        bar.set_position(before + live);
                        if live != last {
                            (last, since) = (live, Instant::now());
                        }
                        if since.elapsed() > PATIENCE {
                            let clients = member.clients;
                            return Err(format!(
                                "{what}: only {live} of {clients} clients got through; is the \
                                 server's 'subscribe' kind right in its file?"
                            ));
                        }
                    }
                    Answer::Failed(why) => return Err(format!("{what}: {why}")),
                    other => return Err(format!("{what}: {other:?}")),
                }
            }
            before += member.clients;
        }
        bar.finish_and_clear();
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Its clients are reset with it; what it could still say nobody needs.
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}

impl Member {
    fn tell(&mut self, order: &Order) -> Result<(), String> {
        let line = serde_json::to_string(order).expect("an order is plain data");
        let told = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        told.map_err(|error| format!("the subscribers' process: {error}"))
    }

    /// The next answer that is not progress.
    fn answer(&mut self) -> Result<Answer, String> {
        loop {
            match self.next()? {
                Answer::Progress { .. } => {}
                Answer::Failed(why) => return Err(why),
                answer => return Ok(answer),
            }
        }
    }

    fn next(&mut self) -> Result<Answer, String> {
        let gone = || "the subscribers' process has ended; see above".to_owned();
        let line = self.output.next().ok_or_else(gone)?;
        let line = line.map_err(|error| format!("the subscribers' process: {error}"))?;
        serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))
    }
}

/// A bar for people; nothing where nobody looks.
#[must_use]
pub fn bar(what: &str, length: u64) -> ProgressBar {
    let template = "{msg:>24} {bar:30} {human_pos}/{human_len} {eta}";
    let style = ProgressStyle::with_template(template).expect("a constant");
    ProgressBar::new(length).with_style(style).with_message(what.to_owned())
}
