//! Identifier first: a login that begins with the name alone. Every name goes on to the next step, whether anybody has it or
//! not. It must not check credentials.

use crate::app::Ctx;
use crate::app::pairs;
use crate::config::AfterIdentifier;
use crate::login;
use crate::response::Response;
use crate::store::Flow;
use crate::store::Step;

/// Name of the authenticator.
pub(crate) const IDENTIFIER: &str = "IdentifierExecutor";

/// The step that a login begins with.
pub(crate) fn first_step(ctx: &Ctx<'_>) -> Step {
    match ctx.app.config.identifier_first {
        Some(_) => Step::Identifier,
        None => Step::Password,
    }
}

/// What the page for the name is told beside what all pages are.
pub(crate) fn page_params(step: Step) -> Vec<(String, String)> {
    match step {
        Step::Identifier => pairs(&[("inputType", "idf")]),
        Step::Custom | Step::Options | Step::Password | Step::Totp => Vec::new(),
    }
}

/// The login with the name known: what comes next. `None` without a name.
pub(crate) fn named(ctx: &Ctx<'_>, mut flow: Flow, username: &str) -> Option<Flow> {
    if username.is_empty() {
        return None;
    }
    flow.identifier = Some(username.to_owned());
    flow.step = match ctx.app.config.identifier_first {
        Some(AfterIdentifier::Code) => Step::Totp,
        Some(AfterIdentifier::Password) | None => Step::Password,
    };
    Some(flow)
}

/// The answer to the form with the name.
pub(crate) fn answer(ctx: &Ctx<'_>, flow: Flow, username: &str) -> Response {
    match named(ctx, flow.clone(), username) {
        Some(flow) => login::next_page(ctx, &flow, &[]),
        None => {
            let failure = [
                ("authFailure", "true"),
                ("authFailureMsg", "username.fail.message"),
            ];
            login::next_page(ctx, &flow, &pairs(&failure))
        }
    }
}

/// Whose password is sent; nobody's, where it is another name than the one that the login began with.
pub(crate) fn agreed<'a>(flow: &Flow, username: &'a str) -> &'a str {
    match &flow.identifier {
        Some(identifier) if identifier != username => "",
        Some(_) | None => username,
    }
}

/// Whose code is sent.
pub(crate) fn user(flow: &Flow) -> String {
    let user = flow.user.as_ref().map(|user| user.username.clone());
    user.or_else(|| flow.identifier.clone()).unwrap_or_default()
}
