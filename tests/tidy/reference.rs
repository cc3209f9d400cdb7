//! The reference pages say what the code says: configuration keys with their defaults, metrics with their labels, the
//! fields of the audit record, reason codes; and every example configuration is one.

use crate::files::nothing;
use crate::files::read;
use crate::files::same;
use crate::files::sources;
use regex::Regex;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::redis::RedisSettings;
use riskgate::adapters::store;
use riskgate::adapters::store::StoreSettings;
use riskgate::config::Config;
use riskgate::domain::policy::decision::Mode;
use riskgate::domain::policy::reason::Reason;
use riskgate::domain::risk::FallbackCause;
use riskgate::domain::route::Door;
use riskgate::domain::secret::Secret;
use riskgate::domain::signals::client_addr::TrustedProxies;
use riskgate::domain::trace::REQUEST_KEYS;
use riskgate::domain::trace::SpanKind;
use riskgate::domain::trace::Stage;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The keys of `conf/riskgate.toml` with their values as written; those in comments have the value `None`.
fn shipped_keys() -> BTreeMap<String, Option<String>> {
    let section = Regex::new(r"^(# )?\[+([a-z_.]+)\]+$").unwrap();
    let key = Regex::new(r"^(# )?([a-z_]+) = (.+)$").unwrap();
    let mut within = String::new();
    let mut keys = BTreeMap::new();
    for line in read("conf/riskgate.toml").lines() {
        if let Some(found) = section.captures(line) {
            within = found[2].to_owned();
        } else if let Some(found) = key.captures(line) {
            let value = found.get(1).is_none().then(|| found[3].to_owned());
            keys.insert(format!("{within}.{}", &found[2]), value);
        }
    }
    keys
}

/// The keys that the code takes. What a section expects, it says itself when it meets a key that it does not know.
fn known_keys() -> BTreeSet<String> {
    let field = Regex::new(r"`([a-z_]+)`").unwrap();
    let expected = |text: &str| -> Vec<String> {
        let error = Config::parse(text).expect_err("an unknown key is an error");
        let (_, list) = error
            .split_once("expected")
            .unwrap_or_else(|| panic!("`{text}`: {error}"));
        field
            .captures_iter(list)
            .map(|found| found[1].to_owned())
            .collect()
    };
    let nested = [
        "actions.tls",
        "admin.oidc",
        "admin.oidc.roles",
        "audit.stream",
        "headers.signature",
        "mode.overrides",
        "model.challenger",
        "resource.introspection",
        "score.breaker",
        "server.tls",
        "shared_signals.receivers",
        "state.breaker",
        "step_up.applications",
        "upstream.danger",
        "upstream.management",
    ];
    let mut sections = expected("zzz = 1\n");
    assert!(sections.len() > 15, "{sections:?}");
    sections.extend(nested.map(str::to_owned));
    let mut keys = BTreeSet::new();
    for section in &sections {
        let lists = [
            "mode.overrides",
            "resource",
            "shared_signals.receivers",
            "step_up.applications",
        ];
        let header = match section.split_once('.') {
            _ if lists.contains(&section.as_str()) => format!("[[{section}]]"),
            Some((list, _)) if lists.contains(&list) => format!("[[{list}]]\n[{section}]"),
            _ => format!("[{section}]"),
        };
        for name in expected(&format!("{header}\nzzz = 1\n")) {
            let key = format!("{section}.{name}");
            if !nested.contains(&key.as_str()) {
                keys.insert(key);
            }
        }
    }
    keys
}

/// The rows of a page: the cells of each table line whose first cell is in backticks, under the last heading.
fn rows(page: &str) -> Vec<(String, Vec<String>)> {
    let mut heading = String::new();
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("##") {
            heading = title.trim_matches(['#', ' ']).to_owned();
        } else if line.starts_with("| `") {
            let cells = line
                .trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect();
            rows.push((heading.clone(), cells));
        }
    }
    assert!(!rows.is_empty());
    rows
}

