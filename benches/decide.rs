//! How long a decision takes: twenty rules of the usual kind of which none matches, so that every one is evaluated; and the
//! same conditions in the interpreter of the `cel` crate, with the context built once for all. Then what the rollout adds to
//! it, and the plan: what becomes of the request. What is ours has its budget beside it.

#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a panic is how a failure is reported here"
)]

mod budget;

use budget::step;
use cel::Context;
use cel::Program;
use criterion::Criterion;
use criterion::criterion_group;
use riskgate::domain::enforcement::AuthorizeFacts;
use riskgate::domain::enforcement::Enforcement;
use riskgate::domain::enforcement::PlanInput;
use riskgate::domain::enforcement::StepUpSettings;
use riskgate::domain::enforcement::plan;
use riskgate::domain::enforcement::step_up::Style;
use riskgate::domain::friction::Budget;
use riskgate::domain::friction::Window;
use riskgate::domain::policy::PolicySet;
use riskgate::domain::policy::decision::Decision;
use riskgate::domain::policy::decision::Mode;
use riskgate::domain::policy::decision::Verdict;
use riskgate::domain::policy::input::AgentInput;
use riskgate::domain::policy::input::ClientInput;
use riskgate::domain::policy::input::DeviceCookie;
use riskgate::domain::policy::input::DeviceInput;
use riskgate::domain::policy::input::NetworkInput;
use riskgate::domain::policy::input::PolicyInput;
use riskgate::domain::policy::input::RequestInput;
use riskgate::domain::policy::input::RiskInput;
use riskgate::domain::policy::input::SessionInput;
use riskgate::domain::policy::input::TimeInput;
use riskgate::domain::policy::input::UserInput;
use riskgate::domain::policy::reason::Reason;
use riskgate::domain::risk::Assessment;
use riskgate::domain::risk::RiskScore;
use riskgate::domain::risk::ScoreSource;
use riskgate::domain::rollout_plan::Plan;
use riskgate::domain::rollout_plan::STAGES_MAX;
use riskgate::domain::route::Door;
use riskgate::domain::signals::agent::DeviceKind;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::time::Timestamp;
use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

const CONDITIONS: [&str; 5] = [
    r#"request.door == "token" && request.grant_type == "refresh_token" && risk.level == "medium""#,
    r#"request.door in ["par", "ciba"] || (risk.score > 95 && !user.known)"#,
    r#"network.kind == "tor" && !device.known && risk.level == "low""#,
    r#"risk.score >= 20 && risk.reasons.exists(r, r in ["impossible_travel", "account_under_attack"])"#,
    r#"request.path.startsWith("/scim2/") && time.hour < 6"#,
];

fn policy() -> PolicySet {
    let mut text = String::from("version = 1\nbreak_glass = [\"admin\"]\n");
    for (index, condition) in CONDITIONS.iter().cycle().take(20).enumerate() {
        text.push_str(&format!(
            "[[rule]]\nname = \"r{index}\"\nwhen = '{condition}'\nverdict = \"step_up\"\n"
        ));
    }
    PolicySet::parse(&text).expect("a valid policy")
}

fn input(reasons: &[Reason]) -> PolicyInput<'_> {
    PolicyInput {
        risk: RiskInput::Scored {
            points: 30,
            source: ScoreSource::Model,
            fallback: None,
            reasons,
        },
        request: RequestInput {
            door: Door::Login,
            method: "POST",
            tenant: "carbon.super",
            organization: "",
            grant_type: "",
            response_type: "",
            prompt: "",
            acr_values: "",
            path: "/commonauth",
            demanded: false,
        },
        client: ClientInput { id: "aClient" },
        user: UserInput {
            name: Some("Alice@carbon.super"),
            known: true,
            logins: 12,
            break_glass: None,
        },
        network: NetworkInput {
            address: IpAddr::from([192, 0, 2, 1]),
            country: None,
            asn: Some(64_500),
            kind: Some(NetworkKind::Residential),
        },
        device: DeviceInput {
            known: false,
            cookie: DeviceCookie::Missing,
        },
        agent: AgentInput {
            browser: "Firefox",
            os: "Linux",
            kind: DeviceKind::Computer.as_str(),
        },
        session: SessionInput { present: false },
        time: TimeInput {
            hour: 9,
            weekday: 2,
        },
        unscored_percent: 0,
    }
}

/// The variables that the conditions above need, as maps.
fn context(reasons: &[Reason]) -> Context<'static, 'static> {
    let mut context = Context::default();
    let mut add = |name: &str, fields: Vec<(&str, cel::Value)>| {
        let map: HashMap<String, cel::Value> = fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        context.add_variable_from_value(name, map);
    };
    let reasons: Vec<cel::Value> = reasons.iter().map(|reason| reason.code().into()).collect();
    add(
        "risk",
        vec![
            ("score", 30i64.into()),
            ("level", "medium".into()),
            ("reasons", reasons.into()),
        ],
    );
    add(
        "request",
        vec![
            ("door", "login".into()),
            ("grant_type", "".into()),
            ("path", "/commonauth".into()),
        ],
    );
    add("user", vec![("known", true.into())]);
    add("network", vec![("kind", "residential".into())]);
    add("device", vec![("known", false.into())]);
    add("time", vec![("hour", 9i64.into())]);
    context
}

