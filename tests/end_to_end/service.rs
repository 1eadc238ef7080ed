//! What a service manager hears (`sd_notify`), by a socket that stands in for systemd's.
//!
//! Not here: the unit itself (`packaging/`), and whether a shard is stuck (`shell/watchdog.rs`).

use std::os::unix::net::UnixDatagram;

use crate::support::{Client, Folder, PATIENCE, Server, fanfare};

/// A server, and where it tells how it is.
fn serve(folder: &Folder, variables: &[(&str, &str)]) -> (Server, UnixDatagram) {
    let path = folder.path("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = fanfare(
        "serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 --source tcp://127.0.0.1:0 --drain 2s",
    );
    command.env("NOTIFY_SOCKET", path).envs(variables.iter().copied());
    (Server::launch(command), manager)
}

fn hear(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 4_096];
    let count = manager.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[test]
fn the_manager_hears_when_it_serves_reloads_and_stops() {
    let folder = Folder::new();
    let (mut server, manager) = serve(&folder, &[]);
    let heard = hear(&manager);
    assert!(heard.starts_with("READY=1\n"), "{heard}");
    assert!(heard.contains(&format!("STATUS=serving at {}", server.listen)), "{heard}");
    let client = Client::connect(&server);

    server.signal("HUP");
    let heard = hear(&manager);
    assert!(heard.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard}");
    assert_eq!(hear(&manager).trim_end(), "READY=1");

    server.signal("TERM");
    let heard = hear(&manager);
    assert!(heard.starts_with("STOPPING=1\nSTATUS=draining 1 clients over 2 s\n"), "{heard}");
    // The drain, the stop, and some for the end.
    assert!(heard.contains("EXTEND_TIMEOUT_USEC=17000000"), "{heard}");
    drop(client);
    let heard = hear(&manager);
    assert!(heard.starts_with("STOPPING=1\nSTATUS=stopping\n"), "{heard}");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn the_watchdog_is_told_again_and_again_if_it_wants_to_be() {
    let folder = Folder::new();
    let (server, manager) = serve(&folder, &[("WATCHDOG_USEC", "200000")]);
    assert!(hear(&manager).starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(hear(&manager).trim_end(), "WATCHDOG=1");
    }
    drop(server);
}
