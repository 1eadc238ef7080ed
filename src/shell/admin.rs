//! The admin address: a few read-only pages over plain HTTP, for probes and scripts.
//!
//! `GET /healthz` answers `ok` while the process lives, `GET /readyz` whether newcomers are
//! welcome, `GET /stats` the counters as JSON. Not here: subscribers, and
//! anything that changes the server. Invariant: a request is bounded in bytes and time.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::{ADMIN_MS, ADMIN_REQUEST_BYTES_MAX, RETRY_MS};
use crate::telemetry::Telemetry;

use super::executor;
use super::life::Life;
use super::net::{Listener, Stream};

/// Answers requests until a successor does.
pub async fn serve(listener: Listener, telemetry: Arc<Telemetry>, life: Arc<Life>) {
    while let Some(accepted) = listener.accept().await {
        match accepted {
            Ok(stream) => {
                let (telemetry, life) = (Arc::clone(&telemetry), Arc::clone(&life));
                executor::spawn(async move {
                    let time = Duration::from_millis(ADMIN_MS);
                    executor::within(time, answer(stream, &telemetry, &life)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an admin request could not be accepted");
                executor::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
}

async fn answer(mut stream: Stream, telemetry: &Telemetry, life: &Life) {
    let mut head = Vec::new();
    let mut buffer = [0; 512];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 && head.len() < ADMIN_REQUEST_BYTES_MAX => {
                head.extend_from_slice(&buffer[..count]);
            }
            _ => return,
        }
    }
    let (status, kind, body) = page(&head, telemetry, life);
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         \r\n{body}",
        body.len()
    );
    // A peer that went away needs no answer.
    let _ = stream.write_all(answer.as_bytes(), Duration::from_millis(ADMIN_MS)).await;
}

fn page(head: &[u8], telemetry: &Telemetry, life: &Life) -> (&'static str, &'static str, String) {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    match line.split(|&byte| byte == b' ').collect::<Vec<_>>()[..] {
        [b"GET", b"/healthz", _] => ("200 OK", "text/plain", "ok\n".into()),
        [b"GET", b"/readyz", _] if life.is_ready() => ("200 OK", "text/plain", "ready\n".into()),
        [b"GET", b"/readyz", _] => {
            ("503 Service Unavailable", "text/plain", "restoring, draining or stopping\n".into())
        }
        [b"GET", b"/stats", _] => ("200 OK", "application/json", telemetry.to_json()),
        [b"GET", _, _] => {
            ("404 Not Found", "text/plain", "there are /healthz, /readyz and /stats here\n".into())
        }
        _ => ("405 Method Not Allowed", "text/plain", "only GET is answered\n".into()),
    }
}
