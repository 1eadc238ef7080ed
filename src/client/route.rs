//! Which node a client goes to, and which next: those that were typed, and what a drain names.
//!
//! Values in, values out. Not here: when ([`super::reconnect`]), and the connection
//! (`connector`). Invariants: there is always an address, and none that a server has named
//! leads from TLS to where there is none.

use crate::limits::DRAIN_TO_MAX;

/// The addresses of one connection.
#[derive(Debug)]
pub struct Route {
    /// As typed, but for those that have refused.
    nodes: Vec<String>,
    /// The first one is in use, or its turn has come.
    turns: Vec<String>,
}

impl Route {
    /// Over the nodes of `text`, which has commas between them, in an order of chance: clients that
    /// were all given the same list are not to begin at the same node.
    #[must_use]
    pub fn new(text: &str, random: &mut dyn FnMut() -> u64) -> Self {
        let mut nodes: Vec<String> = Vec::new();
        for address in addresses(text) {
            if !nodes.iter().any(|known| known == address) {
                nodes.push(address.to_owned());
            }
        }
        shuffle(&mut nodes, random);
        Self { turns: nodes.clone(), nodes }
    }

    /// The address to connect to, or connected to.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.turns[0]
    }

    /// How many addresses there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.turns.len()
    }

    /// Never true.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// A server that drains names where to go: there, else to another of the nodes, and last to the
    /// one that is left. All its clients are told the same, so chance orders what it names. Where
    /// another connection of this client is (`taken`) comes only when there is nothing else.
    pub fn handle_drain<'a>(
        &mut self,
        to: impl Iterator<Item = &'a str>,
        taken: Option<&str>,
        random: &mut dyn FnMut() -> u64,
    ) {
        let is_secure = |address: &str| address.starts_with("wss://");
        let left = self.address().to_owned();
        let may_go = |to: &&str| is_secure(to) || (to.starts_with("ws://") && !is_secure(&left));
        let mut order: Vec<_> = to.filter(may_go).take(DRAIN_TO_MAX).map(str::to_owned).collect();
        shuffle(&mut order, random);
        order.extend(self.nodes.iter().cloned());
        let is_free = |address: &&String| **address != left && Some(address.as_str()) != taken;
        let mut turns: Vec<String> = Vec::new();
        let (free, held): (Vec<_>, Vec<_>) = order.iter().partition(is_free);
        for address in free.into_iter().chain([&left]).chain(held) {
            if !turns.contains(address) {
                turns.push(address.clone());
            }
        }
        self.turns = turns;
    }

    /// The address does not serve: the next one's turn.
    pub fn handle_failure(&mut self, taken: Option<&str>) {
        for _ in 0..self.turns.len() {
            self.turns.rotate_left(1);
            if Some(self.address()) != taken {
                return;
            }
        }
        self.turns.rotate_left(1);
    }

    /// The address will not serve, and is asked no more; false if it is the last one, which stays.
    pub fn forget(&mut self, taken: Option<&str>) -> bool {
        if self.turns.len() == 1 {
            return false;
        }
        let gone = self.address().to_owned();
        self.handle_failure(taken);
        self.turns.retain(|address| *address != gone);
        self.nodes.retain(|address| *address != gone);
        true
    }
}

/// The addresses of a list with commas. A comma inside of one, such as in its query, is its own.
pub fn addresses(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let list = rest?;
        let ends = list.match_indices(',').map(|(at, _)| at);
        let is_next = |at: &usize| {
            ["ws://", "wss://"].iter().any(|scheme| list[at + 1..].starts_with(scheme))
        };
        let (address, left) = match ends.into_iter().find(is_next) {
            Some(at) => (&list[..at], Some(&list[at + 1..])),
            None => (list, None),
        };
        rest = left;
        Some(address)
    })
}

