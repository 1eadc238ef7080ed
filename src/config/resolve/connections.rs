//! The settings of connections as a whole: TLS, admission, liveness, the drain.
//!
//! Not here: reading the files that they name. Invariant: as for all of [`super`].

use std::path::PathBuf;
use std::time::Duration;

use super::Resolver;
use crate::config::raw::{Given, Origin};
use crate::config::values::{self, Wrong};
use crate::config::{
    AccessSource, AdmissionSettings, CertificateFiles, CompressionSettings, LivenessSettings,
    NatsBucket, TlsSettings,
};
use crate::limits;

impl Resolver<'_> {
    pub(super) fn tls(&mut self) -> Option<TlsSettings> {
        let listen = self.address("tls_listen");
        let chains = self.list("tls_certificates");
        let keys = self.list("tls_keys");
        let client_ca = self.path("tls_client_ca");
        let required = self.take("tls_client_certificates", None, true, |text| match text {
            "required" => Ok(true),
            "optional" => Ok(false),
            other => Err(Wrong::new(format!("`{other}` is neither"), "required, optional")),
        });
        let Some(listen) = listen else {
            for key in ["tls_certificates", "tls_keys", "tls_client_ca"] {
                self.needs(key, "tls_listen");
            }
            return None;
        };
        if chains.is_empty() {
            let allowed = "tls_certificates beside it, such as /etc/fanfare/chain.pem";
            self.wrong("tls_listen", Wrong::new("there is no certificate", allowed));
        }
        if !keys.is_empty() && keys.len() != chains.len() {
            let what = format!("{} keys for {} certificates", keys.len(), chains.len());
            let allowed = "one for each, in the same order; or none, if the files hold both";
            self.wrong("tls_keys", Wrong::new(what, allowed));
        }
        let certificates = (chains.iter().enumerate())
            .map(|(at, chain)| CertificateFiles {
                chain: chain.into(),
                key: keys.get(at).unwrap_or(chain).into(),
            })
            .collect();
        Some(TlsSettings {
            listen,
            certificates,
            client_ca,
            client_certificate_required: required?,
        })
    }

    /// A source with TLS has the certificates of the encrypted address.
    pub(super) fn needs_tls(&mut self, source: &Given) {
        if !self.raw.values.contains_key("tls_listen") {
            let what = format!("`{}` has no certificate", source.text);
            let allowed = "tls_listen and tls_certificates beside it";
            self.problem(source.origin.clone(), "source", Wrong::new(what, allowed));
        }
    }

    pub(super) fn admission(&mut self) -> Option<AdmissionSettings> {
        let handshakes_max = self.count("handshakes_max", 1..=limits::HANDSHAKES_SETTING_MAX);
        let mut optional = |key| {
            let count = self.count(key, 1..=limits::CONNECTIONS_SETTING_MAX)?;
            Some(u32::try_from(count).expect("within its range"))
        };
        let accept_rate = optional("accept_rate");
        let address_connections_max = optional("address_connections_max");
        let address_accept_rate = optional("address_accept_rate");
        Some(AdmissionSettings {
            handshakes_max: handshakes_max?,
            accept_rate,
            address_connections_max,
            address_accept_rate,
        })
    }

    pub(super) fn liveness(&mut self) -> Option<LivenessSettings> {
        let ping_interval = self.duration("ping_interval", 0);
        let pong_timeout = self.duration("pong_timeout", limits::TIMEOUT_MS_MIN);
        let idle_timeout = self.duration("idle_timeout", 0);
        Some(LivenessSettings {
            ping_interval: ping_interval?,
            pong_timeout: pong_timeout?,
            idle_timeout: idle_timeout?,
        })
    }

    /// How messages are compressed, if they are.
    pub(super) fn compression(&mut self) -> Option<Option<CompressionSettings>> {
        let is_on = self.take("compression", None, false, values::boolean);
        let level = self.count("compression_level", 1..=limits::COMPRESSION_LEVEL_MAX.into());
        let message_bytes_min =
            self.size("compression_message_bytes_min", 0..=limits::LINE_BYTES_MAX);
        let settings = CompressionSettings {
            level: u8::try_from(level?).expect("within its range"),
            message_bytes_min: message_bytes_min?,
        };
        Some(is_on?.then_some(settings))
    }

    /// Forms that are there from the start: of those that would have to be filled later.
    pub(super) fn forms(&mut self) -> Vec<&'static str> {
        const WORDS: [&str; 2] = ["binary", "sse"];
        let (mut forms, mut unknown) = (Vec::new(), None);
        for text in self.list("forms") {
            match WORDS.into_iter().find(|word| *word == text) {
                Some(word) if forms.contains(&word) => {}
                Some(word) => forms.push(word),
                None => unknown = Some(text),
            }
        }
        if let Some(text) = unknown {
            let what = format!("`{text}` is no form that can be there from the start");
            self.wrong("forms", Wrong::new(what, "binary, sse"));
        }
        forms
    }

    /// How long a drain takes, and where it sends clients.
    pub(super) fn drain(&mut self) -> (Option<Duration>, Vec<String>) {
        let drain =
            self.take("drain", None, true, |text| values::duration(text, 0..=limits::DRAIN_MS_MAX));
        let addresses = self.list("drain_to");
        if addresses.len() > limits::DRAIN_TO_MAX {
            let what = format!("{} addresses", addresses.len());
            let allowed = format!("at most {}", limits::DRAIN_TO_MAX);
            self.wrong("drain_to", Wrong::new(what, allowed));
        }
        let is_url = |text: &String| text.starts_with("ws://") || text.starts_with("wss://");
        if let Some(other) = addresses.iter().find(|text| !is_url(text)) {
            let what = format!("`{other}` is not a WebSocket address");
            self.wrong("drain_to", Wrong::new(what, "addresses such as wss://b.example/v1"));
        }
        (drain, addresses)
    }

    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.take(key, None, true, |text| match text {
            "" => Err(Wrong::new("empty", "a path, or leave it out")),
            path => Ok(path.into()),
        })
    }

    pub(super) fn access(&mut self) -> Option<AccessSource> {
        self.take("access", None, true, |text| match text.strip_prefix("nats-kv://") {
            Some(rest) => NatsBucket::parse(rest).map(AccessSource::Bucket),
            None if text.is_empty() => {
                Err(Wrong::new("empty", "a file or nats-kv://HOST/BUCKET, or leave it out"))
            }
            None => Ok(AccessSource::File(text.into())),
        })
    }

    /// Texts joined by commas; none when the key is not set.
    fn list(&mut self, key: &'static str) -> Vec<String> {
        let list = self.take(key, None, true, |text| {
            let parts: Vec<_> = text.split(',').map(|part| part.trim().to_owned()).collect();
            match parts.iter().any(String::is_empty) {
                true => Err(Wrong::new("an empty entry", "entries joined by commas")),
                false => Ok(parts),
            }
        });
        list.unwrap_or_default()
    }

    /// Complains of `key` where it is given without `other`.
    pub(super) fn needs(&mut self, key: &'static str, other: &str) {
        if self.raw.values.contains_key(key) {
            let allowed = format!("{other} beside it");
            self.wrong(key, Wrong::new(format!("there is no {other}"), allowed));
        }
    }

    pub(super) fn wrong(&mut self, key: &'static str, wrong: Wrong) {
        let origin = self.raw.values.get(key).map_or(Origin::Default, |given| given.origin.clone());
        self.problem(origin, key, wrong);
    }
}
