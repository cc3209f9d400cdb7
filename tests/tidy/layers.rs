//! Who may name whom. The tables are the layers of `docs/ARCHITECTURE.md`; an exception has its reason beside it.

use crate::files::Source;
use crate::files::dependencies;
use crate::files::nothing;
use crate::files::places_of;
use crate::files::production;
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// A part of the tree and what it may name: paths under `crate::`, and crates from outside (`std` is free for all).
struct Layer {
    part: &'static str,
    own_crate: &'static [&'static str],
    outside: &'static [&'static str],
}

/// The most specific part that holds a file is the one that counts.
const LAYERS: &[Layer] = &[
    Layer {
        part: "domain",
        own_crate: &["domain"],
        outside: &[
            // Hashes passwords with a given salt.
            "argon2",
            // Signs with a given key. ECDSA draws its nonce inside.
            "aws_lc_rs",
            "base64",
            "cel",
            "chacha20poly1305",
            "data_encoding",
            "flate2",
            "form_urlencoded",
            "hmac",
            "http",
            "ipnet",
            "jiff",
            // Verifies a signature over given bytes with a given key; no clock, no IO.
            "jsonwebtoken",
            "percent_encoding",
            "postcard",
            "regex",
            "roxmltree",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "toml",
            "unicode_normalization",
            "woothee",
        ],
    },
    Layer {
        part: "telemetry",
        own_crate: &["telemetry", "domain"],
        outside: &[
            "parking_lot",
            "prometheus",
            "serde",
            "tracing",
            "tracing_subscriber",
        ],
    },
    Layer {
        part: "flow",
        own_crate: &["flow", "domain", "telemetry"],
        outside: &[
            "arc_swap",
            "async_trait",
            "base64",
            "foldhash",
            "governor",
            "http",
            "moka",
            "parking_lot",
            "percent_encoding",
            "quick_cache",
            "serde",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
    },
    // Every adapter may name its port; each knows one vendor.
    adapter("adapters/access", &[], &["rustix"]),
    adapter(
        "adapters/alerts",
        &["adapters::courier", "adapters::outbound"],
        &["serde_json", "tokio", "tracing"],
    ),
    adapter(
        "adapters/audit_log",
        &["adapters::priority", "adapters::replace"],
        &["parking_lot", "thiserror", "tracing"],
    ),
    adapter(
        "adapters/audit_stream",
        &[],
        &["parking_lot", "tokio", "tracing"],
    ),
    adapter("adapters/clock", &[], &[]),
    adapter(
        "adapters/courier",
        &["adapters::outbound", "adapters::target"],
        &["arc_swap", "reqwest", "tokio", "tracing"],
    ),
    adapter(
        "adapters/embedded",
        &["adapters::priority", "adapters::replace", "adapters::store"],
        &[
            "arc_swap",
            "async_trait",
            "dashmap",
            "foldhash",
            "parking_lot",
            "redb",
            "thiserror",
            "tokio",
            "tracing",
        ],
    ),
    adapter("adapters/entropy", &[], &["rand"]),
    adapter(
        "adapters/geo",
        &[],
        &[
            "arc_swap",
            // Digests of 175 MB, in a moment in every build.
            "aws_lc_rs",
            "maxminddb",
            "parking_lot",
            "quick_cache",
            "serde",
            "thiserror",
            "toml",
        ],
    ),
    adapter(
        "adapters/identity_server",
        &["adapters::names", "adapters::outbound"],
        &[
            "arc_swap",
            "async_trait",
            "form_urlencoded",
            "http",
            "moka",
            "parking_lot",
            "reqwest",
            "rustls",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
    ),
    adapter(
        "adapters/memory",
        &["adapters::store"],
        &["async_trait", "parking_lot", "tokio"],
    ),
    adapter(
        "adapters/oidc_provider",
        &["adapters::outbound", "adapters::target"],
        &[
            "async_trait",
            "base64",
            "form_urlencoded",
            "parking_lot",
            "reqwest",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
    ),
    adapter(
        "adapters/otlp",
        &["adapters::outbound"],
        &[
            "arc_swap",
            "reqwest",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
    ),
    adapter("adapters/issuer", &[], &["rcgen", "thiserror"]),
    adapter(
        "adapters/label_file",
        &[],
        &["parking_lot", "serde_json", "tracing"],
    ),
    adapter("adapters/names", &[], &["parking_lot", "tokio", "tracing"]),
    adapter(
        "adapters/plan_files",
        &["adapters::replace", "adapters::short_file"],
        &[],
    ),
    adapter("adapters/priority", &[], &["rustix", "tracing"]),
    adapter("adapters/replace", &[], &["rustix"]),
    adapter("adapters/short_file", &[], &[]),
    adapter(
        "adapters/outbound",
        &[],
        &["pem", "reqwest", "rustls", "thiserror"],
    ),
    // The native twin reads the weights out of the same ONNX file, with the same reader.
    adapter(
        "adapters/native",
        &["adapters::onnx::graph"],
        &["thiserror"],
    ),
    adapter(
        "adapters/onnx",
        &["adapters::native"],
        &[
            "ort",
            "parking_lot",
            "prost",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "toml",
            "tracing",
        ],
    ),
    adapter(
        "adapters/redis",
        &["adapters::names", "adapters::priority", "adapters::store"],
        &[
            "async_trait",
            "base64",
            "parking_lot",
            "percent_encoding",
            "rand",
            "redis",
            "rustls",
            "thiserror",
            "tokio",
            "tracing",
        ],
    ),
    adapter(
        "adapters/target",
        &["adapters::outbound"],
        &["reqwest", "tokio"],
    ),
    adapter(
        "adapters/shared_signals",
        &["adapters::courier", "adapters::outbound"],
        &["arc_swap", "async_trait", "parking_lot", "tokio", "tracing"],
    ),
    adapter(
        "adapters/trail",
        &[],
        &["parking_lot", "serde_json", "tokio", "tracing"],
    ),
    // The one place that chooses between the stores; it also holds what they have in common.
    adapter(
        "adapters/store",
        &["adapters::embedded", "adapters::redis"],
        &[
            "async_trait",
            "foldhash",
            "hmac",
            "postcard",
            "serde",
            "sha2",
            "thiserror",
            "tokio",
            "tracing",
        ],
    ),
    Layer {
        part: "proxy",
        own_crate: &["proxy", "domain", "flow", "telemetry"],
        outside: &[
            "arc_swap",
            "async_trait",
            "base64",
            "bytes",
            "http",
            "parking_lot",
            "pingora",
            "rustls",
            "serde_json",
            "sha2",
            "thiserror",
            "tls_parser",
            "tokio",
            "tracing",
            // When a certificate ends; rustls does not say.
            "x509_parser",
        ],
    },
    Layer {
        part: "listening",
        own_crate: &[],
        outside: &[
            "arc_swap",
            "axum",
            "futures_util",
            "hyper",
            "hyper_util",
            "rustls",
            "tokio",
            "tokio_rustls",
            "tracing",
        ],
    },
    Layer {
        part: "admin",
        own_crate: &["admin", "domain", "flow", "listening", "telemetry"],
        outside: &[
            "arc_swap",
            "axum",
            "form_urlencoded",
            "futures_util",
            "maud",
            "parking_lot",
            "percent_encoding",
            // Reads model cards.
            "pulldown_cmark",
            "serde",
            "serde_json",
            // Compares versions of the policy.
            "similar",
            "tokio",
            "tracing",
        ],
    },
    Layer {
        part: "actions",
        own_crate: &["actions", "domain", "flow", "listening", "telemetry"],
        outside: &[
            "arc_swap",
            "axum",
            "base64",
            "hmac",
            "rustls",
            "serde_json",
            "sha2",
            "tokio",
            "tracing",
        ],
    },
    // The settings of the parts, never the parts themselves.
    Layer {
        part: "config",
        own_crate: &[
            "config",
            "domain",
            "adapters::geo",
            "flow::limits",
            "flow::score",
            "telemetry::LogFormat",
        ],
        outside: &["clap", "serde", "thiserror", "toml"],
    },
    Layer {
        part: "app",
        own_crate: &[
            "app",
            "actions",
            "adapters",
            "admin",
            "config",
            "domain",
            "flow",
            "proxy",
            "telemetry",
        ],
        outside: &[
            "anyhow",
            "arc_swap",
            "async_trait",
            // Makes keys.
            "aws_lc_rs",
            "base64",
            "csv",
            "form_urlencoded",
            "hmac",
            "http",
            // Sockets that systemd passes on.
            "listenfd",
            // Looks for an id in large files.
            "memchr",
            "parking_lot",
            // Authorities for Redis, which takes text alone.
            "pem",
            "pingora",
            // Charts, as SVG.
            "plotters",
            "serde",
            "serde_json",
            // `check --reach` looks at the certificate of the identity server.
            "rustls",
            "rustls_native_certs",
            "sha2",
            "thiserror",
            "tokio",
            // Changes one key of a configuration and leaves the rest as it is.
            "toml_edit",
            "tracing",
        ],
    },
    Layer {
        part: "main",
        own_crate: &[],
        outside: &["anyhow", "clap", "mimalloc", "tokio"],
    },
];

const fn adapter(
    part: &'static str,
    siblings: &'static [&'static str],
    outside: &'static [&'static str],
) -> Layer {
    Layer {
        part,
        own_crate: siblings,
        outside,
    }
}

/// What an adapter may name beside its own module and the siblings of its line.
const EVERY_ADAPTER: &[&str] = &["domain", "flow::ports", "telemetry"];

/// The one home of a crate that a layer is built on. Anything else that names it has leaked.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["src/actions/", "src/admin/", "src/listening.rs"]),
    ("clap", &["src/config/", "src/main"]),
    (
        "csv",
        &[
            "src/app/labels.rs",
            "src/app/model/",
            "src/app/replay/",
            "src/app/rerun/",
        ],
    ),
    ("maud", &["src/admin/"]),
    ("maxminddb", &["src/adapters/geo/"]),
    ("mimalloc", &["src/main"]),
    ("ort", &["src/adapters/onnx/"]),
    ("plotters", &["src/app/rerun/"]),
    // The composition root starts Pingora's server.
    ("pingora", &["src/proxy/", "src/app/"]),
    ("prometheus", &["src/telemetry/"]),
    ("pulldown_cmark", &["src/admin/console/card.rs"]),
    ("rcgen", &["src/adapters/issuer.rs"]),
    ("redb", &["src/adapters/embedded/"]),
    ("redis", &["src/adapters/redis/"]),
    (
        "reqwest",
        &[
            "src/adapters/courier/",
            "src/adapters/identity_server/",
            "src/adapters/oidc_provider.rs",
            "src/adapters/otlp/",
            "src/adapters/outbound.rs",
            "src/adapters/target.rs",
        ],
    ),
];

fn layer_of(path: &str) -> Option<&'static Layer> {
    let inner = path.strip_prefix("src/")?;
    LAYERS
        .iter()
        .filter(|layer| {
            inner
                .strip_prefix(layer.part)
                .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
        })
        .max_by_key(|layer| layer.part.len())
}

