//! What the lint finds, lets be, and leaves open.

use super::*;

/// What the lint says about one rule each: severity and problem by name.
fn findings(rules: &[(&str, &str, &str)]) -> Vec<(Severity, String, String)> {
    let mut text = String::from("version = 1\nbreak_glass = [\"admin\"]\n");
    for (name, when, verdict) in rules {
        text.push_str(&format!(
            "[[rule]]\nname = \"{name}\"\nwhen = '''{when}'''\nverdict = \"{verdict}\"\n"
        ));
    }
    let policy = PolicySet::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let own = |finding: PolicyFinding| {
        (
            finding.severity,
            finding
                .rule
                .map(|rule| rule.to_string())
                .unwrap_or_default(),
            finding.problem,
        )
    };
    policy.lint().into_iter().map(own).collect()
}

#[track_caller]
fn assert_never(when: &str) {
    let findings = findings(&[("r", when, "allow")]);
    assert_eq!(findings.len(), 1, "`{when}`: {findings:?}");
    assert_eq!(findings[0].0, Severity::Error, "`{when}`: {findings:?}");
    assert!(
        findings[0].2.contains("can never match"),
        "`{when}`: {findings:?}"
    );
}

#[track_caller]
fn assert_clean(when: &str) {
    assert_eq!(findings(&[("r", when, "allow")]), [], "`{when}`");
}

#[test]
fn contradictions_are_found() {
    assert_never("false");
    assert_never("risk.score > 100");
    assert_never("risk.score < 0");
    assert_never("risk.score > 70 && risk.score < 71");
    assert_never("risk.score > 70 && risk.level == 'low'");
    assert_never("risk.status == 'unscored' && risk.score >= 0");
    assert_never("risk.status == 'unscored' && has(risk.level)");
    assert_never("request.door == 'token' && request.door == 'login'");
    assert_never("client.id == 'a' && client.id == 'b'");
    assert_never("client.id.startsWith('a') && client.id == 'b'");
    assert_never("user.known && !user.known");
    assert_never(
        "in_cidr(network.address, '10.0.0.0/8') && in_cidr(network.address, '192.168.0.0/16')",
    );
    assert_never("'ip_velocity' in risk.reasons && !('ip_velocity' in risk.reasons)");
    assert_never("'ip_velocity' in risk.reasons && risk.status == 'unscored'");
    assert_never("user.break_glass && user.name == 'alice'");
    assert_never("time.hour > 23");
    assert_never("client.id.matches('x') && user.known && !user.known");
    assert_never("request.door.matches('^x')");
}

/// At `authorize` the name is a `login_hint`.
#[test]
fn who_is_let_in_by_a_name_alone_is_told_of() {
    for when in [
        "user.name == 'svc'",
        "user.name.startsWith('svc-') && risk.level == 'high'",
        "user.name in ['svc', 'probe'] || user.known",
        "request.door == 'par' && user.name != '' && user.name != 'alice'",
        "in_cidr(network.address, '10.0.0.0/8') && user.name == 'svc'",
    ] {
        let found = findings(&[("r", when, "allow")]);
        let [(Severity::Warning, rule, problem)] = found.as_slice() else {
            panic!("`{when}`: {found:?}");
        };
        assert_eq!(rule, "r");
        assert!(problem.contains("`login_hint`"), "`{when}`: {problem}");
        // Who is asked for more, or refused, gains nothing by another name.
        let stricter = format!("({when}) && !user.break_glass");
        let found = findings(&[("r", &stricter, "step_up")]);
        assert_eq!(found, [], "`{when}`");
    }
    for when in [
        "user.name == 'svc' && request.door == 'login'",
        "user.name == 'svc' && request.door in ['login', 'token']",
        "user.name != 'admin'",
        "!(user.name.startsWith('svc-'))",
        "user.break_glass",
        "user.known",
    ] {
        assert_clean(when);
    }
    // Nor where another rule has spoken before.
    let rules = [
        (
            "hints",
            "request.door in ['authorize', 'par'] && !user.break_glass",
            "step_up",
        ),
        ("r", "user.name == 'svc'", "allow"),
    ];
    let found = findings(&rules);
    assert!(found.iter().all(|(_, rule, _)| rule != "r"), "{found:?}");
}

