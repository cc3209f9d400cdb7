//! What the head of an answer says: where the browser is sent, and whether it is given a session.

use crate::domain::authenticator::Unread;
use crate::domain::authenticator::asks_who;
use crate::domain::history::LinkKind;
use crate::domain::outcome::ACCESS_TOKEN_LIFETIME_MAX;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::CODE_LIFETIME;
use crate::domain::outcome::Conclusion;
use crate::domain::outcome::HandsOver;
use crate::domain::outcome::Issued;
use crate::domain::outcome::SESSION_LIFETIME;
use crate::domain::outcome::TRANSACTION_LIFETIME;
use crate::domain::outcome::access_token_key;
use crate::domain::outcome::login_of_relay_state;
use crate::domain::outcome::login_of_state;
use crate::domain::route::Door;
use crate::domain::route::OWN_PREFIX;
use std::borrow::Cow;

/// The head of the identity server's answer, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The Location header.
    pub location: Option<String>,
    /// The value of a `commonAuthId` cookie that was set, unless it was cleared.
    pub session: Option<String>,
}

impl ResponseHead {
    fn target(&self) -> Option<RedirectTarget<'_>> {
        let location = self.location.as_deref();
        let location = location.filter(|_| (300..400).contains(&self.status))?;
        Some(RedirectTarget::parse(location))
    }

    /// Whether the browser is sent to a page of WSO2's portal on which a factor is enrolled, such as `totp_enroll.do`.
    pub fn leads_to_enrolment(&self) -> bool {
        self.target()
            .and_then(|target| target.page())
            .is_some_and(|page| page.ends_with("_enroll.do"))
    }

    /// Whether the address of the login page names the authenticators of the step, as WSO2 writes it; `None` where the browser
    /// is not sent there.
    pub fn names_authenticators(&self) -> Option<bool> {
        let target = self.target()?;
        (target.page()? == "login.do").then(|| target.param("authenticators").is_some())
    }

    /// Whether the browser is sent to choose among factors none of which asks who the user is.
    pub fn offers_factors(&self) -> bool {
        self.target()
            .is_some_and(|target| target.page() == Some("login.do") && target.offers_factors())
    }
}

/// What the head of an answer says. `hands_over` says what the answer may have for the application: at the endpoints of
/// the protocols, also where a login is answered there in place.
pub fn conclude_head(door: Door, hands_over: HandsOver, head: &ResponseHead) -> Conclusion {
    if head.status >= 500 {
        return Conclusion::new(AuthOutcome::UpstreamError);
    }
    match door {
        Door::Basic => Conclusion::new(match head.status {
            401 => AuthOutcome::Failed,
            200..=299 => AuthOutcome::Succeeded,
            _ => AuthOutcome::None,
        }),
        Door::Authorize
        | Door::Login
        | Door::Saml
        | Door::WsFed
        | Door::Device
        | Door::CibaAuthorize => {
            match head
                .location
                .as_deref()
                .filter(|_| (300..400).contains(&head.status))
            {
                Some(location) => conclude_redirect(door, hands_over, head, location),
                // A page that posts itself to the application.
                None if head.status < 300
                    && hands_over != HandsOver::Nothing
                    && head.session.is_some() =>
                {
                    Conclusion::of(AuthOutcome::Succeeded, session_of(head).collect())
                }
                None if head.status >= 400 => Conclusion::new(AuthOutcome::RequestRefused),
                None => Conclusion::new(AuthOutcome::None),
            }
        }
        Door::Token
        | Door::Authn
        | Door::Par
        | Door::Flow
        | Door::DeviceAuthorize
        | Door::Ciba
        | Door::Pdp => Conclusion::new(if head.status >= 400 {
            AuthOutcome::RequestRefused
        } else {
            AuthOutcome::None
        }),
    }
}

fn session_of(head: &ResponseHead) -> impl Iterator<Item = Issued> {
    head.session.iter().map(|value| Issued {
        kind: LinkKind::Session,
        value: value.clone(),
        lifetime: SESSION_LIFETIME,
    })
}