/// Every `crate::a::b::...` of a file, without `crate::`.
pub(crate) fn own_paths(source: &Source) -> BTreeSet<String> {
    static PATTERN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bcrate::((?:\w+::)*\w+)").unwrap());
    PATTERN
        .captures_iter(&source.text)
        .map(|found| found[1].to_owned())
        .collect()
}

pub(crate) fn is_within(path: &str, front: &str) -> bool {
    path.strip_prefix(front)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn outside_crates(source: &Source) -> Vec<&'static str> {
    dependencies()
        .iter()
        .map(String::as_str)
        .filter(|name| names_crate(&source.text, name))
        .collect()
}

/// Whether a path begins with `name`: it is a crate there, and not a module of the same name.
fn names_crate(text: &str, name: &str) -> bool {
    text.match_indices(&format!("{name}::")).any(|(at, _)| {
        !text[..at]
            .ends_with(|before: char| before == ':' || before == '_' || before.is_alphanumeric())
    })
}

#[test]
fn every_file_belongs_to_a_layer() {
    let strays = production()
        .iter()
        .filter(|source| layer_of(&source.path).is_none())
        // The crate itself and the list of the adapters name modules only.
        .filter(|source| source.path != "src/lib.rs" && source.path != "src/adapters/mod.rs")
        .map(|source| source.path.clone())
        .collect();
    nothing(
        "these files are in no layer of tests/tidy/layers.rs",
        strays,
    );
}

