//! The requests that the lint tries out: every combination of the values that could make a difference to a set of
//! conditions. For a field with a closed list of values these are all of them; for numbers the literals with their
//! neighbours; for networks their edges; for texts each literal, one that goes on after it, and one that is none of them.

use crate::domain::policy::break_glass::Account;
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
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::policy::uses::REASONS_COMBINED_MAX;
use crate::domain::policy::uses::TextUses;
use crate::domain::policy::uses::Uses;
use crate::domain::policy::vocabulary::BoolField;
use crate::domain::policy::vocabulary::COOKIE_STATES;
use crate::domain::policy::vocabulary::Field;
use crate::domain::policy::vocabulary::IntField;
use crate::domain::policy::vocabulary::NETWORK_KINDS;
use crate::domain::policy::vocabulary::SOURCES;
use crate::domain::policy::vocabulary::TextField;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::ScoreSource;
use crate::domain::route::Door;
use crate::domain::signals::agent::DeviceKind;
use crate::domain::signals::network::CountryCode;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// How many texts that begin with one literal and end with another are tried for one field.
const JOINED_TEXTS_MAX: usize = 64;

/// A text that no policy names.
const OTHER: &str = "~other";

/// Another, that begins and ends with other letters.
const OTHER_STILL: &str = "+still+";

/// What a text goes on with: nothing, or one of two signs of which a literal can name only one.
const CONTINUATIONS: [&str; 3] = ["", "~", "+"];

/// All combinations of the values of some axes.
#[derive(Debug)]
pub struct Space {
    axes: Vec<Axis>,
}

/// One field, and the values that it takes in turn.
#[derive(Debug)]
struct Axis {
    field: Field,
    values: Vec<Value>,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Value {
    Address(IpAddr),
    Bool(bool),
    Cause(Option<FallbackCause>),
    Int(i64),
    Points(Option<u8>),
    Reasons(Vec<Reason>),
    Source(ScoreSource),
    Text(String),
}

/// One request of a space.
#[derive(Debug)]
pub struct Sample<'s> {
    input: PolicyInput<'s>,
    points: Option<u8>,
    source: ScoreSource,
    cause: Option<FallbackCause>,
    reasons: &'s [Reason],
    chosen: Vec<(Field, &'s Value)>,
}

/// What a space is made for.
#[derive(Debug)]
pub struct Bounds<'b> {
    /// Where levels begin, for anybody.
    pub thresholds: &'b BTreeSet<u8>,
    /// Tenants and applications with thresholds of their own.
    pub scopes: &'b [(Option<String>, Option<String>)],
    /// The break-glass accounts.
    pub accounts: &'b [Account],
    /// The only account to be tried.
    pub account: Option<&'b Account>,
    /// The only doors to be tried.
    pub doors: Option<&'b [Door]>,
}

impl Space {
    /// The space for conditions with those uses.
    pub fn new(uses: &Uses, bounds: &Bounds<'_>) -> Self {
        let mut fields: BTreeSet<Field> = uses.fields.iter().map(|field| axis_of(*field)).collect();
        let by_level =
            uses.fields.contains(&Field::Text(TextField::RiskLevel)) && !bounds.scopes.is_empty();
        if by_level {
            fields.extend([
                Field::Text(TextField::RequestTenant),
                Field::Text(TextField::ClientId),
            ]);
        }
        if bounds.account.is_some() {
            fields.extend([
                Field::Text(TextField::RequestTenant),
                Field::Text(TextField::UserName),
            ]);
        }
        if bounds.doors.is_some() {
            fields.insert(Field::Text(TextField::RequestDoor));
        }
        if [Field::Reasons, Field::Text(TextField::RiskSource)]
            .iter()
            .any(|field| fields.contains(field))
        {
            fields.insert(Field::Int(IntField::RiskScore));
        }
        let axes = fields
            .into_iter()
            .map(|field| Axis {
                field,
                values: values_of(field, uses, bounds, by_level),
            })
            .collect();
        Self { axes }
    }

    /// How many requests there are.
    pub fn size(&self) -> u128 {
        self.axes
            .iter()
            .map(|axis| axis.values.len() as u128)
            .fold(1, u128::saturating_mul)
    }

    /// The request with that number, counted in mixed radix.
    pub fn sample(&self, mut number: u128) -> Sample<'_> {
        let mut sample = Sample::new();
        for axis in &self.axes {
            let radix = (axis.values.len() as u128).max(1);
            let index = usize::try_from(number % radix).unwrap_or_default();
            number /= radix;
            if let Some(value) = axis.values.get(index) {
                sample.set(axis.field, value);
            }
        }
        sample
    }
}

