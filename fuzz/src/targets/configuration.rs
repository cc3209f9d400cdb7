//! What operators write: configuration, policy, rollout, events to replay, and what the console notes of them. It is not hostile, but it comes with mistakes of every
//! kind, and a reload must not end a process.

use riskgate::app::replay::events::Events;
use riskgate::config::Config;
use riskgate::domain::policy::PolicySet;
use riskgate::domain::policy::decision::Verdict;
use riskgate::domain::policy::editing;
use riskgate::domain::policy::editing::Versions;
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
use riskgate::domain::risk::FallbackCause;
use riskgate::domain::risk::ScoreSource;
use riskgate::domain::rollout_plan::Plan;
use riskgate::domain::rollout_plan::status::Falls;
use riskgate::domain::route::Door;
use std::net::IpAddr;

/// Problems of one text that are told.
const PROBLEM_BYTES_MAX: usize = 256 * 1024;

/// A configuration file.
pub(super) fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let read = Config::parse(text);
    // A key that nobody knows is an error wherever the rest is none.
    let with_more = Config::parse(&format!("no_such_key = 1\n{text}"));
    assert!(with_more.is_err());
    match read {
        Ok(config) => {
            assert!(config.threads() > 0);
            drop((config.signs(), config.policy_file(), config.audit_file()));
            true
        }
        Err(problem) => {
            assert!(!problem.is_empty());
            false
        }
    }
}

/// A policy, and what it decides.
pub(super) fn policy(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let (checked, findings) = editing::check(text, None);
    // A text may end in the empty line behind its last line break.
    let lines = text.split('\n').count();
    assert!(
        findings
            .iter()
            .all(|finding| finding.line.is_none_or(|line| (1..=lines).contains(&line)))
    );
    let set = match PolicySet::parse(text) {
        Ok(set) => set,
        Err(errors) => {
            assert!(!errors.0.is_empty());
            assert!(errors.to_string().len() <= PROBLEM_BYTES_MAX);
            assert!(findings.iter().any(|finding| finding.is_error));
            return false;
        }
    };
    assert!(checked.is_some());
    let again = PolicySet::parse(text).expect("the same text");
    assert_eq!(set.version(), again.version());
    for door in Door::ALL {
        for points in [None, Some(0), Some(55), Some(100)] {
            for demanded in [false, true] {
                let input = input(door, points, demanded);
                let decision = set.decide(&input);
                assert_eq!(decision.verdict, again.decide(&input).verdict);
                // Without a score nothing can have changed for the better.
                assert!(
                    points.is_some() || !demanded || decision.verdict != Verdict::Allow,
                    "{door:?}"
                );
                let rules = [&set, &again].map(|set| set.token_rule(&input).is_some());
                assert_eq!(rules[0], rules[1]);
            }
        }
    }
    true
}

/// A rollout file, what has fallen back, and the history of a policy: what is read is the same when it was written again.
pub(super) fn rollout(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let plan = Plan::parse(text).map(|plan| {
        let again = plan.to_text().expect("a plan has a form");
        assert_eq!(Plan::parse(&again).as_ref(), Ok(&plan));
        assert!(plan.all().all(|stage| plan.find(stage.mark()).is_some()));
        drop(plan.rollout());
    });
    let falls = Falls::parse(text).map(|falls| {
        assert_eq!(Falls::parse(&falls.to_text()).as_ref(), Ok(&falls));
        assert!(falls.fall.iter().filter_map(|fall| fall.mark()).count() <= falls.fall.len());
    });
    let versions = Versions::parse(text).map(|versions| {
        assert_eq!(Versions::parse(&versions.to_text()).as_ref(), Ok(&versions));
    });
    plan.is_ok() || falls.is_ok() || versions.is_ok()
}

fn input(door: Door, points: Option<u8>, demanded: bool) -> PolicyInput<'static> {
    PolicyInput {
        risk: match points {
            Some(points) => RiskInput::Scored {
                points,
                source: ScoreSource::Model,
                fallback: None,
                reasons: &[],
            },
            None => RiskInput::Unscored(FallbackCause::ModelTimeout),
        },
        request: RequestInput {
            door,
            method: "POST",
            tenant: "",
            organization: "",
            grant_type: "password",
            response_type: "code",
            prompt: "",
            acr_values: "",
            path: "/oauth2/token",
            demanded,
        },
        client: ClientInput { id: "app" },
        user: UserInput {
            name: Some("alice@carbon.super"),
            known: true,
            logins: 3,
            break_glass: None,
        },
        network: NetworkInput {
            address: IpAddr::from([192, 0, 2, 10]),
            country: None,
            asn: Some(64_500),
            kind: None,
        },
        device: DeviceInput {
            known: false,
            cookie: DeviceCookie::Missing,
        },
        agent: AgentInput {
            browser: "Firefox",
            os: "Linux",
            kind: "computer",
        },
        session: SessionInput { present: false },
        time: TimeInput {
            hour: 3,
            weekday: 0,
        },
        unscored_percent: 30,
    }
}

/// A file of login events.
pub(super) fn events(bytes: &[u8]) -> bool {
    let Ok(mut events) = Events::open(bytes) else {
        return false;
    };
    let mut read = 0;
    for _ in 0..64 {
        match events.read() {
            Ok(Some(event)) => {
                assert!(event.whom().len() <= bytes.len());
                read += 1;
            }
            Ok(None) => break,
            Err(problem) => {
                assert!(!problem.problem.is_empty());
                if !problem.can_skip {
                    break;
                }
            }
        }
    }
    read > 0
}
