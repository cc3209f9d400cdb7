//! Names that are presented and not proved: whoever types a name need not be its user, and must not learn from the gateway
//! whether anybody has it.
//!
//! Until the identity server has accepted the password, only that shows which would show for a name that nobody has: the
//! same request without the history of the name. What the history says takes effect together with the answer that
//! carries the success; that answer never goes out when the history forbids it (`docs/adr/0013`).

use crate::domain::enforcement::RejectionKind;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::front_channel::FrontChannel;
use crate::domain::history::History;
use crate::domain::history::Provenance;
use crate::domain::history::SubjectCounts;
use crate::domain::ids::SubjectKey;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::Conclusion;
use crate::domain::outcome::HandsOver;
use crate::domain::outcome::ResponseHead;
use crate::domain::policy::decision::Decision;
use crate::domain::route::Door;
use crate::domain::signals::Signals;
use crate::domain::signals::Subject;
use crate::flow::Dependencies;
use crate::flow::answer::Replacement;
use crate::flow::demands;
use crate::flow::exchange::Exchange;
use crate::flow::exchange::RequestFacts;
use crate::flow::review;
use std::collections::HashMap;

/// How a request stands to the user whom it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Naming {
    /// It presents a name together with what may prove it.
    Claim,
    /// It presents a name that nothing at this door proves.
    Hint,
    /// It names nobody, or comes from a device or a session of the user's own, or what is done with it cannot wait.
    Settled,
}

/// What is decided about a request as if nobody had its name.
#[derive(Clone, Debug)]
pub struct Shown {
    /// By the policy.
    pub decision: Decision,
    /// Whether that is a demand of its own.
    pub own_demand: bool,
    /// Whether it was carried out: the request was refused or held, for known and unknown names alike.
    pub refused: bool,
}

/// How a request at `door` stands to the user whom it names.
pub fn naming(
    door: Door,
    facts: &RequestFacts,
    signals: &Signals,
    device: DeviceStanding,
    session: Option<&Provenance>,
) -> Naming {
    let Subject::Named { key, .. } = &signals.subject else {
        return Naming::Settled;
    };
    let has_session = session.is_some_and(|session| session.subject == Some(*key));
    // A session of another user is what the identity server goes by, whatever the link names.
    let session_of = session.and_then(|session| session.subject);
    let is_beside = door == Door::Authorize && session_of.is_some_and(|subject| subject != *key);
    if !is_beside && (device == DeviceStanding::Known || has_session) {
        return Naming::Settled;
    }
    match door {
        Door::Authorize => Naming::Hint,
        // What enrols a factor has its effect before the answer comes.
        Door::Login | Door::Authn | Door::Flow if facts.enrols.is_none() => Naming::Claim,
        Door::Token if facts.grant_type.as_deref() == Some("password") => Naming::Claim,
        // An API call with Basic credentials has its effect before the answer comes; the other doors name nobody, or are
        // for clients that have authenticated themselves.
        Door::Login
        | Door::Authn
        | Door::Flow
        | Door::Token
        | Door::Par
        | Door::DeviceAuthorize
        | Door::Device
        | Door::Ciba
        | Door::CibaAuthorize
        | Door::Saml
        | Door::WsFed
        | Door::Pdp
        | Door::Basic => Naming::Settled,
    }
}

/// Whether the name stands in a link alone: at the authorize endpoint it is a `login_hint` (OpenID Connect Core section
/// 3.1.2.1), which anybody writes into it, unless it is that of the session which the browser has.
pub fn is_of_link(door: Door, signals: &Signals, session: Option<&Provenance>) -> bool {
    let named = signals.subject.key();
    door == Door::Authorize && named.is_some() && named != session.and_then(|link| link.subject)
}

/// Whom a login was begun for, where a request goes on with it without a name and no password was accepted in it yet: in
/// an identifier-first login the name comes with the first form and need not come with the second.
pub fn begun_for(door: Door, signals: &Signals, login: Option<&Provenance>) -> Option<SubjectKey> {
    let steps = matches!(door, Door::Login | Door::Authn | Door::Flow);
    let unnamed = matches!(signals.subject, Subject::Anonymous);
    login?.subject.filter(|_| steps && unnamed)
}

