//! `riskgate policy try`: what a policy says of one request that is described, rule by rule. Nothing is read but the policy, and
//! nothing is written.

use crate::app::RunError;
use crate::app::assemble;
use crate::config::Config;
use crate::domain::policy::PolicySet;
use crate::domain::policy::decision::Adjustment;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::input::AgentInput;
use crate::domain::policy::input::ClientInput;
use crate::domain::policy::input::DeviceCookie;
use crate::domain::policy::input::DeviceInput;
use crate::domain::policy::input::NetworkInput;
use crate::domain::policy::input::PolicyInput;
use crate::domain::policy::input::RequestInput;
use crate::domain::policy::input::RiskInput;
use crate::domain::policy::input::SessionInput;
use crate::domain::policy::input::TimeInput;
use crate::domain::policy::input::UserInput;
use crate::domain::policy::reason::Reason;
use crate::domain::policy::vocabulary::Unknown;
use crate::domain::printable;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::ScoreSource;
use crate::domain::route::Door;
use crate::domain::signals::agent::DeviceKind;
use crate::domain::signals::network::CountryCode;
use crate::domain::signals::network::NetworkKind;
use serde_json::json;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// A request, as far as a policy can ask about it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The score, 0 to 100; none for a request without one.
    pub score: Option<u8>,
    /// Why there is none, or why it came from a lower rung.
    pub cause: Option<FallbackCause>,
    /// Which rung gave it.
    pub source: ScoreSource,
    /// Its reasons, strongest first.
    pub reasons: Vec<Reason>,
    /// The door.
    pub door: Door,
    /// The method, in capitals.
    pub method: String,
    /// The tenant domain.
    pub tenant: String,
    /// The id of an organization.
    pub organization: String,
    /// `grant_type`.
    pub grant_type: String,
    /// `response_type`.
    pub response_type: String,
    /// `prompt`.
    pub prompt: String,
    /// `acr_values`.
    pub acr_values: String,
    /// The path without tenant and organization.
    pub path: String,
    /// Whether a stronger factor is owed.
    pub demanded: bool,
    /// The client id.
    pub client: String,
    /// The username.
    pub user: Option<String>,
    /// Confirmed logins of the account that are remembered; none for one that never logged in.
    pub logins: u32,
    /// The client's address.
    pub address: IpAddr,
    /// The country.
    pub country: Option<CountryCode>,
    /// The autonomous system.
    pub asn: Option<u32>,
    /// The kind of network.
    pub network: Option<NetworkKind>,
    /// What the device cookie says; a known one is a known device.
    pub device: DeviceCookie,
    /// The browser.
    pub browser: String,
    /// The operating system.
    pub os: String,
    /// The kind of device or program.
    pub agent: DeviceKind,
    /// Whether a session is shown.
    pub session: bool,
    /// The hour, 0 to 23, UTC.
    pub hour: u8,
    /// The day of the week, 0 (Sunday) to 6.
    pub weekday: u8,
    /// How many of the last requests had no score, in percent.
    pub unscored_percent: u8,
}

/// What the policy says.
#[derive(Debug)]
pub struct Trial {
    file: String,
    thresholds: [u8; 2],
    points: Option<u8>,
    rules: Vec<(Arc<str>, Standing)>,
    decision: Decision,
}

/// What comes of one rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// It holds and decides.
    Decides,
    /// It holds, and an earlier one has decided.
    Holds,
    /// It does not hold.
    DoesNot,
    /// It asks for a score, and there is none.
    NoScore,
    /// It is not enabled.
    Off,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Decides => "decides",
            Self::Holds => "holds",
            Self::DoesNot => "no",
            Self::NoScore => "no score",
            Self::Off => "off",
        }
    }
}

