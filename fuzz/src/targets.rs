//! The targets, a file for each group of readers.

mod actions;
mod answers;
mod configuration;
mod cookies;
mod forwarded;
mod hello;
mod models;
mod parameters;
mod path;
mod polls;
mod records;
mod saml;
mod stored;
mod tokens;

use crate::Target;

/// Mutations in `cargo test` where a try takes some microseconds.
const QUICK: u32 = 4_000;
/// Where it takes a tenth of a millisecond or more in an unoptimised build.
const SLOW: u32 = 400;

const fn target(
    name: &'static str,
    run: fn(&[u8]) -> bool,
    tries: u32,
    more: &'static [&'static str],
) -> Target {
    Target {
        name,
        has_own: true,
        run,
        more,
        tries,
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("actions", actions::actions, SLOW, &["tests/data/actions"]),
    target("answers", answers::answers, QUICK, &[]),
    target(
        "config",
        configuration::config,
        SLOW,
        &["conf/examples", "conf/riskgate.toml"],
    ),
    target("cookies", cookies::cookies, QUICK, &[]),
    target("events", configuration::events, SLOW, &[]),
    target("form", parameters::form, QUICK, &[]),
    target("forwarded", forwarded::forwarded, QUICK, &[]),
    target("hello", hello::hello, SLOW, &[]),
    target("json", parameters::json, QUICK, &["tests/data/xacml"]),
    target("keys", tokens::keys, SLOW, &[]),
    Target {
        has_own: false,
        ..target(
            "manifest",
            models::manifest,
            SLOW,
            &[
                "conf/model/manifest.toml",
                "tests/data/models/starter/manifest.toml",
            ],
        )
    },
    Target {
        has_own: false,
        ..target(
            "model",
            models::model,
            SLOW,
            &["tests/data/models/starter/risk-login-0.1.0.onnx"],
        )
    },
    target("path", path::path, QUICK, &[]),
    target("policy", configuration::policy, SLOW, &["conf/policy.toml"]),
    target("poll", polls::poll, QUICK, &[]),
    target("record", records::record, SLOW, &[]),
    target("rollout", configuration::rollout, SLOW, &[]),
    target("saml", saml::saml, SLOW, &[]),
    target("stored", stored::stored, QUICK, &[]),
    target("token", tokens::token, SLOW, &[]),
    target("token-answer", tokens::answer, SLOW, &[]),
];
