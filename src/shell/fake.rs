//! The other side of a connection, for tests of the tools. Only built for tests.
//!
//! Invariant: ports are the kernel's choice, so tests can run beside each other.

use std::net::TcpListener;
use std::thread::JoinHandle;

use super::dial::Producer;

/// Listens at the `HOST:PORT` that is returned and plays `scene` with the one peer that connects.
pub(crate) fn listen<T: Send + 'static>(
    scene: impl FnOnce(Producer) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let play = move || scene(Producer::Tcp(listener.accept().unwrap().0));
    (address, std::thread::spawn(play))
}

/// A `HOST:PORT` where nobody listens.
pub(crate) fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
