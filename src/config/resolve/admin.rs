//! The settings of the admin pages.
//!
//! Not here: reading the token. Invariant: an address that others can reach has a token.

use std::net::SocketAddr;

use super::Resolver;
use crate::config::AdminSettings;
use crate::config::values::{self, Wrong};

impl Resolver<'_> {
    /// The admin address, and what is asked of those who come there.
    pub(super) fn admin(&mut self) -> (Option<SocketAddr>, Option<AdminSettings>) {
        let address = self.address("admin");
        let token_file = self.path("admin_token_file");
        let ready_needs_sources = self.take("ready_needs_sources", None, false, values::boolean);
        let drills = self.take("drills", None, false, values::boolean);
        match address {
            Some(address) if !address.ip().is_loopback() && token_file.is_none() => {
                let what = format!("`{address}` can be reached from other hosts");
                let allowed = "an address such as 127.0.0.1:9003, or admin_token_file beside it";
                self.wrong("admin", Wrong::new(what, allowed));
            }
            Some(_) => {}
            None => self.needs("admin_token_file", "admin"),
        }
        let settings = ready_needs_sources.zip(drills).map(|(ready_needs_sources, drills)| {
            AdminSettings { token_file, ready_needs_sources, drills }
        });
        (address, settings)
    }
}
