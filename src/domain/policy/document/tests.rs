//! Every message about a policy file.

use crate::domain::policy::POLICY_BYTES_MAX;
use crate::domain::policy::PolicySet;
use proptest::prelude::*;

fn messages(text: &str) -> Vec<String> {
    match PolicySet::parse(text) {
        Ok(_) => panic!("`{text}` is valid"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_remedy() {
    const RULE: &str = "[[rule]]\nname = 'r'\nwhen = 'true'\nverdict = 'allow'\n";
    let rules = |count: usize| {
        (0..count)
            .map(|n| RULE.replace("'r'", &format!("'r{n}'")))
            .collect::<String>()
    };
    let overrides = "[[override]]\ntenant = 't'\non_unscored = 'block'\n".repeat(1025);
    for (text, expected) in [
        (
            "",
            "the file: has no `version`; begin it with `version = 1`",
        ),
        (
            "version = 2",
            "key `version`: is `2`; expected a whole number from 1 to 1",
        ),
        (
            "version = '1'",
            "key `version`: is the text `1`; expected a whole number from 1 to 1",
        ),
        ("version = ", "line 1: "),
        ("version = 1\nversion = 1", "line 2: "),
        (
            "version = 1\nrules = 1",
            "the file: unknown key `rules`; did you mean `rule`?",
        ),
        (
            "version = 1\nzzzzzzzzzz = 1",
            "unknown key `zzzzzzzzzz`; expected `version`, `thresholds`",
        ),
        (
            "version = 1\nthresholds = 3",
            "key `thresholds`: is the number `3`; expected a table",
        ),
        (
            "version = 1\n[thresholds]\nmedium = 0",
            "key `thresholds.medium`: is `0`; expected a whole number from 1 to 100",
        ),
        (
            "version = 1\n[thresholds]\nhigh = 101",
            "key `thresholds.high`: is `101`",
        ),
        (
            "version = 1\n[thresholds]\nhigh = 3.5",
            "key `thresholds.high`: is the number `3.5`",
        ),
        (
            "version = 1\n[thresholds]\nmedium = 50",
            "key `thresholds`: medium begins at 50 and high at 50; `medium` must be less than `high`",
        ),
        (
            "version = 1\n[thresholds]\nhihg = 5",
            "key `thresholds`: unknown key `hihg`; did you mean `high`?",
        ),
        (
            "version = 1\n[defaults]\nlow = 'alow'",
            "key `defaults.low`: is `alow`; expected `allow`, `step_up`, `review` or `block`",
        ),
        (
            "version = 1\n[defaults]\nlow = true",
            "key `defaults.low`: is `true`; expected one of `allow`",
        ),
        (
            "version = 1\n[defaults]\nmedium = 'block'\nhigh = 'review'",
            "key `defaults.high`: is `review`, milder than the `block` of the level below; more risk must not",
        ),
        (
            "version = 1\n[defaults]\nlow = 'review'",
            "key `defaults.medium`: is `step_up`, milder than the `review`",
        ),
        (
            "version = 1\n[on_unscored]\ndefault = 'review'",
            "key `on_unscored.default`: is `review`; expected `allow`, `step_up` or `block`",
        ),
        (
            "version = 1\n[on_unscored]\noverload = 'block'",
            "key `on_unscored`: unknown key `overload`",
        ),
        (
            "version = 1\n[on_unscored.cause]\noverlod = 'block'",
            "key `on_unscored.cause`: unknown key `overlod`; did you mean `overload`?",
        ),
        (
            "version = 1\n[on_unscored.door]\nlogni = 'block'",
            "key `on_unscored.door`: unknown key `logni`; did you mean `login`?",
        ),
        (
            "version = 1\nbreak_glass = 'admin'",
            "key `break_glass`: is the text `admin`; expected an array of usernames",
        ),
        (
            "version = 1\nbreak_glass = [1]",
            "break_glass 1: is not a username; expected a username such as",
        ),
        (
            "version = 1\nbreak_glass = [' ']",
            "break_glass 1: is not a username",
        ),
        (
            "version = 1\nbreak_glass = [{ name = 'a' }]",
            "break_glass 1: is not a username",
        ),
        (
            "version = 1\nbreak_glass = ['a', 'A']",
            "break_glass 2: names `a` again; name each once",
        ),
        (
            "version = 1\nbreak_glass = ['a','b','c','d','e','f','g','h','i','j','k','l','m','n','o','p','q']",
            "key `break_glass`: has 17 entries; expected at most 16",
        ),
        (
            "version = 1\noverride = 3",
            "key `override`: is the number `3`; expected an array of tables",
        ),
        (
            "version = 1\noverride = [3]",
            "override 1: is the number `3`; expected a table",
        ),
        (
            "version = 1\n[[override]]\non_unscored = 'block'",
            "override 1: names neither `tenant` nor `application`",
        ),
        (
            "version = 1\n[[override]]\ntenant = ''\non_unscored = 'block'",
            "override 1, key `tenant`: is empty, so that it is for nobody; name one",
        ),
        (
            "version = 1\n[[override]]\ntenant = 't'",
            "override 1: changes nothing; set `thresholds` or `on_unscored`",
        ),
        (
            "version = 1\n[[override]]\ntenant = 't'\nthresholds = { medium = 0 }",
            "key `override 1: thresholds.medium`: is `0`",
        ),
        (
            "version = 1\n[[override]]\ntenant = 't'\non_unscored = 'block'\n[[override]]\ntenant = 'T'\non_unscored = 'allow'",
            "override 2: tenant `T` is overridden twice; join the two",
        ),
        (
            &format!("version = 1\n{overrides}"),
            "key `override`: has 1025 entries; expected at most 1024",
        ),
        (
            "version = 1\n[[rule]]\nwhen = 'true'\nverdict = 'allow'",
            "rule 1: has no `name`; give it a unique name",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a b'\nwhen = 'true'\nverdict = 'allow'",
            "rule 1, key `name`: is `a b`; expected 1 to 64 letters",
        ),
        (
            "version = 1\n[[rule]]\nname = 3\nwhen = 'true'\nverdict = 'allow'",
            "rule 1, key `name`: is the number `3`; expected a text",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nverdict = 'allow'",
            "rule `a`: has no `when`; write `when = \"true\"`",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nwhen = true\nverdict = 'allow'",
            "rule `a`, key `when`: is `true`; expected a condition in quotation marks",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nwhen = 'true'",
            "rule `a`: has no `verdict`; expected `allow`",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nwhen = 'true'\nverdict = 'deny'",
            "rule `a`, key `verdict`: is `deny`; expected `allow`, `step_up`",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nwhen = 'true'\nverdict = 'block'\nreason = 'ip_velocty'",
            "rule `a`, key `reason`: is `ip_velocty`; did you mean `ip_velocity`?",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nwhen = 'true'\nverdict = 'block'\nenabled = 1",
            "rule `a`, key `enabled`: is the number `1`",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nwhen = 'risk.scor > 1'\nverdict = 'block'",
            "rule `a`, key `when`: column 5: unknown field `risk.scor`; did you mean",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nwhen = 'risk.scor > 1'\nverdict = 'block'\nenabled = false",
            "unknown field `risk.scor`",
        ),
        (
            "version = 1\n[[rule]]\nname = 'a'\nwen = 'true'\nverdict = 'block'",
            "rule `a`: unknown key `wen`; did you mean `when`?",
        ),
        (
            &format!("version = 1\n{RULE}{RULE}"),
            "rule 2: the name `r` is taken; give each rule a name of its own",
        ),
        (
            &format!("version = 1\n{}", rules(257)),
            "key `rule`: has 257 entries; expected at most 256",
        ),
        (
            &"#".repeat(POLICY_BYTES_MAX + 1),
            "the file: has 262145 bytes; expected at most 262144",
        ),
    ] {
        let messages = messages(text);
        assert!(
            messages.iter().any(|message| message.contains(expected)),
            "`{text}`: {messages:#?}"
        );
        assert!(
            messages.iter().all(|message| !message.contains('\n')),
            "{messages:#?}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "
        [defaults]
        low = 'alow'
        colour = 'red'
        [[rule]]
        name = 'one'
        when = 'risk.scor > 1 || user.nam == \"x\"'
        verdict = 'alow'
        [[rule]]
        verdict = 'block'
    ";
    let messages = messages(text);
    // version, low, colour, two in the condition, verdict, name and when of the second rule.
    assert_eq!(messages.len(), 8, "{messages:#?}");
}

proptest! {
    #[test]
    fn no_text_is_too_odd_to_be_refused(text in "\\PC{0,200}") {
        let _parsed = PolicySet::parse(&text);
    }
}