impl Described {
    fn input(&self) -> PolicyInput<'_> {
        PolicyInput {
            risk: match self.score {
                Some(points) => RiskInput::Scored {
                    points,
                    source: self.source,
                    fallback: self.cause,
                    reasons: &self.reasons,
                },
                None => RiskInput::Unscored(self.cause.unwrap_or(FallbackCause::ModelTimeout)),
            },
            request: RequestInput {
                door: self.door,
                method: &self.method,
                tenant: &self.tenant,
                organization: &self.organization,
                grant_type: &self.grant_type,
                response_type: &self.response_type,
                prompt: &self.prompt,
                acr_values: &self.acr_values,
                path: &self.path,
                demanded: self.demanded,
            },
            client: ClientInput { id: &self.client },
            user: UserInput {
                name: self.user.as_deref(),
                known: self.logins > 0,
                logins: self.logins,
                break_glass: None,
            },
            network: NetworkInput {
                address: self.address,
                country: self.country,
                asn: self.asn,
                kind: self.network,
            },
            device: DeviceInput {
                known: self.device == DeviceCookie::Known,
                cookie: self.device,
            },
            agent: AgentInput {
                browser: &self.browser,
                os: &self.os,
                kind: self.agent.as_str(),
            },
            session: SessionInput {
                present: self.session,
            },
            time: TimeInput {
                hour: self.hour,
                weekday: self.weekday,
            },
            unscored_percent: self.unscored_percent,
        }
    }
}

impl Trial {
    /// Tries the policy of the configuration, or `policy` in its place.
    ///
    /// # Errors
    /// The policy cannot be read, or something is wrong with it.
    pub fn run(
        config: &Config,
        policy: Option<PathBuf>,
        request: &Described,
    ) -> Result<Self, RunError> {
        let mut config = config.clone();
        config.policy.file = policy.or(config.policy.file);
        let file = config.policy_file();
        let file = file.as_deref().map(Path::display);
        let file = file.map_or_else(|| "built-in policy".to_owned(), |path| path.to_string());
        let (policy, _) = assemble::policy(&config).map_err(RunError::Config)?;
        Ok(Self::of(file, &policy, request))
    }

    fn of(file: String, policy: &PolicySet, request: &Described) -> Self {
        let input = request.input();
        let mut decided = false;
        let standing = |(holds, enabled): (Result<bool, Unknown>, bool)| match holds {
            _ if !enabled => Standing::Off,
            Ok(true) if decided => Standing::Holds,
            Ok(true) => {
                decided = true;
                Standing::Decides
            }
            Ok(false) => Standing::DoesNot,
            Err(_) => Standing::NoScore,
        };
        let standings = policy.each(&input).map(standing).collect::<Vec<_>>();
        let names = policy.rules().iter().map(|rule| Arc::clone(&rule.name));
        let thresholds = policy.thresholds(&request.tenant, &request.client);
        Self {
            file,
            thresholds: [thresholds.medium, thresholds.high],
            points: input.risk.points(),
            rules: names.zip(standings).collect(),
            decision: policy.decide(&input),
        }
    }

    /// In lines for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        self.write(&mut out).unwrap_or(());
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let decision = &self.decision;
        writeln!(out, "policy   {} ({})", self.file, decision.policy_version)?;
        let [medium, high] = self.thresholds;
        match (self.points, decision.level) {
            (Some(points), Some(level)) => writeln!(
                out,
                "score    {points}: {} (medium from {medium}, high from {high})",
                level.as_str()
            )?,
            _ => writeln!(out, "score    none")?,
        }
        for (number, (name, standing)) in self.rules.iter().enumerate() {
            let head = if number == 0 { "rules" } else { "" };
            writeln!(out, "{head:<8} {:<8} {name}", standing.as_str())?;
        }
        writeln!(
            out,
            "verdict  {} by {}",
            decision.verdict,
            decision.matched.label()
        )?;
        if let Some(adjusted) = decision.adjusted {
            let (from, why) = words(adjusted);
            writeln!(out, "         {from} without this: {why}")?;
        }
        let reasons: Vec<&str> = decision
            .reasons
            .iter()
            .map(|reason| reason.code())
            .collect();
        writeln!(out, "reasons  {}", reasons.join(" "))
    }

    /// As JSON.
    ///
    /// # Errors
    /// Never, but for a fault of the writer.
    pub fn json(&self) -> Result<String, RunError> {
        let decision = &self.decision;
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|(name, standing)| json!({"name": **name, "result": standing.as_str()}))
            .collect();
        let adjusted = decision.adjusted.map(|adjusted| {
            let (from, why) = words(adjusted);
            json!({"from": from, "why": why})
        });
        printable::json_pretty(&json!({
            "policy": self.file,
            "version": *decision.policy_version,
            "score": self.points,
            "level": decision.level.map(|level| level.as_str()),
            "thresholds": self.thresholds,
            "rules": rules,
            "verdict": decision.verdict.as_str(),
            "matched": decision.matched.label(),
            "adjusted": adjusted,
            "reasons": decision.reasons.iter().map(|reason| reason.code()).collect::<Vec<_>>(),
        }))
        .map_err(|error| RunError::System(error.to_string()))
    }
}

