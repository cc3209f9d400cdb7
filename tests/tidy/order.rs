//! The order of the domain's modules: each names earlier ones alone.

use crate::files::nothing;
use crate::files::production;
use crate::layers::is_within;
use crate::layers::own_paths;
use regex::Regex;
use std::collections::BTreeSet;

/// The modules of the domain in the order in which a request meets them: each names earlier ones alone.
const DOMAIN_ORDER: &[&str] = &[
    "hex",
    "mac",
    "ids",
    "time",
    "secret",
    "bearer_token",
    "fault",
    "target",
    "route",
    "kind",
    "parameters",
    "headers",
    "printable",
    "authenticator",
    "signals",
    "demand",
    "history",
    "features",
    "drift",
    "risk",
    "policy",
    "friction",
    "rollout_plan",
    "risk_claims",
    "signature",
    "json_text",
    "signing",
    "jwt",
    "id_token",
    "access_token",
    "resign",
    "introspection",
    "resource",
    "front_channel",
    "saml",
    "pdp",
    "enforcement",
    "action",
    "token_action",
    "identity_event",
    "scope_use",
    "review",
    "operator",
    "page_key",
    "sign_in",
    "outcome",
    "audit",
    "trail",
    "recorded",
    "explain",
    "label",
    "alert",
    "shared_signal",
    "trace",
];

/// Names of later modules that earlier ones use all the same.
const AGAINST_THE_ORDER: &[(&str, &str, &str)] = &[
    (
        "signals",
        "history",
        "the hashes of a request have the form in which a profile keeps them (`Familiarity`)",
    ),
    (
        "features",
        "policy::reason",
        "a feature names the reason that its contribution gives; the list is closed and plain data",
    ),
    (
        "risk",
        "policy::reason",
        "an assessment carries its reasons; the list is closed and plain data",
    ),
];

#[test]
fn the_domain_is_in_the_order_of_the_request() {
    let listed = Regex::new(r"(?m)^pub mod (\w+);").unwrap();
    let declared = crate::files::read("src/domain/mod.rs");
    let found = listed.captures_iter(&declared);
    let declared: Vec<&str> = found.map(|name| name.get(1).unwrap().as_str()).collect();
    assert_eq!(
        declared, DOMAIN_ORDER,
        "src/domain/mod.rs and this test differ"
    );

    let place = |module: &str| DOMAIN_ORDER.iter().position(|known| *known == module);
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for source in production() {
        let Some(module) = source
            .path
            .strip_prefix("src/domain/")
            .and_then(|rest| rest.split(['/', '.']).next())
        else {
            continue;
        };
        for path in own_paths(source) {
            let Some(path) = path.strip_prefix("domain::") else {
                continue;
            };
            let named = path.split("::").next().unwrap_or_default();
            if place(named) <= place(module) {
                continue;
            }
            let known = AGAINST_THE_ORDER
                .iter()
                .find(|(from, to, _)| *from == module && is_within(path, to));
            match known {
                Some(exception) => {
                    used.insert(exception);
                }
                None => findings.push(format!("{} names the later domain::{path}", source.path)),
            }
        }
    }
    nothing("the domain names later modules", findings);
    assert_eq!(
        used.len(),
        AGAINST_THE_ORDER.len(),
        "an exception is not needed any more: take it off the list"
    );
}
