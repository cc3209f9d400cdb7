//! What a decision is made from: one flat view of a request, borrowed from whoever assessed it. No lookups, no defaults.
//!
//! A text that is not known is empty. The only things that can be missing altogether are `risk.score` and `risk.level`,
//! so that "unscored" can never be read as "low".

use crate::domain::policy::reason::Reason;
use crate::domain::risk::Assessment;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::ScoreSource;
use crate::domain::route::Door;
use crate::domain::signals::network::CountryCode;
use crate::domain::signals::network::NetworkKind;
use std::net::IpAddr;

/// Everything that a policy can ask about.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// `risk.*`
    pub risk: RiskInput<'a>,
    /// `request.*`
    pub request: RequestInput<'a>,
    /// `client.*`
    pub client: ClientInput<'a>,
    /// `user.*`
    pub user: UserInput<'a>,
    /// `network.*`
    pub network: NetworkInput,
    /// `device.*`
    pub device: DeviceInput,
    /// `agent.*`
    pub agent: AgentInput<'a>,
    /// `session.*`
    pub session: SessionInput,
    /// `time.*`
    pub time: TimeInput,
    /// How many of the last requests had no score, in percent; for `on_unscored.surge` alone.
    pub unscored_percent: u8,
}

/// The answer of the scoring step. The level is not here: the policy computes it from its own thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RiskInput<'a> {
    /// There is a score.
    Scored {
        /// 0 to 100; more counts as 100.
        points: u8,
        /// Which rung answered.
        source: ScoreSource,
        /// Why no better rung did.
        fallback: Option<FallbackCause>,
        /// Why, strongest first.
        reasons: &'a [Reason],
    },
    /// There is none.
    Unscored(FallbackCause),
}

/// The request itself, in its canonical form.
#[derive(Clone, Copy, Debug)]
pub struct RequestInput<'a> {
    /// The door it knocks at.
    pub door: Door,
    /// The HTTP method in capitals.
    pub method: &'a str,
    /// The tenant domain; empty means the super tenant.
    pub tenant: &'a str,
    /// The organization id or handle.
    pub organization: &'a str,
    /// `grant_type` (RFC 6749), at the token door.
    pub grant_type: &'a str,
    /// `response_type`, at the authorize door.
    pub response_type: &'a str,
    /// `prompt` (OpenID Connect Core 3.1.2.1), space-separated.
    pub prompt: &'a str,
    /// `acr_values`, space-separated.
    pub acr_values: &'a str,
    /// The canonical path without tenant and organization.
    pub path: &'a str,
    /// Whether a stronger factor is demanded of this browser, source or user and not yet given.
    pub demanded: bool,
}

/// The application that asks.
#[derive(Clone, Copy, Debug)]
pub struct ClientInput<'a> {
    /// The OAuth client id, or the issuer of a SAML request. It is what `application` means in overrides.
    pub id: &'a str,
}

/// The account in question.
#[derive(Clone, Copy, Debug)]
pub struct UserInput<'a> {
    /// The username in any spelling; conditions see its canonical form (lower case, without tenant and user store).
    pub name: Option<&'a str>,
    /// Whether the account has logged in before.
    pub known: bool,
    /// How many confirmed logins are remembered.
    pub logins: u32,
    /// Whether it is a break-glass account, where that is known of requests that do not name it as well; else the name says it.
    pub break_glass: Option<bool>,
}

/// Where the request comes from.
#[derive(Clone, Copy, Debug)]
pub struct NetworkInput {
    /// The client's address after the walk over trusted proxies.
    pub address: IpAddr,
    /// The country.
    pub country: Option<CountryCode>,
    /// The autonomous system; 0 in conditions when unknown (reserved by RFC 7607).
    pub asn: Option<u32>,
    /// The kind of network.
    pub kind: Option<NetworkKind>,
}

/// The device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceInput {
    /// Whether this account has logged in from this device.
    pub known: bool,
    /// What the device cookie says.
    pub cookie: DeviceCookie,
}

/// What the device cookie says. A cookie that could not have been sent counts as missing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DeviceCookie {
    /// Valid, and of another account.
    Foreign,
    /// Valid, and of this account.
    Known,
    /// None, or none that verifies.
    Missing,
}

/// The browser or program.
#[derive(Clone, Copy, Debug)]
pub struct AgentInput<'a> {
    /// The family, such as `Firefox`.
    pub browser: &'a str,
    /// The operating system.
    pub os: &'a str,
    /// The kind of device or program, as `DeviceKind::as_str` gives it.
    pub kind: &'a str,
}

/// The session at the identity server.
#[derive(Clone, Copy, Debug)]
pub struct SessionInput {
    /// Whether the request carries a session cookie.
    pub present: bool,
}

/// The moment, in UTC.
#[derive(Clone, Copy, Debug)]
pub struct TimeInput {
    /// 0 to 23.
    pub hour: u8,
    /// 0 (Sunday) to 6 (Saturday), as CEL's `getDayOfWeek` counts.
    pub weekday: u8,
}

impl<'a> RiskInput<'a> {
    /// The score, 0 to 100.
    pub fn points(&self) -> Option<u8> {
        match self {
            Self::Scored { points, .. } => Some((*points).min(100)),
            Self::Unscored(_) => None,
        }
    }

    /// Why no better answer was had.
    pub fn cause(&self) -> Option<FallbackCause> {
        match self {
            Self::Scored { fallback, .. } => *fallback,
            Self::Unscored(cause) => Some(*cause),
        }
    }

    /// The reasons of the score.
    pub fn reasons(&self) -> &'a [Reason] {
        match self {
            Self::Scored { reasons, .. } => reasons,
            Self::Unscored(_) => &[],
        }
    }
}

impl<'a> From<&'a Assessment> for RiskInput<'a> {
    fn from(assessment: &'a Assessment) -> Self {
        match assessment {
            Assessment::Scored {
                score,
                reasons,
                source,
                fallback,
                ..
            } => Self::Scored {
                points: score.points(),
                source: *source,
                fallback: *fallback,
                reasons,
            },
            Assessment::Unscored(cause) => Self::Unscored(*cause),
        }
    }
}

impl DeviceCookie {
    /// The state as it is written in conditions and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Known => "known",
            Self::Missing => "none",
        }
    }
}
