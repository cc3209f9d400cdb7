//! The decision as concrete effects: which headers the identity server sees, or which answer the client gets instead.
//! Pure, so that every try of a request and every test sees the same effects.

/// What becomes of an authorize request under a demand.
pub mod authorize;

/// What becomes of a SAML request under a demand.
mod saml;

/// How a stronger factor is asked for.
pub mod step_up;

use crate::domain::headers;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::Assessment;
use crate::domain::risk::FallbackCause;
use crate::domain::route::Door;
use crate::domain::saml::AuthnRequest;
use crate::domain::signature::HeaderSigner;
use crate::domain::time::Timestamp;
use std::borrow::Cow;
use std::net::IpAddr;

pub use authorize::AuthorizeFacts;
pub use authorize::Changed;
use authorize::Step;
pub use step_up::StepUpSettings;
use step_up::Style;

/// The grant of a device that shows a code (RFC 8628).
pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The grant of an authentication in the background (OpenID CIBA).
pub const CIBA: &str = "urn:openid:params:grant-type:ciba";

/// Headers for the identity server. The proxy replaces whatever has these names. Most values are words of closed lists.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderPlan(pub Vec<(&'static str, Cow<'static, str>)>);

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
    /// The user was asked for a factor too often lately.
    ChallengesExhausted,
    /// It would have to be held, and too many are held already.
    ReviewFull,
    /// A stronger factor is needed, and this grant cannot ask for it: the client must start a new authorization.
    StepUpByAuthorization,
    /// A stronger factor is needed and was not given where the poll was approved: the client must begin anew.
    StepUpDenied,
    /// A stronger factor is needed, and the parameters of the request cannot be changed to ask for it.
    StepUpHidden,
    /// A stronger factor is needed, was asked for before, and was not given: asking again would go round in circles.
    StepUpLooped,
    /// A stronger factor is needed, and this grant can never give it.
    StepUpImpossible,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Enforcement {
    /// It goes to the identity server with these headers (once there is a permit, they are in it).
    Forward(HeaderPlan, Grounds),
    /// It goes to the identity server with these headers (likewise), and with the demand added to its parameters.
    Rewrite(HeaderPlan, Grounds, Changed),
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
    /// The SAML request, where there is one.
    pub saml: Option<&'a AuthnRequest>,
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
    /// How the application takes a demand.
    pub style: Style,
    /// How often this browser was sent round lately.
    pub sent: u8,
    /// Logins under what it owes that ended without a proof.
    pub failed: u8,
    /// Seconds until the user may be asked for a factor again, when that was done too often.
    pub exhausted: Option<u64>,
    /// Whether the answer of the identity server will say if the factor was given: then it is asked, and its answer is
    /// held until it has proved it.
    pub provable: bool,
    /// Whether a refusal must wait for the identity server's answer: the request goes on, whatever the verdict.
    pub deferred: bool,
    /// The signer of the headers, when it is configured.
    pub signer: Option<&'a HeaderSigner>,
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
            Self::ChallengesExhausted => "challenges_exhausted",
            Self::GrantRefused => "grant_refused",
            Self::Held => "held",
            Self::RateLimited => "rate_limited",
            Self::ReviewFull => "review_full",
            Self::StepUpByAuthorization => "step_up_by_authorization",
            Self::StepUpDenied => "step_up_denied",
            Self::StepUpHidden => "step_up_hidden",
            Self::StepUpImpossible => "step_up_impossible",
            Self::StepUpLooped => "step_up_looped",
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
        Mode::Advise => Enforcement::Forward(risk_headers(input, input.target), Grounds::Advised),
        Mode::Enforce => enforce(input),
    }
}

