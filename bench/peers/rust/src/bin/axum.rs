//! A broadcast server as axum's users write it: a tokio broadcast channel, and a task for each
//! subscriber that forwards it over axum's WebSocket (tokio-tungstenite).
//!
//! In its favour: a message's text is checked and stored once for all, and what waits for a
//! subscriber goes out with one flush.

use std::io;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt as _;
use fanfare_bench_peers::{CAPACITY, feed, listener, ports, runtime};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

type Events = Sender<Utf8Bytes>;

fn main() -> io::Result<()> {
    let Some((port, feed_port)) = ports("axum") else { return Ok(()) };
    runtime()?.block_on(async {
        let (events, _) = channel(CAPACITY);
        let producers = listener(feed_port).await?;
        tokio::spawn(feed(producers, events.clone(), text));
        let subscribers = listener(port).await?.tap_io(|socket| {
            let _ = socket.set_nodelay(true);
        });
        let app = Router::new().route("/", any(upgrade)).with_state(events);
        axum::serve(subscribers, app).await
    })
}

fn text(line: Bytes) -> Utf8Bytes {
    Utf8Bytes::try_from(line).expect("JSON is UTF-8")
}

async fn upgrade(upgrade: WebSocketUpgrade, State(events): State<Events>) -> Response {
    let events = events.subscribe();
    upgrade.on_upgrade(|socket| forward(socket, events))
}

/// Ends when the subscriber is gone or too far behind, which closes its connection.
async fn forward(socket: WebSocket, mut events: Receiver<Utf8Bytes>) {
    let (mut to_client, mut from_client) = socket.split();
    let reads = tokio::spawn(async move { while let Some(Ok(_)) = from_client.next().await {} });
    'forward: while let Ok(event) = events.recv().await {
        let mut next = Ok(event);
        while let Ok(event) = next {
            if to_client.feed(Message::Text(event)).await.is_err() {
                break 'forward;
            }
            next = events.try_recv();
        }
        let lagged = matches!(next, Err(TryRecvError::Lagged(_)));
        if to_client.flush().await.is_err() || lagged {
            break;
        }
    }
    reads.abort();
}
