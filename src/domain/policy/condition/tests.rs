//! Conditions: answers held against the interpreter of the `cel` crate, and every message.

use super::*;
use crate::domain::policy::break_glass::BreakGlass;
use crate::domain::policy::space::Bounds;
use crate::domain::policy::space::Space;
use crate::domain::policy::uses::Uses;
use crate::domain::policy::vocabulary;
use crate::domain::policy::vocabulary::Field;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::RiskScore;
use crate::domain::risk::Thresholds;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::collections::HashMap;

/// The level under the shipped thresholds.
fn level(facts: &Facts<'_>) -> Option<RiskLevel> {
    facts
        .input
        .risk
        .points()
        .map(|points| RiskScore::from_points(points).level(Thresholds::default()))
}

/// Every request that could make a difference to the condition, with what the condition says of it.
fn answers(source: &str, mut see: impl FnMut(&Facts<'_>, Result<bool, Unknown>)) -> u128 {
    let condition =
        Condition::compile(source).unwrap_or_else(|errors| panic!("`{source}`: {errors:?}"));
    let bounds = Bounds {
        thresholds: &BTreeSet::from([15, 50]),
        scopes: &[],
        accounts: &[],
        account: None,
        doors: None,
    };
    let space = Space::new(&Uses::of([condition.expression()]), &bounds);
    assert!(
        space.size() < 100_000,
        "`{source}` has {} cases",
        space.size()
    );
    for number in 0..space.size() {
        let sample = space.sample(number);
        let input = sample.input();
        let mut facts = Facts::new(&input, None, &BreakGlass::default());
        facts.level = level(&facts);
        see(&facts, condition.holds(&facts));
    }
    space.size()
}

/// The same request for the interpreter of the `cel` crate: a field that is missing is a key that is missing.
fn context(facts: &Facts<'_>) -> cel::Context<'static, 'static> {
    let mut context = cel::Context::default();
    for root in vocabulary::roots() {
        let mut map: HashMap<String, cel::Value> = HashMap::new();
        for name in vocabulary::names() {
            let Some(name) = name.strip_prefix(&format!("{root}.")) else {
                continue;
            };
            let value: Option<cel::Value> = match Field::find(root, name).unwrap() {
                Field::Address => None,
                Field::Bool(field) => Some(field.of(facts).into()),
                Field::Int(field) => field.of(facts).ok().map(Into::into),
                Field::Reasons => {
                    let codes = facts
                        .input
                        .risk
                        .reasons()
                        .iter()
                        .map(|reason| reason.code().into());
                    Some(codes.collect::<Vec<cel::Value>>().into())
                }
                Field::Text(field) => field.of(facts).ok().map(Into::into),
            };
            map.extend(value.map(|value| (name.to_owned(), value)));
        }
        context.add_variable_from_value(root, map);
    }
    context
}

#[test]
fn the_answers_are_those_of_the_reference_interpreter() {
    let mut cases = 0;
    for source in [
        "risk.score > 70 && request.grant == \"password\"",
        "risk.score >= 15 || user.known",
        "risk.score < 15 && !user.known || device.known",
        "!(risk.score > 50) || risk.level == 'low'",
        "risk.level != 'high' && risk.status == 'scored'",
        "has(risk.score) && risk.score == 71",
        "has(risk.level) ? risk.level == 'medium' : request.demanded",
        "risk.score != 50 ? user.known : device.known",
        "(risk.score > 90) == user.known",
        "request.door in ['token', 'par', 'login'] && network.kind in ['tor', '']",
        "time.hour in [0, 1, 23] || time.weekday == 6",
        "-1 < time.hour && time.hour <= 5",
        "'ip_velocity' in risk.reasons && !('new_account' in risk.reasons)",
        "risk.reasons.exists(r, r.startsWith('ip_')) || risk.reasons.all(r, r != 'new_account')",
        "risk.reasons.exists(r, r == 'ip_velocity' && risk.score > 70)",
        "risk.reasons.exists(r, r == 'ip_velocity' || risk.score > 70)",
        "risk.reasons.all(r, r == 'ip_velocity' || risk.score > 70)",
        "size(risk.reasons) >= 2 && risk.reasons.size() < 4",
        "['/oauth2', '/scim2'].exists(p, request.path.startsWith(p))",
        "['a', 'b'].all(p, request.path.contains(p) || request.path.endsWith(p))",
        "size(request.path) > 3 && request.path.size() != 6 && request.path in ['/ab', '/abcdef', 'é']",
        "user.name == client.id || request.prompt == 'none'",
        "network.country != 'DE' && network.asn > 64500",
        "request.demanded == false && session.present != true",
        "risk.source == 'cache' || risk.cause == 'overload'",
        "true || risk.score > 1",
        "false && risk.score > 1",
        "user.logins > 5 || user.logins == 0",
        "request.method == 'POST' && agent.kind in ['program', 'crawler']",
    ] {
        let program = cel::Program::compile(source).unwrap();
        cases += answers(source, |facts, ours| {
            let reference = match program.execute(&context(facts)) {
                Ok(cel::Value::Bool(value)) => Some(value),
                Ok(other) => panic!("`{source}` is {other:?}"),
                Err(_) => None,
            };
            assert_eq!(ours.ok(), reference, "`{source}` for {facts:?}");
        });
    }
    assert!(cases > 1_000, "{cases}");
}

fn holds(
    source: &str,
    set: impl FnOnce(&mut crate::domain::policy::input::PolicyInput<'_>),
) -> Result<bool, Unknown> {
    let bounds = Bounds {
        thresholds: &BTreeSet::new(),
        scopes: &[],
        accounts: &[],
        account: None,
        doors: None,
    };
    let space = Space::new(&Uses::default(), &bounds);
    let sample = space.sample(0);
    let mut input = sample.input();
    set(&mut input);
    Condition::compile(source)
        .unwrap()
        .holds(&Facts::new(&input, None, &BreakGlass::default()))
}

#[test]
fn addresses_are_found_in_their_networks() {
    let of = |address: &str, source: &str| {
        holds(source, |input| {
            input.network.address = address.parse().unwrap()
        })
        .unwrap()
    };
    let source = "in_cidr(network.address, ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7'])";
    assert!(of("10.255.255.255", source) && of("2001:db8::1", source) && of("192.0.2.7", source));
    assert!(!of("11.0.0.0", source) && !of("2001:db9::1", source) && !of("192.0.2.8", source));
    assert!(
        of("::ffff:10.0.0.1", source),
        "an IPv4 address in IPv6 form is an IPv4 address"
    );
    assert!(
        of("10.0.0.1", "network.address == '10.0.0.1'")
            && of("10.0.0.2", "network.address != '10.0.0.1'")
    );
    assert!(of(
        "10.0.0.1",
        "network.address in ['10.0.0.1', '10.0.0.9']"
    ));
}

#[test]
fn patterns_match_anywhere_unless_anchored() {
    let of = |path: &'static str, source: &str| {
        holds(source, |input| input.request.path = path).unwrap()
    };
    assert!(of("/x/oauth2/token", "request.path.matches('oauth2')"));
    assert!(!of("/x/oauth2/token", "request.path.matches('^/oauth2')"));
}

#[test]
fn spellings_of_a_username_are_one() {
    let of = |name: &'static str| {
        holds("user.name == 'alice'", |input| input.user.name = Some(name)).unwrap()
    };
    assert!(of("alice") && of("ALICE@carbon.super") && of("primary/Alice"));
    assert!(!of("alice2"));
    let padded = format!("{}Alice{}", " ".repeat(700), " ".repeat(700));
    assert!(of(padded.leak()));
}

