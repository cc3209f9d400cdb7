//! What a record tells of its decision, and what it does not.

use super::*;
use crate::domain::audit::Word;
use crate::domain::ids::Pseudonymizer;
use names::Names;
use names::Resolver;

fn policy(text: &str) -> PolicySet {
    PolicySet::parse(&format!("version = 1\n{text}")).unwrap()
}

fn rule(when: &str, verdict: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nwhen = '{when}'\nverdict = \"{verdict}\"\n")
}

fn event() -> AuditEvent {
    let text = |text: &str| Some(text.to_owned());
    let word = |text: &'static str| Some(Word::from(text));
    AuditEvent {
        time: "2026-11-26T10:30:00.000Z".to_owned(),
        door: word("login"),
        route: "/commonauth".to_owned(),
        method: "POST".into(),
        tenant: text("carbon.super"),
        client_id: text("app"),
        prefix: text("203.0.113.0/24"),
        country: text("DE"),
        asn: Some(64_500),
        network: word("tor"),
        browser: text("Mobile Safari 17"),
        os: text("iOS"),
        agent_kind: word("phone"),
        device: word("none"),
        known: true,
        logins: 7,
        status: word("scored"),
        score: Some(30),
        source: word("provenance"),
        inherited_reasons: vec!["unfamiliar_device".into()],
        thresholds: Some([15, 50]),
        verdict: word("step_up"),
        matched: text("default_medium"),
        mode: word("enforce"),
        ..AuditEvent::default()
    }
}

fn resolver() -> Resolver {
    let people = Pseudonymizer::new(b"secret");
    Arc::new(move |tenant: &str, name: &str| vec![people.user(tenant, name).to_string()])
}

/// The verdict that a policy gives.
fn given(
    event: &AuditEvent,
    policy: &PolicySet,
    resolver: Option<Resolver>,
) -> Result<Verdict, Gap> {
    let mut names = Names::of(policy, resolver);
    let case = Case::read(event)?;
    case.decide(policy, names.name_of(event))
        .map(|again| again.decision.verdict)
}

#[test]
fn every_recorded_fact_can_be_asked_for() {
    for when in [
        r#"request.door == "login""#,
        r#"request.path == "/commonauth""#,
        r#"client.id == "app""#,
        "in_cidr(network.address, [\"203.0.0.0/16\"])",
        r#"network.country == "DE" && network.asn == 64500 && network.kind == "tor""#,
        r#"agent.browser == "Mobile Safari" && agent.os == "iOS" && agent.kind == "phone""#,
        r#"device.cookie == "none" && !device.known"#,
        "user.known && user.logins == 7",
        "time.hour == 10 && time.weekday == 4",
        r#""unfamiliar_device" in risk.reasons && risk.score == 30 && risk.source == "provenance""#,
        "!session.present && !request.demanded",
    ] {
        let policy = policy(&rule(when, "block"));
        assert_eq!(given(&event(), &policy, None), Ok(Verdict::Block), "{when}");
    }
}

