//! Who a request is taken to come from, for all kinds of claims.

use super::AddressSource as S;
use super::*;

const LB: &str = "10.0.0.1";
const STRANGER: &str = "203.0.113.9";

/// One row: who sends, which header lines, and what is made of it.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, S, bool);

fn trusted() -> TrustedProxies {
    let entries = [
        "10.0.0.0/8",
        "2001:db8:ffff::/48",
        "::ffff:172.16.0.0/108",
        "192.0.2.250",
    ];
    TrustedProxies::parse(&entries.map(str::to_owned)).unwrap()
}

fn seen(peer: &str, lines: &[(&str, &str)]) -> ClientAddress {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(
            name,
            http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    client_address(peer.parse().unwrap(), &headers, &trusted())
}

#[test]
fn the_client_is_the_last_hop_that_is_not_ours() {
    let xff = "X-Forwarded-For";
    let fwd = "Forwarded";
    #[rustfmt::skip] // A line per row.
    let rows: &[Row<'_>] = &[
        // Nobody is believed who is not trusted.
        (STRANGER, &[], STRANGER, S::Peer, false),
        (STRANGER, &[(xff, "6.6.6.6")], STRANGER, S::Peer, false),
        (STRANGER, &[(fwd, "for=6.6.6.6")], STRANGER, S::Peer, false),
        (STRANGER, &[(xff, "rubbish")], STRANGER, S::Peer, false),
        ("::ffff:203.0.113.9", &[(xff, "6.6.6.6")], STRANGER, S::Peer, false),
        ("11.0.0.1", &[(xff, "6.6.6.6")], "11.0.0.1", S::Peer, false),
        // A trusted proxy without a word.
        (LB, &[], LB, S::Peer, false),
        (LB, &[("X-Real-IP", "6.6.6.6"), ("True-Client-IP", "6.6.6.6")], LB, S::Peer, false),
        // One hop and several.
        (LB, &[(xff, STRANGER)], STRANGER, S::XForwardedFor, false),
        ("::ffff:10.0.0.1", &[(xff, STRANGER)], STRANGER, S::XForwardedFor, false),
        ("172.16.5.5", &[(xff, STRANGER)], STRANGER, S::XForwardedFor, false),
        ("172.32.0.1", &[(xff, STRANGER)], "172.32.0.1", S::Peer, false),
        ("192.0.2.250", &[(xff, STRANGER)], STRANGER, S::XForwardedFor, false),
        ("192.0.2.251", &[(xff, STRANGER)], "192.0.2.251", S::Peer, false),
        ("2001:db8:ffff::2", &[(xff, STRANGER)], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, "6.6.6.6, 203.0.113.9")], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, "6.6.6.6, 203.0.113.9, 10.9.9.9")], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, "6.6.6.6"), (xff, "203.0.113.9")], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, "203.0.113.9"), (xff, "10.0.0.7,10.0.0.8")], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, "10.0.0.9,10.0.0.8")], "10.0.0.9", S::XForwardedFor, false),
        (LB, &[(xff, "rubbish, 203.0.113.9")], STRANGER, S::XForwardedFor, false),
        // Spellings.
        (LB, &[(xff, " 203.0.113.9:4711 ")], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, "::ffff:203.0.113.9")], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, "[::ffff:203.0.113.9]:80")], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, "2001:DB8::1")], "2001:db8::1", S::XForwardedFor, false),
        (LB, &[(xff, "[2001:db8::1]")], "2001:db8::1", S::XForwardedFor, false),
        (LB, &[(xff, "[2001:db8::1]:65535")], "2001:db8::1", S::XForwardedFor, false),
        (LB, &[(xff, "fe80::1%eth0")], "fe80::1", S::XForwardedFor, false),
        (LB, &[(xff, "[fe80::1%25eth0]:80")], "fe80::1", S::XForwardedFor, false),
        // What cannot be followed.
        (LB, &[(xff, "not-an-ip")], LB, S::Peer, true),
        (LB, &[(xff, "")], LB, S::Peer, true),
        (LB, &[(xff, "unknown")], LB, S::Peer, true),
        (LB, &[(xff, "203.0.113.9,")], LB, S::Peer, true),
        (LB, &[(xff, "203.0.113.9, rubbish, 10.0.0.8")], "10.0.0.8", S::XForwardedFor, true),
        (LB, &[(xff, "203.0.113.9:65536")], LB, S::Peer, true),
        (LB, &[(xff, "203.0.113.9:")], LB, S::Peer, true),
        (LB, &[(xff, "203.0.113.09")], LB, S::Peer, true),
        (LB, &[(xff, "203.0.113.9%eth0")], LB, S::Peer, true),
        (LB, &[(xff, "[203.0.113.9]")], LB, S::Peer, true),
        (LB, &[(xff, "[2001:db8::1")], LB, S::Peer, true),
        (LB, &[(xff, "[2001:db8::1]80")], LB, S::Peer, true),
        (LB, &[(xff, "0.0.0.0")], LB, S::Peer, true),
        (LB, &[(xff, "224.0.0.1")], LB, S::Peer, true),
        (LB, &[(xff, "255.255.255.255")], LB, S::Peer, true),
        (LB, &[(xff, "203.0.113.9;10.0.0.2")], LB, S::Peer, true),
        (LB, &[(xff, "203.0.113.\u{e9}")], LB, S::Peer, true),
        // RFC 7239.
        (LB, &[(fwd, "for=203.0.113.9")], STRANGER, S::Forwarded, false),
        (LB, &[(fwd, "For=\"[2001:db8:cafe::17]:4711\"")], "2001:db8:cafe::17", S::Forwarded, false),
        (LB, &[(fwd, "for=6.6.6.6, for=203.0.113.9;proto=https;by=10.0.0.1")], STRANGER, S::Forwarded, false),
        (LB, &[(fwd, "for=203.0.113.9 ; by=x , for=10.0.0.3")], STRANGER, S::Forwarded, false),
        (LB, &[(fwd, "for=6.6.6.6"), (fwd, "for=203.0.113.9")], STRANGER, S::Forwarded, false),
        (LB, &[(fwd, "for=\"203.0.113\\.9\"")], STRANGER, S::Forwarded, false),
        (LB, &[(fwd, "for=\"203.0.113.9:_hidden\"")], STRANGER, S::Forwarded, false),
        (LB, &[(fwd, "for=\"open"), (fwd, "for=203.0.113.9")], STRANGER, S::Forwarded, false),
        (LB, &[(fwd, "for=\"open, for=203.0.113.9")], LB, S::Peer, true),
        (LB, &[(fwd, "for=_hidden")], LB, S::Peer, true),
        (LB, &[(fwd, "for=unknown")], LB, S::Peer, true),
        (LB, &[(fwd, "proto=https")], LB, S::Peer, true),
        (LB, &[(fwd, "for=203.0.113.9;for=6.6.6.6")], LB, S::Peer, true),
        (LB, &[(fwd, "for=203.0.113.9;")], LB, S::Peer, true),
        (LB, &[(fwd, "for")], LB, S::Peer, true),
        (LB, &[(fwd, "for=")], LB, S::Peer, true),
        (LB, &[(fwd, "")], LB, S::Peer, true),
        // Both.
        (LB, &[(xff, STRANGER), (fwd, "for=203.0.113.9")], STRANGER, S::XForwardedFor, false),
        (LB, &[(xff, STRANGER), (fwd, "for=6.6.6.6")], STRANGER, S::XForwardedFor, true),
        (LB, &[(xff, "rubbish"), (fwd, "for=6.6.6.6")], LB, S::Peer, true),
    ];
    assert!(rows.len() >= 40);
    for (peer, lines, address, source, malformed) in rows {
        let found = seen(peer, lines);
        let expected = (address.parse::<IpAddr>().unwrap(), *source, *malformed);
        assert_eq!(
            (found.address, found.source, found.malformed),
            expected,
            "{peer} {lines:?}"
        );
    }
}

