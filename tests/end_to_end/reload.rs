//! A reload of the settings: what takes effect at once, what needs a restart, and a broken file.
//!
//! Not here: access rules (`control`) and certificates (`tls`).

use crate::support::{Client, Folder, Server, eventually, fanfare, refusal};

/// A server whose settings are in a file.
fn serve(folder: &Folder, more: &str) -> (Server, String) {
    let control = folder.path("control.sock");
    let config = write(folder, more);
    let command = fanfare(&format!(
        "serve --config {config} --listen 127.0.0.1:0 --admin 127.0.0.1:0 --control {control}"
    ));
    (Server::launch(command), control)
}

fn write(folder: &Folder, more: &str) -> String {
    let text = format!("{more}\n[[source]]\nurl = \"tcp://127.0.0.1:0\"\n");
    folder.file("fanfare.toml", &text)
}

/// Exit code and what was printed, to either stream.
fn reload(control: &str) -> (Option<i32>, String) {
    let output = fanfare(&format!("reload {control}")).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn what_may_change_is_in_force_at_once_and_the_rest_is_named() {
    let folder = Folder::new();
    let (server, control) = serve(&folder, "log = \"warn\"\nnode = \"a\"");
    let _first = Client::connect(&server);
    let unchanged = (Some(0), "nothing has changed that can be reloaded\n".to_owned());
    assert_eq!(reload(&control), unchanged);

    write(&folder, "log = \"info\"\nnode = \"b\"\nkeys_max = 5\naddress_connections_max = 1");
    let (code, text) = reload(&control);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        text,
        "reloaded: settings (address_connections_max, log)\n\
        keys_max has changed, and is in force after a restart\n\
        node has changed, and is in force after a restart\n"
    );
    // Those who were there before are not counted.
    let _second = Client::connect(&server);
    assert!(refusal(&server).starts_with("HTTP/1.1 429 "));
    eventually("it is logged at the new level", || {
        server.log().contains("settings (address_connections_max, log) were read again")
    });
    eventually("what needs a restart is logged", || {
        server.log().contains("node has changed, and is in force after a restart")
    });

    // What waits for a restart is named until it is there or taken back.
    write(&folder, "log = \"info\"\nnode = \"b\"");
    let (_, text) = reload(&control);
    let expected = "reloaded: settings (address_connections_max)\nnode has changed";
    assert!(text.starts_with(expected), "{text}");
    let _third = Client::connect(&server);
}

#[test]
fn a_signal_reloads_and_a_drain_takes_the_new_time() {
    let folder = Folder::new();
    let (mut server, _) = serve(&folder, "drain = \"60m\"");
    let mut client = Client::connect(&server);
    write(&folder, "drain = \"0ms\"");
    server.signal("HUP");
    eventually("it is in force", || server.log().contains("settings (drain) were read again"));
    server.signal("TERM");
    assert_eq!(client.closed(), 1001);
    drop(client);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_broken_file_changes_nothing_and_says_where() {
    let folder = Folder::new();
    let (server, control) = serve(&folder, "");
    write(&folder, "address_connections_max = 1\nheartbeat = 5\nkeys_maximum = 7");
    let (code, text) = reload(&control);
    assert_eq!(code, Some(1), "{text}");
    for part in ["fanfare.toml:2: heartbeat: ", "fanfare.toml:3: keys_maximum: no such setting"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    eventually("each mistake is logged", || {
        server.log().matches("what was in force before stays: ").count() == 2
    });
    let _both = [Client::connect(&server), Client::connect(&server)];
}

#[test]
fn what_is_in_force_beside_a_file_that_is_wrong_is_said() {
    let folder = Folder::new();
    let access = folder.file("access.toml", "[anonymous]\nsubscribe = [\">\"]\npublish = [\">\"]");
    let (_server, control) = serve(&folder, &format!("access = {access:?}"));
    write(&folder, &format!("access = {access:?}\naddress_connections_max = 1"));
    folder.file("access.toml", "nonsense");
    let (code, text) = reload(&control);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("access.toml:1: "), "{text}");
    let rest = "in force all the same: settings (address_connections_max)";
    assert!(text.trim_end().ends_with(rest), "{text}");
}

#[test]
fn what_could_not_be_read_is_tried_again_until_it_can() {
    let folder = Folder::new();
    let rules = "[anonymous]\nsubscribe = [\">\"]\n";
    let access = folder.file("access.toml", rules);
    let server = Server::start(&format!("--access {access}"));
    let mut client = Client::subscribed(&server, "a");
    // Rules that name a file which comes later.
    let keys = "keys = [{ algorithm = \"HS256\", file = \"secret\" }]";
    folder.file("access.toml", &format!("[token]\nalgorithms = [\"HS256\"]\n{keys}\n"));
    eventually("the file is missed", || server.log().contains("cannot read `secret`"));
    folder.file("secret", &"s".repeat(40));
    eventually("it is taken", || server.log().contains("have changed and are in force"));
    assert_eq!(client.closed(), 4003, "the rules without [anonymous] are in force");
    assert_eq!(server.log().matches("cannot read `secret`").count(), 1, "said once");
}
