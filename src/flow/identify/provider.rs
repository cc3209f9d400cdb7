//! What comes back to a login from another identity provider. The login is named in what went there and comes back with the
//! answer, never in `sessionDataKey`. What the answer holds (code, assertion, error) is not read here.

use crate::domain::outcome::login_of_relay_state;
use crate::domain::outcome::login_of_state;
use crate::domain::parameters::Parameters;
use std::borrow::Cow;

/// What one of the answers of a provider has: a code or an error (RFC 6749 section 4.1.2), a response or an artifact (SAML
/// bindings, sections 3.5 and 3.6).
const ANSWERS: [&str; 4] = ["SAMLResponse", "SAMLart", "code", "error"];
/// What the identity server's own pages send, and no provider.
const OWN: [&str; 8] = [
    "OTPCode",
    "authenticator",
    "password",
    "sessionDataKey",
    "token",
    "tokenResponse",
    "username",
    "usernameUserInput",
];

/// The login in progress that a request names in the words of a provider. WSO2 asks every authenticator which login a request
/// belongs to, whether the application uses that one or not, and lets any option of the step read what else comes along.
pub(super) fn login(parameters: &Parameters) -> Option<Cow<'_, str>> {
    let get = |name: &str| parameters.get(name).filter(|value| !value.is_empty());
    get("state")
        .and_then(login_of_state)
        .map(Cow::Borrowed)
        .or_else(|| get("RelayState").map(login_of_relay_state))
}

/// The login to which the answer to a page of an adaptive script (`prompt`) belongs: WSO2 takes it before any other.
pub(super) fn login_of_prompt(parameters: &Parameters) -> Option<&str> {
    parameters.get("promptResp")?;
    parameters.get("promptId").filter(|key| !key.is_empty())
}

/// Whether a request names more than one login. Which of them WSO2 goes on with depends on the order of its authenticators.
pub(super) fn names_two(parameters: &Parameters) -> bool {
    let own = |name: &str| parameters.get(name).map(Cow::Borrowed);
    let state = parameters.get("state").and_then(login_of_state);
    let named = [
        own("sessionDataKey"),
        own("flowId"),
        login_of_prompt(parameters).map(Cow::Borrowed),
        state.map(Cow::Borrowed),
        parameters.get("RelayState").map(login_of_relay_state),
    ];
    let mut named = named.into_iter().flatten().filter(|key| !key.is_empty());
    let first = named.next();
    first.is_some_and(|first| named.any(|other| other != first))
}

/// Whether a request is nothing but the answer of a provider. One that brings anything of the login pages beside it is a step
/// like others.
pub(super) fn is_answer(parameters: &Parameters) -> bool {
    let has = |name: &&str| parameters.get(name).is_some_and(|value| !value.is_empty());
    ANSWERS.iter().any(has) && !OWN.iter().any(has)
}
