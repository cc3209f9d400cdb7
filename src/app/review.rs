//! `riskgate review list | release | refuse`: speaks to the listener of the gateway that runs, since the queue is in its
//! hands. One request, one answer, both bounded.

use crate::app::RunError;
use crate::app::admin_client::Question;
use crate::app::admin_client::ask_with_token;
use crate::app::admin_client::foreign;
use crate::app::admin_client::wrong;
use crate::config::Config;
use crate::domain::review::Answer;
use crate::domain::review::Listing;
use crate::domain::review::TEXT_MAX;
use crate::domain::review::printable;
use crate::domain::review::too_long;

/// What was said about a held login.
#[derive(Debug)]
pub enum Said {
    /// It is done: the whole id.
    Done(String),
    /// There is no such login, or it has been decided otherwise: why.
    Nothing(String),
}

/// The queue: those that wait, or all.
pub fn list(config: &Config, all: bool) -> Result<Listing, RunError> {
    let path = if all { "/review?all=true" } else { "/review" };
    let (status, body) = exchange(config, "GET", path, "", "")?;
    match status {
        200 => Listing::parse(&body).ok_or_else(|| foreign(config)),
        _ => Err(refused(config, status, &body)),
    }
}

/// Releases or refuses the login whose id is, or begins with, `id`.
pub fn decide(
    config: &Config,
    id: &str,
    is_release: bool,
    operator: &str,
    reason: &str,
) -> Result<Said, RunError> {
    // Anything else could not be an id, and must not become part of a path.
    if id.is_empty() || id.len() > 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong(
            "ID",
            &format!(
                "`{}`: expected the digits that `riskgate review list` prints",
                printable(id)
            ),
        ));
    }
    if let Some(length) = too_long(reason.trim()) {
        let problem = format!("{length} characters, expected at most {TEXT_MAX}");
        return Err(wrong("--reason", &problem));
    }
    let word = if is_release { "release" } else { "refuse" };
    let path = format!("/review/{id}/{word}");
    let (status, body) = exchange(config, "POST", &path, operator, reason)?;
    let answer = Answer::parse(&body).unwrap_or_default();
    match (status, answer.id, answer.error) {
        (200, Some(id), _) => Ok(Said::Done(printable(&id))),
        (404 | 409, _, Some(error)) => Ok(Said::Nothing(printable(&error))),
        _ => Err(refused(config, status, &body)),
    }
}

fn exchange(
    config: &Config,
    method: &str,
    path: &str,
    operator: &str,
    body: &str,
) -> Result<(u16, String), RunError> {
    // A name goes into a header: what cannot be sent there is left out.
    let operator: String = printable(operator)
        .chars()
        .map(|c| if c.is_ascii() { c } else { '?' })
        .collect();
    let headers = format!("X-Riskgate-Operator: {operator}\r\n");
    let question = Question {
        method,
        path,
        headers: &headers,
        body,
    };
    ask_with_token(config, question)
}

/// The gateway has answered, and not with what was asked for.
pub(in crate::app) fn refused(config: &Config, status: u16, body: &str) -> RunError {
    let said = Answer::parse(body).and_then(|answer| answer.error);
    match status {
        401 => wrong(
            "admin.token_file",
            &format!(
                "the gateway does not take the token in `{}`; use the one of the gateway that runs (--data or --config), or \
                 restart the gateway after exchanging it",
                config.token_file().display()
            ),
        ),
        503 => RunError::System(format!(
            "the gateway cannot reach its store: {}; try again",
            said.as_deref()
                .map_or_else(|| "no reason given".to_owned(), printable)
        )),
        _ => wrong(
            "admin.listen",
            &format!(
                "the gateway answers {status}: {}",
                said.as_deref()
                    .map_or_else(|| "no reason given".to_owned(), printable)
            ),
        ),
    }
}
