//! The words of a condition: every field that can be asked about, with its type, its closed list of values where it has
//! one, and where it is found in a request. A field exists for conditions only if it is declared here.

use crate::domain::ids::canonical_username;
use crate::domain::policy::break_glass::BreakGlass;
use crate::domain::policy::input::DeviceCookie;
use crate::domain::policy::input::PolicyInput;
use crate::domain::policy::input::RiskInput;
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::policy::spelling::listed;
use crate::domain::policy::spelling::suggestion;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::ScoreSource;
use crate::domain::route::Door;
use crate::domain::signals::agent::DeviceKind;
use crate::domain::signals::network::CountryCode;
use crate::domain::signals::network::NetworkKind;
use crate::domain::target::user_domain;
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::IpAddr;

/// A declared field.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Field {
    /// `network.address`
    Address,
    /// True or false.
    Bool(BoolField),
    /// A whole number.
    Int(IntField),
    /// `risk.reasons`
    Reasons,
    /// A text.
    Text(TextField),
}

/// A field that is true or false.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum BoolField {
    /// `device.known`
    DeviceKnown,
    /// `request.demanded`
    RequestDemanded,
    /// `session.present`
    SessionPresent,
    /// `user.break_glass`
    UserBreakGlass,
    /// `user.known`
    UserKnown,
}

/// A field that is a whole number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IntField {
    /// `network.asn`
    NetworkAsn,
    /// `risk.score`
    RiskScore,
    /// `time.hour`
    TimeHour,
    /// `time.weekday`
    TimeWeekday,
    /// `user.logins`
    UserLogins,
}

/// A field that is a text.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TextField {
    /// `agent.browser`
    AgentBrowser,
    /// `agent.kind`
    AgentKind,
    /// `agent.os`
    AgentOs,
    /// `client.id`
    ClientId,
    /// `device.cookie`
    DeviceCookie,
    /// `network.country`
    NetworkCountry,
    /// `network.kind`
    NetworkKind,
    /// `request.acr_values`
    RequestAcrValues,
    /// `request.door`
    RequestDoor,
    /// `request.grant_type`
    RequestGrantType,
    /// `request.method`
    RequestMethod,
    /// `request.organization`
    RequestOrganization,
    /// `request.path`
    RequestPath,
    /// `request.prompt`
    RequestPrompt,
    /// `request.response_type`
    RequestResponseType,
    /// `request.tenant`
    RequestTenant,
    /// `risk.cause`
    RiskCause,
    /// `risk.level`
    RiskLevel,
    /// `risk.source`
    RiskSource,
    /// `risk.status`
    RiskStatus,
    /// `user.name`
    UserName,
}

/// What a record of a request does not hold. A condition that turns on it has no value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unrecorded {
    /// The path.
    pub path: bool,
    /// The username; that there is one is known.
    pub user_name: bool,
    /// All bits of the address but the first so many.
    pub address_bits: Option<u8>,
}

/// One request as the conditions see it: the input, and what the policy adds to it.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What was handed in.
    pub input: &'a PolicyInput<'a>,
    /// The level under the thresholds that hold.
    pub level: Option<RiskLevel>,
    /// The client's address in its one form.
    pub address: IpAddr,
    /// The tenant, never empty.
    pub tenant: &'a str,
    /// The canonical username; empty when there is none.
    pub user_name: Cow<'a, str>,
    /// Whether the account is a break-glass account.
    pub break_glass: bool,
    /// What is not known, where the request is known from its record alone.
    pub unrecorded: Unrecorded,
}

/// Why a condition has no value. A later variant hides an earlier one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Unknown {
    /// It asks for a field that this request does not have.
    Absent(Field),
    /// Its value was left open: in the lint, or where it is not recorded. Never in a decision about a request that is there.
    Undecided,
}

