//! Spellings of the paths of scored servlets, from plain to wild, the same in every run; and what the gateway makes of one.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary includes this and uses a part of it"
)]

use http::Method;
use riskgate::domain::route::Door;
use riskgate::domain::route::RouteClass;
use riskgate::domain::route::RouteTable;
use riskgate::domain::target::CanonicalTarget;

/// Where the container's scored servlets are, told apart from the gateway's own table on purpose.
pub const SERVLETS: [(&str, Door, &str); 14] = [
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

/// What may stand before a path, honest or not.
const PREFIXES: [&str; 10] = [
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

/// What the gateway makes of a target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub door: Door,
    pub tenant: String,
    pub organization: Option<String>,
    pub forwarded: String,
}

/// A small generator (xorshift64*), so that every run tries the same spellings.
pub struct Chance(u64);

impl Chance {
    /// The same for the same seed, another for each.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 up to but not `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(mixed).unwrap_or_default() % bound
    }
}

/// A spelling of `servlet`: behind some prefix, up to three steps away from the plain one.
pub fn spelling_of(servlet: &str, chance: &mut Chance) -> String {
    let mut spelling = format!("{}{servlet}", PREFIXES[chance.below(PREFIXES.len())]);
    for _ in 0..chance.below(4) {
        spelling = mutated(spelling, chance);
    }
    spelling
}

/// The door of the servlet at a path of the container; a slash at its end makes no difference there. The API for the
/// organization of a token is served by the same application with `/o` before its own paths.
pub fn door_at(path: &str) -> Option<Door> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let path = &path.replacen("/api/o/", "/api/", 1);
    SERVLETS
        .iter()
        .find(|(servlet, ..)| *servlet == path)
        .map(|(_, door, _)| *door)
}

/// The gateway's verdict; `None` where it refuses or does not score.
pub fn verdict(table: &RouteTable, raw: &str) -> Option<Verdict> {
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
pub fn is_passed(table: &RouteTable, raw: &str) -> bool {
    CanonicalTarget::parse(raw.as_bytes()).is_ok_and(|target| {
        matches!(
            table.classify(&Method::POST, &target).class,
            RouteClass::Passed(_) | RouteClass::Own
        )
    })
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