fn conclude_redirect(
    door: Door,
    hands_over: HandsOver,
    head: &ResponseHead,
    location: &str,
) -> Conclusion {
    let target = RedirectTarget::parse(location);
    let session = || session_of(head);
    if let Some(page) = target.page() {
        return at_page(door, page, &target, head);
    }
    if target.is_own_step() {
        return Conclusion::new(AuthOutcome::NextFactor);
    }
    if target.is_resume() {
        let Some(key) = target.param("sessionDataKey") else {
            return Conclusion::new(AuthOutcome::None);
        };
        let outcome = if head.session.is_some() {
            AuthOutcome::Succeeded
        } else {
            AuthOutcome::Returned
        };
        let mut conclusion =
            Conclusion::with(outcome, LinkKind::Transaction, &key, TRANSACTION_LIFETIME);
        conclusion.issued.extend(session());
        return conclusion;
    }
    if let Some(key) = target.asks_provider() {
        return Conclusion::with(
            AuthOutcome::LoginPage,
            LinkKind::Transaction,
            &key,
            TRANSACTION_LIFETIME,
        );
    }
    let is_oauth = match hands_over {
        HandsOver::Nothing => return Conclusion::new(AuthOutcome::None),
        HandsOver::OAuth => true,
        HandsOver::Saml => false,
    };
    let handed = |name| target.param(name).filter(|_| is_oauth);
    if handed("error").is_some() {
        return Conclusion::new(AuthOutcome::RequestRefused);
    }
    let mut conclusion = Conclusion::new(AuthOutcome::None);
    // A subject token is turned in like an access token, and has an id as that has.
    let tokens = ["access_token", "subject_token"].map(handed);
    for token in tokens.into_iter().flatten() {
        conclusion.outcome = AuthOutcome::TokensIssued;
        conclusion.issued.push(Issued {
            kind: LinkKind::AccessToken,
            value: access_token_key(&token),
            lifetime: ACCESS_TOKEN_LIFETIME_MAX,
        });
    }
    if let Some(code) = handed("code") {
        conclusion.outcome = AuthOutcome::CodeIssued;
        conclusion.issued.push(Issued {
            kind: LinkKind::Code,
            value: code.into_owned(),
            lifetime: CODE_LIFETIME,
        });
    }
    if door == Door::Login && head.session.is_some() {
        conclusion.outcome = AuthOutcome::Succeeded;
    }
    conclusion.issued.extend(session());
    conclusion
}

/// The login goes on, or ends, at one of the identity server's pages.
fn at_page(door: Door, page: &str, target: &RedirectTarget<'_>, head: &ResponseHead) -> Conclusion {
    let session = || session_of(head);
    let failed = target
        .param("authFailure")
        .is_some_and(|value| value == "true")
        || target.param("errorCode").is_some();
    let locked = target
        .param("errorCode")
        .is_some_and(|code| code == "17003")
        || target.param("lockedReason").is_some();
    let key = |name| target.param(name).map(Cow::into_owned);
    let transaction = |outcome| match key("sessionDataKey") {
        Some(value) => Conclusion {
            unread: Unread::at(&target.param("authenticators").unwrap_or_default()),
            ..Conclusion::with(outcome, LinkKind::Transaction, &value, TRANSACTION_LIFETIME)
        },
        None => Conclusion::new(outcome),
    };
    match page {
        _ if locked => transaction(AuthOutcome::Locked),
        _ if failed => transaction(AuthOutcome::Failed),
        "login.do" if door == Door::CibaAuthorize => {
            let mut conclusion = transaction(AuthOutcome::LoginPage);
            // The identity server puts the id of the request there itself.
            conclusion.approves = key("nonce");
            conclusion
        }
        // WSO2 has its users choose among the factors of a step on its login page.
        "login.do" if door == Door::Login && target.offers_factors() => {
            transaction(AuthOutcome::NextFactor)
        }
        "login.do" => transaction(AuthOutcome::LoginPage),
        "oauth2_error.do" => Conclusion::new(AuthOutcome::RequestRefused),
        "retry.do" => Conclusion::new(AuthOutcome::Returned),
        // The last page of an approval; with an error it is where one ends that was none.
        "device_success.do" => {
            let outcome = match target.param("error") {
                Some(_) => AuthOutcome::RequestRefused,
                None => AuthOutcome::Approved,
            };
            Conclusion::of(outcome, session().collect())
        }
        "oauth2_consent.do" | "oauth2_authz.do" => match key("sessionDataKeyConsent") {
            Some(value) => {
                let mut conclusion = Conclusion::with(
                    AuthOutcome::Consent,
                    LinkKind::Transaction,
                    &value,
                    TRANSACTION_LIFETIME,
                );
                conclusion.issued.extend(session());
                conclusion
            }
            None => Conclusion::new(AuthOutcome::Consent),
        },
        // A waiting page is the same step, still being thought about.
        "wait.do" => transaction(AuthOutcome::None),
        _ => transaction(AuthOutcome::NextFactor),
    }
}