fn code(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

#[test]
fn the_shipped_file_names_every_key() {
    let shipped: BTreeSet<String> = shipped_keys().into_keys().collect();
    let known = known_keys();
    let differing = shipped.symmetric_difference(&known).cloned().collect();
    nothing("conf/riskgate.toml and the code differ", differing);
}

#[test]
fn the_configuration_reference_has_every_key_and_its_default() {
    let section = Regex::new(r"^`\[+([a-z_.]+)\]+`$").unwrap();
    let mut documented = BTreeMap::new();
    for (heading, cells) in rows(&read("docs/reference/configuration.md")) {
        let Some(found) = section.captures(&heading) else {
            continue;
        };
        assert!(
            cells.len() == 3 && !cells[2].is_empty(),
            "{heading}: {cells:?}"
        );
        let default = match cells[1].as_str() {
            "none" => None,
            value => Some(code(value)),
        };
        documented.insert(format!("{}.{}", &found[1], code(&cells[0])), default);
    }
    same(
        "docs/reference/configuration.md",
        &documented,
        &shipped_keys(),
    );
}

#[test]
fn the_metrics_reference_has_every_metric_and_its_labels() {
    let declared = Regex::new(r#""(riskgate_[a-z_]+)",\s*"[^"]+",?\s*(?:&\[([^\]]*)\])?"#).unwrap();
    let label = Regex::new(r#""([a-z_]+)""#).unwrap();
    let source = read("src/telemetry/metrics.rs");
    let code_side: BTreeMap<String, Vec<String>> = declared
        .captures_iter(source.split("#[cfg(test)]").next().unwrap())
        .map(|found| {
            let labels = found.get(2).map_or("", |labels| labels.as_str());
            let labels = label
                .captures_iter(labels)
                .map(|found| found[1].to_owned())
                .collect();
            (found[1].to_owned(), labels)
        })
        .collect();
    let declared_names = Regex::new("\"riskgate_[a-z_]+\"").unwrap();
    let names: BTreeSet<&str> = declared_names
        .find_iter(source.split("#[cfg(test)]").next().unwrap())
        .map(|found| found.as_str().trim_matches('"'))
        .collect();
    assert_eq!(
        names.len(),
        code_side.len(),
        "a declaration was not understood"
    );

    let documented: BTreeMap<String, Vec<String>> = rows(&read("docs/reference/metrics.md"))
        .into_iter()
        .filter(|(_, cells)| cells[0].starts_with("`riskgate_"))
        .map(|(_, cells)| {
            let labels = if cells[2].is_empty() || cells[2] == "none" {
                Vec::new()
            } else {
                cells[2].split(", ").map(code).collect()
            };
            (code(&cells[0]), labels)
        })
        .collect();
    same("docs/reference/metrics.md", &documented, &code_side);
}

#[test]
fn the_metrics_reference_lists_the_values_of_labels() {
    let page = read("docs/reference/metrics.md");
    let missing = Door::ALL
        .iter()
        .map(|door| door.as_str())
        .chain(FallbackCause::ALL.iter().map(|cause| cause.as_str()))
        .filter(|value| !page.contains(&format!("`{value}`")))
        .map(str::to_owned)
        .collect();
    nothing(
        "label values that docs/reference/metrics.md does not name",
        missing,
    );
}

#[test]
fn the_page_of_traces_has_every_span_with_its_kind_and_attributes() {
    let listed = |keys: &[&str]| -> Vec<String> { keys.iter().map(|key| (*key).into()).collect() };
    let mut expected: BTreeMap<String, (String, Vec<String>)> = Stage::ALL
        .iter()
        .map(|stage| {
            let kind = stage.kind().as_str().to_owned();
            (stage.as_str().to_owned(), (kind, listed(stage.keys())))
        })
        .collect();
    let request = (SpanKind::Server.as_str().to_owned(), listed(&REQUEST_KEYS));
    expected.insert("METHOD route".to_owned(), request);
    let documented = rows(&read("docs/TRACES.md"))
        .into_iter()
        .filter(|(heading, _)| heading == "What is in a trace")
        .map(|(_, cells)| {
            let name = cells[0].split('`').nth(1).unwrap_or_default().to_owned();
            let keys = cells[3].split(", ").map(code).collect();
            (name, (cells[1].clone(), keys))
        })
        .collect();
    same("docs/TRACES.md", &documented, &expected);
}

#[test]
fn the_audit_reference_has_every_field() {
    let source = read("src/domain/audit.rs");
    let field = Regex::new(r"(?m)^    pub ([a-z_0-9]+):").unwrap();
    let fields = |name: &str| -> BTreeSet<String> {
        let (_, rest) = source
            .split_once(&format!("pub struct {name} {{"))
            .unwrap_or_else(|| panic!("{name} is not in src/domain/audit.rs"));
        let body = rest.split("\n}").next().unwrap();
        field
            .captures_iter(body)
            .map(|found| found[1].to_owned())
            .collect()
    };
    let mut expected = fields("AuditEvent");
    assert!(expected.remove("timing") && expected.len() > 30);
    expected.extend(
        fields("AuditTiming")
            .into_iter()
            .map(|name| format!("timing.{name}")),
    );
    let documented: BTreeSet<String> = rows(&read("docs/reference/audit.md"))
        .into_iter()
        .filter(|(heading, _)| heading == "Fields")
        .map(|(_, cells)| code(&cells[0]))
        .collect();
    let differing = documented
        .symmetric_difference(&expected)
        .cloned()
        .collect();
    nothing("docs/reference/audit.md and the code differ", differing);
}

#[test]
fn the_audit_reference_has_every_reason() {
    let documented: BTreeMap<String, String> = rows(&read("docs/reference/audit.md"))
        .into_iter()
        .filter(|(heading, _)| heading == "Reasons")
        .map(|(_, cells)| (code(&cells[0]), cells[1].clone()))
        .collect();
    let expected: BTreeMap<String, String> = Reason::ALL
        .iter()
        .map(|reason| (reason.code().to_owned(), reason.sentence().to_owned()))
        .collect();
    same("docs/reference/audit.md", &documented, &expected);
}

#[test]
fn every_example_configuration_is_one() {
    let examples: BTreeMap<String, Config> = sources("conf/examples", &[".toml"])
        .into_iter()
        .map(|source| {
            let config = Config::parse(&source.text)
                .unwrap_or_else(|error| panic!("{}: {error}", source.path));
            TrustedProxies::parse(&config.server.trusted_proxies)
                .unwrap_or_else(|error| panic!("{}: {error}", source.path));
            let settings = StoreSettings {
                embedded: EmbeddedSettings::default(),
                redis: RedisSettings::new(Secret::new(vec![0; 32])),
            };
            store::check(&config.state.url, &settings)
                .unwrap_or_else(|error| panic!("{}: {error}", source.path));
            (source.path.replace("conf/examples/", ""), config)
        })
        .collect();
    let names: Vec<&str> = examples.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "behind-load-balancer.toml",
            "enforce-one-application.toml",
            "monitor-only.toml",
            "redis-fleet.toml",
        ]
    );
    // Each does what its name says.
    assert_eq!(
        examples["monitor-only.toml"].mode.strongest(),
        Mode::Monitor
    );
    let pilot = &examples["enforce-one-application.toml"].mode;
    assert_eq!(pilot.mode_for("carbon.super", "expenses", 0), Mode::Enforce);
    assert_eq!(
        pilot.mode_for("carbon.super", "expenses", 99),
        Mode::Monitor
    );
    assert_eq!(pilot.mode_for("carbon.super", "another", 0), Mode::Monitor);
    let behind = &examples["behind-load-balancer.toml"].server;
    assert!(behind.tls.is_none() && !behind.trusted_proxies.is_empty() && !behind.hosts.is_empty());
    let fleet = &examples["redis-fleet.toml"];
    assert!(fleet.state.url.starts_with("rediss://") && fleet.keys.secret_file.is_some());
    let readme = read("conf/examples/README.md");
    assert!(
        names
            .iter()
            .all(|name| readme.contains(&format!("({name})")))
    );
}