#[test]
fn a_text_that_is_not_known_is_empty() {
    assert_eq!(
        holds(
            "network.country == '' && !has(network.country) && !has(user.name)",
            |_| {}
        ),
        Ok(true)
    );
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_remedy() {
    for (source, expected) in [
        (
            "",
            "the condition is empty; write `true` to match every request",
        ),
        (
            "risk.scor > 70",
            "column 5: unknown field `risk.scor`; did you mean `risk.score`?",
        ),
        (
            "rsk.score > 70",
            "unknown variable `rsk`; did you mean `risk.score`?",
        ),
        ("banana", "unknown variable `banana`; expected `agent`"),
        (
            "bananas.peel == 1",
            "unknown variable `bananas`; expected a field of `agent`",
        ),
        (
            "user.shoe_size > 3",
            "unknown field `user.shoe_size`; expected `user.break_glass`, `user.known`",
        ),
        (
            "risk",
            "`risk` alone has no value; name one of its fields: `risk.cause`",
        ),
        ("risk.score.x == 1", "`.x` is not a field of that"),
        (
            "risk.score",
            "the condition is a number, expected a truth value",
        ),
        (
            "request.path",
            "the condition is a text, expected a truth value",
        ),
        (
            "risk.score > 'high'",
            "a number is compared with a text; compare things of one kind",
        ),
        (
            "risk.score == 70.5",
            "`70.5` is not a whole number; scores are whole numbers of 0 to 100",
        ),
        (
            "risk.score == 70u",
            "`70u` is an unsigned number; leave out the `u`",
        ),
        ("user.name == null", "nothing is ever null; use `has(...)`"),
        ("user.name == b'x'", "bytes are not supported"),
        (
            "risk.level >= 'medium'",
            "texts have no order; texts are only equal or not; for the level compare `risk.score`",
        ),
        (
            "risk.level == 'severe'",
            "`risk.level` is never `severe`; expected `low`, `medium` or `high`",
        ),
        (
            "request.door == 'tokn'",
            "`request.door` is never `tokn`; did you mean `token`?",
        ),
        (
            "request.door in ['token', 'tokn']",
            "`request.door` is never `tokn`",
        ),
        (
            "network.country == 'de'",
            "`network.country` is never `de`; write `DE`",
        ),
        (
            "user.name == 'Admin'",
            "`user.name` is never `Admin`; write `admin`",
        ),
        (
            "'ip_velocty' in risk.reasons",
            "unknown reason `ip_velocty`; did you mean `ip_velocity`?",
        ),
        (
            "'qqqqqqqqqqqq' in risk.reasons",
            "unknown reason `qqqqqqqqqqqq`; the codes are listed",
        ),
        (
            "risk.reasons.exists(r, r == 'ip_velocty')",
            "unknown reason `ip_velocty`",
        ),
        ("risk.reasons.map(r, r) == 1", "use `exists` or `all`"),
        ("risk.reasons.filter(r, true) == 1", "use `exists` or `all`"),
        ("risk.reasons.exists_one(r, true)", "use `exists` or `all`"),
        (
            "risk.reasons.exists(r, risk.reasons.exists(q, q == r))",
            "loops do not nest",
        ),
        (
            "risk.reasons.exists(risk, true)",
            "`risk` already means something else",
        ),
        ("request.path.exists(r, true)", "a loop over a text"),
        (
            "risk.reasons.exists(r)",
            "`exists` is used wrongly; use it as in",
        ),
        ("risk.score + 1 > 70", "arithmetic is not supported"),
        (
            "-risk.score < 1",
            "only a number that is written out can be negative",
        ),
        ("risk.reasons[0] == 'x'", "indexing is not supported"),
        ("{'a': 1} == 1", "maps are not supported"),
        ("Message{a: 1} == 1", "messages are not supported"),
        ("has(user.known)", "`user.known` is never missing"),
        (
            "risk.score in ['a']",
            "a number is looked for in a list of texts",
        ),
        ("risk.score in [1, 'a']", "a list mixes numbers and texts"),
        ("risk.score in []", "nothing is in an empty list"),
        (
            "risk.score in [risk.score]",
            "an element of a list is not a literal",
        ),
        ("risk.score in request.path", "`in` is applied to a text"),
        (
            "request.path.matches('(')",
            "the pattern `(` is not valid: unclosed group",
        ),
        (
            "request.path.matches(request.prompt)",
            "a pattern is not a literal",
        ),
        ("request.path.matches('a{1000}{1000}')", "is too large"),
        (
            "risk.score.matches('a')",
            "what `matches` is applied to is a number",
        ),
        (
            "request.path.contains('')",
            "every text contains the empty text",
        ),
        (
            "request.path.contains(1)",
            "an operand of a text function is a number",
        ),
        (
            "network.address.startsWith('10.')",
            "`network.address` is not a text; use `in_cidr(network.address",
        ),
        (
            "in_cidr(network.address, '10.0.0.1/8')",
            "has bits beyond its prefix; write `10.0.0.0/8`",
        ),
        (
            "in_cidr(network.address, 'here')",
            "`here` is not an address or network; expected the form `10.0.0.0/8`",
        ),
        (
            "in_cidr(network.address, '::ffff:10.0.0.0/104')",
            "IPv4 addresses are seen in their own form",
        ),
        ("in_cidr(request.path, '10.0.0.0/8')", "`in_cidr` of a text"),
        (
            "in_cidr(network.address, request.path)",
            "the networks of `in_cidr` are not literals",
        ),
        (
            "startWith(request.path, 'a')",
            "unknown function `startWith`; did you mean `startsWith`?",
        ),
        (
            "frobnicate(1)",
            "unknown function `frobnicate`; expected `all`",
        ),
        ("size(user.known) > 1", "`size` of a truth value"),
        (
            "risk.score && user.known",
            "an operand of `&&` is a number, expected a truth value",
        ),
        ("user.known || 'x'", "an operand of `||` is a text"),
        ("!risk.score", "the operand of `!` is a number"),
        ("user.known ? 1 : 2", "a branch of `?:` is a number"),
        ("has(risk)", "the language is CEL"),
        ("risk.score >", "the language is CEL"),
        (
            "'''a''' == 'a'",
            "texts in triple quotation marks are not supported",
        ),
    ] {
        let errors = Condition::compile(source).expect_err(source);
        let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            messages.iter().any(|message| message.contains(expected)),
            "`{source}`: {messages:?}"
        );
        assert!(
            messages
                .iter()
                .all(|message| !message.contains('\n') && !message.ends_with('.')),
            "{messages:?}"
        );
    }
}

