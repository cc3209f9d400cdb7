//! Plans that are read, written and changed by operators, and those that cannot be.

use super::*;

const FILE: &str = r#"
[default]
mode = "monitor"

[[stage]]
application = "expenses"
mode = "enforce"
percentage = 10
approved_by = ["ada"]
approved_at = "2026-11-26T10:00:00.000Z"
reason = "a week without complaints"

[[stage]]
tenant = "b.com"
mode = "advise"
approved_by = ["ada"]
"#;

fn word<'a>(operator: &'a str, reason: &'a str) -> Word<'a> {
    Word {
        operator,
        at: "2026-11-26T18:00:00.000Z",
        reason,
    }
}

fn application(name: &str) -> Option<Scope> {
    Scope::new(None, Some(name.to_owned()))
}

fn ask(direction: Direction, name: &str, mode: Mode, percentage: u8) -> Ask {
    Ask {
        direction,
        scope: application(name),
        mode,
        percentage,
    }
}

#[test]
fn a_plan_is_the_modes_of_its_stages() {
    let plan = Plan::parse(FILE).unwrap();
    let rollout = plan.rollout();
    assert_eq!(rollout.mode_for("a.com", "expenses", 9), Mode::Enforce);
    assert_eq!(rollout.mode_for("a.com", "expenses", 10), Mode::Monitor);
    assert_eq!(rollout.mode_for("B.com", "other", 99), Mode::Advise);
    assert_eq!(rollout.mode_for("a.com", "other", 0), Mode::Monitor);
    let mark = rollout.share("", "expenses").mark().unwrap();
    assert_eq!(plan.find(mark).unwrap().scope, application("expenses"));
    assert_eq!(Plan::parse("").unwrap(), Plan::default());
    assert_eq!(Plan::default().rollout().strongest(), Mode::Monitor);
}

#[test]
fn what_is_written_is_read_again() {
    let mut plan = Plan::parse(FILE).unwrap();
    plan.approvals = 1;
    assert_eq!(Plan::parse(&plan.to_text().unwrap()).unwrap(), plan);
    let mut two = Plan {
        approvals: 2,
        ..Plan::default()
    };
    let hostile = "x\"]\n[[stage]]";
    let wanted = Ask {
        scope: application("it's \"quoted\" \\ [x]"),
        ..ask(Direction::Promote, "", Mode::Enforce, 5)
    };
    assert_eq!(
        two.ask(&wanted, word("ada", hostile), false),
        Err(AskError::Text("reason"))
    );
    two.ask(&wanted, word("ada", "a \"good\" reason"), false)
        .unwrap();
    assert_eq!(Plan::parse(&two.to_text().unwrap()).unwrap(), two);
}

#[test]
fn mistakes_are_named_with_their_key() {
    let wrong = |text: &str| Plan::parse(text).unwrap_err().to_string();
    let stage = |rest: &str| wrong(&format!("[[stage]]\n{rest}"));
    assert!(
        stage("application = 'a'\npercentage = 101")
            .starts_with("stage[0].percentage: 101, expected 0 to 100")
    );
    assert!(stage("application = 'a'\npercentage = -1").contains("-1, expected 0 to 100"));
    assert!(stage("application = 'a'\nmode = 'loud'").contains("unknown variant `loud`"));
    assert!(stage("mode = 'monitor'").starts_with("stage[0]: names neither"));
    // Nor can one be told from another that looks the same.
    for name in ["", "pay\u{200b}roll", "pay\u{202e}roll"] {
        let found = stage(&format!("application = '{name}'"));
        assert!(
            found.starts_with("stage[0].application: expected 1 to 500"),
            "{found}"
        );
    }
    assert!(stage("app = 'a'").contains("unknown field `app`"));
    let twice = "tenant = 'A.com'\n[[stage]]\napplication = 'b'\n[[stage]]\ntenant = 'a.COM'";
    assert!(stage(twice).starts_with("stage[2]: tenant `a.COM` is in stage[0] already"));
    let alone = stage("application = 'a'\nmode = 'enforce'");
    assert!(
        alone.starts_with("stage[0].approved_by: names 0 operators, expected 1: enforce 100 %"),
        "{alone}"
    );
    assert!(
        stage("application = 'a'\nmode = 'enforce'\napproved_by = ['ada', 'ada']")
            .contains("each once")
    );
    assert!(wrong("[default]\nmode = 'advise'").starts_with("default.approved_by"));
    assert!(wrong("[default]\ntenant = 't'").starts_with("default: names a tenant"));
    assert!(wrong("approvals = 3").starts_with("approvals: 3, expected 1 to 2"));
    assert!(wrong("approvals = 0").starts_with("approvals: 0"));
    let four_eyes =
        "approvals = 2\n[[stage]]\napplication = 'a'\nmode = 'enforce'\napproved_by = ['ada']";
    assert!(wrong(four_eyes).contains("names 1 operators, expected 2"));
    assert!(wrong("[budget]\npercent = 0.0").starts_with("budget: percent: 0"));
    let many = "[[stage]]\napplication = 'a'\n".repeat(STAGES_MAX + 1);
    assert!(wrong(&many).contains("more than 256"));
    // What enforces nothing needs nobody's word.
    Plan::parse("[[stage]]\napplication = 'a'\nmode = 'enforce'\npercentage = 0").unwrap();
    Plan::parse("[[stage]]\napplication = 'a'\nmode = 'off'").unwrap();
}