#[test]
fn hops_are_bounded() {
    let line = |proxies: usize| format!("{STRANGER}{}", ",10.0.0.9".repeat(proxies));
    let (most, more) = (line(HOPS_MAX - 1), line(HOPS_MAX));
    let followed = seen(LB, &[("x-forwarded-for", &most)]);
    assert_eq!(
        (followed.address, followed.malformed),
        (STRANGER.parse().unwrap(), false)
    );
    let stopped = seen(LB, &[("x-forwarded-for", &more)]);
    assert_eq!(
        (stopped.address, stopped.malformed),
        ("10.0.0.9".parse().unwrap(), true)
    );
}

#[test]
fn the_scheme_is_taken_from_trusted_proxies() {
    let xff = ("x-forwarded-for", STRANGER);
    let proto = "x-forwarded-proto";
    for (peer, lines, scheme, malformed) in [
        (STRANGER, &[(proto, "https")][..], None, false),
        (LB, &[(proto, "https")], Some(Scheme::Https), false),
        (LB, &[xff, (proto, "HTTP")], Some(Scheme::Http), false),
        (
            LB,
            &[xff, (proto, "http, https")],
            Some(Scheme::Https),
            false,
        ),
        (
            LB,
            &[xff, (proto, "http"), (proto, "https")],
            Some(Scheme::Https),
            false,
        ),
        (LB, &[xff, (proto, "gopher")], None, true),
        (LB, &[xff], None, false),
        (
            LB,
            &[(
                "forwarded",
                "for=203.0.113.9;proto=https, for=10.0.0.2;proto=http",
            )],
            Some(Scheme::Https),
            false,
        ),
        (
            LB,
            &[("forwarded", "for=203.0.113.9"), (proto, "https")],
            Some(Scheme::Https),
            false,
        ),
        (LB, &[("forwarded", "for=203.0.113.9;proto=x")], None, true),
    ] {
        let found = seen(peer, lines);
        assert_eq!(
            (found.forwarded_proto, found.malformed),
            (scheme, malformed),
            "{peer} {lines:?}"
        );
    }
}

