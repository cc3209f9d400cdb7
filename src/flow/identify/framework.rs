//! What WSO2's authentication framework reads of any request, beside what the protocols are about: which way a login
//! takes, and what its pages are told.

use crate::domain::authenticator::Unread;
use crate::domain::outcome;
use crate::domain::parameters::Parameters;
use crate::domain::route::Door;
use crate::flow::error::Refusal;
use crate::flow::identify::provider;

/// What the pages of a login are told in their URL, and is read here as the identity server's word. It hands the parameters
/// of the request that began the login on to them, before its own.
const PAGE_WORDS: [&str; 4] = ["authFailure", "authenticators", "errorCode", "lockedReason"];

/// What the app-native API tells the framework itself. Members of `params` of the same names would take their place: the
/// request would go on with another login, or another option, than it says.
const OWN_OF_API: [&str; 5] = [
    "authenticator",
    "commonAuthLogout",
    "idp",
    "sessionDataKey",
    "type",
];

/// With one of these the login begins anew, or elsewhere, whatever option is picked beside it.
const RESTARTS: [&str; 4] = ["authType", "fidp", "identifier_consent", "restart_flow"];

/// Whether a request leaves to the identity server what only the identity server may say.
///
/// # Errors
/// It begins a login with a word of the login's pages, sets in the app-native API what the API itself sets, or names two
/// logins.
pub fn check_framework(door: Door, parameters: Option<&Parameters>) -> Result<(), Refusal> {
    let Some(parameters) = parameters else {
        return Ok(());
    };
    let is_taken = match door {
        Door::Authorize
        | Door::CibaAuthorize
        | Door::Device
        | Door::Par
        | Door::Saml
        | Door::WsFed => PAGE_WORDS.iter().any(|name| parameters.get(name).is_some()),
        Door::Authn => {
            // A member that is no text does not reach the login.
            let sets =
                |name: &str| parameters.json_text(&["selectedAuthenticator", "params", name]);
            let mut names = OWN_OF_API.iter().chain(&RESTARTS);
            names.any(|name| sets(name).is_some())
        }
        Door::Login => provider::names_two(parameters),
        Door::Basic | Door::Ciba | Door::DeviceAuthorize | Door::Flow | Door::Pdp | Door::Token => {
            false
        }
    };
    if is_taken {
        return Err(Refusal::new(
            400,
            "framework_parameter",
            "a parameter is the identity server's own",
        ));
    }
    Ok(())
}

/// What the option does not read that a login form picks. In doubt it reads everything.
pub(super) fn unread_of_pick(parameters: &Parameters) -> Unread {
    let picked = parameters.get("authenticator");
    picked
        .filter(|_| !restarts(parameters))
        .map(Unread::by)
        .unwrap_or_default()
}

/// Whether with a login form the login may begin anew, or elsewhere, whatever else it brings.
pub(super) fn restarts(parameters: &Parameters) -> bool {
    RESTARTS.iter().any(|name| parameters.get(name).is_some())
}

/// What the option does not read that a request of the app-native API picks.
pub(super) fn unread_in_api(parameters: &Parameters) -> Unread {
    let id = parameters.json_text(&["selectedAuthenticator", "authenticatorId"]);
    let name = id.and_then(outcome::authenticator_of);
    name.map(|name| Unread::by(&name)).unwrap_or_default()
}