#[test]
fn one_operator_promotes_and_demotes() {
    let mut plan = Plan::parse(FILE).unwrap();
    let promote = ask(Direction::Promote, "expenses", Mode::Enforce, 50);
    let done = plan.ask(&promote, word("bo", "quiet"), false).unwrap();
    assert_eq!(
        (done.action, done.from.as_str(), done.to.as_str()),
        ("promoted", "enforce 10 %", "enforce 50 %")
    );
    let stage = plan.stage(application("expenses").as_ref()).unwrap();
    assert_eq!(
        (stage.percentage, stage.approval.by.as_slice()),
        (50, &["bo".to_owned()][..])
    );
    let demote = ask(Direction::Demote, "expenses", Mode::Monitor, 100);
    let done = plan.ask(&demote, word("ada", "complaints"), false).unwrap();
    assert_eq!(done.action, "demoted");
    assert_eq!(plan.rollout().mode_for("", "expenses", 0), Mode::Monitor);
    // A new stage, for an application that had none.
    let promote = ask(Direction::Promote, "payroll", Mode::Advise, 100);
    let done = plan.ask(&promote, word("ada", "begin"), false).unwrap();
    assert_eq!(done.from, "monitor 100 %");
    assert_eq!(plan.stages.len(), 3);
}

#[test]
fn a_direction_that_is_the_other_one_is_refused() {
    let mut plan = Plan::parse(FILE).unwrap();
    let before = plan.clone();
    let weaker = ask(Direction::Promote, "expenses", Mode::Enforce, 5);
    assert!(matches!(
        plan.ask(&weaker, word("ada", "x"), false),
        Err(AskError::Weaker(..))
    ));
    for (mode, percentage) in [(Mode::Enforce, 11), (Mode::Advise, 100)] {
        let stronger = ask(Direction::Demote, "expenses", mode, percentage);
        assert!(matches!(
            plan.ask(&stronger, word("ada", "x"), false),
            Err(AskError::Stronger(..))
        ));
    }
    let same = ask(Direction::Promote, "expenses", Mode::Enforce, 10);
    assert!(matches!(
        plan.ask(&same, word("ada", "x"), false),
        Err(AskError::Same(_))
    ));
    let silent = ask(Direction::Demote, "expenses", Mode::Monitor, 100);
    assert_eq!(
        plan.ask(&silent, word("ada", " "), false),
        Err(AskError::NoReason)
    );
    let much = ask(Direction::Promote, "expenses", Mode::Enforce, 101);
    assert_eq!(
        plan.ask(&much, word("ada", "x"), false),
        Err(AskError::Percentage(101))
    );
    assert_eq!(plan, before);
    // In the tenant that advises, monitor would be a way back; elsewhere it is what holds.
    let mut plan = before.clone();
    let back = ask(Direction::Demote, "other", Mode::Monitor, 100);
    assert_eq!(
        plan.ask(&back, word("ada", "x"), false).unwrap().action,
        "demoted"
    );
    // For some it would be one, for others a promotion.
    let mut plan = before;
    plan.general.mode = Mode::Enforce;
    let mixed = ask(Direction::Demote, "other", Mode::Advise, 100);
    assert_eq!(
        plan.ask(&mixed, word("ada", "x"), false).unwrap().action,
        "demoted"
    );
    plan.stages.clear();
    plan.stages.push(Stage {
        scope: Scope::new(Some("b.com".to_owned()), None),
        mode: Mode::Monitor,
        percentage: 100,
        approval: Approval::default(),
    });
    assert!(matches!(
        plan.ask(&mixed, word("ada", "x"), false),
        Err(AskError::Stronger(..))
    ));
}

