//! `fanfare demo`: a real market feed from inside the program, and how to read it.
//!
//! Not here: what a server does with it. Invariant: it needs no file that it does not make, no
//! network and no setting.

use std::io::{Write, stdout};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::Deserialize;

use self::certificate::Files;
use super::failure::{Failure, written};
use super::flags::host;
use super::serve::{Running, start_log};
use super::watch::Display;
use crate::config::mapping::{MapRule, Pointer};
use crate::config::raw::{Given, Origin, Raw};
use crate::config::resolve::resolve;
use crate::config::source_url::speed;
use crate::config::{Replay, ReplayInput, Settings, Source, SourceAddress};
use crate::limits::DEMO_CONNECTIONS_MAX;
use crate::shell::signals::Stop;

mod certificate;

/// 50,000 trades and quotes of Binance spot; see `examples/data/SOURCE.md`.
const CAPTURE: &[u8] = include_bytes!("../../examples/data/binance-spot-20250325.json.gz");
/// The order that the events were received in; the file itself is not in order.
const CAPTURE_TIME: &str = "/Item/time_received";
/// The rules that an operator would write for such a feed.
const MAPPING: &str = include_str!("../../examples/mappings/barter-20250325.toml");

/// Serves a real Binance capture, looping, and says how to read it.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// WebSocket address, IP:PORT; port 0 picks a port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    listen: String,
    /// The same with TLS (wss://), with a certificate that is made at the first run; none: without
    #[arg(long, value_name = "ADDRESS|none", default_value = "127.0.0.1:9443")]
    tls_listen: String,
    /// Address of the live page, IP:PORT; none: without
    #[arg(long, value_name = "ADDRESS|none", default_value = "127.0.0.1:9003")]
    admin: String,
    /// Pace: max, or a factor of the recorded pace
    #[arg(long, value_name = "N|max", default_value = "1")]
    speed: String,
    /// One shard on each of these cores, such as 0-1,4 [default: all available]
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Print a line every 2 s even on a terminal
    #[arg(long)]
    plain: bool,
}

impl Demo {
    /// Serves until a signal.
    ///
    /// # Errors
    /// Wrong flags, a start that failed, a view that cannot be drawn.
    pub fn run(self) -> Result<(), Failure> {
        let files = if self.tls_listen == "none" { None } else { Some(Files::find()?) };
        let settings = self.settings(files.as_ref())?;
        let display = Display::suited(self.plain);
        let log = start_log(&settings.log, display == Display::Rows)?;
        let ended = self.serve(&settings, files.as_ref(), display);
        log.flush();
        ended
    }

    fn serve(
        &self,
        settings: &Settings,
        files: Option<&Files>,
        display: Display,
    ) -> Result<(), Failure> {
        let running = Running::start(settings, Stop::install(), None)?;
        let program = std::env::args().next().unwrap_or_else(|| "fanfare".into());
        let mut text = welcome(running.server().listen, &self.speed, &program);
        if let Some((files, tls)) = files.zip(running.server().tls) {
            text += &welcome_tls(tls, &files.authority, &program);
        }
        if let Some(admin) = running.server().admin {
            text += &format!("\nSee it live in a browser: http://{}/\n", reachable(admin));
        }
        text += "\nCtrl-C ends it.\n";
        written(write!(stdout(), "{text}"))?;
        running.say_ready()?;
        running.run(display)
    }

    fn settings(&self, files: Option<&Files>) -> Result<Settings, Failure> {
        let speed = speed(&self.speed)
            .map_err(|wrong| format!("--speed: {}; allowed: {}", wrong.what, wrong.allowed));
        let own = Source {
            address: SourceAddress::Replay(Replay {
                speed: speed.map_err(Failure::Usage)?,
                looping: true,
                sort: true,
                time: Some(Pointer::parse(CAPTURE_TIME).expect("a constant")),
                ..Replay::new(ReplayInput::Embedded(CAPTURE))
            }),
            map: rules(),
        };
        let mut raw = Raw::default();
        // Within the descriptors that most hosts allow, so that a first run warns of nothing.
        let connections = Given { text: DEMO_CONNECTIONS_MAX.to_string(), origin: Origin::Default };
        raw.values.insert("connections_max", connections);
        // Whoever ends a demo wants it to end.
        let drain = Given { text: "0ms".into(), origin: Origin::Default };
        raw.values.insert("drain", drain);
        // Its view shows the rest.
        let log = Given { text: "warn".into(), origin: Origin::Default };
        raw.values.insert("log", log);
        let served = files.map(|files| files.served.display().to_string());
        let flags = [
            ("listen", Some(&self.listen)),
            ("tls_listen", files.map(|_| &self.tls_listen)),
            ("tls_certificates", served.as_ref()),
            ("admin", Some(&self.admin).filter(|admin| *admin != "none")),
            ("cores", self.cores.as_ref()),
        ];
        for (key, text) in flags {
            if let Some(text) = text {
                let origin = Origin::Flag(format!("--{}", key.replace('_', "-")));
                raw.values.insert(key, Given { text: text.clone(), origin });
            }
        }
        let resolved = resolve(&raw, &host(), Some(own));
        resolved
            .map(|resolved| resolved.settings)
            .map_err(|problems| Failure::Usage(problems.to_string()))
    }
}