/// Every field: root, name, meaning. `grant` is the short spelling of `grant_type`.
const FIELDS: [(&str, &str, Field); 34] = [
    ("agent", "browser", Field::Text(TextField::AgentBrowser)),
    ("agent", "kind", Field::Text(TextField::AgentKind)),
    ("agent", "os", Field::Text(TextField::AgentOs)),
    ("client", "id", Field::Text(TextField::ClientId)),
    ("device", "cookie", Field::Text(TextField::DeviceCookie)),
    ("device", "known", Field::Bool(BoolField::DeviceKnown)),
    ("network", "address", Field::Address),
    ("network", "asn", Field::Int(IntField::NetworkAsn)),
    ("network", "country", Field::Text(TextField::NetworkCountry)),
    ("network", "kind", Field::Text(TextField::NetworkKind)),
    (
        "request",
        "acr_values",
        Field::Text(TextField::RequestAcrValues),
    ),
    (
        "request",
        "demanded",
        Field::Bool(BoolField::RequestDemanded),
    ),
    ("request", "door", Field::Text(TextField::RequestDoor)),
    ("request", "grant", Field::Text(TextField::RequestGrantType)),
    (
        "request",
        "grant_type",
        Field::Text(TextField::RequestGrantType),
    ),
    ("request", "method", Field::Text(TextField::RequestMethod)),
    (
        "request",
        "organization",
        Field::Text(TextField::RequestOrganization),
    ),
    ("request", "path", Field::Text(TextField::RequestPath)),
    ("request", "prompt", Field::Text(TextField::RequestPrompt)),
    (
        "request",
        "response_type",
        Field::Text(TextField::RequestResponseType),
    ),
    ("request", "tenant", Field::Text(TextField::RequestTenant)),
    ("risk", "cause", Field::Text(TextField::RiskCause)),
    ("risk", "level", Field::Text(TextField::RiskLevel)),
    ("risk", "reasons", Field::Reasons),
    ("risk", "score", Field::Int(IntField::RiskScore)),
    ("risk", "source", Field::Text(TextField::RiskSource)),
    ("risk", "status", Field::Text(TextField::RiskStatus)),
    ("session", "present", Field::Bool(BoolField::SessionPresent)),
    ("time", "hour", Field::Int(IntField::TimeHour)),
    ("time", "weekday", Field::Int(IntField::TimeWeekday)),
    (
        "user",
        "break_glass",
        Field::Bool(BoolField::UserBreakGlass),
    ),
    ("user", "known", Field::Bool(BoolField::UserKnown)),
    ("user", "logins", Field::Int(IntField::UserLogins)),
    ("user", "name", Field::Text(TextField::UserName)),
];

impl Field {
    /// The field `root.name`.
    pub fn find(root: &str, name: &str) -> Option<Self> {
        all()
            .find(|(r, n, _)| *r == root && *n == name)
            .map(|(_, _, field)| field)
    }

    /// Its full name.
    pub fn name(self) -> String {
        all()
            .filter(|(_, name, _)| *name != "grant")
            .find(|(_, _, field)| *field == self)
            .map_or_else(String::new, |(root, name, _)| format!("{root}.{name}"))
    }

    /// Whether `has()` makes sense: whether it can be missing or empty.
    pub fn can_be_missing(self) -> bool {
        match self {
            Self::Address | Self::Bool(_) => false,
            Self::Int(field) => matches!(field, IntField::RiskScore | IntField::NetworkAsn),
            Self::Reasons | Self::Text(_) => true,
        }
    }
}

impl BoolField {
    /// Its value.
    pub fn of(self, facts: &Facts<'_>) -> bool {
        match self {
            Self::DeviceKnown => facts.input.device.known,
            Self::RequestDemanded => facts.input.request.demanded,
            Self::SessionPresent => facts.input.session.present,
            Self::UserBreakGlass => facts.break_glass,
            Self::UserKnown => facts.input.user.known,
        }
    }
}

impl IntField {
    /// Its value.
    pub fn of(self, facts: &Facts<'_>) -> Result<i64, Unknown> {
        Ok(match self {
            Self::NetworkAsn => facts.input.network.asn.map_or(0, i64::from),
            Self::RiskScore => facts
                .input
                .risk
                .points()
                .map(i64::from)
                .ok_or(Unknown::Absent(Field::Int(self)))?,
            Self::TimeHour => i64::from(facts.input.time.hour),
            Self::TimeWeekday => i64::from(facts.input.time.weekday),
            Self::UserLogins => i64::from(facts.input.user.logins),
        })
    }

    /// The range of its values.
    pub fn range(self) -> (i64, i64) {
        match self {
            Self::NetworkAsn | Self::UserLogins => (0, i64::from(u32::MAX)),
            Self::RiskScore => (0, 100),
            Self::TimeHour => (0, 23),
            Self::TimeWeekday => (0, 6),
        }
    }
}

