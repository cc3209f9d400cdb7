//! The canonicaliser against the container: measured vectors, and a model of the container that the vectors hold to the
//! truth and that is then asked about many more spellings.
//!
//! What must hold: whatever the container takes to a scored servlet, the gateway classifies as that door with the same
//! tenant and organization, or refuses.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test reports a failure"
)]

#[path = "support/spellings.rs"]
mod spellings;

use proptest::prelude::any;
use proptest::prop_assert_eq;
use riskgate::domain::route::RouteTable;
use riskgate::domain::target::CanonicalTarget;
use riskgate::domain::target::SUPER_TENANT;
use serde_json::Value;
use spellings::Chance;
use spellings::SERVLETS;
use spellings::door_at;
use spellings::is_passed;
use spellings::spelling_of;
use spellings::verdict;

/// Contexts that are web applications of their own.
const WEBAPPS: [&str; 7] = [
    "/oauth2",
    "/scim2",
    "/api",
    "/myaccount",
    "/console",
    "/authenticationendpoint",
    "/accountrecoveryendpoint",
];

/// Paths of servlets that are rewritten under a tenant prefix.
const ROOT_SERVLETS: [&str; 7] = [
    "/commonauth",
    "/samlsso",
    "/samlartresolve",
    "/passivests",
    "/oidc/",
    "/logincontext",
    "/.well-known/",
];

/// Where a request ends up in the container.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Arrival {
    path: String,
    tenant: Option<String>,
    organization: Option<String>,
}

/// The container: Tomcat 9 with the authentication and the tenant rewriting valves of WSO2, reduced to what decides
/// where a request arrives. `None` where it answers with an error.
mod container {
    use super::Arrival;
    use super::ROOT_SERVLETS;
    use super::WEBAPPS;

    pub(super) fn arrival(raw: &str) -> Option<Arrival> {
        let raw = raw.split('?').next()?;
        if !raw.starts_with('/')
            || !raw
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&byte))
        {
            return None;
        }
        let path = normalize(raw)?;
        if is_refused_by_valve(raw)
            || is_refused_by_valve(&path)
            || path.contains([' ', '%', '+', '\t'])
        {
            return None;
        }
        match rewrite(raw) {
            Some(dispatch) => Some(Arrival {
                path: normalize(&dispatch.path)?,
                ..dispatch
            }),
            None => Some(Arrival {
                path,
                tenant: None,
                organization: None,
            }),
        }
    }

    /// Path parameters off, escapes decoded once, empty and dot segments resolved.
    fn normalize(raw: &str) -> Option<String> {
        let bare: Vec<_> = raw
            .split('/')
            .map(|segment| segment.split(';').next().unwrap_or_default())
            .collect();
        let decoded = decode(&bare.join("/"))?;
        if decoded.contains(['\0', '\\']) {
            return None;
        }
        let mut kept: Vec<&str> = Vec::new();
        let mut ends_in_slash = false;
        for segment in decoded.split('/') {
            ends_in_slash = matches!(segment, "" | "." | "..");
            match segment {
                "" | "." => {}
                ".." => {
                    kept.pop()?;
                }
                other => kept.push(other),
            }
        }
        let slash = if ends_in_slash && !kept.is_empty() {
            "/"
        } else {
            ""
        };
        Some(format!("/{}{slash}", kept.join("/")))
    }

    /// Decodes once; an encoded slash or a malformed escape is an error. Bytes that are no ASCII show as `?`.
    fn decode(text: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                bytes.push(byte);
                continue;
            }
            let digits = [rest.next()?, rest.next()?];
            let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
            let value = u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
            if value == b'/' {
                return None;
            }
            bytes.push(value);
        }
        Some(
            String::from_utf8_lossy(&bytes)
                .chars()
                .map(|c| if c.is_ascii() { c } else { '?' })
                .collect(),
        )
    }

    /// `(.*)/((\.+)|(.*;+.*)|%2e.*)/(.*)` without regard to case.
    fn is_refused_by_valve(uri: &str) -> bool {
        uri.match_indices('/').any(|(at, _)| {
            let rest = &uri[at + 1..];
            let dots = rest.trim_start_matches('.');
            (dots.len() < rest.len() && dots.starts_with('/'))
                || rest
                    .split_once(';')
                    .is_some_and(|(_, after)| after.contains('/'))
                || (rest.to_ascii_lowercase().starts_with("%2e") && rest.contains('/'))
        })
    }

    /// The tenant rewriting, on the raw text; the path that it dispatches to is cut greedily.
    fn rewrite(raw: &str) -> Option<Arrival> {
        let (tenant, after) = match raw.strip_prefix("/t/") {
            Some(rest) => {
                let at = rest.find('/').filter(|at| *at > 0)?;
                (&rest[..at], &rest[at..])
            }
            None if raw.starts_with("/o/") => ("carbon.super", raw),
            None => return None,
        };
        let mut organization = None;
        let mut from_token = "";
        let mut application = after;
        if let Some(rest) = after.strip_prefix("/o/") {
            let (id, _) = rest.split_once('/')?;
            if !id.is_empty()
                && id
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'f' | b'0'..=b'9' | b'-'))
            {
                organization = Some(id.to_owned());
                application = &rest[id.len()..];
            } else {
                from_token = "/o";
                application = &after[2..];
            }
        }
        let tenant = Some(tenant.to_owned());
        for webapp in WEBAPPS {
            if application.starts_with(&format!("{webapp}/")) {
                let last = application.rfind(&format!("{webapp}/"))?;
                let path = format!(
                    "{webapp}{from_token}{}",
                    &application[last + webapp.len()..]
                );
                return Some(Arrival {
                    path,
                    tenant,
                    organization,
                });
            }
        }
        let servlet = ROOT_SERVLETS
            .iter()
            .find(|servlet| application.starts_with(**servlet) && from_token.is_empty())?;
        let last = application.rfind(*servlet)?;
        Some(Arrival {
            path: application[last..].to_owned(),
            tenant,
            organization,
        })
    }
}