/// Any order, as `random` chooses.
fn shuffle(list: &mut [String], random: &mut dyn FnMut() -> u64) {
    for end in (1..list.len()).rev() {
        let other = random() % (end as u64 + 1);
        list.swap(end, usize::try_from(other).expect("below a length"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// In the order that was typed.
    fn route(text: &str) -> Route {
        // The last of those that are left is chosen each time, which changes nothing.
        let mut left = addresses(text).count() as u64;
        Route::new(text, &mut || {
            left -= 1;
            left
        })
    }

    fn turns(route: &mut Route, count: usize, taken: Option<&str>) -> Vec<String> {
        let turn = |_| {
            let address = route.address().to_owned();
            route.handle_failure(taken);
            address
        };
        (0..count).map(turn).collect()
    }

    #[test]
    fn commas_are_between_addresses_and_may_be_inside_of_them() {
        let list = |text| addresses(text).collect::<Vec<_>>();
        assert_eq!(list("ws://a/v1"), ["ws://a/v1"]);
        assert_eq!(
            list("ws://a,wss://b/v1?x=1,2,ws://c"),
            ["ws://a", "wss://b/v1?x=1,2", "ws://c"]
        );
        assert_eq!(list("ws://a,b"), ["ws://a,b"], "what that is, is said when it is connected to");
    }

    #[test]
    fn every_node_has_its_turn_and_where_another_connection_is_comes_only_if_all_else_is() {
        let list = "ws://a,ws://b,ws://c";
        assert_eq!(turns(&mut route(list), 4, None), ["ws://a", "ws://b", "ws://c", "ws://a"]);
        let besides = turns(&mut route(list), 4, Some("ws://b"));
        assert_eq!(besides, ["ws://a", "ws://c", "ws://a", "ws://c"]);
        assert_eq!(turns(&mut route("ws://a"), 2, Some("ws://a")), ["ws://a", "ws://a"]);
    }

    #[test]
    fn the_addresses_of_a_drain_are_tried_in_turn_then_the_other_nodes_then_the_one_that_was_left()
    {
        let drain = |route: &mut Route, to: &[&str], taken| {
            route.handle_drain(to.iter().copied(), taken, &mut || 0);
        };
        let mut home = route("wss://home/v1");
        drain(&mut home, &["wss://a", "ws://plain", "wss://b"], None);
        let tried = turns(&mut home, 4, None);
        assert_eq!(tried, ["wss://b", "wss://a", "wss://home/v1", "wss://b"]);
        let mut nodes = route("ws://a,ws://b");
        drain(&mut nodes, &[], None);
        assert_eq!(turns(&mut nodes, 2, None), ["ws://b", "ws://a"]);
        drain(&mut nodes, &["ws://a", "ws://c"], Some("ws://a"));
        assert_eq!(turns(&mut nodes, 2, Some("ws://a")), ["ws://c", "ws://b"]);
    }

    #[test]
    fn chance_makes_every_order() {
        let mut seen = std::collections::HashSet::new();
        for random in 0..6 {
            let mut left = [random % 3, random / 3].into_iter();
            let mut route = Route::new("ws://a,ws://b,ws://c", &mut || left.next().unwrap());
            seen.insert(turns(&mut route, 3, None));
        }
        assert_eq!(seen.len(), 6);
    }

    proptest! {
        #[test]
        fn there_is_always_an_address_and_never_one_that_leads_from_tls_to_none(
            secure: bool,
            to in prop::collection::vec("(ws|wss|http)://[a-c]", 0..40),
            random: u64,
            failures in 0_usize..50,
        ) {
            let home = if secure { "wss://home" } else { "ws://home" };
            let mut route = Route::new(home, &mut || random);
            for _ in 0..2 {
                route.handle_drain(to.iter().map(String::as_str), None, &mut || random);
                prop_assert!(route.len() <= DRAIN_TO_MAX + 2);
            }
            for _ in 0..failures {
                let allowed = if secure { "wss://" } else { "ws" };
                prop_assert!(route.address().starts_with(allowed), "{}", route.address());
                route.handle_failure(None);
            }
            while route.forget(None) {}
            prop_assert_eq!(route.len(), 1);
        }
    }
}