impl<'s> Sample<'s> {
    fn new() -> Self {
        let input = PolicyInput {
            risk: RiskInput::Unscored(FallbackCause::ModelMissing),
            request: RequestInput {
                door: Door::Authorize,
                method: "GET",
                tenant: SUPER_TENANT,
                organization: "",
                grant_type: "",
                response_type: "",
                prompt: "",
                acr_values: "",
                path: "/",
                demanded: false,
            },
            client: ClientInput { id: "" },
            user: UserInput {
                name: None,
                known: false,
                logins: 0,
                break_glass: None,
            },
            network: NetworkInput {
                address: outside(),
                country: None,
                asn: None,
                kind: None,
            },
            device: DeviceInput {
                known: false,
                cookie: DeviceCookie::Missing,
            },
            agent: AgentInput {
                browser: "",
                os: "",
                kind: DeviceKind::Unknown.as_str(),
            },
            session: SessionInput { present: false },
            time: TimeInput {
                hour: 12,
                weekday: 3,
            },
            unscored_percent: 0,
        };
        Self {
            input,
            points: Some(50),
            source: ScoreSource::Model,
            cause: None,
            reasons: &[],
            chosen: Vec::new(),
        }
    }

    /// The request as the policy sees it.
    pub fn input(&self) -> PolicyInput<'s> {
        let risk = match self.points {
            Some(points) => RiskInput::Scored {
                points,
                source: self.source,
                fallback: self.cause,
                reasons: self.reasons,
            },
            None => RiskInput::Unscored(self.cause.unwrap_or(FallbackCause::ModelMissing)),
        };
        PolicyInput { risk, ..self.input }
    }

    /// The request in words: what was varied.
    pub fn describe(&self) -> String {
        let parts: Vec<String> = self
            .chosen
            .iter()
            .map(|(field, value)| format!("{} {}", field.name(), value.describe()))
            .collect();
        if parts.is_empty() {
            "any request".to_owned()
        } else {
            parts.join(", ")
        }
    }

    fn set(&mut self, field: Field, value: &'s Value) {
        self.chosen.push((field, value));
        match (field, value) {
            (_, Value::Address(address)) => self.input.network.address = *address,
            (_, Value::Cause(cause)) => self.cause = *cause,
            (_, Value::Points(points)) => self.points = *points,
            (_, Value::Reasons(reasons)) => self.reasons = reasons,
            (_, Value::Source(source)) => self.source = *source,
            (Field::Bool(field), Value::Bool(value)) => self.set_bool(field, *value),
            (Field::Int(field), Value::Int(value)) => self.set_int(field, *value),
            (Field::Text(field), Value::Text(text)) => self.set_text(field, text),
            // INVARIANT: values are made per field, by `values_of`.
            (_, Value::Bool(_) | Value::Int(_) | Value::Text(_)) => {}
        }
    }

    fn set_bool(&mut self, field: BoolField, value: bool) {
        match field {
            BoolField::DeviceKnown => self.input.device.known = value,
            BoolField::RequestDemanded => self.input.request.demanded = value,
            BoolField::SessionPresent => self.input.session.present = value,
            BoolField::UserKnown => self.input.user.known = value,
            // Follows from tenant and name.
            BoolField::UserBreakGlass => {}
        }
    }

    fn set_int(&mut self, field: IntField, value: i64) {
        match field {
            IntField::NetworkAsn => {
                self.input.network.asn = u32::try_from(value).ok().filter(|asn| *asn > 0)
            }
            IntField::TimeHour => self.input.time.hour = u8::try_from(value).unwrap_or_default(),
            IntField::TimeWeekday => {
                self.input.time.weekday = u8::try_from(value).unwrap_or_default()
            }
            IntField::UserLogins => {
                self.input.user.logins = u32::try_from(value).unwrap_or_default()
            }
            IntField::RiskScore => self.points = u8::try_from(value).ok(),
        }
    }

    fn set_text(&mut self, field: TextField, text: &'s str) {
        let input = &mut self.input;
        match field {
            TextField::AgentBrowser => input.agent.browser = text,
            TextField::AgentKind => input.agent.kind = text,
            TextField::AgentOs => input.agent.os = text,
            TextField::ClientId => input.client.id = text,
            TextField::DeviceCookie => {
                input.device.cookie = pick(COOKIE_STATES, DeviceCookie::as_str, text)
                    .unwrap_or(DeviceCookie::Missing);
            }
            TextField::NetworkCountry => input.network.country = CountryCode::parse(text),
            TextField::NetworkKind => {
                input.network.kind = NETWORK_KINDS.into_iter().find(|kind| kind.as_str() == text)
            }
            TextField::RequestAcrValues => input.request.acr_values = text,
            TextField::RequestDoor => {
                input.request.door = pick(Door::ALL, Door::as_str, text).unwrap_or(Door::Authorize);
            }
            TextField::RequestGrantType => input.request.grant_type = text,
            TextField::RequestMethod => input.request.method = text,
            TextField::RequestOrganization => input.request.organization = text,
            TextField::RequestPath => input.request.path = text,
            TextField::RequestPrompt => input.request.prompt = text,
            TextField::RequestResponseType => input.request.response_type = text,
            TextField::RequestTenant => input.request.tenant = text,
            TextField::UserName => input.user.name = Some(text).filter(|name| !name.is_empty()),
            // Follow from the axes of score, source and cause.
            TextField::RiskCause
            | TextField::RiskLevel
            | TextField::RiskSource
            | TextField::RiskStatus => {}
        }
    }
}

