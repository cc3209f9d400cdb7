//! A decision given again from its record: under another policy, or with another score. What a record does not hold is said
//! and never guessed.

use crate::domain::audit::AuditEvent;
use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::policy::PolicySet;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
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
use crate::domain::policy::standing::Standing;
use crate::domain::policy::vocabulary::COOKIE_STATES;
use crate::domain::policy::vocabulary::NETWORK_KINDS;
use crate::domain::policy::vocabulary::SOURCES;
use crate::domain::policy::vocabulary::Unrecorded;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::ModelOutput;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::RiskScore;
use crate::domain::risk::ScoreSource;
use crate::domain::risk::Thresholds;
use crate::domain::risk::reasons_of;
use crate::domain::route::Door;
use crate::domain::signals::network::CountryCode;
use crate::domain::time::Timestamp;
use ipnet::IpNet;
use std::sync::Arc;

/// Whose name a record is about.
pub mod names;

use names::Name;

/// What stands for a name that is known to be none of those that a policy names.
const NOBODY: &str = "\u{1}";

/// The digits of a digest in a record.
pub const DIGEST_DIGITS: usize = 16;

/// One recorded decision, with its words understood.
#[derive(Clone, Debug)]
pub struct Case<'e> {
    /// The record.
    pub event: &'e AuditEvent,
    /// The door.
    pub door: Door,
    /// The kind of request whose features were used.
    pub kind: RequestKind,
    /// The mode.
    pub mode: Mode,
    /// The verdict.
    pub verdict: Verdict,
    /// The score, or why there was none.
    pub risk: Risk,
    /// The thresholds that held.
    pub thresholds: Thresholds,
    /// When it was.
    pub at: Timestamp,
    /// What stood beside the policy.
    standing: Standing,
    prefix: IpNet,
    country: Option<CountryCode>,
}

/// What the scoring said.
#[derive(Clone, Debug, PartialEq)]
pub enum Risk {
    /// There is a score.
    Scored {
        /// 0 to 100.
        points: u8,
        /// Where it is from.
        source: ScoreSource,
        /// Why no better rung answered.
        fallback: Option<FallbackCause>,
        /// Why, strongest first.
        reasons: Vec<Reason>,
    },
    /// There is none.
    Unscored(FallbackCause),
}

/// A decision that was given again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Again {
    /// What policy says.
    pub decision: Decision,
    /// The verdict that counts.
    pub verdict: Verdict,
}

/// Why a decision cannot be given again from its record.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Gap {
    /// Nothing was decided: the route is not scored, the mode is off, or the request was refused before.
    #[error("nothing was decided by policy")]
    NotDecided,
    /// It was written by a version that recorded less.
    #[error("was recorded by an earlier version, which kept less")]
    Earlier,
    /// A field says what this build does not know.
    #[error("`{0}` says what this version does not know")]
    Unknown(&'static str),
    /// No row of its own was scored: the score is that of an earlier decision, or there was none.
    #[error("has no score of a row of its own")]
    NoRow,
    /// The row is of another schema of features.
    #[error("has a row of another feature schema")]
    OtherSchema,
    /// There is no model for this kind of request, or it gives no score.
    #[error("cannot be scored by this model")]
    NoModel,
    /// A rule asks for what records do not hold.
    #[error("the rule `{0}` asks for what is not recorded")]
    Rule(Arc<str>),
}

impl Gap {
    /// A short code, for tables of figures.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotDecided => "not_decided",
            Self::Earlier => "earlier_version",
            Self::Unknown(_) => "unknown_word",
            Self::NoModel => "no_model",
            Self::NoRow => "no_row",
            Self::OtherSchema => "other_schema",
            Self::Rule(_) => "rule_needs_more",
        }
    }
}

