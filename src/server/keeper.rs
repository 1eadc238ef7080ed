//! The thread beside the executors: the control socket, reloads, and the hand-over to a successor.
//!
//! One request at a time, because each may read files. A successor has the time that it needs: it
//! is waited for beside everything else, until it is ready or has ended. Not here: what is read
//! ([`super::reload`]). Invariant: a successor that does not come to life changes nothing, and
//! there is one at a time.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::drain::Drain;
use super::reload::{Reloaded, Reloads};
use crate::limits::{CONTROL_MS, CONTROL_PERIOD_MS, DRAIN_MS_MAX, FILES_MS};
use crate::protocol::control::{Refusal, Reply, Request};
use crate::shell::clock;
use crate::shell::control::{ControlListener, ControlStream};
use crate::shell::estate::Named;
use crate::shell::supervisor;

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) drain: Drain,
    pub(super) reloads: Reloads,
    /// Signals to reload.
    pub(super) asked: Receiver<()>,
    pub(super) control: Option<ControlListener>,
    /// Descriptors of all listeners, for a successor.
    pub(super) listeners: Vec<Named>,
    /// Who has them and is not ready yet.
    pub(super) successor: Option<ControlStream>,
}

impl Keeper {
    /// Works until the server stops. One that has handed over is asked no more, and rules hold for
    /// those who are left there all the same.
    pub(super) fn run(mut self) {
        let mut looked_ns = clock::now().monotonic_ns;
        while !self.drain.life.is_stopping() {
            if self.drain.life.is_handed_over() {
                (self.control, self.listeners) = (None, Vec::new());
            }
            if let Err(error) = self.serve_next() {
                tracing::warn!(%error, "a request at the control socket has failed");
            }
            self.hear_successor();
            if self.asked.try_iter().count() > 0 {
                self.reload();
            }
            self.reloads.take_rules();
            let now_ns = clock::now().monotonic_ns;
            if now_ns - looked_ns > FILES_MS * 1_000_000 {
                self.reloads.reload_changed();
                looked_ns = now_ns;
            }
        }
    }

    /// Waits a little for somebody at the control socket, and serves it.
    fn serve_next(&mut self) -> io::Result<()> {
        let period = Duration::from_millis(CONTROL_PERIOD_MS);
        let Some(control) = &self.control else {
            std::thread::sleep(period);
            return Ok(());
        };
        let Some(mut peer) = control.accept(period)? else { return Ok(()) };
        while let Some(mut line) = peer.read_line(Duration::from_millis(CONTROL_MS))? {
            match Request::parse(&mut line) {
                Ok(Request::TakeOver) if self.successor.is_none() => return self.give(peer),
                Ok(request) => peer.write(&self.answer(request).to_line())?,
                Err(refusal) => peer.write(&Reply::refused(refusal).to_line())?,
            }
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Drain { window_ms: Some(window_ms) } if window_ms > DRAIN_MS_MAX => {
                let message = format!("window_ms is at most {DRAIN_MS_MAX}");
                Reply::refused(Refusal { code: "request_bad".into(), message })
            }
            Request::Drain { window_ms } => {
                self.drain.begin(window_ms.map(Duration::from_millis));
                self.status()
            }
            Request::Reload => self.reload(),
            Request::Status => self.status(),
            Request::TakeOver => {
                let message = "another successor has the listeners and is starting; wait for it, \
                               or end it";
                Reply::refused(Refusal { code: "taken_over".into(), message: message.into() })
            }
            Request::TakenOver => {
                let message = "say take_over first, on the same connection".into();
                Reply::refused(Refusal { code: "not_taken_over".into(), message })
            }
        }
    }

    fn status(&self) -> Reply {
        let left = self.drain.left();
        let stage = if left.is_some() { "draining" } else { "serving" };
        Reply {
            stage: Some(stage.into()),
            clients: Some(self.drain.clients()),
            window_ms: left.map(|left| clock::nanoseconds(left).div_ceil(1_000_000)),
            ..Reply::done()
        }
    }

    fn reload(&mut self) -> Reply {
        supervisor::reloading();
        let Reloaded { done, after_restart, wrong } = self.reloads.reload();
        supervisor::reloaded();
        for what in &done {
            tracing::info!("{what} were read again and are in force");
        }
        for key in &after_restart {
            tracing::warn!("{key} has changed, and is in force after a restart");
        }
        if wrong.is_empty() {
            let after_restart = after_restart.iter().map(|&key| key.to_owned()).collect();
            return Reply {
                reloaded: Some(done),
                after_restart: Some(after_restart),
                ..Reply::done()
            };
        }
        let mut message = wrong.join("; ");
        for line in message.lines() {
            tracing::error!("what was in force before stays: {line}");
        }
        if !done.is_empty() {
            message.push_str(&format!("; in force all the same: {}", done.join(", ")));
        }
        Reply::refused(Refusal { code: "reload_failed".into(), message })
    }

    /// Gives a successor the listeners.
    fn give(&mut self, mut successor: ControlStream) -> io::Result<()> {
        let names = self.listeners.iter().map(|(name, _)| name.clone()).collect();
        let reply = Reply { listeners: Some(names), ..Reply::done() };
        successor.write(&reply.to_line())?;
        let descriptors: Vec<_> = self.listeners.iter().map(|(_, listener)| listener).collect();
        successor.send_descriptors(&descriptors)?;
        tracing::info!("a successor has the listeners");
        self.successor = Some(successor);
        Ok(())
    }

    /// Makes way for a successor that is ready, and forgets one that has ended.
    fn hear_successor(&mut self) {
        let Some(mut successor) = self.successor.take_if(|successor| successor.has_news()) else {
            return;
        };
        let line = successor.read_line(Duration::from_millis(CONTROL_MS));
        let said = line.map(|line| line.map(|mut line| Request::parse(&mut line)));
        // One that has ended since it said so cannot be answered.
        let is_ready = matches!(said, Ok(Some(Ok(Request::TakenOver))))
            && successor.write(&Reply::done().to_line()).is_ok();
        if is_ready {
            self.drain.hand_over();
        } else {
            tracing::warn!("the successor did not come to life; serving as before");
        }
    }
}