fn enforce(input: &PlanInput<'_>) -> Enforcement {
    let grounds = match input.assessment {
        Assessment::Unscored(cause) => Grounds::FailedOpen(*cause),
        Assessment::Scored { .. } => Grounds::Decided,
    };
    let forward = || Enforcement::Forward(risk_headers(input, input.target), grounds);
    let reject = |kind| Enforcement::Reject(rejection(input.door, kind, None));
    match input.decision.verdict {
        _ if input.deferred => forward(),
        Verdict::Allow => forward(),
        // Nobody is asked again, neither for a factor nor on the way to a refusal.
        _ if input.exhausted.is_some() => Enforcement::Reject(rejection(
            input.door,
            RejectionKind::ChallengesExhausted,
            input.exhausted,
        )),
        // Standard clients answer `invalid_grant` with a new authorization, where the user can be asked.
        Verdict::Block if input.door == Door::Token && renews(input.grant_type) => {
            reject(RejectionKind::GrantRefused)
        }
        Verdict::Block => reject(RejectionKind::Blocked),
        Verdict::Review => reject(RejectionKind::Held),
        Verdict::StepUp => match input.door {
            Door::Authorize => stepped(input, grounds, authorize::step(input)),
            Door::Saml => stepped(input, grounds, saml::step(input)),
            Door::Token if input.provable => forward(),
            Door::Token if renews(input.grant_type) => reject(RejectionKind::StepUpByAuthorization),
            Door::Token if polls(input.grant_type) => reject(RejectionKind::StepUpDenied),
            Door::Token => reject(RejectionKind::StepUpImpossible),
            Door::Basic => reject(RejectionKind::StepUpImpossible),
            // The verdict header tells WSO2's script to run the second step; at the other doors the demand is met on
            // the front channel that belongs to them.
            Door::Login
            | Door::Authn
            | Door::Flow
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

fn stepped(input: &PlanInput<'_>, grounds: Grounds, step: Step) -> Enforcement {
    match step {
        Step::AsIs => Enforcement::Forward(risk_headers(input, input.target), grounds),
        Step::Redirect(location) => Enforcement::Redirect(location),
        Step::Reject(kind) => {
            let mut rejection = rejection(input.door, kind, None);
            if input.authorize.direct {
                rejection.form = Form::Api;
            }
            Enforcement::Reject(rejection)
        }
        Step::Rewrite(changed) => {
            let headers = risk_headers(input, &changed.target);
            Enforcement::Rewrite(headers, grounds, changed)
        }
    }
}

/// Whether a grant stands for an authorization that the client can start anew.
fn renews(grant_type: Option<&str>) -> bool {
    matches!(grant_type, Some("authorization_code" | "refresh_token"))
}

/// Whether a grant is asked for again and again until a browser has approved it.
pub fn polls(grant_type: Option<&str>) -> bool {
    matches!(grant_type, Some(DEVICE_CODE | CIBA))
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
        (RejectionKind::RateLimited | RejectionKind::ChallengesExhausted, _) => 429,
        (RejectionKind::ReviewFull, Form::Page | Form::Api) => 503,
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

/// The status alone, which says that the gateway saw the request.
pub fn status_only(status: &'static str) -> HeaderPlan {
    HeaderPlan(vec![(headers::X_RISK_STATUS, Cow::Borrowed(status))])
}

fn risk_headers(input: &PlanInput<'_>, target: &str) -> HeaderPlan {
    /// Keeps our own headers well under 1 KiB of WSO2's 8 KiB head.
    const REASONS_MAX: usize = 8;
    /// All that there may be.
    const HEADERS: usize = 7;
    let mut plan = Vec::with_capacity(HEADERS);
    let status = input.assessment.status();
    plan.push((headers::X_RISK_STATUS, Cow::Borrowed(status)));
    if let Some(score) = input.assessment.score() {
        plan.push((headers::X_RISK_SCORE, score.points().to_string().into()));
    }
    if let Some(level) = input.decision.level {
        plan.push((headers::X_RISK_LEVEL, level.as_str().into()));
    }
    let verdict = input.decision.verdict.as_str();
    plan.push((headers::X_RISK_VERDICT, verdict.into()));
    let mut reasons = String::new();
    for reason in input.decision.reasons.iter().take(REASONS_MAX) {
        if !reasons.is_empty() {
            reasons.push(',');
        }
        reasons.push_str(reason.code());
    }
    if !reasons.is_empty() {
        plan.push((headers::X_RISK_REASONS, reasons.into()));
    }
    let id = input.decision_id.to_owned();
    plan.push((headers::X_RISK_DECISION_ID, id.into()));
    if let Some(signer) = input.signer {
        let signature = signer.sign(input.now, input.method, target, input.address, &plan);
        plan.push((headers::X_RISK_SIGNATURE, signature.into()));
    }
    HeaderPlan(plan)
}