#[test]
fn all_mistakes_of_a_condition_are_told_at_once() {
    let errors =
        Condition::compile("risk.scor > 1 &&\n  user.nam == 'x' && 'no_such' in risk.reasons")
            .unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| error.at).collect();
    assert_eq!(
        places,
        [Some((1, 5)), Some((2, 7)), Some((2, 32))],
        "{errors:?}"
    );
}

#[test]
fn bounds_hold_before_the_parser_sees_the_text() {
    let message = |source: String| Condition::compile(&source).unwrap_err()[0].to_string();
    assert!(
        message(format!("true{}", " ".repeat(CONDITION_BYTES_MAX)))
            .contains("expected at most 4096")
    );
    assert!(
        message(format!("{}true{}", "(".repeat(25), ")".repeat(25)))
            .contains("nest more than 24 deep")
    );
    assert!(message(format!("a{} == 1", ".a".repeat(300))).contains("operators and dots"));
    // What only looks like a text must not hide brackets.
    for prefix in ["r'\\' == ", "'' == // don't\n", "\"\\\"\" == "] {
        assert!(
            message(format!("{prefix}{}", "(".repeat(1000))).contains("nest more"),
            "{prefix}"
        );
    }
    assert!(
        message(format!(
            "size(request.path) in [{}]",
            "1,".repeat(600) + "1"
        ))
        .contains("601 elements")
    );
    let body = vec!["request.path == 'x'"; 60].join("||");
    let list = vec!["'a'"; 60].join(",");
    assert!(message(format!("[{list}].exists(p, {body})")).contains("more than 4096 parts"));
}