/// `history` without what is known of the name itself: what a name that nobody has would find. Every field is named, so
/// that a new one cannot be left out unnoticed: what the two decisions do not share tells whose name exists.
pub fn without_name(history: &History) -> History {
    let History {
        profile: _,
        subject: _,
        address,
        prefix_failures_1h,
        asn,
        asn_24h,
        agent,
        agent_24h,
        tenant,
        client: _,
        scopes: _,
        links: _,
        demands: _,
    } = history;
    History {
        profile: None,
        subject: SubjectCounts::default(),
        address: *address,
        prefix_failures_1h: *prefix_failures_1h,
        asn: *asn,
        asn_24h: *asn_24h,
        agent: *agent,
        agent_24h: *agent_24h,
        tenant: *tenant,
        client: None,
        scopes: None,
        links: HashMap::new(),
        demands: HashMap::new(),
    }
}

/// `signals` without the name.
pub fn nameless(signals: &Signals) -> Signals {
    Signals {
        subject: Subject::Anonymous,
        ..signals.clone()
    }
}

/// Whether the answer must be held back as a whole, because its head does not say whether the password was accepted. It is
/// held for every name alike, so that it takes as long.
pub fn is_held(exchange: &Exchange) -> bool {
    exchange.is_unproven() && matches!(exchange.door, Some(Door::Authn | Door::Flow))
}

/// Whether the head of an answer says that the password was accepted, or may say so: in doubt it does, since what is
/// withheld must not go out. The answers that a name without a user gets all say no; the next step of a login in which only
/// a name was sent proves nothing.
pub fn accepts(
    door: Door,
    head: &ResponseHead,
    conclusion: &Conclusion,
    facts: &RequestFacts,
) -> bool {
    match door {
        // RFC 6749 section 5: an error has another status.
        Door::Token => head.status < 400,
        Door::Login => {
            let hands_over = || {
                let location = head.location.as_deref().and_then(FrontChannel::of_location);
                let posts_itself = head.status < 300 && facts.hands_over != HandsOver::Nothing;
                posts_itself || location.is_some_and(|handed| !handed.is_error)
            };
            head.session.is_some()
                || match conclusion.outcome {
                    AuthOutcome::Approved
                    | AuthOutcome::CodeIssued
                    | AuthOutcome::Consent
                    | AuthOutcome::Succeeded
                    | AuthOutcome::TokensIssued => true,
                    AuthOutcome::NextFactor => facts.credentials,
                    // Back into the flow; the page that says that the flow is lost comes for every name.
                    AuthOutcome::Returned => !conclusion.issued.is_empty(),
                    AuthOutcome::None => conclusion.issued.is_empty() && hands_over(),
                    AuthOutcome::Abandoned
                    | AuthOutcome::Failed
                    | AuthOutcome::Locked
                    | AuthOutcome::LoginPage
                    | AuthOutcome::RefusedHere
                    | AuthOutcome::RequestRefused
                    | AuthOutcome::UpstreamError => false,
                }
        }
        _ => false,
    }
}

/// The same for the body of an answer that was held; `None` is one that cannot be read.
pub fn accepts_whole(status: u16, conclusion: Option<&Conclusion>, facts: &RequestFacts) -> bool {
    let accepts = match conclusion.map(|conclusion| conclusion.outcome) {
        Some(
            AuthOutcome::Approved
            | AuthOutcome::CodeIssued
            | AuthOutcome::Consent
            | AuthOutcome::Succeeded
            | AuthOutcome::TokensIssued,
        ) => true,
        Some(
            AuthOutcome::Abandoned
            | AuthOutcome::Failed
            | AuthOutcome::Locked
            | AuthOutcome::LoginPage
            | AuthOutcome::RefusedHere
            | AuthOutcome::RequestRefused
            | AuthOutcome::UpstreamError,
        ) => false,
        Some(AuthOutcome::NextFactor | AuthOutcome::None | AuthOutcome::Returned) | None => {
            facts.credentials
        }
    };
    status < 400 && accepts
}

