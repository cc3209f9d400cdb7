//! What holds for every decision.

use super::*;
use crate::domain::policy::input::AgentInput;
use crate::domain::policy::input::ClientInput;
use crate::domain::policy::input::DeviceCookie;
use crate::domain::policy::input::DeviceInput;
use crate::domain::policy::input::NetworkInput;
use crate::domain::policy::input::RequestInput;
use crate::domain::policy::input::SessionInput;
use crate::domain::policy::input::TimeInput;
use crate::domain::policy::input::UserInput;
use crate::domain::risk::ScoreSource;
use crate::domain::route::Door;
use crate::domain::signals::agent::DeviceKind;
use crate::domain::signals::network::CountryCode;
use proptest::prelude::*;
use std::net::IpAddr;

const SHIPPED: &str = include_str!("../../../conf/policy.toml");

/// A request whose every part may be anything.
#[derive(Clone, Debug)]
struct Anything {
    points: Option<u8>,
    cause: FallbackCause,
    reasons: Vec<Reason>,
    door: Door,
    texts: [String; 4],
    user: Option<String>,
    address: IpAddr,
    country: String,
    flags: [bool; 4],
}

impl Anything {
    fn input(&self) -> PolicyInput<'_> {
        let [tenant, client, grant, path] = &self.texts;
        let [known, device, session, demanded] = self.flags;
        PolicyInput {
            risk: match self.points {
                Some(points) => RiskInput::Scored {
                    points,
                    source: ScoreSource::Native,
                    fallback: Some(self.cause),
                    reasons: &self.reasons,
                },
                None => RiskInput::Unscored(self.cause),
            },
            request: RequestInput {
                door: self.door,
                method: path,
                tenant,
                organization: tenant,
                grant_type: grant,
                response_type: grant,
                prompt: path,
                acr_values: path,
                path,
                demanded,
            },
            client: ClientInput { id: client },
            user: UserInput {
                name: self.user.as_deref(),
                known,
                logins: u32::from(known),
                break_glass: None,
            },
            network: NetworkInput {
                address: self.address,
                country: CountryCode::parse(&self.country),
                asn: None,
                kind: None,
            },
            device: DeviceInput {
                known: device,
                cookie: DeviceCookie::Missing,
            },
            agent: AgentInput {
                browser: client,
                os: client,
                kind: DeviceKind::Unknown.as_str(),
            },
            session: SessionInput { present: session },
            time: TimeInput {
                hour: 255,
                weekday: 255,
            },
            unscored_percent: 0,
        }
    }
}

fn anything() -> impl Strategy<Value = Anything> {
    let text = prop_oneof![
        Just(String::new()),
        Just("refresh_token".to_owned()),
        "\\PC{0,12}"
    ];
    let user = prop::option::of(prop_oneof![Just("admin".to_owned()), "\\PC{0,12}"]);
    let risk = (
        prop::option::of(any::<u8>()),
        prop::sample::select(FallbackCause::ALL.to_vec()),
        prop::collection::vec(prop::sample::select(Reason::ALL.to_vec()), 0..5),
    );
    let request = (
        prop::sample::select(Door::ALL.to_vec()),
        [text.clone(), text.clone(), text.clone(), text],
        user,
        any::<IpAddr>(),
        "[A-Z]{0,2}",
        any::<[bool; 4]>(),
    );
    (risk, request).prop_map(
        |((points, cause, reasons), (door, texts, user, address, country, flags))| Anything {
            points,
            cause,
            reasons,
            door,
            texts,
            user,
            address,
            country,
            flags,
        },
    )
}

proptest! {
    #[test]
    fn there_is_always_a_decision_and_it_keeps_the_promises(one in anything()) {
        let policy = PolicySet::parse(SHIPPED).unwrap();
        let decision = policy.decide(&one.input());
        prop_assert_eq!(&decision, &policy.decide(&one.input()), "the same request, the same decision");
        prop_assert_eq!(decision.level.is_none(), one.points.is_none());
        let [.., demanded] = one.flags;
        prop_assert!(!(one.points.is_none() && demanded && decision.verdict == Verdict::Allow));
        let is_super = one.texts[0].is_empty();
        if is_super && one.user.as_deref() == Some("admin") {
            prop_assert!(decision.verdict <= Verdict::StepUp);
        }
        let distinct: std::collections::BTreeSet<_> = decision.reasons.iter().collect();
        prop_assert_eq!(distinct.len(), decision.reasons.len());
        if one.points.is_some() {
            prop_assert!(decision.skipped.is_empty());
        }
    }

    #[test]
    fn more_risk_never_gets_a_milder_answer_by_default(
        one in anything(), lower in 0u8..=100, more in 0u8..=100, medium in 1u8..100, gap in 1u8..50,
        verdicts in prop::array::uniform3(prop::sample::select(Verdict::ALL.to_vec())),
    ) {
        let mut verdicts = verdicts;
        verdicts.sort();
        let [low, mid, high] = verdicts;
        let edge = medium.saturating_add(gap).min(100);
        let text = format!(
            "version = 1\nbreak_glass = ['admin']\n[thresholds]\nmedium = {medium}\nhigh = {edge}\n\
             [defaults]\nlow = '{low}'\nmedium = '{mid}'\nhigh = '{high}'\n"
        );
        let policy = PolicySet::parse(&text).unwrap();
        let verdict = |points| policy.decide(&Anything { points: Some(points), ..one.clone() }.input()).verdict;
        prop_assert!(verdict(lower) <= verdict(lower.saturating_add(more)));
    }
}

