//! `fanfare subscribe` through the restart of its server.

use std::io::{BufRead, BufReader, Lines, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Folder, Server, eventually, fanfare};
use crate::{access, tls};

/// A running `fanfare subscribe`.
struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    fn start(arguments: &str) -> Self {
        let mut child = fanfare(&format!("subscribe {arguments}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The data of the next event.
    fn data(&mut self) -> Value {
        loop {
            let line = self.lines.next().expect("it still runs").unwrap();
            let frame: Value = serde_json::from_str(&line).unwrap();
            if let Some(data) = frame.get("data") {
                return data.clone();
            }
        }
    }

    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Its exit code, and what it wrote to standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

/// A server at addresses that one before it had.
fn again(addresses: &[SocketAddr], flags: &str) -> Server {
    // The kernel ends the rings of a process after the process, and with them its listeners.
    for address in addresses {
        eventually("the address is free", || TcpListener::bind(address).is_ok());
    }
    let common = "serve --admin 127.0.0.1:0 --source tcp://127.0.0.1:0";
    Server::launch(fanfare(&format!("{common} {flags}")))
}

fn has_subscribed(server: &Server) {
    eventually("it has subscribed", || server.counter("commands") == 1);
}

#[test]
fn a_subscriber_follows_its_server_through_a_restart_and_says_that_it_began_anew() {
    let mut first = Server::start("");
    let mut subscriber = Subscriber::start(&format!("ws://{} > --count 2", first.listen));
    has_subscribed(&first);
    first.producer().publish("a", "1");
    assert_eq!(subscriber.data(), 1);
    first.signal("INT");
    assert_eq!(first.end().code(), Some(0));

    let second = again(&[first.listen], &format!("--listen {}", first.listen));
    has_subscribed(&second);
    second.producer().publish("a", "2");
    assert_eq!(subscriber.data(), 2);
    let (code, said) = subscriber.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the server closed with 1001"), "{said}");
    assert!(said.contains("the server has begun anew"), "{said}");
}

#[test]
fn over_tls_with_a_token_a_subscriber_leaves_a_draining_server_and_is_let_in_by_the_next() {
    let (mut first, _authority, folder) = tls::serve("--drain 3s");
    let (token, access) = (folder.path("token"), folder.path("access.toml"));
    let key = fanfare(&format!("key --id desk-7 --subscribe > --to {token}")).output().unwrap();
    std::fs::write(&access, key.stdout).unwrap();
    let url = |server: &Server| format!("wss://localhost:{}/v1", server.tls.unwrap().port());
    let trust = format!("--ca {}", folder.path("ca.pem"));
    let shown = format!("--token-file {token}");
    let subscriber = Subscriber::start(&format!("{} > {trust} {shown} --table", url(&first)));
    has_subscribed(&first);
    first.signal("TERM");
    assert_eq!(first.end().code(), Some(0));

    let addresses = [first.listen, first.tls.unwrap()];
    let own = folder.path("own.pem");
    let flags = format!(
        "--listen {} --tls-listen {} --tls-certificates {own} --access {access}",
        addresses[0], addresses[1]
    );
    let second = again(&addresses, &flags);
    has_subscribed(&second);
    subscriber.interrupt();
    let (code, said) = subscriber.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the server drains; this client's turn"), "{said}");
    assert!(said.contains("connected at seq 0, TLS 1.3\n"), "{said}");

    let refused = Subscriber::start(&format!("{} > {trust}", url(&second)));
    let (code, said) = refused.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("auth_required") && said.contains("--token-file FILE"), "{said}");
    let unknown = Subscriber::start(&format!("{} > {shown}", url(&second)));
    let (_, said) = unknown.end();
    assert!(said.contains("--ca FILE"), "{said}");
}

#[test]
fn a_token_that_is_to_expire_is_replaced_from_its_file_on_the_same_connection() {
    let folder = Folder::new();
    let more = "leeway = \"0ms\"\n[anonymous]\npublish = [\">\"]";
    let access = access::token_rules(&folder, more);
    let server = Server::start(&format!("--access {access}"));
    let claims = |exp: u64| json!({"sub": "a", "exp": exp, "fanfare": {"subscribe": [">"]}});
    let end_s = access::now_s() + 6;
    let file = folder.file("token", &access::token(&claims(end_s)));
    let arguments = format!("ws://{} > --token-file {file} --count 1", server.listen);
    let mut subscriber = Subscriber::start(&arguments);
    has_subscribed(&server);
    folder.file("token", &access::token(&claims(end_s + 3_600)));
    eventually("it has shown the new token", || server.counter("commands") == 2);
    // The server looks at every connection once a second.
    eventually("the old one has ended", || access::now_s() > end_s + 2);
    server.producer().publish("a", "1");
    assert_eq!(subscriber.data(), 1);
    let (code, said) = subscriber.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the credential expires in"), "{said}");
    assert_eq!(server.counter("opened"), 1);
}

#[test]
fn with_no_reconnect_the_end_of_the_server_is_the_end_of_the_subscriber() {
    let mut server = Server::start("");
    let subscriber = Subscriber::start(&format!("ws://{} > --no-reconnect", server.listen));
    has_subscribed(&server);
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
    let (code, said) = subscriber.end();
    assert_eq!(code, Some(1));
    assert!(said.contains("1001 (the server is stopping)"), "{said}");
}
