//! The decision as concrete effects: which headers the identity server sees, or which answer the client gets instead.
//! Pure, so that every try of a request and every test sees the same effects.

/// How a stronger factor is asked for.
pub mod step_up;

use crate::domain::headers;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::Assessment;
use crate::domain::risk::FallbackCause;
use crate::domain::route::Door;
use crate::domain::signature::HeaderSigner;
use crate::domain::time::Timestamp;
use std::net::IpAddr;

pub use step_up::StepUpSettings;

/// Headers for the identity server. The proxy replaces whatever has these names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderPlan(pub Vec<(&'static str, String)>);

/// Why a request may be forwarded.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Grounds {
    /// The mode is advise: the decision travels as headers only.
    Advised,
    /// The decision lets it through.
    Decided,
    /// The route is not scored.
    Exempt,
    /// No score could be had, and the policy lets such requests through.
    FailedOpen(FallbackCause),
    /// The mode is monitor: the decision is only recorded.
    Monitored,
    /// The mode is off: nothing was decided.
    Off,
}

/// In which language a refusal is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// A page for a person.
    Page,
    /// An OAuth error (RFC 6749 section 5.2).
    OAuth,
    /// An error of WSO2's app-native and server APIs.
    Api,
}

/// An answer in place of the identity server's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejection {
    /// The status code.
    pub status: u16,
    /// The form.
    pub form: Form,
    /// What happened.
    pub kind: RejectionKind,
    /// Seconds after which a retry makes sense.
    pub retry_after: Option<u64>,
}

/// What a refusal says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RejectionKind {
    /// Refused for its risk.
    Blocked,
    /// The code or refresh token is refused for its risk: the client must start a new authorization.
    GrantRefused,
    /// Held until an analyst releases it.
    Held,
    /// Too many requests.
    RateLimited,
    /// A stronger factor is needed, and this grant cannot ask for it: the client must start a new authorization.
    StepUpByAuthorization,
    /// A stronger factor is needed, and this grant can never give it.
    StepUpImpossible,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Enforcement {
    /// It goes to the identity server with these headers.
    Forward(HeaderPlan, Grounds),
    /// The browser is sent to the same authorize URL with a demand for a stronger factor.
    Redirect(String),
    /// It is answered here.
    Reject(Rejection),
}

/// Everything the plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The mode for this tenant, application and subject.
    pub mode: Mode,
    /// The score.
    pub assessment: &'a Assessment,
    /// The decision.
    pub decision: &'a Decision,
    /// The door.
    pub door: Door,
    /// The method of the request.
    pub method: &'a str,
    /// The canonical target that is forwarded.
    pub target: &'a str,
    /// The grant type at the token door.
    pub grant_type: Option<&'a str>,
    /// The parameters of an authorize request that decide whether it can be redirected.
    pub authorize: AuthorizeFacts<'a>,
    /// Whether the request goes on with a login that was decided before; it is never redirected again.
    pub continues: bool,
    /// The id of the decision.
    pub decision_id: &'a str,
    /// The address that speaks.
    pub address: IpAddr,
    /// The moment.
    pub now: Timestamp,
    /// What a stronger factor is called.
    pub step_up: &'a StepUpSettings,
    /// The signer of the headers, when it is configured.
    pub signer: Option<&'a HeaderSigner>,
}

/// What an authorize request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizeFacts<'a> {
    /// `acr_values`.
    pub acr_values: Option<&'a str>,
    /// `max_age`.
    pub max_age: Option<&'a str>,
    /// `prompt`.
    pub prompt: Option<&'a str>,
    /// Whether the parameters are in a pushed or signed object, or the answer is wanted as JSON: then the request cannot
    /// be changed by a redirect and the demand travels as a header.
    pub fixed: bool,
}

impl Grounds {
    /// The grounds as they are written in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Advised => "advised",
            Self::Decided => "decided",
            Self::Exempt => "exempt",
            Self::FailedOpen(_) => "failed_open",
            Self::Monitored => "monitored",
            Self::Off => "off",
        }
    }
}

impl RejectionKind {
    /// The kind as it is written in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::GrantRefused => "grant_refused",
            Self::Held => "held",
            Self::RateLimited => "rate_limited",
            Self::StepUpByAuthorization => "step_up_by_authorization",
            Self::StepUpImpossible => "step_up_impossible",
        }
    }
}

/// The effects of a decision.
pub fn plan(input: &PlanInput<'_>) -> Enforcement {
    match input.mode {
        Mode::Off => Enforcement::Forward(status_only("off"), Grounds::Off),
        Mode::Monitor => {
            Enforcement::Forward(status_only(input.assessment.status()), Grounds::Monitored)
        }
        Mode::Advise => Enforcement::Forward(risk_headers(input), Grounds::Advised),
        Mode::Enforce => enforce(input),
    }
}