/// The rules of the example's first source.
fn rules() -> Vec<MapRule> {
    #[derive(Deserialize)]
    struct Example {
        source: [Rules; 1],
    }
    #[derive(Deserialize)]
    struct Rules {
        map: Vec<MapRule>,
    }
    let Example { source: [Rules { map }] } =
        toml::from_str(MAPPING).expect("a test reads the example");
    map
}

/// What is served and ready-to-paste commands that read it.
fn welcome(listen: SocketAddr, speed: &str, program: &str) -> String {
    let url = format!("ws://{}/v1", reachable(listen));
    let pace = match speed {
        "max" => "as fast as possible".to_owned(),
        "1" => "at its recorded pace".to_owned(),
        times => format!("at {times} times its recorded pace"),
    };
    format!(
        r#"
fanfare serves {url}
Three minutes of Binance spot (2025-03-25, 50,000 events) {pace}, again and again:
  trade.BTCUSDT trade.ETHUSDT trade.SOLUSDT     every trade
  quote.BTCUSDT quote.ETHUSDT quote.SOLUSDT     top of book, newest value

Read it from another terminal. This program:

{program} subscribe {url} 'trade.>' --table

Python (pip install websockets):

python3 - <<'END'
from websockets.sync.client import connect
with connect("{url}") as socket:
    socket.send('{{"method":"subscribe","params":{{"channels":["quote.*"]}}}}')
    for message in socket:
        print(message)
END

Node (before version 22: npm install ws):

node -e 'const Socket = globalThis.WebSocket ?? require("ws");
const socket = new Socket("{url}");
socket.onopen = () => socket.send(`{{"method":"subscribe","params":{{"channels":[">"]}}}}`);
socket.onmessage = (message) => console.log(message.data);'

Any WebSocket tool:

npx wscat -c {url} -w 60 -x '{{"method":"subscribe","params":{{"channels":["trade.*"]}}}}'
"#
    )
}

/// The same with TLS, and how clients come to trust the certificate.
fn welcome_tls(listen: SocketAddr, authority: &Path, program: &str) -> String {
    let (address, file) = (reachable(listen), authority.display());
    format!(
        r#"
With TLS: wss://{address}/v1, for clients that trust the authority in this file:

CA='{file}'
{program} subscribe wss://{address}/v1 'trade.>' --table --ca "$CA"
SSL_CERT_FILE="$CA" python3          # and most of what uses OpenSSL
NODE_EXTRA_CA_CERTS="$CA" node       # and wscat
curl --cacert "$CA" https://{address}/v1

In browsers, import it as an authority in the settings of certificates.
"#
    )
}

/// The address to connect to: a server on all addresses is reached by the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => [127, 0, 0, 1].into(),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(loopback, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo(listen: &str, speed: &str) -> Demo {
        let (listen, tls_listen, speed) = (listen.into(), "none".into(), speed.into());
        Demo { listen, tls_listen, admin: "none".into(), speed, cores: None, plain: true }
    }

    #[test]
    fn the_demo_needs_no_setting() {
        let settings = demo("127.0.0.1:0", "1").settings(None).unwrap();
        assert_eq!(settings.sources.len(), 1);
        assert_eq!(settings.sources[0].map.len(), 2);
    }

    #[test]
    fn wrong_flags_are_a_matter_of_usage() {
        let failure = demo("9001", "1").settings(None).unwrap_err();
        assert!(failure.to_string().starts_with("--listen: `9001` is not"), "{failure}");
        let failure = demo("127.0.0.1:0", "fast").settings(None).unwrap_err();
        assert!(failure.to_string().starts_with("--speed: `fast` is not"), "{failure}");
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn the_commands_to_paste_connect_to_where_the_server_is() {
        let text = welcome("0.0.0.0:9001".parse().unwrap(), "1", "target/release/fanfare");
        assert_eq!(text.matches("ws://127.0.0.1:9001/v1").count(), 5);
        assert!(
            text.contains("\ntarget/release/fanfare subscribe ws://127.0.0.1:9001/v1 'trade.>'")
        );
        let tls = welcome_tls("[::]:9443".parse().unwrap(), Path::new("/x/a.pem"), "fanfare");
        assert!(
            tls.contains("\nfanfare subscribe wss://[::1]:9443/v1 'trade.>' --table --ca \"$CA\"")
        );
        assert!(text.contains(r#"'{"method":"subscribe","params":{"channels":["quote.*"]}}'"#));
    }
}
