//! What operators rule and clients wish for, by chance.

use fanfare::protocol::channel::Pattern;
use fanfare::protocol::policy;
use fanfare::protocol::terms::{self, Interval, Rule, Rules};

use crate::model::{INTERVALS_MS, Policy, Wish};

use super::random::Random;

const AGES_MS: [u64; 6] = [10, 50, 200, 500, 1_000, 2_000];
const LAGS_BYTES: [u64; 4] = [1_024, 2_000, 4_000, 20_000];
const RULED: [&str; 8] =
    [">", "trade.*", "quote.>", "book.>", "*.BTC", "book.BTC.raw", "quote.ETH", "late.x"];

/// A client's wish: one that the server must accept.
pub(super) fn wish(random: &mut Random) -> Wish {
    let mut wish = Wish::default();
    if random.chance(70) {
        wish.policy = Some(random.pick(&Policy::ALL).1);
    }
    if random.chance(30) {
        wish.max_age_ms = Some(random.pick(&AGES_MS));
    }
    if random.chance(30) {
        wish.max_lag_bytes = Some(random.pick(&LAGS_BYTES));
    }
    let samples = matches!(wish.policy, None | Some(Policy::Auto | Policy::Latest));
    if samples && random.chance(30) {
        wish.interval_ms = Some(random.pick(&INTERVALS_MS));
    }
    wish
}

/// The fields of a wish as parameters of `subscribe`, each with a comma before it.
pub(super) fn params(wish: &Wish) -> String {
    let mut text = String::new();
    if let Some(policy) = wish.policy {
        text += &format!(r#","policy":"{}""#, policy.word());
    }
    let numbers = [
        ("max_age_ms", wish.max_age_ms),
        ("max_lag_bytes", wish.max_lag_bytes),
        ("interval_ms", wish.interval_ms),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            text += &format!(r#","{name}":{number}"#);
        }
    }
    text
}

/// The operator's rules of a seed: none for half of them.
pub(super) fn rules(random: &mut Random) -> Vec<(String, Wish)> {
    if random.chance(50) {
        return Vec::new();
    }
    let mut rules: Vec<(String, Wish)> = Vec::new();
    for _ in 0..=random.below(3) {
        let pattern = random.pick(&RULED);
        if rules.iter().all(|(known, _)| known != pattern) {
            rules.push((pattern.to_owned(), wish(random)));
        }
    }
    rules
}

/// The same for the server.
pub(super) fn for_server(rules: &[(String, Wish)]) -> Rules {
    let rule = |(pattern, wish): &(String, Wish)| Rule {
        pattern: Pattern::parse(pattern).unwrap(),
        wish: terms::Wish {
            policy: wish.policy.map(|p| policy::Policy::parse(p.word()).unwrap()),
            max_age_ms: wish.max_age_ms.map(|ms| u32::try_from(ms).unwrap()),
            max_lag_bytes: wish.max_lag_bytes,
            interval: wish.interval_ms.map(|ms| Interval::from_ms(ms).unwrap()),
        },
    };
    Rules::new(rules.iter().map(rule).collect())
}