fn enforce(input: &PlanInput<'_>) -> Enforcement {
    let forward = || {
        let grounds = match input.assessment {
            Assessment::Unscored(cause) => Grounds::FailedOpen(*cause),
            Assessment::Scored { .. } => Grounds::Decided,
        };
        Enforcement::Forward(risk_headers(input), grounds)
    };
    let reject = |kind| Enforcement::Reject(rejection(input.door, kind, None));
    match input.decision.verdict {
        Verdict::Allow => forward(),
        // Standard clients answer `invalid_grant` with a new authorization, where the user can be asked.
        Verdict::Block if input.door == Door::Token && renews(input.grant_type) => {
            reject(RejectionKind::GrantRefused)
        }
        Verdict::Block => reject(RejectionKind::Blocked),
        Verdict::Review => reject(RejectionKind::Held),
        Verdict::StepUp => match input.door {
            Door::Authorize => step_up_redirect(input).map_or_else(forward, Enforcement::Redirect),
            Door::Token if renews(input.grant_type) => reject(RejectionKind::StepUpByAuthorization),
            Door::Token => reject(RejectionKind::StepUpImpossible),
            Door::Basic => reject(RejectionKind::StepUpImpossible),
            // The verdict header tells WSO2's script to run the second step; at the other doors the demand is met on
            // the front channel that belongs to them.
            Door::Login
            | Door::Authn
            | Door::Flow
            | Door::Saml
            | Door::WsFed
            | Door::Par
            | Door::DeviceAuthorize
            | Door::Device
            | Door::Ciba
            | Door::CibaAuthorize
            | Door::Pdp => forward(),
        },
    }
}

/// Whether a grant stands for an authorization that the client can start anew.
fn renews(grant_type: Option<&str>) -> bool {
    matches!(grant_type, Some("authorization_code" | "refresh_token"))
}

/// A refusal in the form that the clients of a door understand.
pub fn rejection(door: Door, kind: RejectionKind, retry_after: Option<u64>) -> Rejection {
    let form = match door {
        Door::Authorize
        | Door::Login
        | Door::Saml
        | Door::WsFed
        | Door::Device
        | Door::CibaAuthorize => Form::Page,
        Door::Token | Door::Par | Door::DeviceAuthorize | Door::Ciba => Form::OAuth,
        Door::Authn | Door::Flow | Door::Pdp | Door::Basic => Form::Api,
    };
    let status = match (kind, form) {
        (RejectionKind::RateLimited, _) => 429,
        // RFC 9470: the resource needs a stronger authentication.
        (RejectionKind::StepUpImpossible, Form::Api) => 401,
        (_, Form::OAuth) => 400,
        (_, Form::Page | Form::Api) => 403,
    };
    Rejection {
        status,
        form,
        kind,
        retry_after,
    }
}

/// The authorize URL with the demand added: `acr_values` with ours in front, `max_age` at most ours, every other
/// parameter byte for byte where it was. `None` when the request already asks for it or cannot be changed.
fn step_up_redirect(input: &PlanInput<'_>) -> Option<String> {
    let facts = input.authorize;
    let asks = facts
        .acr_values
        .is_some_and(|values| values.split(' ').any(|value| value == input.step_up.acr));
    let fresh = facts
        .max_age
        .and_then(|age| age.parse::<u64>().ok())
        .is_some_and(|age| age <= input.step_up.max_age_seconds);
    // Without interaction nobody can give a factor: the identity server answers `login_required` by itself.
    let silent = facts
        .prompt
        .is_some_and(|prompt| prompt.split(' ').any(|value| value == "none"));
    if input.method != "GET" || input.continues || facts.fixed || silent || (asks && fresh) {
        return None;
    }
    let (path, query) = input.target.split_once('?')?;
    let mut pairs: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            name != "acr_values" && name != "max_age"
        })
        .collect();
    let acr = match facts.acr_values {
        Some(values) if !values.trim().is_empty() && !asks => {
            format!("{} {values}", input.step_up.acr)
        }
        Some(values) if asks => values.to_owned(),
        _ => input.step_up.acr.clone(),
    };
    let max_age = facts
        .max_age
        .and_then(|age| age.parse::<u64>().ok())
        .map_or(input.step_up.max_age_seconds, |age| {
            age.min(input.step_up.max_age_seconds)
        });
    let added = form_urlencoded::Serializer::new(String::new())
        .append_pair("acr_values", &acr)
        .append_pair("max_age", &max_age.to_string())
        .finish();
    pairs.push(&added);
    Some(format!("{path}?{}", pairs.join("&")))
}

fn status_only(status: &str) -> HeaderPlan {
    HeaderPlan(vec![(headers::X_RISK_STATUS, status.to_owned())])
}

fn risk_headers(input: &PlanInput<'_>) -> HeaderPlan {
    /// Keeps our own headers well under 1 KiB of WSO2's 8 KiB head.
    const REASONS_MAX: usize = 8;
    let mut plan = status_only(input.assessment.status());
    let add = |plan: &mut HeaderPlan, name, value: String| plan.0.push((name, value));
    if let Some(score) = input.assessment.score() {
        add(&mut plan, headers::X_RISK_SCORE, score.points().to_string());
    }
    if let Some(level) = input.decision.level {
        add(&mut plan, headers::X_RISK_LEVEL, level.as_str().to_owned());
    }
    add(
        &mut plan,
        headers::X_RISK_VERDICT,
        input.decision.verdict.as_str().to_owned(),
    );
    let codes: Vec<&str> = input
        .decision
        .reasons
        .iter()
        .take(REASONS_MAX)
        .map(|reason| reason.code())
        .collect();
    let reasons = codes.join(",");
    if !reasons.is_empty() {
        add(&mut plan, headers::X_RISK_REASONS, reasons);
    }
    add(
        &mut plan,
        headers::X_RISK_DECISION_ID,
        input.decision_id.to_owned(),
    );
    if let Some(signer) = input.signer {
        let signature = signer.sign(
            input.now,
            input.method,
            input.target,
            input.address,
            &plan.0,
        );
        add(&mut plan, headers::X_RISK_SIGNATURE, signature);
    }
    plan
}