impl<'e> Case<'e> {
    /// The decision behind a record.
    pub fn read(event: &'e AuditEvent) -> Result<Self, Gap> {
        let (Some(verdict), Some(mode), Some(_)) = (&event.verdict, &event.mode, &event.matched)
        else {
            return Err(Gap::NotDecided);
        };
        let Some([medium, high]) = event.thresholds else {
            return Err(Gap::Earlier);
        };
        let door = named(Door::ALL, Door::as_str, event.door.as_deref().unwrap_or(""));
        let door = door.ok_or(Gap::Unknown("door"))?;
        let codes = event.standing.iter().map(|code| &**code);
        let standing = Standing::of_codes(codes).ok_or(Gap::Unknown("standing"))?;
        let risk = Risk::read(event)?;
        let kind = event.kind.as_deref().and_then(RequestKind::from_name);
        let source = risk.source();
        Ok(Self {
            event,
            door,
            kind: kind.unwrap_or_else(|| RequestKind::of(door, event.grant_type.as_deref())),
            mode: named(Mode::ALL, Mode::as_str, mode).ok_or(Gap::Unknown("mode"))?,
            verdict: named(Verdict::ALL, Verdict::as_str, verdict)
                .ok_or(Gap::Unknown("verdict"))?,
            thresholds: Thresholds { medium, high },
            at: Timestamp::from_rfc3339(&event.time).ok_or(Gap::Unknown("time"))?,
            standing: Standing {
                redeems: door == Door::Token,
                inherited: source == Some(ScoreSource::Provenance),
                ..standing
            },
            prefix: prefix(event.prefix.as_deref())?,
            country: match &event.country {
                None => None,
                Some(text) => Some(CountryCode::parse(text).ok_or(Gap::Unknown("country"))?),
            },
            risk,
        })
    }

    /// The row that the model saw.
    pub fn row(&self) -> Result<FeatureVector, Gap> {
        row(self.event)
    }

    /// What the case would be, had the model said `output` of the row.
    pub fn rescored(&self, output: &ModelOutput, row: &FeatureVector) -> Self {
        let mut changed = self.clone();
        let (source, fallback) = match &self.risk {
            Risk::Scored {
                source, fallback, ..
            } => (*source, *fallback),
            Risk::Unscored(cause) => (ScoreSource::Native, Some(*cause)),
        };
        changed.risk = Risk::Scored {
            points: output.score.points(),
            source,
            fallback,
            reasons: reasons_of(&output.contributions, row),
        };
        changed
    }

    /// The level of the score under the thresholds that held.
    pub fn level(&self) -> Option<RiskLevel> {
        let points = self.risk.points()?;
        Some(RiskScore::from_points(points).level(self.thresholds))
    }

    /// The decision that `policy` gives. `name` is what is known of the account's name.
    pub fn decide(&self, policy: &PolicySet, name: Name<'_>) -> Result<Again, Gap> {
        let event = self.event;
        let text = |text: Option<&'e str>| text.unwrap_or("");
        let tenant = text(event.tenant.as_deref());
        let client = text(event.client_id.as_deref());
        let level = self
            .risk
            .points()
            .map(|points| RiskScore::from_points(points).level(policy.thresholds(tenant, client)));
        let path = path(&event.route);
        let organization = text(event.organization.as_deref());
        let is_of_list = |name| policy.break_glass().contains(tenant, organization, name);
        let is_same = event.policy.as_deref() == Some(&**policy.version());
        let break_glass = match name {
            _ if is_same => event.break_glass,
            Name::Hidden | Name::Unknown => event.break_glass,
            Name::Behind(name) | Name::Is(name) => is_of_list(name),
            Name::None | Name::Other => false,
        };
        let unrecorded = Unrecorded {
            path: path.is_none(),
            user_name: name == Name::Unknown,
            address_bits: Some(self.prefix.prefix_len()),
        };
        let input = PolicyInput {
            risk: self.risk.input(),
            request: RequestInput {
                door: self.door,
                method: &event.method,
                tenant,
                organization,
                grant_type: text(event.grant_type.as_deref()),
                response_type: text(event.response_type.as_deref()),
                prompt: text(event.prompt.as_deref()),
                acr_values: text(event.acr_values.as_deref()),
                path: path.unwrap_or(""),
                demanded: self.standing.is_demanded(level, self.mode),
            },
            client: ClientInput { id: client },
            user: UserInput {
                name: match name {
                    Name::Behind(_) | Name::Hidden | Name::None => None,
                    Name::Is(name) => Some(name),
                    Name::Other | Name::Unknown => Some(NOBODY),
                },
                known: event.known,
                logins: event.logins,
                break_glass: Some(break_glass),
            },
            network: NetworkInput {
                address: self.prefix.addr(),
                country: self.country,
                asn: event.asn,
                kind: event
                    .network
                    .as_deref()
                    .and_then(|kind| named(NETWORK_KINDS, |kind| kind.as_str(), kind)),
            },
            device: DeviceInput {
                known: event.device.as_deref() == Some(DeviceCookie::Known.as_str()),
                cookie: named(
                    COOKIE_STATES,
                    DeviceCookie::as_str,
                    text(event.device.as_deref()),
                )
                .unwrap_or(DeviceCookie::Missing),
            },
            agent: AgentInput {
                browser: family(text(event.browser.as_deref())),
                os: text(event.os.as_deref()),
                kind: text(event.agent_kind.as_deref()),
            },
            session: SessionInput {
                present: event.session,
            },
            time: TimeInput {
                hour: u8::try_from(self.at.hour_of_day()).unwrap_or(0),
                weekday: self.at.weekday() % 7,
            },
            unscored_percent: event.unscored_percent,
        };
        let decision = policy.decide_again(&input, unrecorded).map_err(Gap::Rule)?;
        let settled = self.standing.settle(&decision, self.mode);
        Ok(Again {
            decision,
            verdict: settled.verdict,
        })
    }
}