impl Value {
    fn describe(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Cause(cause) => format!("`{}`", cause.map_or("", FallbackCause::as_str)),
            Self::Int(number) => number.to_string(),
            Self::Points(points) => {
                points.map_or_else(|| "missing".to_owned(), |points| points.to_string())
            }
            Self::Reasons(reasons) => format!(
                "[{}]",
                reasons
                    .iter()
                    .map(|reason| reason.code())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            Self::Source(source) => format!("`{}`", source.as_str()),
            Self::Text(text) => format!("`{text}`"),
        }
    }
}

/// The field whose values another follows from.
fn axis_of(field: Field) -> Field {
    if matches!(
        field,
        Field::Text(TextField::RiskLevel | TextField::RiskStatus)
    ) {
        return Field::Int(IntField::RiskScore);
    }
    if field == Field::Bool(BoolField::UserBreakGlass) {
        return Field::Text(TextField::UserName);
    }
    field
}

fn values_of(field: Field, uses: &Uses, bounds: &Bounds<'_>, by_level: bool) -> Vec<Value> {
    let mut values: Vec<Value> = match field {
        Field::Address => addresses(&uses.networks)
            .into_iter()
            .map(Value::Address)
            .collect(),
        Field::Bool(_) => vec![Value::Bool(false), Value::Bool(true)],
        Field::Int(IntField::RiskScore) => {
            let literals = uses
                .ints
                .get(&IntField::RiskScore)
                .into_iter()
                .flatten()
                .copied();
            let edges = bounds.thresholds.iter().map(|edge| i64::from(*edge));
            let points = numbers(IntField::RiskScore, literals.chain(edges)).into_iter();
            points
                .map(|number| Value::Points(u8::try_from(number).ok()))
                .chain([Value::Points(None)])
                .collect()
        }
        Field::Int(field) => {
            let literals = uses.ints.get(&field).into_iter().flatten().copied();
            numbers(field, literals)
                .into_iter()
                .map(Value::Int)
                .collect()
        }
        Field::Reasons => reasons(uses).into_iter().map(Value::Reasons).collect(),
        Field::Text(TextField::RiskCause) => FallbackCause::ALL
            .into_iter()
            .map(Some)
            .chain([None])
            .map(Value::Cause)
            .collect(),
        Field::Text(TextField::RiskSource) => SOURCES.into_iter().map(Value::Source).collect(),
        Field::Text(field) => texts(field, uses, bounds, by_level)
            .into_iter()
            .map(Value::Text)
            .collect(),
    };
    values.sort();
    values.dedup();
    values
}

fn numbers(field: IntField, literals: impl Iterator<Item = i64>) -> BTreeSet<i64> {
    let (least, most) = field.range();
    literals
        .flat_map(|literal| {
            [
                literal.saturating_sub(1),
                literal,
                literal.saturating_add(1),
            ]
        })
        .chain([least, most])
        .filter(|number| (least..=most).contains(number))
        .collect()
}

