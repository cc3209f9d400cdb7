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

use http::Method;
use proptest::prelude::any;
use proptest::prop_assert_eq;
use riskgate::domain::route::Door;
use riskgate::domain::route::RouteClass;
use riskgate::domain::route::RouteTable;
use riskgate::domain::target::CanonicalTarget;
use riskgate::domain::target::SUPER_TENANT;
use serde_json::Value;

/// Where the container's scored servlets are, told apart from the gateway's own table on purpose.
const SERVLETS: [(&str, Door, &str); 14] = [
    ("/oauth2/authorize", Door::Authorize, "GET"),
    ("/commonauth", Door::Login, "POST"),
    ("/oauth2/authn", Door::Authn, "POST"),
    ("/api/server/v1/flow/execute", Door::Flow, "POST"),
    ("/oauth2/token", Door::Token, "POST"),
    ("/oauth2/par", Door::Par, "POST"),
    ("/oauth2/device_authorize", Door::DeviceAuthorize, "POST"),
    ("/oauth2/device", Door::Device, "POST"),
    ("/oauth2/ciba", Door::Ciba, "POST"),
    ("/oauth2/ciba_authorize", Door::CibaAuthorize, "POST"),
    ("/samlsso", Door::Saml, "POST"),
    ("/samlartresolve", Door::Saml, "POST"),
    ("/passivests", Door::WsFed, "POST"),
    ("/api/identity/entitlement/decision/pdp", Door::Pdp, "POST"),
];

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

/// What the gateway makes of a target.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Verdict {
    door: Door,
    tenant: String,
    organization: Option<String>,
    forwarded: String,
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

/// The door of the servlet at a path of the container; a slash at its end makes no difference there. The API for the
/// organization of a token is served by the same application with `/o` before its own paths.
fn door_at(path: &str) -> Option<Door> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let path = &path.replacen("/api/o/", "/api/", 1);
    SERVLETS
        .iter()
        .find(|(servlet, ..)| *servlet == path)
        .map(|(_, door, _)| *door)
}

/// The gateway's verdict; `None` where it refuses or does not score.
fn verdict(table: &RouteTable, raw: &str) -> Option<Verdict> {
    let target = CanonicalTarget::parse(raw.as_bytes()).ok()?;
    let RouteClass::Scored(door) = table.classify(&Method::POST, &target).class else {
        return None;
    };
    Some(Verdict {
        door,
        tenant: target.tenant_domain().to_owned(),
        organization: target.organization().map(str::to_owned),
        forwarded: target.forwarded().to_owned(),
    })
}

/// Whether the gateway lets a target through unscored.
fn is_passed(table: &RouteTable, raw: &str) -> bool {
    CanonicalTarget::parse(raw.as_bytes()).is_ok_and(|target| {
        matches!(
            table.classify(&Method::POST, &target).class,
            RouteClass::Passed(_) | RouteClass::Own
        )
    })
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
    let prefixes = [
        "",
        "",
        "",
        "/t/foo",
        "/t/foo.com",
        "/o/0a1b",
        "/t/foo/o/0a1b-2c",
        "/t/foo/o",
        "/t/f/oauth2",
        "/t/foo/api",
    ];
    for (seed, (servlet, door, _)) in (1_u64..).zip(SERVLETS) {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut arrived, mut accepted) = (0, 0);
        for _ in 0..SPELLINGS {
            let mut spelling = format!("{}{servlet}", prefixes[chance.below(prefixes.len())]);
            for _ in 0..chance.below(4) {
                spelling = mutated(spelling, &mut chance);
            }
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

/// A small generator (xorshift64*), so that every run tries the same spellings.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(mixed).unwrap_or_default() % bound
    }
}

/// One step away from a spelling.
fn mutated(spelling: String, chance: &mut Chance) -> String {
    const INSERTIONS: [&str; 40] = [
        "/",
        "//",
        "/.",
        "/..",
        "/./",
        "/../",
        "/x/../",
        "/x/..",
        "/...",
        ";",
        ";x=y",
        ";jsessionid=1",
        "/;x",
        "%2e",
        "%2E%2e",
        "/.%2e/",
        "/%2e/",
        "%2f",
        "%5c",
        "\\",
        "%00",
        "%20",
        "+",
        "%25",
        "%252e",
        "%3b",
        "%c0%af",
        "%e2%80%8b",
        "?x",
        "#x",
        "X",
        "/t/bar",
        "/o/0b",
        "/o",
        "/x/.%2e",
        "/x/.%2E/",
        "/oauth2",
        "/oauth2/x",
        "%74",
        "/x",
    ];
    let slashes: Vec<usize> = spelling.match_indices('/').map(|(at, _)| at).collect();
    let anywhere = chance.below(spelling.len() + 1);
    match chance.below(8) {
        // Encode a character, in either case.
        0..=2 => {
            let at = chance.below(spelling.len());
            let (front, rest) = spelling.split_at(at);
            let byte = rest.as_bytes()[0];
            let escape = if chance.below(2) == 0 {
                format!("%{byte:02x}")
            } else {
                format!("%{byte:02X}")
            };
            format!("{front}{escape}{}", &rest[1..])
        }
        // Something before a slash, at the end, or anywhere.
        3 | 4 => {
            let at = slashes
                .get(chance.below(slashes.len().max(1)))
                .copied()
                .unwrap_or_default();
            format!(
                "{}{}{}",
                &spelling[..at],
                INSERTIONS[chance.below(INSERTIONS.len())],
                &spelling[at..]
            )
        }
        5 => format!("{spelling}{}", INSERTIONS[chance.below(INSERTIONS.len())]),
        6 => format!(
            "{}{}{}",
            &spelling[..anywhere],
            INSERTIONS[chance.below(INSERTIONS.len())],
            &spelling[anywhere..]
        ),
        // The other case of a character.
        _ => {
            let at = chance.below(spelling.len());
            let swapped = spelling[at..=at].chars().map(|c| {
                if c.is_ascii_lowercase() {
                    c.to_ascii_uppercase()
                } else {
                    c.to_ascii_lowercase()
                }
            });
            format!(
                "{}{}{}",
                &spelling[..at],
                swapped.collect::<String>(),
                &spelling[at + 1..]
            )
        }
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