#[test]
fn an_empty_policy_has_the_shipped_settings() {
    let policy = PolicySet::parse("version = 1").unwrap();
    assert_eq!(policy.thresholds("t", "a"), Thresholds::default());
    assert_eq!(
        policy.thresholds,
        PolicySet::parse(SHIPPED).unwrap().thresholds
    );
    assert_eq!(policy.defaults, PolicySet::parse(SHIPPED).unwrap().defaults);
    assert_eq!(
        policy.on_unscored,
        PolicySet::parse(SHIPPED).unwrap().on_unscored
    );
}

#[test]
fn the_version_tells_two_texts_apart() {
    let (one, two) = (
        PolicySet::parse("version = 1").unwrap(),
        PolicySet::parse("version = 1\n").unwrap(),
    );
    assert_eq!(one.version().len(), 16);
    assert_ne!(one.version(), two.version());
}

#[test]
fn a_surge_raises_what_unscored_requests_get_and_nothing_else() {
    let text = "version = 1\n[on_unscored.door]\nbasic = 'block'\n[on_unscored.surge]\nabove_percent = 20\nverdict = 'step_up'\n";
    let policy = PolicySet::parse(text).unwrap();
    let verdict = |points, door, unscored_percent| {
        let one = Anything {
            points,
            cause: FallbackCause::Overload,
            reasons: Vec::new(),
            door,
            texts: [const { String::new() }; 4],
            user: Some("alice".to_owned()),
            address: IpAddr::from([192, 0, 2, 1]),
            country: String::new(),
            flags: [false; 4],
        };
        let input = PolicyInput {
            unscored_percent,
            ..one.input()
        };
        policy.decide(&input).verdict
    };
    assert_eq!(verdict(None, Door::Login, 20), Verdict::Allow);
    assert_eq!(verdict(None, Door::Login, 21), Verdict::StepUp);
    assert_eq!(verdict(None, Door::Basic, 21), Verdict::Block);
    assert_eq!(verdict(Some(5), Door::Login, 99), Verdict::Allow);

    let errors =
        PolicySet::parse("version = 1\n[on_unscored.surge]\nabove_percent = 0\n").unwrap_err();
    let text = errors.to_string();
    assert!(
        text.contains("on_unscored.surge.above_percent")
            && text.contains("on_unscored.surge.verdict"),
        "{text}"
    );
}

/// A login of this user with a very high score.
fn login_of(user: &str) -> Anything {
    Anything {
        points: Some(99),
        cause: FallbackCause::Overload,
        reasons: Vec::new(),
        door: Door::Login,
        texts: [const { String::new() }; 4],
        user: Some(user.to_owned()),
        address: IpAddr::from([192, 0, 2, 1]),
        country: String::new(),
        flags: [false; 4],
    }
}

#[test]
fn a_name_of_an_organization_is_no_break_glass_account() {
    let policy = PolicySet::parse("version = 1\nbreak_glass = ['root']").unwrap();
    let one = login_of("root");
    let mut input = one.input();
    assert_eq!(policy.decide(&input).verdict, Verdict::StepUp);
    input.request.organization = "10084a8d-113f-4211-a0d5-efe36b082211";
    let decision = policy.decide(&input);
    assert_eq!(
        (decision.verdict, decision.adjusted),
        (Verdict::Block, None)
    );
}

#[test]
fn adjustments_are_told() {
    let policy = PolicySet::parse("version = 1\nbreak_glass = ['root']").unwrap();
    let one = Anything {
        flags: [true; 4],
        ..login_of("Root")
    };
    let decision = policy.decide(&one.input());
    assert_eq!(
        decision.adjusted,
        Some(Adjustment::BreakGlass {
            from: Verdict::Block
        })
    );
    let decision = policy.decide(
        &Anything {
            points: None,
            ..one
        }
        .input(),
    );
    assert_eq!(
        decision.adjusted,
        Some(Adjustment::Demanded {
            from: Verdict::Allow
        })
    );
    assert_eq!(
        decision.matched,
        Matched::OnUnscored {
            cause: FallbackCause::Overload
        }
    );
}