#[test]
fn what_has_fallen_back_can_be_asked_for_again_and_is_another_stage() {
    let mut plan = Plan::parse(FILE).unwrap();
    let scope = application("expenses");
    let mark = plan.stage(scope.as_ref()).unwrap().mark();
    let again = ask(Direction::Promote, "expenses", Mode::Enforce, 10);
    plan.ask(&again, word("ada", "the model is mended"), true)
        .unwrap();
    assert_ne!(plan.stage(scope.as_ref()).unwrap().mark(), mark);
}

#[test]
fn four_eyes_are_those_of_two_operators() {
    let mut plan = Plan {
        approvals: 2,
        ..Plan::default()
    };
    let promote = ask(Direction::Promote, "expenses", Mode::Enforce, 10);
    let scope = application("expenses");
    assert_eq!(
        plan.approve(scope.as_ref(), "enforce 10 %", word("bo", "")),
        Err(AskError::NothingWaits)
    );
    let done = plan
        .ask(&promote, word("ada", "a quiet week"), false)
        .unwrap();
    assert_eq!(done.action, "proposed");
    assert_eq!(plan.rollout().strongest(), Mode::Monitor);
    assert_eq!(
        plan.approve(scope.as_ref(), "enforce 10 %", word("ada", "")),
        Err(AskError::OwnProposal("ada".to_owned()))
    );
    // What was shown is not what waits any more.
    assert_eq!(
        plan.approve(scope.as_ref(), "enforce 5 %", word("bo", "")),
        Err(AskError::Replaced("enforce 10 %".to_owned()))
    );
    let done = plan
        .approve(scope.as_ref(), "enforce 10 %", word("bo", ""))
        .unwrap();
    assert_eq!(
        (done.action, done.to.as_str()),
        ("approved", "enforce 10 %")
    );
    let stage = plan.stage(scope.as_ref()).unwrap();
    assert_eq!(stage.approval.by, ["ada", "bo"]);
    assert_eq!(stage.approval.reason, "a quiet week");
    assert!(plan.proposals.is_empty());
    assert_eq!(Plan::parse(&plan.to_text().unwrap()).unwrap(), plan);
    // A step back by one of them goes on to name both: what is left was approved.
    let less = ask(Direction::Demote, "expenses", Mode::Enforce, 5);
    plan.ask(&less, word("cy", "slower"), false).unwrap();
    let stage = plan.stage(scope.as_ref()).unwrap();
    assert_eq!(stage.approval.by, ["cy", "ada", "bo"]);
    assert_eq!(Plan::parse(&plan.to_text().unwrap()).unwrap(), plan);
    let other = ask(Direction::Demote, "payroll", Mode::Advise, 100);
    let mut wide = plan.clone();
    wide.general.mode = Mode::Enforce;
    wide.general.approval.by = vec!["ada".to_owned(), "bo".to_owned()];
    wide.ask(&other, word("bo", "headers alone"), false)
        .unwrap();
    assert_eq!(Plan::parse(&wide.to_text().unwrap()).unwrap(), wide);
    // A way back waits for nobody, and takes what was asked for with it.
    let more = ask(Direction::Promote, "expenses", Mode::Enforce, 50);
    plan.ask(&more, word("ada", "more"), false).unwrap();
    let back = ask(Direction::Demote, "expenses", Mode::Monitor, 100);
    plan.ask(&back, word("bo", "complaints"), false).unwrap();
    assert!(plan.proposals.is_empty());
    assert_eq!(plan.rollout().strongest(), Mode::Monitor);
}

#[test]
fn the_page_about_it_shows_a_file_with_the_values_that_hold_without_one() {
    let page = include_str!("../../../docs/ROLLOUT.md");
    let (_, rest) = page.split_once("```toml\napprovals").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let shown = Plan::parse(&format!("approvals{text}")).unwrap();
    let plain = Plan::default();
    assert_eq!(shown.approvals, plain.approvals);
    assert_eq!(shown.budget, plain.budget);
    assert_eq!(shown.general, plain.general);
    let stage = &shown.stages[0];
    assert_eq!((stage.mode, stage.percentage), (Mode::Enforce, 10));
    // Each key of the form is on the page.
    let written = shown.to_text().unwrap();
    for line in written.lines() {
        let key = line.split(" = ").next().unwrap();
        assert!(line.starts_with('#') || page.contains(key), "{line}");
    }
}
