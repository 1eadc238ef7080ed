//! Six namespaces on one bridge: three for NATS servers, three for nodes.
//!
//! Everything else (clients, producer) is where the bridge is. Not here: what runs in them.
//! Invariant: all of it is inside of the test's own namespaces, so nothing is left behind.

use std::process::Command;

/// The bridge, and the namespaces behind it.
pub(crate) struct Network;

/// One of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Server(usize),
    Node(usize),
}

impl Place {
    fn name(self) -> String {
        match self {
            Self::Server(number) => format!("nats{number}"),
            Self::Node(number) => format!("node{number}"),
        }
    }

    /// Its address.
    pub(crate) fn address(self) -> String {
        match self {
            Self::Server(number) => format!("10.77.0.{}", 11 + number),
            Self::Node(number) => format!("10.77.0.{}", 21 + number),
        }
    }

    /// A command that runs in it.
    pub(crate) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name()]).arg(program);
        command
    }
}

impl Network {
    pub(crate) fn new() -> Self {
        std::fs::create_dir_all("/run/netns").unwrap();
        run("mount -t tmpfs tmpfs /run/netns");
        ip("link set lo up");
        ip("link add hub type bridge");
        ip("addr add 10.77.0.1/24 dev hub");
        ip("link set hub up");
        for number in 0..3 {
            for place in [Place::Server(number), Place::Node(number)] {
                let (name, address) = (place.name(), place.address());
                ip(&format!("netns add {name}"));
                ip(&format!("link add to-{name} type veth peer name eth0 netns {name}"));
                ip(&format!("link set to-{name} master hub up"));
                ip(&format!("-n {name} addr add {address}/24 dev eth0"));
                ip(&format!("-n {name} link set eth0 up"));
                ip(&format!("-n {name} link set lo up"));
            }
        }
        Self
    }

    /// The cable is out: nothing comes through, and nobody is told.
    pub(crate) fn cut(&self, place: Place) {
        ip(&format!("link set to-{} down", place.name()));
    }

    pub(crate) fn mend(&self, place: Place) {
        ip(&format!("link set to-{} up", place.name()));
    }
}

fn ip(arguments: &str) {
    run(&format!("ip {arguments}"));
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}
