//! Steps with several options: the page on which one is picked is the login page, also after the password. Who picks a
//! passkey gets its page. It must not check credentials.

use crate::app::Ctx;
use crate::app::pairs;
use crate::authorize::BASIC;
use crate::authorize::TOTP;
use crate::identifier::IDENTIFIER;
use crate::login;
use crate::provider;
use crate::request::Params;
use crate::response::Response;
use crate::store::Flow;
use crate::store::Step;

/// Name of the authenticator for passkeys.
pub(crate) const PASSKEY: &str = "FIDOAuthenticator";

/// The step after the password.
pub(crate) fn second_step(ctx: &Ctx<'_>) -> Step {
    if ctx.app.config.offers_passkeys {
        Step::Options
    } else {
        Step::Totp
    }
}

/// The authenticators that a step leaves to choose from.
pub(crate) fn of(ctx: &Ctx<'_>, step: Step) -> &'static [&'static str] {
    match step {
        Step::Identifier => &[IDENTIFIER],
        Step::Password if ctx.app.config.offers_passkeys => &[BASIC, PASSKEY],
        Step::Password => &[BASIC],
        Step::Options => &[TOTP, PASSKEY],
        Step::Custom | Step::Totp => &[TOTP],
    }
}

/// The page of a step, and what it is told in `authenticators`.
pub(crate) fn page(ctx: &Ctx<'_>, step: Step) -> (&'static str, String) {
    match step {
        Step::Custom | Step::Totp => ("totp.do", TOTP.to_owned()),
        Step::Identifier | Step::Options | Step::Password => {
            let options = of(ctx, step).iter();
            let options = options.map(|name| format!("{name}:LOCAL"));
            let options: Vec<_> = options.chain(provider::option(ctx, step)).collect();
            ("login.do", options.join(";"))
        }
    }
}

/// The answer where one of several options is picked; whatever else comes with that is read only if the option reads it.
pub(crate) fn picked(ctx: &Ctx<'_>, flow: &Flow, params: &Params) -> Option<Response> {
    let name = params
        .get("authenticator")
        .filter(|name| !name.is_empty())?;
    if !ctx.app.config.offers_passkeys {
        return None;
    }
    match name {
        PASSKEY => Some(ctx.to_page(
            "fido2-auth.jsp",
            &pairs(&[
                ("authenticators", "FIDOAuthenticator:LOCAL"),
                ("type", "fido"),
                ("sessionDataKey", &flow.key),
            ]),
        )),
        TOTP if flow.step == Step::Options && params.get("token").is_none() => {
            let mut flow = flow.clone();
            flow.step = Step::Totp;
            Some(login::next_page(ctx, &flow, &[]))
        }
        _ => None,
    }
}