impl Risk {
    fn read(event: &AuditEvent) -> Result<Self, Gap> {
        let fallback = match &event.fallback {
            None => None,
            Some(cause) => Some(
                named(FallbackCause::ALL, FallbackCause::as_str, cause)
                    .ok_or(Gap::Unknown("fallback"))?,
            ),
        };
        let (Some(points), Some(source)) = (event.score, &event.source) else {
            return fallback.map(Self::Unscored).ok_or(Gap::Unknown("score"));
        };
        let source = named(SOURCES, ScoreSource::as_str, source).ok_or(Gap::Unknown("source"))?;
        let reasons = match <&[f32; Feature::COUNT]>::try_from(event.contributions.as_slice()) {
            Ok(contributions) => reasons_of(contributions, &row(event)?),
            Err(_) if source == ScoreSource::Provenance => event
                .inherited_reasons
                .iter()
                .filter_map(|code| Reason::from_code(code))
                .collect(),
            Err(_) => return Err(Gap::OtherSchema),
        };
        Ok(Self::Scored {
            points,
            source,
            fallback,
            reasons,
        })
    }

    /// The score, 0 to 100.
    pub fn points(&self) -> Option<u8> {
        match self {
            Self::Scored { points, .. } => Some(*points),
            Self::Unscored(_) => None,
        }
    }

    /// Where it is from.
    pub fn source(&self) -> Option<ScoreSource> {
        match self {
            Self::Scored { source, .. } => Some(*source),
            Self::Unscored(_) => None,
        }
    }

    fn input(&self) -> RiskInput<'_> {
        match self {
            Self::Scored {
                points,
                source,
                fallback,
                reasons,
            } => RiskInput::Scored {
                points: *points,
                source: *source,
                fallback: *fallback,
                reasons,
            },
            Self::Unscored(cause) => RiskInput::Unscored(*cause),
        }
    }
}

/// The row of features of a record.
pub fn row(event: &AuditEvent) -> Result<FeatureVector, Gap> {
    if event.features.is_empty() {
        return Err(Gap::NoRow);
    }
    let current = FeatureSchema::current().version;
    if event
        .feature_schema
        .is_some_and(|version| version != current)
    {
        return Err(Gap::OtherSchema);
    }
    let mut values = [f32::NAN; Feature::COUNT];
    if event.features.len() != values.len() {
        return Err(Gap::OtherSchema);
    }
    for (slot, value) in values.iter_mut().zip(&event.features) {
        *slot = value.unwrap_or(f32::NAN);
    }
    FeatureVector::from_slice(&values).ok_or(Gap::OtherSchema)
}

/// The variant that is written as `text`.
fn named<T: Copy, const N: usize>(
    all: [T; N],
    name: impl Fn(T) -> &'static str,
    text: &str,
) -> Option<T> {
    all.into_iter().find(|one| name(*one) == text)
}

/// The network of the address.
fn prefix(text: Option<&str>) -> Result<IpNet, Gap> {
    let network = text.and_then(|text| text.parse().ok());
    network.ok_or(Gap::Unknown("prefix"))
}

/// The path, where the route has only one.
fn path(route: &str) -> Option<&str> {
    (route.starts_with('/') && !route.contains(['*', '{'])).then_some(route)
}

/// A browser without its version.
fn family(browser: &str) -> &str {
    match browser.rsplit_once(' ') {
        Some((family, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => family,
        _ => browser,
    }
}

#[cfg(test)]
mod tests;