fn decide(criterion: &mut Criterion) {
    let reasons = [
        Reason::UnfamiliarDevice,
        Reason::UnfamiliarNetwork,
        Reason::UnusualHour,
    ];
    let (policy, input) = (policy(), input(&reasons));
    let decision = policy.decide(&input);
    assert!(
        decision.skipped.is_empty() && decision.matched.label() == "default_medium",
        "{decision:?}"
    );
    step(
        criterion,
        "decide/20_rules",
        Duration::from_micros(3),
        |bencher| bencher.iter(|| policy.decide(black_box(&input))),
    );

    let programs: Vec<Program> = CONDITIONS
        .iter()
        .cycle()
        .take(20)
        .map(|condition| Program::compile(condition).expect("a valid condition"))
        .collect();
    let shared = context(&reasons);
    for program in &programs {
        assert_eq!(program.execute(&shared), Ok(cel::Value::Bool(false)));
    }
    criterion.bench_function("cel_interpreter/context", |bencher| {
        bencher.iter(|| context(black_box(&reasons)))
    });
    criterion.bench_function("cel_interpreter/20_rules", |bencher| {
        bencher.iter(|| {
            programs
                .iter()
                .filter(|program| program.execute(black_box(&shared)).is_err())
                .count()
        });
    });
}

/// The stage and the mode of a request under the largest rollout plan, and its place in a window at its end.
fn rollout(criterion: &mut Criterion) {
    let mut text = String::new();
    for number in 0..STAGES_MAX {
        text.push_str(&format!(
            "[[stage]]\napplication = \"application-{number}\"\nmode = \"enforce\"\npercentage = 50\napproved_by = [\"ada\"]\n"
        ));
    }
    let plan = Plan::parse(&text).expect("a valid plan");
    let rollout = plan.rollout();
    let mut stable = 0_u64;
    step(
        criterion,
        "rollout/256_stages",
        Duration::from_nanos(500),
        |bencher| {
            bencher.iter(|| {
                stable = stable.wrapping_add(0x9E37_79B9_7F4A_7C15);
                rollout
                    .share(black_box("carbon.super"), black_box("application-200"))
                    .mode_of(stable)
            });
        },
    );
    let budget = Budget::default();
    let mut window = Window::default();
    let mut user = 0_u64;
    for _ in 0..10_000 {
        user = user.wrapping_add(0x9E37_79B9_7F4A_7C15);
        window.note(user, false, 1_000, &budget);
    }
    step(
        criterion,
        "rollout/note",
        Duration::from_nanos(500),
        |bencher| {
            bencher.iter(|| {
                user = user.wrapping_add(0x9E37_79B9_7F4A_7C15);
                window.note(black_box(user), false, 1_000, &budget)
            });
        },
    );
}

/// What becomes of a request: forwarded with the risk in its head, sent round for a factor, refused.
fn planning(criterion: &mut Criterion) {
    const AUTHORIZE: &str = "/oauth2/authorize?response_type=code&client_id=expenses&scope=openid%20profile\
&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback&state=8f1c9b7e&nonce=52d1&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
&code_challenge_method=S256";
    let reasons = [Reason::UnfamiliarDevice, Reason::UnfamiliarNetwork];
    let of = |verdict| Decision {
        verdict,
        ..policy().decide(&input(&reasons))
    };
    let (allow, step_up, block) = (of(Verdict::Allow), of(Verdict::StepUp), of(Verdict::Block));
    let assessment = Assessment::Scored {
        score: RiskScore::new(0.3).expect("a probability"),
        reasons: reasons.to_vec(),
        contributions: vec![0.25; 32],
        source: ScoreSource::Native,
        fallback: None,
    };
    let settings = StepUpSettings::default();
    let of = |decision| PlanInput {
        mode: Mode::Enforce,
        assessment: &assessment,
        decision,
        door: Door::Authorize,
        method: "GET",
        target: AUTHORIZE,
        grant_type: None,
        authorize: AuthorizeFacts::default(),
        saml: None,
        continues: false,
        decision_id: "0193691e-8f5c-7d6c-a1b2-5c6d7e8f9012",
        address: IpAddr::from([192, 0, 2, 1]),
        now: Timestamp(1_764_000_000_000),
        step_up: &settings,
        style: Style::default(),
        sent: 0,
        failed: 0,
        exhausted: None,
        provable: true,
        deferred: false,
        signer: None,
    };
    let (forwarded, sent, refused) = (of(&allow), of(&step_up), of(&block));
    assert!(matches!(plan(&forwarded), Enforcement::Forward(..)));
    assert!(matches!(plan(&sent), Enforcement::Redirect(..)));
    assert!(matches!(plan(&refused), Enforcement::Reject(..)));
    let budget = Duration::from_micros(3);
    step(criterion, "plan/forward", budget, |bencher| {
        bencher.iter(|| plan(black_box(&forwarded)))
    });
    step(criterion, "plan/redirect", budget, |bencher| {
        bencher.iter(|| plan(black_box(&sent)))
    });
    step(criterion, "plan/refuse", budget, |bencher| {
        bencher.iter(|| plan(black_box(&refused)))
    });
}

criterion_group!(benches, decide, rollout, planning);

fn main() -> ExitCode {
    benches();
    budget::hold()
}
