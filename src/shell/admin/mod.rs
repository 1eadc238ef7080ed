//! The admin address: probes, metrics and the operator's API over plain HTTP.
//!
//! An executor of its own serves it, so that a page costs neither the feed nor a core of clients
//! more than its question. Not here: what each page says (`pages`), and subscribers. Invariant: a
//! request is bounded in bytes and time, and where there is a token it has shown it.

mod about;
mod files;
mod listings;
mod pages;
mod request;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::config::AdminSettings;
use crate::limits::{ADMIN_MS, ADMIN_REQUEST_BYTES_MAX, ADMIN_REQUESTS_MAX, RETRY_MS};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Exporter;

use super::executor;
use super::life::Life;
use super::mailbox::Mailbox;
use super::net::{Listener, Stream};

pub use about::About;
use pages::Page;
use request::Request;

/// What the pages are made of.
#[derive(Debug)]
pub struct Admin {
    settings: AdminSettings,
    about: About,
    /// What a request must show, if anything.
    token: Option<Box<str>>,
    telemetry: Arc<Telemetry>,
    exporter: Exporter,
    life: Arc<Life>,
    /// One for each shard.
    mailboxes: Vec<Arc<Mailbox>>,
    /// Requests that are being served.
    served: Cell<usize>,
}

impl Admin {
    /// The pages of a server.
    #[must_use]
    pub fn new(
        settings: AdminSettings,
        about: About,
        token: Option<Box<str>>,
        telemetry: Arc<Telemetry>,
        life: Arc<Life>,
        mailboxes: Vec<Arc<Mailbox>>,
    ) -> Self {
        let exporter = Exporter::new(Arc::clone(&telemetry));
        let served = Cell::new(0);
        Self { settings, about, token, telemetry, exporter, life, mailboxes, served }
    }

    /// Answers requests until a successor does.
    pub async fn serve(self, listener: Listener) {
        let admin = Rc::new(self);
        while let Some(accepted) = listener.accept().await {
            match accepted {
                Ok(stream) => executor::spawn(Rc::clone(&admin).enter(stream)),
                Err(error) => {
                    tracing::warn!(%error, "an admin request could not be accepted");
                    executor::sleep(Duration::from_millis(RETRY_MS)).await;
                }
            }
        }
    }

    async fn enter(self: Rc<Self>, mut stream: Stream) {
        const TIME: Duration = Duration::from_millis(ADMIN_MS);
        if self.served.get() >= ADMIN_REQUESTS_MAX {
            return;
        }
        self.served.set(self.served.get() + 1);
        if let Some(Some(head)) = executor::within(TIME, read(&mut stream)).await {
            let page = match Request::parse(&head) {
                Some(request) => self.answer(&request).await,
                None => Page::text(400, "this is no HTTP/1.1 request\n"),
            };
            // A peer that went away needs no answer.
            if stream.write_all(&page.response(), TIME).await.is_ok() {
                stream.finish(TIME).await;
            }
        }
        self.served.set(self.served.get() - 1);
    }

    async fn answer(&self, request: &Request) -> Page {
        if self.token.is_none() && !request.names_an_address() {
            return Page::text(403, "ask by address, not by a name, or set admin_token_file\n");
        }
        // The same for everybody; the page asks for the token itself.
        if let Some(file) = files::file(request) {
            return file;
        }
        if let Some(token) = &self.token {
            let shown = request.bearer.as_deref().unwrap_or_default();
            if verify_slices_are_equal(shown.as_bytes(), token.as_bytes()).is_err() {
                return Page::text(401, "show the token: Authorization: Bearer TOKEN\n");
            }
        }
        if request.method != "GET" && request.is_of_another_origin() {
            return Page::text(403, "a page of another origin may not ask for this\n");
        }
        self.page(request).await
    }
}

/// The head of a request; none if the peer ends before, or sends too much.
async fn read(stream: &mut Stream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 512];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 && head.len() < ADMIN_REQUEST_BYTES_MAX => {
                head.extend_from_slice(&buffer[..count]);
            }
            _ => return None,
        }
    }
    Some(head)
}