/// Holds one spelling to the rule; says whether it was accepted as a door.
fn hold(table: &RouteTable, raw: &str, arrival: Option<&Arrival>) -> bool {
    let verdict = verdict(table, raw);
    if let Some((arrival, door)) =
        arrival.and_then(|arrival| door_at(&arrival.path).map(|door| (arrival, door)))
    {
        assert!(
            !is_passed(table, raw),
            "`{raw}` reaches {door} and is passed unscored"
        );
        if let Some(verdict) = &verdict {
            assert_eq!(verdict.door, door, "`{raw}`");
            assert_eq!(
                verdict.tenant,
                arrival.tenant.as_deref().unwrap_or(SUPER_TENANT),
                "`{raw}`"
            );
            assert_eq!(verdict.organization, arrival.organization, "`{raw}`");
        }
    }
    let Some(verdict) = verdict else { return false };
    // Whatever the raw spelling was, the forwarded one means to the container what was classified.
    let forwarded = container::arrival(&verdict.forwarded)
        .unwrap_or_else(|| panic!("`{raw}` is forwarded as an error"));
    assert_eq!(door_at(&forwarded.path), Some(verdict.door), "`{raw}`");
    assert_eq!(
        forwarded.tenant.as_deref().unwrap_or(SUPER_TENANT),
        verdict.tenant,
        "`{raw}`"
    );
    assert_eq!(forwarded.organization, verdict.organization, "`{raw}`");
    true
}

/// The rows of the measurement with where each request arrived.
fn rows() -> Vec<(String, Option<Arrival>)> {
    let text = include_str!("data/path-vectors.json");
    let rows: Vec<Value> = serde_json::from_str(text).expect("the vectors are JSON");
    rows.iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().map(str::to_owned);
            let raw = text("raw").expect("each row has its raw target");
            let arrival = (row["status"] == 200).then(|| {
                let context = text("context").expect("a context").replace("%6f", "o");
                let context = if context == "/" {
                    String::new()
                } else {
                    context
                };
                let path = format!("{context}{}", text("path_info").expect("a path"));
                Arrival {
                    path,
                    tenant: text("tenant"),
                    organization: text("org"),
                }
            });
            (raw, arrival)
        })
        .collect()
}

