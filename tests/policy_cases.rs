//! The shipped policy, case by case: each file in `tests/cases` is a list of requests with the verdict and the reasons that
//! an operator may expect of `conf/policy.toml`, or of the policy that the file brings along.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a failure is reported here"
)]

use riskgate::domain::policy::PolicySet;
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
use riskgate::domain::policy::lint::Severity;
use riskgate::domain::policy::reason::Reason;
use riskgate::domain::risk::FallbackCause;
use riskgate::domain::risk::ScoreSource;
use riskgate::domain::route::Door;
use riskgate::domain::signals::agent::DeviceKind;
use riskgate::domain::signals::network::CountryCode;
use riskgate::domain::signals::network::NetworkKind;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    /// Another policy than the shipped one.
    policy: Option<String>,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    given: Given,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    score: Option<u8>,
    cause: FallbackCause,
    reasons: Vec<Reason>,
    door: String,
    tenant: String,
    client: String,
    grant_type: String,
    user: Option<String>,
    user_known: bool,
    address: IpAddr,
    country: Option<String>,
    network: Option<NetworkKind>,
    device_known: bool,
    demanded: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    verdict: String,
    matched: String,
    reasons: Vec<Reason>,
    #[serde(default)]
    skipped: Option<Vec<String>>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            score: None,
            cause: FallbackCause::ModelTimeout,
            reasons: Vec::new(),
            door: "login".to_owned(),
            tenant: String::new(),
            client: "app".to_owned(),
            grant_type: String::new(),
            user: None,
            user_known: true,
            address: IpAddr::from([192, 0, 2, 10]),
            country: None,
            network: None,
            device_known: false,
            demanded: false,
        }
    }
}

impl Given {
    fn input(&self) -> PolicyInput<'_> {
        let door = Door::ALL
            .into_iter()
            .find(|door| door.as_str() == self.door);
        PolicyInput {
            risk: match self.score {
                Some(points) => RiskInput::Scored {
                    points,
                    source: ScoreSource::Model,
                    fallback: None,
                    reasons: &self.reasons,
                },
                None => RiskInput::Unscored(self.cause),
            },
            request: RequestInput {
                door: door.unwrap_or_else(|| panic!("no door `{}`", self.door)),
                method: "POST",
                tenant: &self.tenant,
                organization: "",
                grant_type: &self.grant_type,
                response_type: "",
                prompt: "",
                acr_values: "",
                path: "/",
                demanded: self.demanded,
            },
            client: ClientInput { id: &self.client },
            user: UserInput {
                name: self.user.as_deref(),
                known: self.user_known,
                logins: u32::from(self.user_known),
                break_glass: None,
            },
            network: NetworkInput {
                address: self.address,
                country: self
                    .country
                    .as_deref()
                    .map(|code| CountryCode::parse(code).expect("a country code")),
                asn: None,
                kind: self.network,
            },
            device: DeviceInput {
                known: self.device_known,
                cookie: if self.device_known {
                    DeviceCookie::Known
                } else {
                    DeviceCookie::Missing
                },
            },
            agent: AgentInput {
                browser: "Firefox",
                os: "Linux",
                kind: DeviceKind::Computer.as_str(),
            },
            session: SessionInput { present: false },
            time: TimeInput {
                hour: 12,
                weekday: 3,
            },
            unscored_percent: 0,
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> String {
    std::fs::read_to_string(root().join("conf/policy.toml")).expect("the shipped policy")
}

#[test]
fn every_case_gets_the_verdict_and_the_reasons_it_expects() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("tests/cases"))
        .expect("the cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    let (mut failures, mut count) = (Vec::new(), 0);
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a file of cases");
        let file: CaseFile =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let policy = PolicySet::parse(&file.policy.unwrap_or_else(shipped))
            .unwrap_or_else(|error| panic!("{error}"));
        for case in &file.case {
            let decision = policy.decide(&case.given.input());
            let seen = (
                decision.verdict.as_str(),
                decision.matched.label(),
                &decision.reasons,
            );
            let expected = (
                case.expect.verdict.as_str(),
                case.expect.matched.as_str(),
                &case.expect.reasons,
            );
            if seen != expected {
                failures.push(format!(
                    "{}: {}: {seen:?}, expected {expected:?}",
                    path.display(),
                    case.name
                ));
            }
            let skipped: Vec<String> = decision.skipped.iter().map(ToString::to_string).collect();
            if case
                .expect
                .skipped
                .as_ref()
                .is_some_and(|expected| *expected != skipped)
            {
                failures.push(format!(
                    "{}: {}: skipped {skipped:?}",
                    path.display(),
                    case.name
                ));
            }
            count += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= 30, "only {count} cases were found");
}

#[test]
fn the_shipped_policy_has_nothing_to_find_fault_with() {
    let policy = PolicySet::parse(&shipped()).unwrap_or_else(|error| panic!("{error}"));
    let findings: Vec<String> = policy.lint().iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn the_rule_that_ships_disabled_would_do_if_enabled() {
    let text = shipped().replace("enabled = false\n", "");
    let policy = PolicySet::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    assert!(policy.rules().iter().all(|rule| rule.enabled));
    assert!(
        !policy
            .lint()
            .iter()
            .any(|finding| finding.severity == Severity::Error),
        "{:?}",
        policy.lint()
    );
}

#[test]
fn a_settings_comment_lists_every_cause_door_and_field() {
    let text = shipped();
    for cause in FallbackCause::ALL {
        assert!(text.contains(cause.as_str()), "{}", cause.as_str());
    }
    for door in Door::ALL {
        assert!(text.contains(door.as_str()), "{}", door.as_str());
    }
}