/// The password was accepted: what the history says takes effect. Returns what goes out in place of the answer.
pub async fn proved(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
    headers: &http::HeaderMap,
) -> Option<Replacement> {
    exchange.accepted = true;
    demands::raise(dependencies, exchange, door);
    let rejection = exchange.withheld.clone()?;
    if rejection.kind != RejectionKind::Held {
        return Some(Replacement::Reject(rejection));
    }
    let held = review::answered(dependencies, exchange, door, headers).await;
    if held.is_none() {
        exchange.withheld = None;
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::conclude_body;
    use crate::domain::outcome::conclude_head;

    fn sent(credentials: bool) -> RequestFacts {
        RequestFacts {
            credentials,
            ..RequestFacts::default()
        }
    }

    #[test]
    fn a_page_at_an_endpoint_that_hands_something_over_is_an_acceptance() {
        let page = ResponseHead {
            status: 200,
            ..ResponseHead::default()
        };
        for (hands_over, expected) in [
            (HandsOver::Nothing, false),
            (HandsOver::OAuth, true),
            (HandsOver::Saml, true),
        ] {
            let facts = RequestFacts {
                hands_over,
                ..sent(true)
            };
            let conclusion = conclude_head(Door::Login, hands_over, &page);
            let accepted = accepts(Door::Login, &page, &conclusion, &facts);
            assert_eq!(accepted, expected, "{hands_over:?}");
        }
    }

    fn accepts_redirect(location: &str, session: Option<&str>) -> bool {
        let head = ResponseHead {
            status: 302,
            location: Some(location.to_owned()),
            session: session.map(str::to_owned),
        };
        accepts(
            Door::Login,
            &head,
            &conclude_head(Door::Login, HandsOver::Nothing, &head),
            &sent(true),
        )
    }

    #[test]
    fn what_a_name_without_a_user_gets_is_no_acceptance() {
        for location in [
            "https://is/authenticationendpoint/login.do?sessionDataKey=k&authFailure=true",
            "https://is/authenticationendpoint/login.do?sessionDataKey=k",
            "https://is/authenticationendpoint/retry.do?status=authentication.context.null",
            "https://is/authenticationendpoint/retry.do?errorCode=17003&sessionDataKey=k",
            "https://is/authenticationendpoint/wait.do?sessionDataKey=k",
            "https://app.example.com/cb?error=access_denied",
        ] {
            assert!(!accepts_redirect(location, None), "{location}");
        }
        let refused = ResponseHead {
            status: 400,
            ..ResponseHead::default()
        };
        for door in [Door::Login, Door::Token] {
            let conclusion = conclude_head(door, HandsOver::Nothing, &refused);
            assert!(!accepts(door, &refused, &conclusion, &sent(true)));
        }
        // A name alone leads on to the next step of a login without a password.
        let next = ResponseHead {
            status: 302,
            location: Some(
                "https://is/authenticationendpoint/email_otp.do?sessionDataKey=k".to_owned(),
            ),
            session: None,
        };
        let conclusion = conclude_head(Door::Login, HandsOver::Nothing, &next);
        assert!(accepts(Door::Login, &next, &conclusion, &sent(true)));
        assert!(!accepts(Door::Login, &next, &conclusion, &sent(false)));
    }

    #[test]
    fn whatever_may_be_a_success_is_an_acceptance() {
        for (location, session) in [
            ("https://is/oauth2/authorize?sessionDataKey=k", Some("s")),
            ("https://is/oauth2/authorize?sessionDataKey=k", None),
            (
                "https://is/authenticationendpoint/totp.do?sessionDataKey=k",
                None,
            ),
            (
                "https://is/authenticationendpoint/totp_enroll.do?sessionDataKey=k",
                None,
            ),
            ("https://is/elsewhere", Some("s")),
            ("https://app.example.com/cb?code=c", None),
            ("https://app.example.com/cb#id_token=t", None),
        ] {
            assert!(accepts_redirect(location, session), "{location}");
        }
        let granted = ResponseHead {
            status: 200,
            ..ResponseHead::default()
        };
        assert!(accepts(
            Door::Token,
            &granted,
            &conclude_head(Door::Token, HandsOver::Nothing, &granted),
            &sent(true)
        ));
    }

    #[test]
    fn a_held_answer_refuses_in_so_many_words_or_not_at_all() {
        let with = |status, body: &str, credentials| {
            let conclusion = conclude_body(Door::Authn, status, false, body.as_bytes());
            accepts_whole(status, Some(&conclusion), &sent(credentials))
        };
        let of = |status, body: &str| with(status, body, true);
        assert!(!with(
            200,
            r#"{"flowStatus":"INCOMPLETE","flowId":"f"}"#,
            false
        ));
        assert!(with(200, r#"{"flowStatus":"SUCCESS_COMPLETED"}"#, false));
        assert!(!of(200, r#"{"flowStatus":"FAIL_INCOMPLETE","flowId":"f"}"#));
        assert!(!of(400, r#"{"code":"ABA-60001"}"#));
        assert!(of(200, r#"{"flowStatus":"INCOMPLETE","flowId":"f"}"#));
        assert!(of(200, r#"{"flowStatus":"SUCCESS_COMPLETED"}"#));
        assert!(of(200, "not JSON"));
        assert!(accepts_whole(200, None, &sent(true)));
        assert!(!accepts_whole(503, None, &sent(true)));
    }
}
