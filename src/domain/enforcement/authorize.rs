//! What becomes of an authorize request under a demand: sent round with the demand added, forwarded with it, forwarded as
//! it is, or answered with a page. Pure; nothing that a client wrote decides where anybody is sent.

use crate::domain::enforcement::PlanInput;
use crate::domain::enforcement::RejectionKind;
use crate::domain::enforcement::step_up::FixedRequests;
use crate::domain::enforcement::step_up::Style;

/// Logins without a proof after which a browser is not asked again.
pub(super) const FAILED_MAX: u8 = 2;

/// What an authorize request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizeFacts<'a> {
    /// `acr_values`.
    pub acr_values: Option<&'a str>,
    /// `max_age`.
    pub max_age: Option<&'a str>,
    /// `prompt`.
    pub prompt: Option<&'a str>,
    /// Whether the parameters are in a pushed or signed object, which cannot be changed.
    pub fixed: bool,
    /// Whether the answer is wanted as JSON: then the client cannot be sent anywhere.
    pub direct: bool,
    /// The parameters of the body, where there is one.
    pub body: Option<&'a [(String, String)]>,
    /// Whether a session is presented that must be proved again.
    pub reprove: bool,
}

/// A changed request: everything that is not named here stays as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// The target.
    pub target: String,
    /// The form in the body, where there is one.
    pub body: Option<String>,
}

/// What becomes of the request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// It goes on as it is; the verdict header says the rest.
    AsIs,
    /// It is answered here.
    Reject(RejectionKind),
    /// The browser is sent to this URL of our own.
    Redirect(String),
    /// It goes on like this.
    Rewrite(Changed),
}

/// What becomes of the request of `input`, of which a stronger factor is demanded.
pub(super) fn step(input: &PlanInput<'_>) -> Step {
    let facts = &input.authorize;
    let settings = input.step_up;
    if input.continues {
        return Step::AsIs;
    }
    if facts.fixed {
        return match settings.fixed_requests {
            FixedRequests::Header => Step::AsIs,
            FixedRequests::Refuse => Step::Reject(RejectionKind::StepUpHidden),
        };
    }
    let silent = words(facts.prompt).any(|word| word == "none");
    // Nobody sees a page behind a silent request; it ends in an error of the identity server's own.
    if input.failed >= FAILED_MAX && !silent {
        return Step::Reject(RejectionKind::StepUpLooped);
    }
    if matches!(input.style, Style::Header | Style::Action) {
        return Step::AsIs;
    }
    let Some(changes) = changes(input, silent) else {
        return Step::AsIs;
    };
    let can_be_sent = !facts.direct;
    send(input, &changes, silent, can_be_sent)
}

/// The request with these changes: sent round, or forwarded where the browser cannot be sent, until that has been done
/// too often.
pub(super) fn send(
    input: &PlanInput<'_>,
    changes: &[(&'static str, String)],
    silent: bool,
    can_be_sent: bool,
) -> Step {
    let redirects_max = input.step_up.redirects_max;
    let loops = (input.sent >= redirects_max && input.failed > 0)
        || input.sent >= redirects_max.saturating_mul(2);
    if loops && !silent {
        return Step::Reject(RejectionKind::StepUpLooped);
    }
    let changed = change(input.target, input.authorize.body, changes);
    let is_sent = can_be_sent
        && !silent
        && input.style == Style::Redirect
        && input.method == "GET"
        && input.sent < redirects_max;
    if is_sent {
        Step::Redirect(changed.target)
    } else {
        Step::Rewrite(changed)
    }
}

/// The parameters to set; `None` when the request asks for all of it already.
fn changes(input: &PlanInput<'_>, silent: bool) -> Option<Vec<(&'static str, String)>> {
    let facts = &input.authorize;
    let settings = input.step_up;
    let asks = words(facts.acr_values).any(|word| word == settings.acr);
    let age = facts.max_age.and_then(|age| age.parse::<u64>().ok());
    // A session must not answer in silence: an age of nothing lets it answer that interaction is needed.
    let wanted_age = match (silent, age) {
        (true, _) => 0,
        (false, Some(age)) => age.min(settings.max_age_seconds),
        (false, None) => settings.max_age_seconds,
    };
    let logs_in = words(facts.prompt).any(|word| word == "login");
    let prompts = facts.reprove && !silent && !logs_in;
    if asks && age == Some(wanted_age) && !prompts {
        return None;
    }
    let acr = match facts.acr_values.map(str::trim) {
        Some(values) if asks => values.to_owned(),
        Some(values) if !values.is_empty() => format!("{} {values}", settings.acr),
        _ => settings.acr.clone(),
    };
    let mut changes = vec![("acr_values", acr), ("max_age", wanted_age.to_string())];
    if prompts {
        let kept = words(facts.prompt);
        let prompt: Vec<&str> = kept.chain(["login"]).collect();
        changes.push(("prompt", prompt.join(" ")));
    }
    Some(changes)
}

fn words(value: Option<&str>) -> impl Iterator<Item = &str> {
    value.unwrap_or_default().split_ascii_whitespace()
}

/// The request with these parameters set, in the body where there is one. Every other parameter of the query stays byte
/// for byte; a body is written anew from what was read of it, so that it cannot be read in another way.
fn change(
    target: &str,
    body: Option<&[(String, String)]>,
    changes: &[(&'static str, String)],
) -> Changed {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_set = |name: &str| changes.iter().any(|(set, _)| *set == name);
    let mut pairs: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter(|pair| {
            // By the decoded name: `acr%5Fvalues` is the same parameter to the identity server.
            let name = form_urlencoded::parse(pair.as_bytes()).next();
            !name.is_some_and(|(name, _)| is_set(&name))
        })
        .collect();
    let mut added = form_urlencoded::Serializer::new(String::new());
    if let Some(body) = body {
        added.extend_pairs(body.iter().filter(|(name, _)| !is_set(name)));
    }
    let added = added.extend_pairs(changes).finish();
    if body.is_none() {
        pairs.push(&added);
    }
    let query = pairs.join("&");
    let target = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    };
    Changed {
        target,
        body: body.is_some().then_some(added),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(acr: &str) -> Vec<(&'static str, String)> {
        vec![
            ("acr_values", acr.to_owned()),
            ("max_age", "300".to_owned()),
        ]
    }

    #[test]
    fn other_parameters_stay_byte_for_byte() {
        let changed = change(
            "/oauth2/authorize?a=%20&b=+&acr_values=x&c",
            None,
            &set("mfa"),
        );
        assert_eq!(
            changed.target,
            "/oauth2/authorize?a=%20&b=+&c&acr_values=mfa&max_age=300"
        );
        assert_eq!(changed.body, None);
    }

    #[test]
    fn an_encoded_name_is_the_same_parameter() {
        let changed = change(
            "/oauth2/authorize?acr%5Fvalues=x&max%5fage=9",
            None,
            &set("mfa"),
        );
        assert_eq!(
            changed.target,
            "/oauth2/authorize?acr_values=mfa&max_age=300"
        );
    }

    #[test]
    fn a_form_is_written_anew_and_the_query_keeps_nothing_of_it() {
        let body = [
            ("client_id".to_owned(), "a b&c".to_owned()),
            ("max_age".to_owned(), "9".to_owned()),
        ];
        let changed = change(
            "/oauth2/authorize?acr_values=x&state=%2f",
            Some(&body),
            &set("mfa"),
        );
        assert_eq!(changed.target, "/oauth2/authorize?state=%2f");
        assert_eq!(
            changed.body.as_deref(),
            Some("client_id=a+b%26c&acr_values=mfa&max_age=300")
        );
    }
}