#[test]
fn every_measured_spelling_is_classified_as_it_arrives_or_refused() {
    let table = RouteTable::shipped();
    let rows = rows();
    assert_eq!(rows.len(), 97);
    let accepted: Vec<_> = rows
        .iter()
        .filter(|(raw, arrival)| hold(&table, raw, arrival.as_ref()))
        .collect();
    let accepted: Vec<_> = accepted.iter().map(|(raw, _)| raw.as_str()).collect();
    assert_eq!(
        accepted,
        [
            "/oauth2/token",
            "/oauth2/token/",
            "/oauth2/%74oken",
            "/%6fauth2/token",
            "/oauth2/toke%6e",
            "/oauth2/token?x=/../authorize",
            "/commonauth",
            "/commonauth/",
            "/common%61uth",
            "/commonauth;jsessionid=1",
            "/t/foo/oauth2/token",
            "/t/foo/oauth2/token/",
            "/t/foo/%6fauth2/token",
            "/t/foo/oauth2/%74oken",
            "/t/foo/o/0a1b-2c/oauth2/token",
            "/t/foo/commonauth",
            "/t/foo/o/0a1b/commonauth",
            "/o/0a1b/oauth2/token",
            "http://evil.example/oauth2/token",
        ]
    );
}

#[test]
fn what_is_forwarded_for_a_measured_spelling_arrives_where_it_was_measured() {
    let table = RouteTable::shipped();
    let rows = rows();
    let mut met = 0;
    for (raw, _) in &rows {
        let Some(verdict) = verdict(&table, raw) else {
            continue;
        };
        let resource = verdict.forwarded.split('?').next().unwrap_or_default();
        let (_, arrival) = rows
            .iter()
            .find(|(row, _)| row == resource)
            .unwrap_or_else(|| panic!("`{resource}` is not measured"));
        let arrival = arrival
            .as_ref()
            .unwrap_or_else(|| panic!("`{resource}` does not arrive"));
        assert_eq!(door_at(&arrival.path), Some(verdict.door), "`{raw}`");
        assert_eq!(
            arrival.tenant.as_deref().unwrap_or(SUPER_TENANT),
            verdict.tenant,
            "`{raw}`"
        );
        assert_eq!(arrival.organization, verdict.organization, "`{raw}`");
        met += 1;
    }
    assert_eq!(met, 19);
}

#[test]
fn the_model_of_the_container_agrees_with_every_measurement() {
    for (raw, measured) in rows() {
        assert_eq!(container::arrival(&raw), measured, "`{raw}`");
    }
}

#[test]
fn no_spelling_of_a_scored_path_escapes() {
    const SPELLINGS: usize = 20_000;
    let table = RouteTable::shipped();
    for (seed, (servlet, door, _)) in (1_u64..).zip(SERVLETS) {
        let mut chance = Chance::new(seed);
        let (mut arrived, mut accepted) = (0, 0);
        for _ in 0..SPELLINGS {
            let spelling = spelling_of(servlet, &mut chance);
            let arrival = container::arrival(&spelling);
            arrived += usize::from(
                arrival
                    .as_ref()
                    .is_some_and(|arrival| door_at(&arrival.path) == Some(door)),
            );
            accepted += usize::from(hold(&table, &spelling, arrival.as_ref()));
        }
        // The test is only worth something if many spellings do arrive, more than those that are accepted.
        assert!(
            arrived > SPELLINGS / 10 && accepted > SPELLINGS / 20,
            "{servlet}: {arrived} arrived, {accepted} accepted"
        );
    }
}

proptest::proptest! {
    #[test]
    fn the_canonical_form_is_a_fixed_point(parts in proptest::collection::vec(
        "(/|//|/t/|/o/|/T/|foo|0a1b|oauth2|token|commonauth|api|\\.|%2[eEfF5]|%[0-9a-fA-F]{2}|%|;|;jsessionid=|\\?|#|[ -~]|\\PC)", 0..12,
    )) {
        let raw = format!("/{}", parts.concat());
        if let Ok(once) = CanonicalTarget::parse(raw.as_bytes()) {
            let twice = CanonicalTarget::parse(once.forwarded().as_bytes());
            prop_assert_eq!(twice.as_ref().map(CanonicalTarget::forwarded), Ok(once.forwarded()));
            prop_assert_eq!(twice, Ok(once));
        }
    }

    #[test]
    fn no_bytes_make_the_canonicaliser_panic(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(target) = CanonicalTarget::parse(&raw) {
            let joined = format!("{}{}", target.prefix(), target.path());
            prop_assert_eq!(joined, target.resource());
        }
    }
}
