//! Forms that come and go with their clients.
//!
//! A form that its clients cannot do without is filled from what the log has, some of it at each
//! turn; until then they wait, and everybody else is served. To the log, one that waits is as slow
//! as any other that takes nothing. Not here: the writing ([`super::super::store`]). Invariant: who
//! is sent something reads a form that is filled.

use crate::protocol::encoding::Form;

use super::super::connection::ConnectionId;
use super::Shard;

impl Shard {
    /// One turn's share of a form that is being filled.
    pub(super) fn fill_form(&mut self) {
        if self.store.is_filling() && self.store.step(self.settings.fill_bytes) {
            self.ready.extend(self.unformed.drain(..));
        }
    }

    /// Whether a connection has to wait for its form; then it is made ready when that is filled.
    pub(super) fn waits_for_form(&mut self, id: ConnectionId) -> bool {
        let waits = self.store.is_filling()
            && self.connection(id).is_some_and(|connection| {
                let encoding = self.cohorts.cohort(connection.cohort).key.encoding;
                !self.store.is_filled(encoding.form())
            });
        if waits {
            self.unformed.push(id);
        }
        waits
    }

    /// Ends forms that nobody has read for long.
    pub(super) fn end_forms(&mut self) {
        for form in self.store.log.forms() {
            let is_read = self.counters().encodings.at(form as usize).value() > 0;
            let left_ns = self.forms_left_ns[form as usize];
            if !is_read
                && !self.settings.forms.contains(&form)
                && self.now_ns.saturating_sub(left_ns) >= self.settings.form_idle_ns
            {
                self.store.end(form);
            }
        }
    }

    /// Forms beside JSON that are in use.
    #[must_use]
    pub fn form_count(&self) -> usize {
        self.store.log.forms().count()
    }

    /// Whether clients of `form` have to wait, because it is being filled.
    #[must_use]
    pub fn is_filling(&self, form: Form) -> bool {
        !self.store.is_filled(form)
    }
}
