//! How many connections each address has and how fast it makes new ones, over all cores.
//!
//! Counted when a connection begins and ends, in maps without locks. An address with IPv6 is its
//! /64: that much is given to one customer. Not here: the answer to one that is refused. Invariant:
//! an address without a connection is forgotten a minute after its last attempt at the latest.

use std::net::IpAddr;
use std::sync::Arc;

use papaya::{Compute, HashMap, Operation};

use super::{Ledger, Permit};
use crate::limits::ADDRESSES_MAX;

const MINUTE_NS: u64 = 60_000_000_000;

/// Whose a connection is taken to be, as far as its address says: one of IPv4, or a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The address.
    V4(u32),
    /// The upper half of the address.
    V6(u64),
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(
                u64::try_from(address.to_bits() >> 64).expect("the upper half of 128 bits"),
            ),
        }
    }
}

/// What an address has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub enum TooMany {
    /// Open connections.
    Open,
    /// New connections.
    New,
}

impl TooMany {
    /// What there is too much of.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Open => "as many connections are open from this address as it may have",
            Self::New => "too many new connections from this address",
        }
    }
}

/// What all cores know of addresses.
#[derive(Debug)]
pub struct Addresses {
    open_max: Option<u32>,
    open: Arc<Ledger<Network>>,
    /// Time between two new connections of one address in the long run, nanoseconds.
    interval_ns: Option<u64>,
    /// By address: when its connections so far would have come at that interval. A minute ahead of
    /// the time is too fast, and one that is past counts no longer.
    recent: HashMap<Network, u64>,
}

impl Addresses {
    /// Limits for each address: open connections, and new ones in a minute, which may come at once
    /// and then as the minute goes by.
    #[must_use]
    pub fn new(open_max: Option<u32>, new_in_a_minute: Option<u32>) -> Self {
        Self {
            open_max,
            open: Arc::default(),
            interval_ns: new_in_a_minute.map(|count| MINUTE_NS / u64::from(count.max(1))),
            recent: HashMap::new(),
        }
    }

    /// Counts a new connection of `address` at `now_ns`, nanoseconds of any clock that does not go
    /// back; it counts as open until the permit is dropped.
    ///
    /// # Errors
    /// What the address has too much of.
    pub fn admit(&self, address: IpAddr, now_ns: u64) -> Result<Option<Permit<Network>>, TooMany> {
        let network = Network::from(address);
        if !self.keeps_pace(network, now_ns) {
            return Err(TooMany::New);
        }
        let Some(max) = self.open_max else { return Ok(None) };
        self.open.admit(network, max).map(Some).ok_or(TooMany::Open)
    }

    fn keeps_pace(&self, network: Network, now_ns: u64) -> bool {
        let Some(interval_ns) = self.interval_ns else { return true };
        let recent = self.recent.pin();
        // Limits of single addresses do not stop so many of them.
        if recent.len() >= ADDRESSES_MAX && !recent.contains_key(&network) {
            return true;
        }
        let counted = recent.compute(network, |entry| {
            let next_ns = entry.map_or(now_ns, |(_, &next_ns)| next_ns.max(now_ns)) + interval_ns;
            match next_ns <= now_ns + MINUTE_NS {
                true => Operation::Insert(next_ns),
                false => Operation::Abort(()),
            }
        });
        !matches!(counted, Compute::Aborted(()))
    }

    /// Forgets addresses whose attempts count no longer; call it now and then.
    pub fn forget(&self, now_ns: u64) {
        self.recent.pin().retain(|_, next_ns| *next_ns > now_ns);
    }

    /// Addresses of which something is known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.recent.len().max(self.open.identities())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_one_of_ipv4_or_a_64_of_ipv6() {
        let network = |text| Network::from(address(text));
        assert_eq!(network("10.0.0.1"), network("::ffff:10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    }

    #[test]
    fn open_connections_are_counted_until_they_end() {
        let addresses = Addresses::new(Some(2), None);
        let admit = || addresses.admit(address("10.0.0.1"), 0);
        let first = admit().unwrap();
        let second = admit().unwrap();
        assert_eq!(admit().unwrap_err(), TooMany::Open);
        assert!(addresses.admit(address("10.0.0.2"), 0).is_ok(), "others may");
        drop(first);
        assert!(admit().is_ok());
        drop(second);
        assert_eq!(addresses.known(), 0);
    }

    #[test]
    fn new_connections_may_come_at_once_and_then_as_the_minute_goes_by() {
        let addresses = Addresses::new(None, Some(6));
        let admit = |seconds: u64| addresses.admit(address("10.0.0.1"), seconds * 1_000_000_000);
        assert_eq!((0..20).filter(|_| admit(5).is_ok()).count(), 6);
        assert_eq!((0..20).filter(|_| admit(25).is_ok()).count(), 2, "one in ten seconds");
        assert_eq!(admit(26).unwrap_err(), TooMany::New);
        addresses.forget(26_000_000_000);
        assert_eq!(addresses.known(), 1);
        addresses.forget(85_000_000_000);
        assert_eq!(addresses.known(), 0, "forgotten within a minute");
        assert_eq!((0..20).filter(|_| admit(86).is_ok()).count(), 6);
    }
}