#[test]
fn the_deepest_conditions_that_are_let_through_do_no_harm() {
    let brackets = format!("{}true{}", "(".repeat(DEPTH_MAX), ")".repeat(DEPTH_MAX));
    assert!(Condition::compile(&brackets).is_ok());
    let chain = format!("a{} == 1", ".a".repeat(SIGNS_MAX - 2));
    assert!(Condition::compile(&chain).is_err());
    let junction = vec!["true"; 400].join("&&");
    assert!(Condition::compile(&junction).is_ok());
    let lists = format!("{}1{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    assert!(Condition::compile(&lists).is_err());
    let calls = format!("a{} == 1", ".a()".repeat(SIGNS_MAX - 2));
    assert!(Condition::compile(&calls).is_err());
    let relations = format!("1{} == 1", "<1".repeat(SIGNS_MAX - 2));
    assert!(Condition::compile(&relations).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_is_too_odd_to_be_refused(source in "\\PC{0,60}") {
        let _compiled = Condition::compile(&source);
    }

    #[test]
    fn no_soup_of_words_is_either(words in prop::collection::vec(prop::sample::select(vec![
        "risk", ".", "score", "reasons", "(", ")", "[", "]", "{", "}", "&&", "||", "!", "-", "==", "<", "in", "?", ":",
        ",", "1", "1u", "1.5", "0x", "'a'", "\"", "r'\\'", "b'\\x", "true", "null", "exists", "all", "map", "has", "size",
        "r", "\n", "//", "`", "@", "\\", "9223372036854775808", "-9223372036854775808", "1e999", "'\\u'", "'\\777'",
    ]), 0..24)) {
        let _compiled = Condition::compile(&words.concat());
        let _spaced = Condition::compile(&words.join(" "));
    }
}