fn reasons(uses: &Uses) -> Vec<Vec<Reason>> {
    let named: Vec<Reason> = uses.reasons.iter().copied().collect();
    let mut sets = vec![Vec::new(), named.clone()];
    if named.len() <= REASONS_COMBINED_MAX {
        sets.extend((0u32..1 << named.len()).map(|bits| {
            named
                .iter()
                .enumerate()
                .filter(|(place, _)| bits & (1 << place) != 0)
                .map(|(_, reason)| *reason)
                .collect()
        }));
    } else {
        sets.extend(named.iter().map(|reason| vec![*reason]));
    }
    if uses.each_reason {
        sets.extend(Reason::ALL.iter().map(|reason| vec![*reason]));
    }
    for count in &uses.reason_counts {
        let around = [count.saturating_sub(1), *count, count.saturating_add(1)];
        let sizes = around
            .into_iter()
            .filter_map(|size| usize::try_from(size).ok());
        sets.extend(sizes.map(|size| Reason::ALL.iter().take(size).copied().collect()));
    }
    sets
}

fn texts(field: TextField, uses: &Uses, bounds: &Bounds<'_>, by_level: bool) -> Vec<String> {
    if let (TextField::RequestDoor, Some(doors)) = (field, bounds.doors) {
        return doors.iter().map(|door| door.as_str().to_owned()).collect();
    }
    match (field, bounds.account) {
        (TextField::RequestTenant, Some(account)) => return vec![account.tenant.clone()],
        (TextField::UserName, Some(account)) => return vec![account.name.clone()],
        // An organization's users are others, whatever their names.
        (TextField::RequestOrganization, Some(_)) => return vec![String::new()],
        _ => {}
    }
    if let Some(values) = field.values() {
        return values.into_iter().map(str::to_owned).collect();
    }
    let none = TextUses::default();
    let own = uses.texts.get(&field).unwrap_or(&none);
    let mut texts = vec![String::new(), OTHER.to_owned(), OTHER_STILL.to_owned()];
    texts.extend(own.equal.iter().cloned());
    if field == TextField::NetworkCountry {
        // Nothing but two letters is a country.
        texts.push("ZZ".to_owned());
        for letter in 'A'..='Z' {
            texts.extend(own.prefixes.iter().map(|text| format!("{text}{letter}")));
            texts.extend(own.suffixes.iter().map(|text| format!("{letter}{text}")));
        }
    } else {
        for more in CONTINUATIONS {
            texts.extend(own.prefixes.iter().map(|text| format!("{text}{more}")));
            texts.extend(own.suffixes.iter().map(|text| format!("{more}{text}")));
        }
    }
    texts.extend(own.inner.iter().cloned());
    // No more than a help: where these are needed the answer is no proof anyhow.
    let ends = || own.suffixes.iter().chain(&own.inner);
    let joined = own
        .prefixes
        .iter()
        .flat_map(|prefix| ends().map(move |end| format!("{prefix}{OTHER}{end}")));
    texts.extend(joined.take(JOINED_TEXTS_MAX));
    for account in bounds.accounts {
        if field == TextField::UserName {
            texts.push(account.name.clone());
        } else if field == TextField::RequestTenant {
            texts.push(account.tenant.clone());
        }
    }
    if by_level && field == TextField::RequestTenant {
        texts.extend(
            bounds
                .scopes
                .iter()
                .filter_map(|(tenant, _)| tenant.clone()),
        );
    } else if by_level && field == TextField::ClientId {
        texts.extend(
            bounds
                .scopes
                .iter()
                .filter_map(|(_, application)| application.clone()),
        );
    }
    texts
}

/// The edges of the networks with their neighbours, and an address of each family that is usually outside of all.
fn addresses(networks: &[IpNet]) -> Vec<IpAddr> {
    let mut addresses = vec![
        outside(),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x4d)),
    ];
    for network in networks {
        let (first, last) = (network.network(), network.broadcast());
        addresses.extend([first, last]);
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                addresses.extend(
                    u32::from(first)
                        .checked_sub(1)
                        .map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
                );
                addresses.extend(
                    u32::from(last)
                        .checked_add(1)
                        .map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
                );
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                addresses.extend(
                    u128::from(first)
                        .checked_sub(1)
                        .map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
                );
                addresses.extend(
                    u128::from(last)
                        .checked_add(1)
                        .map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
                );
            }
            _ => {}
        }
    }
    addresses
}

fn outside() -> IpAddr {
    // TEST-NET-2 (RFC 5737).
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77))
}

fn pick<T: Copy, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    text: &str,
) -> Option<T> {
    all.into_iter().find(|one| name(*one) == text)
}
