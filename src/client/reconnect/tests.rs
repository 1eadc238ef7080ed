//! Vectors and properties of the waits, the ways and the verdicts.

use proptest::prelude::*;

use super::*;

#[test]
fn the_bound_of_the_wait_doubles_to_half_a_minute_and_begins_anew_after_a_good_connection() {
    let bounds = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
    let mut backoff = Backoff::default();
    for bound in bounds {
        assert_eq!(backoff.next_ms(bound), bound, "the bound itself can be chosen");
    }
    let mut backoff = Backoff::default();
    for bound in bounds {
        assert_eq!(backoff.next_ms(bound + 1), 0, "and nothing above it");
    }
    backoff.reset();
    assert_eq!(backoff.next_ms(250), 250);
}

proptest! {
    #[test]
    fn no_wait_passes_its_bound_and_every_wait_below_it_can_be_chosen(
        attempts in 0_u32..200,
        random: u64,
    ) {
        let bound = (RECONNECT_MS << attempts.min(20)).min(RECONNECT_MS_MAX);
        let wait = |random| Backoff { attempts }.next_ms(random);
        prop_assert!(wait(random) <= bound);
        let chosen = random % (bound + 1);
        prop_assert_eq!(wait(chosen), chosen);
    }
}

#[test]
fn silence_is_three_heartbeats_and_what_the_servers_sweep_may_be_late() {
    const MS: u64 = 1_000_000;
    let mut silence = Silence::new(0);
    assert_eq!(silence.is_over(14_999 * MS), None);
    assert_eq!(silence.is_over(15_000 * MS), Some(15_000));
    silence.handle_heartbeat_ms(100);
    silence.handle_bytes(20_000 * MS);
    assert_eq!(silence.is_over(21_299 * MS), None);
    assert_eq!(silence.is_over(21_300 * MS), Some(1_300));
    silence.handle_heartbeat_ms(u64::MAX);
    assert_eq!(silence.is_over(1_000_000 * MS), Some(901_000));
}

#[test]
fn every_close_code_of_the_server_leads_to_what_its_range_says() {
    let final_codes = [1002, 1003, 1007, 1008, 1009, 4000, 4001, 4002, 4003, 4099];
    for code in (1000..1016).chain(3000..3010).chain(4000..4200) {
        let expected = final_codes.contains(&code) || (4000..4100).contains(&code);
        assert_eq!(after_close(Some(code)) == When::Never, expected, "{code}");
        let text = close_text(Some(code), "words");
        assert!(text.contains(&format!("{code} (")) && text.contains("words"), "{text}");
        assert!(!expected || !text.contains("a retry makes sense"), "{text}");
    }
    assert_eq!(after_close(None), When::After(0));
}

#[test]
fn an_answer_decides_by_its_status_and_a_retry_after_is_kept_to_a_bound() {
    let refused = |status, retry_after_s| {
        let error = ClientHandshakeError::Refused {
            status,
            phrase: String::new(),
            body: String::new(),
            retry_after_s,
        };
        after_error(&ClientError::Upgrade("a".into(), error), false)
    };
    assert_eq!(refused(503, Some(7)), When::After(7_000));
    assert_eq!(refused(429, None), When::After(0));
    assert_eq!(refused(503, Some(u32::MAX)), When::After(RETRY_AFTER_MS_MAX));
    for status in [301, 400, 401, 403, 404, 426] {
        assert_eq!(refused(status, Some(1)), When::Never, "{status}");
    }
}

#[test]
fn a_broken_connection_is_made_again_and_a_first_one_that_fails_is_not() {
    let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
    let errors = [
        ClientError::Refused("a".into()),
        ClientError::UpgradeEnded("a".into(), std::io::ErrorKind::TimedOut.into()),
        // A certificate that is being replaced may be wrong for a moment.
        ClientError::Trust(TrustError::Tls { host: "a".into(), error: expired }),
        ClientError::Io(std::io::ErrorKind::ConnectionReset.into()),
    ];
    for error in errors {
        assert_eq!(after_error(&error, true), When::After(0), "{error}");
        assert_eq!(after_error(&error, false), When::Never, "{error}");
    }
    let wrong = ClientError::Address("a".into(), "b");
    assert_eq!(after_error(&wrong, true), When::Never);
}