#[test]
fn what_can_match_is_let_be() {
    assert_clean("true");
    assert_clean("risk.score == 100 && risk.level == 'high'");
    assert_clean("risk.score > 29 && risk.score < 31 && risk.level == 'medium'");
    assert_clean("client.id.startsWith('a') && client.id.startsWith('ab') && client.id != 'ab'");
    assert_clean("client.id.startsWith('a') && client.id.endsWith('z') && client.id.contains('a')");
    assert_clean(
        "in_cidr(network.address, '10.0.0.0/8') && !in_cidr(network.address, ['10.0.0.0/9', '10.255.0.0/16'])",
    );
    assert_clean("risk.reasons.exists(r, r.endsWith('_velocity')) && size(risk.reasons) == 1");
    assert_clean("size(risk.reasons) == 5");
    assert_clean("user.name == client.id && request.door == 'login'");
    assert_clean("request.door.matches('^tok')");
    assert_clean("risk.source == 'native' && risk.cause == 'model_timeout'");
    assert_clean("user.break_glass && risk.score > 50");
    assert_clean(
        "network.country == 'DE' && network.asn == 64500 && agent.kind == 'program' && device.cookie == 'foreign'",
    );
    assert_clean(
        "request.demanded && session.present && user.logins > 3 && time.weekday == 0 && request.method == 'PUT'",
    );
}

#[test]
fn what_cannot_be_decided_is_a_warning() {
    let findings = findings(&[("r", "client.id.matches('^[a-z]{3}[0-9]$')", "allow")]);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].0, Severity::Warning);
    assert!(findings[0].2.contains("no proof"), "{findings:?}");
}

#[test]
fn rules_behind_others_are_found_with_who_hides_them() {
    let findings = findings(&[
        ("first", "risk.score > 40", "allow"),
        (
            "hidden",
            "risk.level == 'high' && request.door == 'login'",
            "allow",
        ),
        ("seen", "risk.score > 39 && user.known", "allow"),
        ("all", "true", "allow"),
        ("late", "user.known", "allow"),
    ]);
    let problems: Vec<(&str, &str)> = findings
        .iter()
        .map(|(_, rule, problem)| (rule.as_str(), problem.as_str()))
        .collect();
    assert_eq!(
        problems,
        [
            ("hidden", "can never match, it is hidden behind `first`"),
            (
                "late",
                "can never match, it is hidden behind `first`, `seen` or `all`"
            ),
        ]
    );
}

#[test]
fn two_rules_can_hide_a_third_together() {
    let findings = findings(&[
        ("known", "user.known", "allow"),
        ("unknown", "!user.known", "allow"),
        ("third", "request.door == 'login'", "allow"),
    ]);
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0].2.contains("`known`") && findings[0].2.contains("`unknown`"),
        "{findings:?}"
    );
}

#[test]
fn a_pattern_in_front_proves_nothing() {
    let findings = findings(&[
        ("pattern", "request.path.matches('^/')", "allow"),
        ("behind", "user.known", "allow"),
    ]);
    assert!(
        findings
            .iter()
            .all(|(severity, _, _)| *severity == Severity::Warning),
        "{findings:?}"
    );
}

#[test]
fn rules_that_are_not_enabled_hide_nothing_and_are_not_looked_at() {
    let text = "
        version = 1
        break_glass = ['admin']
        [[rule]]
        name = 'off'
        when = 'true'
        verdict = 'block'
        enabled = false
        [[rule]]
        name = 'on'
        when = 'user.known'
        verdict = 'allow'
    ";
    assert_eq!(PolicySet::parse(text).unwrap().lint(), []);
}