#[test]
fn a_wrong_entry_is_named() {
    let parse = |entry: &str| TrustedProxies::parse(&[entry.to_owned()]);
    for entry in ["", "10.0.0.0/33", "10.0.0", "example.com", "10.0.0.0/8 "] {
        assert_eq!(
            parse(entry),
            Err(TrustedProxyError::Network(entry.to_owned())),
            "{entry}"
        );
    }
    for entry in ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96"] {
        assert_eq!(
            parse(entry),
            Err(TrustedProxyError::Everybody(entry.to_owned())),
            "{entry}"
        );
    }
    assert!(TrustedProxies::parse(&[]).unwrap().is_empty());
    let many = vec!["10.0.0.1".to_owned(); TRUSTED_PROXIES_MAX + 1];
    assert_eq!(
        TrustedProxies::parse(&many),
        Err(TrustedProxyError::TooMany(257))
    );
}

proptest::proptest! {
    #[test]
    fn nothing_an_untrusted_peer_writes_matters(line in "[ -~]{0,60}", name in "(x-forwarded-for|forwarded|x-forwarded-proto)") {
        let found = seen(STRANGER, &[(&name, &line)]);
        proptest::prop_assert_eq!(found, seen(STRANGER, &[]));
    }

    #[test]
    fn what_the_client_put_before_the_proxys_entry_matters_not(left in "[ -~]{0,60}") {
        let found = seen(LB, &[("x-forwarded-for", &format!("{left},{STRANGER}"))]);
        proptest::prop_assert_eq!(found.address, STRANGER.parse::<IpAddr>().unwrap());
        let forwarded = seen(LB, &[("forwarded", &format!("{left},for={STRANGER}"))]);
        let address = forwarded.address.to_string();
        proptest::prop_assert!(address == STRANGER || (address == LB && forwarded.malformed), "{}", address);
    }
}