#[test]
fn layers_name_only_what_is_below_them() {
    let mut findings = Vec::new();
    for source in production() {
        let Some(layer) = layer_of(&source.path) else {
            continue;
        };
        let itself = layer.part.replace('/', "::");
        let shared = if layer.part.starts_with("adapters/") {
            EVERY_ADAPTER
        } else {
            &[]
        };
        for path in own_paths(source) {
            let allowed = is_within(&path, &itself)
                || layer
                    .own_crate
                    .iter()
                    .chain(shared)
                    .any(|front| is_within(&path, front));
            if !allowed {
                findings.push(format!("{} names crate::{path}", source.path));
            }
        }
    }
    nothing("imports against the layers", findings);
}

#[test]
fn layers_name_only_their_crates() {
    let mut findings = Vec::new();
    for source in production() {
        let Some(layer) = layer_of(&source.path) else {
            continue;
        };
        for name in outside_crates(source) {
            if !layer.outside.contains(&name) {
                findings.push(format!("{} names the crate {name}", source.path));
            }
        }
    }
    nothing("crates that a layer does not use", findings);
}

#[test]
fn a_vendor_has_one_home() {
    let mut findings = Vec::new();
    for source in production() {
        for name in outside_crates(source) {
            let home = HOMES.iter().find(|(vendor, _)| *vendor == name);
            let at_home = home
                .is_none_or(|(_, homes)| homes.iter().any(|home| source.path.starts_with(home)));
            if !at_home {
                findings.push(format!("{} names {name}", source.path));
            }
        }
    }
    nothing("vendors outside their home", findings);
    for (vendor, homes) in HOMES {
        assert!(
            production().iter().any(|source| homes
                .iter()
                .any(|home| source.path.starts_with(home))
                && outside_crates(source).contains(vendor)),
            "{vendor} is at home nowhere: take it off the list"
        );
    }
}