impl TextField {
    /// Its value.
    pub fn of<'f>(self, facts: &'f Facts<'_>) -> Result<&'f str, Unknown> {
        let input = facts.input;
        Ok(match self {
            Self::AgentBrowser => input.agent.browser,
            Self::AgentKind => input.agent.kind,
            Self::AgentOs => input.agent.os,
            Self::ClientId => input.client.id,
            Self::DeviceCookie => input.device.cookie.as_str(),
            Self::NetworkCountry => input
                .network
                .country
                .as_ref()
                .map_or("", CountryCode::as_str),
            Self::NetworkKind => input.network.kind.map_or("", NetworkKind::as_str),
            Self::RequestAcrValues => input.request.acr_values,
            Self::RequestDoor => input.request.door.as_str(),
            Self::RequestGrantType => input.request.grant_type,
            Self::RequestMethod => input.request.method,
            Self::RequestOrganization => input.request.organization,
            Self::RequestPath if facts.unrecorded.path => return Err(Unknown::Undecided),
            Self::RequestPath => input.request.path,
            Self::RequestPrompt => input.request.prompt,
            Self::RequestResponseType => input.request.response_type,
            Self::RequestTenant => facts.tenant,
            Self::RiskCause => input.risk.cause().map_or("", FallbackCause::as_str),
            Self::RiskLevel => facts
                .level
                .map(RiskLevel::as_str)
                .ok_or(Unknown::Absent(Field::Text(self)))?,
            Self::RiskSource => match input.risk {
                RiskInput::Scored { source, .. } => source.as_str(),
                RiskInput::Unscored(_) => "",
            },
            Self::RiskStatus => match input.risk {
                RiskInput::Scored { .. } => "scored",
                RiskInput::Unscored(_) => "unscored",
            },
            Self::UserName if facts.unrecorded.user_name => return Err(Unknown::Undecided),
            Self::UserName => &facts.user_name,
        })
    }

    /// Its values, where the list is closed. The empty text is added where the fact can be unknown.
    pub fn values(self) -> Option<Vec<&'static str>> {
        match self {
            Self::AgentKind => Some(AGENT_KINDS.map(DeviceKind::as_str).to_vec()),
            Self::DeviceCookie => Some(COOKIE_STATES.map(DeviceCookie::as_str).to_vec()),
            Self::NetworkKind => Some(
                NETWORK_KINDS
                    .map(NetworkKind::as_str)
                    .into_iter()
                    .chain([""])
                    .collect(),
            ),
            Self::RequestDoor => Some(Door::ALL.map(Door::as_str).to_vec()),
            Self::RiskCause => Some(
                FallbackCause::ALL
                    .map(FallbackCause::as_str)
                    .into_iter()
                    .chain([""])
                    .collect(),
            ),
            Self::RiskLevel => Some(
                [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High]
                    .map(RiskLevel::as_str)
                    .to_vec(),
            ),
            Self::RiskSource => Some(
                SOURCES
                    .map(ScoreSource::as_str)
                    .into_iter()
                    .chain([""])
                    .collect(),
            ),
            Self::RiskStatus => Some(vec!["scored", "unscored"]),
            Self::AgentBrowser
            | Self::AgentOs
            | Self::ClientId
            | Self::NetworkCountry
            | Self::RequestAcrValues
            | Self::RequestGrantType
            | Self::RequestMethod
            | Self::RequestOrganization
            | Self::RequestPath
            | Self::RequestPrompt
            | Self::RequestResponseType
            | Self::RequestTenant
            | Self::UserName => None,
        }
    }

    /// What is wrong with comparing the field with `literal`, if the two can never be equal: the remedy.
    pub fn never_equals(self, literal: &str) -> Option<String> {
        if let Some(values) = self.values() {
            if values.contains(&literal) {
                return None;
            }
            let near = suggestion(literal, values.iter().copied());
            let shown = values.iter().copied().filter(|value| !value.is_empty());
            return Some(near.unwrap_or_else(|| format!("expected {}", listed(shown))));
        }
        if self == Self::NetworkCountry && !literal.is_empty() {
            return match CountryCode::parse(literal) {
                Some(code) if code.as_str() == literal => None,
                Some(code) => Some(format!("write `{code}`, country codes are in capitals")),
                None => Some("expected an ISO 3166 code of two capitals".to_owned()),
            };
        }
        let capitals = literal.to_uppercase();
        if self == Self::RequestMethod && literal != capitals {
            return Some(format!("write `{capitals}`, methods are in capitals"));
        }
        let canonical = canonical_username(SUPER_TENANT, literal);
        (self == Self::UserName && canonical != literal).then(|| {
            format!("write `{canonical}`, usernames are compared in lower case and without tenant or user store")
        })
    }
}

impl<'a> Facts<'a> {
    /// The facts of `input`, with what only the policy knows.
    pub fn new(
        input: &'a PolicyInput<'a>,
        level: Option<RiskLevel>,
        break_glass: &BreakGlass,
    ) -> Self {
        let tenant = if input.request.tenant.is_empty() {
            SUPER_TENANT
        } else {
            input.request.tenant
        };
        let domain = user_domain(tenant, Some(input.request.organization));
        let user_name = input
            .user
            .name
            .map_or(Cow::Borrowed(""), |name| canonical(domain, name));
        let organization = input.request.organization;
        let break_glass = input
            .user
            .break_glass
            .unwrap_or_else(|| break_glass.contains(tenant, organization, &user_name));
        Self {
            input,
            level,
            address: input.network.address.to_canonical(),
            tenant,
            user_name,
            break_glass,
            unrecorded: Unrecorded::default(),
        }
    }