#[test]
fn a_rule_that_locks_out_a_break_glass_account_is_named_with_an_example() {
    let locks_out = |when: &str, verdict: &str| {
        let findings = findings(&[("r", when, verdict)]);
        findings.iter().any(|(severity, _, problem)| {
            *severity == Severity::Error && problem.contains("lock out")
        })
    };
    for verdict in ["block", "review"] {
        assert!(locks_out("risk.score > 90", verdict));
        assert!(locks_out("network.country == 'KP'", verdict));
        assert!(locks_out("user.name == 'admin'", verdict));
        assert!(!locks_out("user.name == 'alice'", verdict));
        assert!(!locks_out("risk.score > 90 && !user.break_glass", verdict));
        assert!(!locks_out(
            "risk.score > 90 && user.name != 'admin'",
            verdict
        ));
        assert!(!locks_out("request.tenant == 'other.example'", verdict));
        assert!(!locks_out(
            "request.path.matches('^/x') && !user.break_glass",
            verdict
        ));
    }
    assert!(locks_out(
        "request.door == 'basic' && risk.score > 50",
        "step_up"
    ));
    assert!(locks_out("risk.score > 50", "step_up"), "at the token door");
    assert!(!locks_out(
        "request.door == 'login' && risk.score > 50",
        "step_up"
    ));
    assert!(!locks_out("true", "allow"));
    // Users of an organization are none of the account, whatever their names.
    assert!(!locks_out("request.organization == 'a0'", "block"));
    assert!(locks_out("request.organization != 'a0'", "block"));
    let findings = findings(&[("r", "risk.score > 90 && request.door == 'login'", "block")]);
    assert!(
        findings[0]
            .2
            .contains("`admin`, for example with risk.score 91, request.door `login`"),
        "{findings:?}"
    );
}

#[test]
fn a_rule_in_front_can_spare_the_account() {
    let findings = findings(&[
        ("spare", "user.break_glass", "allow"),
        ("block", "risk.score > 90", "block"),
    ]);
    assert_eq!(findings, []);
}

#[test]
fn a_pattern_that_may_lock_out_is_a_warning() {
    let findings = findings(&[("r", "client.id.matches('^[a-z]{3}[0-9]$')", "block")]);
    assert!(findings.iter().any(|(severity, _, problem)| {
        *severity == Severity::Warning && problem.contains("could not be shown to spare")
    }));
    assert!(
        findings
            .iter()
            .all(|(severity, _, _)| *severity == Severity::Warning),
        "{findings:?}"
    );
}

#[test]
fn settings_that_surprise_are_warned_of() {
    let text = "version = 1\n[on_unscored]\ndefault = 'block'\n[defaults]\nlow = 'step_up'";
    let findings: Vec<String> = PolicySet::parse(text)
        .unwrap()
        .lint()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(findings.len(), 3, "{findings:?}");
    assert!(findings[0].starts_with("warning: no break-glass account is named; name one"));
    assert!(findings[1].contains("`on_unscored` blocks by default"));
    assert!(findings[2].contains("every login at low risk gets `step_up`"));
}

#[test]
fn thresholds_of_an_override_count() {
    let text = "
        version = 1
        break_glass = ['admin']
        [[override]]
        tenant = 'strict.example'
        thresholds = { medium = 5, high = 10 }
        [[rule]]
        name = 'r'
        when = 'risk.level == \"high\" && risk.score < 20'
        verdict = 'allow'
    ";
    assert_eq!(PolicySet::parse(text).unwrap().lint(), []);
}

#[test]
fn many_rules_do_not_take_forever() {
    let conditions: Vec<(String, String)> = (0..200)
        .map(|n| (format!("r{n}"), format!("client.id == 'c{n}' && risk.score > {} && request.path.startsWith('/p{n}') && user.known && request.door == 'token' && time.hour != {}", n % 90, n % 24)))
        .collect();
    let rules: Vec<(&str, &str, &str)> = conditions
        .iter()
        .map(|(name, when)| (name.as_str(), when.as_str(), "allow"))
        .collect();
    assert_eq!(findings(&rules), []);
}

#[test]
fn a_stride_meets_every_number_once() {
    for size in [TRIES_PER_QUESTION + 1, 60_060, 123_456, 1 << 17] {
        let step = stride(size);
        let seen: BTreeSet<u128> = (0..size).map(|n| n * step % size).collect();
        assert_eq!(seen.len() as u128, size);
    }
}

#[test]
fn long_lists_do_not_make_a_proof_of_what_was_not_tried() {
    let clients: Vec<String> = (0..300).map(|n| format!("\"c{n:03}\"")).collect();
    assert_clean(&format!(
        "client.id in [{}] && client.id == \"c299\"",
        clients.join(", ")
    ));
}

#[test]
fn texts_that_continue_others_are_tried() {
    assert_clean("client.id.startsWith('a') && client.id != 'a' && !client.id.startsWith('a~')");
    assert_clean("!client.id.startsWith('~') && client.id != ''");
    assert_clean("network.country.startsWith('D') && network.country != 'DE'");
    assert_never("request.tenant == ''");
    assert_never("user.name.startsWith('Admin')");
}
