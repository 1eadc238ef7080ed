//! A client of a fanfare server: events in order, each once, through lost connections.
//!
//! A [`Subscriber`] connects again by itself and goes on where it was: it asks the server for what
//! it has missed, drops what it has been given before, and says what cannot be had, as a [`Gap`].
//! Blocking; without threads of its own but for the moment of connecting.
//!
//! ```no_run
//! use fanfare::client::{Item, Subscription};
//!
//! let subscriber = Subscription::new("ws://127.0.0.1:9001/v1", ["trade.*"]).start()?;
//! for item in subscriber {
//!     match item? {
//!         Item::Event(event) => println!("{} {} {}", event.seq, event.channel, event.data()),
//!         Item::Gap(gap) => eprintln!("{gap}"),
//!         Item::Notice(notice) => eprintln!("{notice}"),
//!         Item::Control(_) => {}
//!     }
//! }
//! # Ok::<(), fanfare::client::Error>(())
//! ```
//!
//! Several nodes of a cluster are one address with commas between them: `ws://a/v1,ws://b/v1`. The
//! subscriber goes from one to another; a [`Pair`] has two connections, and gives the first of each
//! event.
//!
//! A program that is to go on where it was after its own restart keeps [`Subscriber::place`] beside
//! what it has made of the events, and gives it to [`Subscription::resume`].
//!
//! Not here: sockets and the handshake of TLS (`shell`), and what is done with events. Invariant:
//! see [`progress`].

pub mod agreed;
pub mod announced;
mod connector;
pub mod credential;
pub mod error;
pub mod frame;
pub mod item;
pub mod merge;
pub mod pair;
pub mod place;
pub mod progress;
pub mod reconnect;
pub mod route;
pub mod state;
pub mod subscriber;
pub mod subscription;

pub use credential::{Credential, Token};
pub use error::Error;
pub use item::{Cause, Event, Gap, Item, Link, Notice};
pub use pair::Pair;
pub use place::Place;
pub use subscriber::Subscriber;
pub use subscription::Subscription;

pub use crate::protocol::policy::Policy;
pub use crate::protocol::terms::Wish as Terms;
pub use crate::shell::trust::TrustFiles;