#[test]
fn the_domain_is_pure() {
    let impure = Regex::new(
        r"\.await|\basync fn\b|std::(?:env|fs|process|os)\b|TcpStream|Instant::now|SystemTime|println!|eprintln!|\brand::",
    )
    .unwrap();
    let findings = places_of(&impure, "src/domain/");
    nothing(
        "the domain waits, reads a clock or touches the world",
        findings,
    );
}

#[test]
fn only_the_flow_gives_permits() {
    let gives = Regex::new(r"ForwardPermit\s*(?:::assertion|\{)|\bfn assertion\b").unwrap();
    let givers: BTreeSet<String> = production()
        .iter()
        .filter(|source| gives.is_match(&source.text))
        .map(|source| source.path.clone())
        .collect();
    let expected: BTreeSet<String> = [
        "src/flow/decide.rs",
        "src/flow/permit.rs",
        "src/flow/resource.rs",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    assert_eq!(givers, expected);
}

#[test]
fn imports_are_one_path_a_line() {
    let nested = Regex::new(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use [^;]*\{|super::super").unwrap();
    let findings = crate::files::sources("src", &[".rs"])
        .iter()
        .flat_map(|source| {
            nested
                .find_iter(&source.text)
                .map(|found| format!("{}: {}", source.path, found.as_str().trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    nothing("nested or far imports, which hide a dependency", findings);
}