#[test]
fn what_is_not_recorded_is_a_gap_unless_it_does_not_matter() {
    let gap = Err(Gap::Rule(Arc::from("r")));
    let policy_of = |when: &str| policy(&rule(when, "block"));
    // Part of the network only, and the rest is not known.
    let narrow = policy_of("in_cidr(network.address, [\"203.0.113.7/32\"])");
    assert_eq!(given(&event(), &narrow, None), gap);
    let elsewhere = policy_of("in_cidr(network.address, [\"198.51.100.7/32\"])");
    assert_eq!(given(&event(), &elsewhere, None), Ok(Verdict::StepUp));
    let settled = policy_of("in_cidr(network.address, [\"203.0.113.7/32\"]) && risk.score > 90");
    assert_eq!(given(&event(), &settled, None), Ok(Verdict::StepUp));
    // A route of many paths.
    let api = AuditEvent {
        route: "/scim2/*".to_owned(),
        ..event()
    };
    let path = policy_of(r#"request.path.startsWith("/scim2/Users")"#);
    assert_eq!(given(&api, &path, None), gap);
    // A rule before it has spoken already.
    let early = policy(&format!(
        "{}{}",
        rule("risk.score > 10", "review").replace("\"r\"", "\"first\""),
        rule("in_cidr(network.address, [\"203.0.113.7/32\"])", "block")
    ));
    assert_eq!(given(&event(), &early, None), Ok(Verdict::Review));
}

#[test]
fn names_are_found_with_the_secret_and_otherwise_a_gap() {
    let people = Pseudonymizer::new(b"secret");
    let of = |name: &str| AuditEvent {
        named: true,
        subject: Some(people.user("carbon.super", name).to_string()),
        ..event()
    };
    let by_name = policy(&rule(r#"user.name == "mallory""#, "block"));
    assert_eq!(
        given(&of("mallory"), &by_name, Some(resolver())),
        Ok(Verdict::Block)
    );
    assert_eq!(
        given(&of("alice"), &by_name, Some(resolver())),
        Ok(Verdict::StepUp)
    );
    assert_eq!(
        given(&of("alice"), &by_name, None),
        Err(Gap::Rule(Arc::from("r")))
    );
    // An organization's user is found under its id, and is nobody of the tenant.
    for (domain, verdict) in [("0a1b", Verdict::Block), ("carbon.super", Verdict::StepUp)] {
        let record = AuditEvent {
            named: true,
            organization: Some("0a1b".to_owned()),
            subject: Some(people.user(domain, "mallory").to_string()),
            ..event()
        };
        let found = given(&record, &by_name, Some(resolver()));
        assert_eq!(found, Ok(verdict), "{domain}");
    }
    // A request that names nobody has an empty name.
    assert_eq!(given(&event(), &by_name, None), Ok(Verdict::StepUp));
    // What is asked of a name that is none of those cannot be told from its pseudonym.
    for when in [
        r#"user.name.startsWith("svc-")"#,
        "size(user.name) > 3",
        r#"user.name.matches("^a")"#,
    ] {
        let inside = policy(&rule(when, "block"));
        let gap = Err(Gap::Rule(Arc::from("r")));
        assert_eq!(
            given(&of("alice"), &inside, Some(resolver())),
            gap,
            "{when}"
        );
    }
    // But that there is one is known.
    let any = policy(&rule("has(user.name)", "block"));
    assert_eq!(given(&of("alice"), &any, None), Ok(Verdict::Block));
}

#[test]
fn break_glass_accounts_are_those_of_the_draft_or_of_the_record() {
    let people = Pseudonymizer::new(b"secret");
    let high = |name: &str, recorded| AuditEvent {
        named: true,
        break_glass: recorded,
        score: Some(90),
        subject: Some(people.user("carbon.super", name).to_string()),
        ..event()
    };
    let draft = policy(&format!(
        "break_glass = [\"root\"]\n{}",
        rule("risk.score > 80", "block")
    ));
    // With the secret the draft's own list counts.
    assert_eq!(
        given(&high("root", false), &draft, Some(resolver())),
        Ok(Verdict::StepUp)
    );
    assert_eq!(
        given(&high("alice", true), &draft, Some(resolver())),
        Ok(Verdict::Block)
    );
    // Without it, what the record says.
    assert_eq!(
        given(&high("root", true), &draft, None),
        Ok(Verdict::StepUp)
    );
    assert_eq!(
        given(&high("root", false), &draft, None),
        Ok(Verdict::Block)
    );
}

#[test]
fn what_is_no_decision_or_not_understood_says_so() {
    let of = |change: fn(&mut AuditEvent)| {
        let mut changed = event();
        change(&mut changed);
        Case::read(&changed).err()
    };
    assert_eq!(of(|_| {}), None);
    assert_eq!(of(|event| event.verdict = None), Some(Gap::NotDecided));
    assert_eq!(of(|event| event.thresholds = None), Some(Gap::Earlier));
    assert_eq!(
        of(|event| event.standing = vec!["new".into()]),
        Some(Gap::Unknown("standing"))
    );
    assert_eq!(
        of(|event| event.prefix = None),
        Some(Gap::Unknown("prefix"))
    );
    assert_eq!(
        of(|event| event.verdict = Some("maybe".into())),
        Some(Gap::Unknown("verdict"))
    );
    assert_eq!(
        of(|event| event.source = Some("dice".into())),
        Some(Gap::Unknown("source"))
    );
    assert_eq!(
        of(|event| event.time = "yesterday".to_owned()),
        Some(Gap::Unknown("time"))
    );
    assert_eq!(of(|event| event.score = None), Some(Gap::Unknown("score")));
}

#[test]
fn a_row_is_of_this_schema_or_none() {
    let with = |features: usize, schema| {
        let event = AuditEvent {
            features: vec![Some(0.0); features],
            feature_schema: schema,
            ..event()
        };
        row(&event).map(drop)
    };
    let current = FeatureSchema::current().version;
    assert_eq!(with(0, Some(current)), Err(Gap::NoRow));
    assert_eq!(with(3, Some(current)), Err(Gap::OtherSchema));
    assert_eq!(
        with(Feature::COUNT, Some(current + 1)),
        Err(Gap::OtherSchema)
    );
    assert_eq!(with(Feature::COUNT, Some(current)), Ok(()));
    assert_eq!(with(Feature::COUNT, None), Ok(()));
}

#[test]
fn unscored_requests_are_judged_as_such() {
    let unscored = AuditEvent {
        score: None,
        source: None,
        fallback: Some("state_timeout".into()),
        unscored_percent: 40,
        ..event()
    };
    let fail_open = policy("[on_unscored]\ndefault = \"allow\"\n");
    assert_eq!(given(&unscored, &fail_open, None), Ok(Verdict::Allow));
    let surge = policy(
        "[on_unscored]\ndefault = \"allow\"\n[on_unscored.surge]\nabove_percent = 20\nverdict = \"block\"\n",
    );
    assert_eq!(given(&unscored, &surge, None), Ok(Verdict::Block));
}

#[test]
fn a_browser_is_known_by_its_family() {
    for (browser, expected) in [
        ("Chrome 124", "Chrome"),
        ("Mobile Safari 17", "Mobile Safari"),
        ("Internet Explorer", "Internet Explorer"),
        ("", ""),
    ] {
        assert_eq!(family(browser), expected);
    }
}