/// A redirect target, taken apart just far enough.
pub(super) struct RedirectTarget<'a> {
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> RedirectTarget<'a> {
    pub(super) fn parse(location: &'a str) -> Self {
        let (rest, fragment) = location.split_once('#').unwrap_or((location, ""));
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = match address.split_once("://") {
            Some((_, authority_and_path)) => authority_and_path
                .find('/')
                .and_then(|at| authority_and_path.get(at..))
                .unwrap_or("/"),
            None => address,
        };
        Self {
            path,
            query,
            fragment,
        }
    }

    pub(super) fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        form_urlencoded::parse(self.query.as_bytes())
            .chain(form_urlencoded::parse(self.fragment.as_bytes()))
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    /// The page of WSO2's login portal, if it is one.
    fn page(&self) -> Option<&'a str> {
        let (_, page) = self.path.rsplit_once("/authenticationendpoint/")?;
        Some(page)
    }

    /// Whether the page leaves a choice of authenticators, none of which asks who the user is. The identity server writes them as
    /// `name:provider;name:provider`, and one that several providers have as `name:provider:provider`.
    fn offers_factors(&self) -> bool {
        let offered = self.param("authenticators").unwrap_or_default();
        let (mut ways, mut asks) = (0, false);
        for option in offered.split(';') {
            let mut parts = option.split(':');
            asks |= parts.next().is_some_and(asks_who);
            ways += parts.count().max(1);
        }
        ways > 1 && !asks
    }

    /// Whether it leads to the page of our own step, where the identity server was told to send the browser.
    fn is_own_step(&self) -> bool {
        self.path
            .strip_prefix(OWN_PREFIX)
            .is_some_and(|rest| rest.starts_with("/step/"))
    }

    /// The login in progress, where the browser is sent to log in at another identity provider (RFC 6749 section 4.1.1, SAML
    /// bindings section 3.4). What goes to an application is an answer, and asks for nothing.
    fn asks_provider(&self) -> Option<String> {
        const ANSWERS: [&str; 6] = [
            "SAMLResponse",
            "access_token",
            "code",
            "error",
            "id_token",
            "subject_token",
        ];
        if ANSWERS.iter().any(|name| self.param(name).is_some()) {
            return None;
        }
        if self.param("response_type").is_some() {
            let state = self.param("state")?;
            return login_of_state(&state).map(str::to_owned);
        }
        self.param("SAMLRequest")?;
        let state = self.param("RelayState")?;
        Some(login_of_relay_state(&state).into_owned()).filter(|key| !key.is_empty())
    }

    /// Whether it leads back into a protocol endpoint of WSO2 with the flow's key.
    fn is_resume(&self) -> bool {
        [
            "/oauth2/authorize",
            "/samlsso",
            "/passivests",
            "/oauth2/device",
            "/oauth2/ciba_authorize",
        ]
        .iter()
        .any(|endpoint| self.path.ends_with(endpoint))
            && self.param("sessionDataKey").is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(door: Door, location: &str, session: Option<&str>) -> Conclusion {
        let head = ResponseHead {
            status: 302,
            location: Some(location.to_owned()),
            session: session.map(str::to_owned),
        };
        let hands_over = match door {
            Door::Authorize => HandsOver::OAuth,
            _ => HandsOver::Nothing,
        };
        conclude_head(door, hands_over, &head)
    }

    #[test]
    fn recorded_answers_of_the_login_door() {
        let base = "https://idp.example.com/t/foo/authenticationendpoint/";
        for (location, session, expected) in [
            (
                "login.do?sessionDataKey=K1&authFailure=true&authFailureMsg=login.fail.message",
                None,
                AuthOutcome::Failed,
            ),
            (
                "login.do?sessionDataKey=K1&authFailure=true&errorCode=17002&remainingAttempts=3",
                None,
                AuthOutcome::Failed,
            ),
            (
                "retry.do?errorCode=17003&lockedReason=MAX_ATTEMPTS_EXCEEDED&remainingAttempts=0",
                None,
                AuthOutcome::Locked,
            ),
            (
                "retry.do?status=authentication.context.null",
                None,
                AuthOutcome::Returned,
            ),
            (
                "totp.do?sessionDataKey=K1&authenticators=totp",
                None,
                AuthOutcome::NextFactor,
            ),
            (
                "totp.do?sessionDataKey=K1&authFailure=true",
                None,
                AuthOutcome::Failed,
            ),
            (
                "login.do?sessionDataKey=K1&authenticators=BasicAuthenticator%3ALOCAL",
                None,
                AuthOutcome::LoginPage,
            ),
            // A choice after the password; the same with a failure; one that begins with who it is.
            (
                "login.do?sessionDataKey=K1&authenticators=totp%3ALOCAL%3Bemail-otp-authenticator%3ALOCAL",
                None,
                AuthOutcome::NextFactor,
            ),
            (
                "login.do?sessionDataKey=K1&authenticators=totp%3ALOCAL%3BFIDOAuthenticator%3ALOCAL&authFailure=true",
                None,
                AuthOutcome::Failed,
            ),
            (
                "login.do?sessionDataKey=K1&authenticators=FIDOAuthenticator%3ALOCAL%3BBasicAuthenticator%3ALOCAL",
                None,
                AuthOutcome::LoginPage,
            ),
            (
                "login.do?sessionDataKey=K1&authenticators=IdentifierExecutor%3ALOCAL%3BGoogle%3Agoogle",
                None,
                AuthOutcome::LoginPage,
            ),
            // One authenticator at several providers is a choice as well, and one at one provider is none.
            (
                "login.do?sessionDataKey=K1&authenticators=HomeRealmOTP%3Acorporate%3Apartners.hub",
                None,
                AuthOutcome::NextFactor,
            ),
            (
                "login.do?sessionDataKey=K1&authenticators=HomeRealmOTP%3Acorporate",
                None,
                AuthOutcome::LoginPage,
            ),
            (
                "login.do?sessionDataKey=K1&authenticators=BasicAuthenticator%3ALOCAL%3Acorporate",
                None,
                AuthOutcome::LoginPage,
            ),
            ("login.do?sessionDataKey=K1", None, AuthOutcome::LoginPage),
        ] {
            assert_eq!(
                redirect(Door::Login, &format!("{base}{location}"), session).outcome,
                expected,
                "{location}"
            );
        }
    }

    #[test]
    fn a_login_page_names_its_authenticators() {
        let at = |status, location: &str| ResponseHead {
            status,
            location: Some(location.to_owned()),
            session: None,
        };
        let base = "/t/foo/authenticationendpoint";
        for (status, location, expected) in [
            (
                302,
                "login.do?authenticators=BasicAuthenticator%3ALOCAL",
                Some(true),
            ),
            (302, "login.do?sessionDataKey=K1", Some(false)),
            (302, "retry.do?sessionDataKey=K1", None),
            (200, "login.do?sessionDataKey=K1", None),
        ] {
            let head = at(status, &format!("{base}/{location}"));
            assert_eq!(head.names_authenticators(), expected, "{location}");
        }
    }

    #[test]
    fn success_needs_the_session_cookie() {
        let back = "https://idp.example.com/oauth2/authorize?sessionDataKey=K0";
        let success = redirect(Door::Login, back, Some("cookie"));
        assert_eq!(success.outcome, AuthOutcome::Succeeded);
        assert_eq!(
            success
                .issued
                .iter()
                .map(|issued| issued.kind)
                .collect::<Vec<_>>(),
            [LinkKind::Transaction, LinkKind::Session]
        );
        assert_eq!(
            redirect(Door::Login, back, None).outcome,
            AuthOutcome::Returned
        );
    }

    #[test]
    fn codes_are_seen_at_the_authorize_door_only() {
        let callback = "https://app.example.com/cb?code=C&session_state=x.y&state=S";
        assert_eq!(
            redirect(Door::Authorize, callback, None).outcome,
            AuthOutcome::CodeIssued
        );
        assert_eq!(
            redirect(Door::Login, callback, None).outcome,
            AuthOutcome::None
        );
        assert_eq!(
            redirect(Door::Authorize, "https://app/cb?error=access_denied", None).outcome,
            AuthOutcome::RequestRefused
        );
        let hybrid = redirect(
            Door::Authorize,
            "https://app/cb#access_token=t&code=C",
            None,
        );
        assert_eq!(hybrid.issued.len(), 2);
    }

    #[test]
    fn a_login_in_place_is_answered_for_the_application() {
        let of = |hands_over, status, location: Option<&str>, session: Option<&str>| {
            let head = ResponseHead {
                status,
                location: location.map(str::to_owned),
                session: session.map(str::to_owned),
            };
            let conclusion = conclude_head(Door::Login, hands_over, &head);
            let kinds: Vec<_> = conclusion.issued.iter().map(|issued| issued.kind).collect();
            (conclusion.outcome, kinds)
        };
        let callback = Some("https://app.example.com/cb?code=C");
        let (oauth, saml) = (HandsOver::OAuth, HandsOver::Saml);
        assert_eq!(
            of(oauth, 302, callback, Some("s")),
            (
                AuthOutcome::Succeeded,
                vec![LinkKind::Code, LinkKind::Session]
            )
        );
        assert_eq!(
            of(oauth, 302, callback, None),
            (AuthOutcome::CodeIssued, vec![LinkKind::Code])
        );
        assert_eq!(
            of(saml, 200, None, Some("s")),
            (AuthOutcome::Succeeded, vec![LinkKind::Session])
        );
        assert_eq!(of(saml, 200, None, None), (AuthOutcome::None, vec![]));
        // Nothing of a SAML answer is a code, and nothing at the login door itself is for an application.
        assert_eq!(
            of(saml, 302, callback, Some("s")),
            (AuthOutcome::Succeeded, vec![LinkKind::Session])
        );
        for (status, location) in [(302, callback), (200, None)] {
            assert_eq!(
                of(HandsOver::Nothing, status, location, Some("s")),
                (AuthOutcome::None, vec![])
            );
        }
    }

    #[test]
    fn who_is_sent_to_another_provider_is_in_the_login_that_comes_back() {
        let key = |door, location: &str| {
            let conclusion = redirect(door, location, None);
            let issued = conclusion.issued.first().map(|issued| {
                assert_eq!(issued.kind, LinkKind::Transaction);
                issued.value.clone()
            });
            (conclusion.outcome, issued)
        };
        let there = (AuthOutcome::LoginPage, Some("K".to_owned()));
        for location in [
            "https://p.example.com/a?response_type=code&state=K%2COIDC&redirect_uri=x",
            "https://p.example.com/a?response_type=code&state=K",
            // An organization of the same identity server.
            "https://idp.example.com/o/1/oauth2/authorize?response_type=code&state=K%2COIDC",
            "https://p.example.com/a?SAMLRequest=q&RelayState=K",
            "https://p.example.com/a?SAMLRequest=q&RelayState=%254B",
        ] {
            for door in [Door::Authorize, Door::Login, Door::Saml] {
                assert_eq!(key(door, location), there, "{location}");
            }
        }
        // What an application is answered, whatever it has put into its address and its `state`.
        for location in [
            "https://app/cb?response_type=x&state=K%2COIDC&error=access_denied",
            "https://app/cb?response_type=x&state=K%2COIDC#id_token=t",
            "https://app/cb?state=K%2COIDC",
            "https://app/cb?response_type=x",
            "https://app/cb?response_type=x&state=%2C",
            "https://app/cb?SAMLResponse=q&SAMLRequest=q&RelayState=K",
        ] {
            assert_eq!(key(Door::Authorize, location).1, None, "{location}");
        }
    }

    #[test]
    fn an_approval_ends_on_its_page() {
        let base = "https://idp.example.com/t/foo/authenticationendpoint/";
        let at = |door, page: &str| redirect(door, &format!("{base}{page}"), None);
        let done = at(Door::Authorize, "device_success.do?app_name=tv");
        assert_eq!(done.outcome, AuthOutcome::Approved);
        let failed = at(Door::Authorize, "device_success.do?error=invalid.code");
        assert_eq!(failed.outcome, AuthOutcome::RequestRefused);
        let page = "login.do?nonce=R&sessionDataKey=K";
        let begun = at(Door::CibaAuthorize, page);
        assert_eq!(begun.approves.as_deref(), Some("R"));
        assert_eq!(begun.issued[0].kind, LinkKind::Transaction);
        assert_eq!(at(Door::Authorize, page).approves, None);
    }

    #[test]
    fn issued_values_do_not_print() {
        let issued = redirect(Door::Authorize, "https://app/cb?code=canary", None);
        assert!(!format!("{issued:?}").contains("canary"));
    }
}
