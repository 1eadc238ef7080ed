//! A subscriber with tokio-tungstenite; see `support.ClientProgram` for the lines that it prints.
//!
//! Not here: what the lines should be (`test_clients.py`). Invariant: a message is printed as it
//! came.

use std::error::Error;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("an address and channels are needed")?;
    let channels: Vec<_> = arguments.map(|channel| format!("\"{channel}\"")).collect();
    let channels = channels.join(",");
    let request = ClientRequestBuilder::new(url.parse()?).with_sub_protocol("fanfare.v1.json");
    let (mut socket, response) = connect_async(request).await?;
    let subprotocol = response.headers().get("sec-websocket-protocol");
    println!("open {}", subprotocol.map_or(Ok("none"), |name| name.to_str())?);
    socket.send(Message::Ping("?".into())).await?;
    // It goes on until the stream ends, because that is when the answer to a close has been sent.
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) => println!("{text}"),
            Message::Pong(_) => {
                println!("pong");
                let params =
                    format!(r#"{{"channels":[{channels}],"policy":"all","snapshot":false}}"#);
                let subscribe = format!(r#"{{"method":"subscribe","params":{params},"req_id":1}}"#);
                socket.send(subscribe.into()).await?;
            }
            Message::Close(close) => {
                println!("closed {}", close.map_or(1005, |close| close.code.into()));
            }
            Message::Ping(_) => {}
            other => println!("unexpected {other:?}"),
        }
    }
    Ok(())
}
