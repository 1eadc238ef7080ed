//! A broadcast server on hyper and fastwebsockets: a tokio broadcast channel, and a task for each
//! subscriber that writes its frames.
//!
//! In its favour: payloads are shared by all, and what waits for a subscriber is gathered in a
//! buffer and goes out with one write; the library by itself makes one for each frame.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use fanfare_bench_peers::{CAPACITY, feed, listener, ports, runtime};
use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use fastwebsockets::{Frame, Payload, WebSocketError, WebSocketWrite};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, BufWriter};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// As much as tungstenite gathers.
const WRITE_BYTES: usize = 128 << 10;

type Events = Sender<Bytes>;

fn main() -> io::Result<()> {
    let Some((port, feed_port)) = ports("fastwebsockets") else { return Ok(()) };
    runtime()?.block_on(async {
        let (events, _) = channel(CAPACITY);
        let producers = listener(feed_port).await?;
        tokio::spawn(feed(producers, events.clone(), |line| line));
        let subscribers = listener(port).await?;
        loop {
            let (socket, _) = subscribers.accept().await?;
            let _ = socket.set_nodelay(true);
            let events = events.clone();
            let service = service_fn(move |request| respond(request, events.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::spawn(connection.with_upgrades());
        }
    })
}

async fn respond(
    mut request: Request<Incoming>,
    events: Events,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let upgraded = is_upgrade_request(&request).then(|| upgrade(&mut request));
    let Some(Ok((response, socket))) = upgraded else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return Ok(refusal);
    };
    tokio::spawn(forward(socket, events.subscribe()));
    Ok(response)
}

/// Ends when the subscriber is gone or too far behind, which closes its connection.
async fn forward(socket: UpgradeFut, mut events: Receiver<Bytes>) -> Result<(), WebSocketError> {
    let (mut from_client, mut to_client) = socket.await?.split(|stream| {
        let (reads, writes) = tokio::io::split(stream);
        (reads, BufWriter::with_capacity(WRITE_BYTES, writes))
    });
    let reads = tokio::spawn(async move {
        let answer = |_| async { Ok::<_, Infallible>(()) };
        while from_client.read_frame(&mut { answer }).await.is_ok() {}
    });
    let _ = write(&mut to_client, &mut events).await;
    reads.abort();
    Ok(())
}

async fn write<S: AsyncWrite + Unpin>(
    to_client: &mut WebSocketWrite<S>,
    events: &mut Receiver<Bytes>,
) -> Result<(), WebSocketError> {
    while let Ok(event) = events.recv().await {
        let mut next = Ok(event);
        while let Ok(event) = next {
            to_client.write_frame(Frame::text(Payload::Borrowed(&event))).await?;
            next = events.try_recv();
        }
        to_client.flush().await?;
        if matches!(next, Err(TryRecvError::Lagged(_))) {
            break;
        }
    }
    Ok(())
}