    /// The same of a request that is known from its record.
    pub fn recorded(self, unrecorded: Unrecorded) -> Self {
        Self { unrecorded, ..self }
    }

    /// Whether the address is in one of `networks`.
    pub fn is_within(&self, networks: &[IpNet]) -> Result<bool, Unknown> {
        let known = self.unrecorded.address_bits;
        let Some(known) = known.and_then(|bits| IpNet::new(self.address, bits).ok()) else {
            return Ok(networks.iter().any(|one| one.contains(&self.address)));
        };
        if networks.iter().any(|one| one.contains(&known)) {
            return Ok(true);
        }
        if networks.iter().any(|one| known.contains(one)) {
            return Err(Unknown::Undecided);
        }
        Ok(false)
    }
}

/// All kinds of agents.
pub const AGENT_KINDS: [DeviceKind; 6] = [
    DeviceKind::Computer,
    DeviceKind::Phone,
    DeviceKind::Crawler,
    DeviceKind::Appliance,
    DeviceKind::Program,
    DeviceKind::Unknown,
];

/// All kinds of networks.
pub const NETWORK_KINDS: [NetworkKind; 4] = [
    NetworkKind::Residential,
    NetworkKind::Vpn,
    NetworkKind::Hosting,
    NetworkKind::Tor,
];

/// All states of the device cookie.
pub const COOKIE_STATES: [DeviceCookie; 3] = [
    DeviceCookie::Known,
    DeviceCookie::Missing,
    DeviceCookie::Foreign,
];

/// All rungs that give a score.
pub const SOURCES: [ScoreSource; 5] = [
    ScoreSource::Model,
    ScoreSource::Cache,
    ScoreSource::Provenance,
    ScoreSource::Native,
    ScoreSource::Stateless,
];

/// The names before the dot.
pub fn roots() -> Vec<&'static str> {
    let mut roots: Vec<&str> = all().map(|(root, _, _)| root).collect();
    roots.dedup();
    roots
}

/// The full names of all fields.
pub fn names() -> Vec<String> {
    all()
        .map(|(root, name, _)| format!("{root}.{name}"))
        .collect()
}

/// The canonical username, without allocating where the name is so already. A name longer than any user store takes is
/// left as it is: it belongs to nobody, and folding it would cost more than the rest of the decision.
fn canonical<'a>(domain: &str, name: &'a str) -> Cow<'a, str> {
    const NAME_BYTES_MAX: usize = 1024;
    // White space around it is no part of it, however much there is.
    let name = name.trim();
    let is_plain = name
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    if is_plain || name.len() > NAME_BYTES_MAX {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(canonical_username(domain, name))
    }
}

fn all() -> impl Iterator<Item = (&'static str, &'static str, Field)> {
    FIELDS.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_field_is_found_by_its_name() {
        for (root, name, field) in all() {
            assert_eq!(Field::find(root, name), Some(field));
        }
        assert_eq!(
            Field::Text(TextField::RequestGrantType).name(),
            "request.grant_type"
        );
        assert_eq!(Field::find("risk", "scor"), None);
    }

    #[test]
    fn literals_that_can_never_be_met_are_told() {
        assert_eq!(
            TextField::RequestDoor.never_equals("tokn").unwrap(),
            "did you mean `token`?"
        );
        assert!(
            TextField::RiskLevel
                .never_equals("severe")
                .unwrap()
                .contains("`low`, `medium` or `high`")
        );
        assert!(
            TextField::NetworkCountry
                .never_equals("de")
                .unwrap()
                .contains("`DE`")
        );
        assert!(TextField::NetworkCountry.never_equals("Germany").is_some());
        assert!(
            TextField::RequestMethod
                .never_equals("post")
                .unwrap()
                .contains("`POST`")
        );
        assert!(
            TextField::UserName
                .never_equals("Admin@carbon.super")
                .unwrap()
                .contains("`admin`")
        );
        assert_eq!(TextField::NetworkKind.never_equals(""), None);
        assert_eq!(TextField::RequestGrantType.never_equals("urn:x"), None);
    }

    proptest! {
        #[test]
        fn the_short_way_to_a_canonical_name_is_the_same(name in "(PRIMARY/)?[ a-zA-Z0-9._é-]{0,12}(@carbon\\.super)?") {
            let (shortcut, reference) = (canonical("carbon.super", &name), canonical_username("carbon.super", &name));
            prop_assert_eq!(shortcut.as_ref(), reference.as_str());
        }
    }
}