/// The verdict before, and why it is another.
fn words(adjusted: Adjustment) -> (&'static str, &'static str) {
    match adjusted {
        Adjustment::BreakGlass { from } => (
            from.as_str(),
            "a break-glass account is never blocked or held",
        ),
        Adjustment::Demanded { from } => (
            from.as_str(),
            "a stronger factor is owed, and without a score it cannot be said to be given",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
version = 1
break_glass = ["admin"]
thresholds = { medium = 20, high = 60 }
[[rule]]
name = "old"
enabled = false
when = 'request.door == "login"'
verdict = "block"
[[rule]]
name = "from-afar"
when = 'network.country != "NO" && risk.score >= 20'
verdict = "review"
reason = "unfamiliar_country"
[[rule]]
name = "afar-too"
when = 'network.country == "SE"'
verdict = "block"
"#;

    fn request() -> Described {
        Described {
            score: Some(30),
            cause: None,
            source: ScoreSource::Native,
            reasons: vec![Reason::UnfamiliarDevice],
            door: Door::Login,
            method: "POST".to_owned(),
            tenant: String::new(),
            organization: String::new(),
            grant_type: String::new(),
            response_type: String::new(),
            prompt: String::new(),
            acr_values: String::new(),
            path: "/commonauth".to_owned(),
            demanded: false,
            client: String::new(),
            user: Some("alice".to_owned()),
            logins: 3,
            address: IpAddr::from([192, 0, 2, 1]),
            country: CountryCode::parse("SE"),
            asn: None,
            network: None,
            device: DeviceCookie::Missing,
            browser: String::new(),
            os: String::new(),
            agent: DeviceKind::Unknown,
            session: false,
            hour: 12,
            weekday: 1,
            unscored_percent: 0,
        }
    }

    fn text(request: &Described) -> String {
        let policy = PolicySet::parse(POLICY).unwrap();
        Trial::of("draft.toml".to_owned(), &policy, request).text()
    }

    #[test]
    fn each_rule_says_what_comes_of_it() {
        let said = text(&request());
        let lines: Vec<&str> = said.lines().map(str::trim_end).collect();
        assert!(lines[0].starts_with("policy   draft.toml ("), "{said}");
        assert_eq!(
            lines[1..],
            [
                "score    30: medium (medium from 20, high from 60)",
                "rules    off      old",
                "         decides  from-afar",
                "         holds    afar-too",
                "verdict  review by from-afar",
                "reasons  unfamiliar_country unfamiliar_device",
            ]
        );
    }

    #[test]
    fn without_a_score_and_for_a_break_glass_account_it_says_so() {
        let unscored = Described {
            score: None,
            cause: Some(FallbackCause::Overload),
            country: CountryCode::parse("DK"),
            demanded: true,
            ..request()
        };
        let said = text(&unscored);
        assert!(said.contains("score    none"), "{said}");
        assert!(said.contains("no score from-afar"), "{said}");
        assert!(said.contains("verdict  step_up by on_unscored"), "{said}");
        assert!(said.contains("allow without this: a stronger"), "{said}");
        let admin = Described {
            user: Some("PRIMARY/Admin".to_owned()),
            ..request()
        };
        let said = text(&admin);
        assert!(said.contains("verdict  step_up by from-afar"), "{said}");
        assert!(
            said.contains("review without this: a break-glass"),
            "{said}"
        );
    }

    #[test]
    fn programs_read_the_same() {
        let policy = PolicySet::parse(POLICY).unwrap();
        let trial = Trial::of("draft.toml".to_owned(), &policy, &request());
        let said: serde_json::Value = serde_json::from_str(&trial.json().unwrap()).unwrap();
        assert_eq!(said["verdict"], "review");
        assert_eq!(said["matched"], "from-afar");
        assert_eq!(said["level"], "medium");
        assert_eq!(said["rules"][1]["result"], "decides");
        assert!(said["adjusted"].is_null());
    }
}
