//! How many connections each address has and how fast it makes new ones, over all cores.
//!
//! Counted when a connection begins and ends, in maps without locks. An address with IPv6 is its
//! /64: that much is given to one customer. Not here: the answer to one that is refused. Invariant:
//! an address without a connection is forgotten a minute after its last attempt at the latest.

use std::net::IpAddr;
use std::sync::Arc;

use papaya::{Compute, HashMap, Operation};

use super::{Ledger, Permit};
use crate::limits::{ADDRESSES_MAX, TLS_REFUSALS_MINUTE};

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
#[derive(Debug, Default)]
pub struct Addresses {
    open: Arc<Ledger<Network>>,
    /// By address: when its connections so far would have come at the interval of its limit. A
    /// minute ahead of the time is too fast, and one that is past counts no longer.
    recent: HashMap<Network, u64>,
    /// The same of answers to those who were refused, where an answer is dear.
    told: HashMap<Network, u64>,
}

/// Limits of each address.
#[derive(Debug, Clone, Copy, Default)]
pub struct AddressLimits {
    /// Open connections; those that came while there was no limit are not counted.
    pub open_max: Option<u32>,
    /// New connections in a minute, which may come at once and then as the minute goes by.
    pub new_in_a_minute: Option<u32>,
}

impl Addresses {
    /// Counts a new connection of `address` at `now_ns`, nanoseconds of any clock that does not go
    /// back; it counts as open until the permit is dropped.
    ///
    /// # Errors
    /// What the address has too much of.
    pub fn admit(
        &self,
        address: IpAddr,
        limits: AddressLimits,
        now_ns: u64,
    ) -> Result<Option<Permit<Network>>, TooMany> {
        let network = Network::from(address);
        // Limits of single addresses do not stop more of them than are counted.
        let keeps_pace = |count| keeps_pace(&self.recent, network, count, now_ns).unwrap_or(true);
        if !limits.new_in_a_minute.is_none_or(keeps_pace) {
            return Err(TooMany::New);
        }
        let Some(max) = limits.open_max else { return Ok(None) };
        self.open.admit(network, max).map(Some).ok_or(TooMany::Open)
    }

    /// Whether one of `address` that is refused may be told so over TLS, which takes a handshake:
    /// [`TLS_REFUSALS_MINUTE`] of them at once, and then as the minute goes by.
    pub fn may_be_told(&self, address: IpAddr, now_ns: u64) -> bool {
        let network = Network::from(address);
        keeps_pace(&self.told, network, TLS_REFUSALS_MINUTE, now_ns).unwrap_or(false)
    }

    /// Forgets addresses whose attempts count no longer; call it now and then.
    pub fn forget(&self, now_ns: u64) {
        for map in [&self.recent, &self.told] {
            map.pin().retain(|_, next_ns| *next_ns > now_ns);
        }
    }

    /// Addresses of which something is known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.recent.len().max(self.told.len()).max(self.open.identities())
    }
}

/// Counts one more of a network, so many of which may come in a minute, if it may; none if there
/// are too many networks to count another one.
fn keeps_pace(
    counted: &HashMap<Network, u64>,
    network: Network,
    in_a_minute: u32,
    now_ns: u64,
) -> Option<bool> {
    let interval_ns = MINUTE_NS / u64::from(in_a_minute.max(1));
    let counted = counted.pin();
    if counted.len() >= ADDRESSES_MAX && !counted.contains_key(&network) {
        return None;
    }
    let taken = counted.compute(network, |entry| {
        let next_ns = entry.map_or(now_ns, |(_, &next_ns)| next_ns.max(now_ns)) + interval_ns;
        match next_ns <= now_ns + MINUTE_NS {
            true => Operation::Insert(next_ns),
            false => Operation::Abort(()),
        }
    });
    Some(!matches!(taken, Compute::Aborted(())))
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
        let addresses = Addresses::default();
        let limits = AddressLimits { open_max: Some(2), new_in_a_minute: None };
        let admit = || addresses.admit(address("10.0.0.1"), limits, 0);
        let first = admit().unwrap();
        let second = admit().unwrap();
        assert_eq!(admit().unwrap_err(), TooMany::Open);
        assert!(addresses.admit(address("10.0.0.2"), limits, 0).is_ok(), "others may");
        drop(first);
        assert!(admit().is_ok());
        drop(second);
        assert_eq!(addresses.known(), 0);
    }

    #[test]
    fn new_connections_may_come_at_once_and_then_as_the_minute_goes_by() {
        let addresses = Addresses::default();
        let limits = AddressLimits { open_max: None, new_in_a_minute: Some(6) };
        let admit =
            |seconds: u64| addresses.admit(address("10.0.0.1"), limits, seconds * 1_000_000_000);
        assert_eq!((0..20).filter(|_| admit(5).is_ok()).count(), 6);
        assert_eq!((0..20).filter(|_| admit(25).is_ok()).count(), 2, "one in ten seconds");
        assert_eq!(admit(26).unwrap_err(), TooMany::New);
        addresses.forget(26_000_000_000);
        assert_eq!(addresses.known(), 1);
        addresses.forget(85_000_000_000);
        assert_eq!(addresses.known(), 0, "forgotten within a minute");
        assert_eq!((0..20).filter(|_| admit(86).is_ok()).count(), 6);
    }

    #[test]
    fn an_address_is_told_a_few_times_a_minute_that_it_is_refused() {
        let addresses = Addresses::default();
        let told = |text, seconds: u64| {
            let times =
                (0..100).filter(|_| addresses.may_be_told(address(text), seconds * 1_000_000_000));
            u32::try_from(times.count()).unwrap()
        };
        assert_eq!(told("10.0.0.1", 5), TLS_REFUSALS_MINUTE);
        assert_eq!(told("10.0.0.2", 5), TLS_REFUSALS_MINUTE, "others as well");
        assert_eq!(told("10.0.0.1", 35), TLS_REFUSALS_MINUTE / 2);
        addresses.forget(100_000_000_000);
        assert_eq!(addresses.known(), 0);
    }
}
