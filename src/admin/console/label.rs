//! What an analyst knows of a decision afterwards: the user's own, or somebody else's. The same word as that of `riskgate label`.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::layout;
use crate::domain::label::Label;
use crate::domain::label::NAME_CHARS_MAX;
use crate::domain::label::NOTE_CHARS_MAX;
use crate::domain::label::Truth;
use crate::domain::operator::roster::Role;
use crate::flow::desk::sessions::EndResult;
use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use maud::Markup;
use maud::html;
use std::collections::HashMap;
use std::sync::Arc;

/// The value of the field `sessions` that ends them.
pub(in crate::admin) const ENDS: &str = "end";

/// Labels by decision.
pub(in crate::admin) type Labels = HashMap<String, Label>;

/// What somebody says of a decision who may.
#[derive(Clone, Copy, Debug)]
pub(in crate::admin) struct Word<'w> {
    pub(in crate::admin) operator: &'w str,
    pub(in crate::admin) truth: Truth,
    /// Of an attack: which.
    pub(in crate::admin) kind: &'w str,
    pub(in crate::admin) note: &'w str,
    /// Of an attack: whether the sessions of the user are to end.
    pub(in crate::admin) ends_sessions: bool,
}

/// A word that counts.
#[derive(Debug)]
pub(in crate::admin) struct Kept {
    pub(in crate::admin) label: Label,
    /// It was not said before.
    pub(in crate::admin) is_new: bool,
}

/// Why a word is not kept.
#[derive(Debug)]
pub(in crate::admin) enum NotKept {
    /// No decision has the id.
    Unknown,
    /// The records cannot be read.
    Unread,
    /// The labels cannot be written.
    Unwritten(std::io::Error),
}

/// Reads what is said in a form or by a program.
pub(in crate::admin) fn truth(text: &str) -> Option<Truth> {
    let all = [Truth::Safe, Truth::Compromised];
    all.into_iter().find(|truth| truth.as_str() == text)
}

/// Keeps a word of somebody who may say it, leaves a record where it is new, and ends sessions where it asks for that.
pub(in crate::admin) async fn keep(
    console: &Console,
    id: &str,
    word: Word<'_>,
) -> Result<Kept, NotKept> {
    if id.len() > super::decision::ID_BYTES_MAX {
        return Err(NotKept::Unknown);
    }
    let asked = id.to_owned();
    let found = console.read(move |trail, _| trail.find(&asked)).await;
    let found = found.ok_or(NotKept::Unread)?.map(|found| found.event);
    let event = found.filter(|event| event.verdict.is_some());
    let event = event.ok_or(NotKept::Unknown)?;
    let said = Label::of_analyst(
        &event.id,
        word.truth,
        word.operator,
        Some(word.kind).filter(|_| word.truth.is_attack()),
        Some(word.note),
        console.now().to_rfc3339(),
    );
    let (book, flow) = (Arc::clone(&console.labels), Arc::clone(&console.flow));
    let ends = word.truth.is_attack() && word.ends_sessions;
    let operator = word.operator.to_owned();
    // A task of its own: whoever asks may go away in the middle, and the word would be kept and the sessions go on.
    let kept = tokio::spawn(async move {
        let recorder = Arc::clone(&flow);
        let written = tokio::task::spawn_blocking(move || {
            let is_new = book.add(&said)?;
            if is_new {
                recorder.record_label(&said);
            }
            // What was said already keeps its time.
            let known = book.of(&[said.id.as_str()])?.remove(&said.id);
            Ok::<_, std::io::Error>(Kept {
                label: known.unwrap_or(said),
                is_new,
            })
        });
        let kept = written.await.map_err(|_| NotKept::Unread)?;
        let kept = kept.map_err(NotKept::Unwritten)?;
        if ends {
            flow.end_sessions(&kept.label.id, None, Some(&operator), kept.is_new);
        }
        Ok(kept)
    });
    kept.await.map_err(|_| NotKept::Unread)?
}

/// `POST /console/decisions/{id}/label`.
pub(super) async fn say(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Extension(fields): Extension<Fields>,
    Path(id): Path<String>,
) -> Response {
    let Some(truth) = truth(fields.get("truth")) else {
        return not_kept(StatusCode::BAD_REQUEST, "Expected safe or compromised.");
    };
    if fields.get("note").trim().is_empty() {
        return not_kept(
            StatusCode::BAD_REQUEST,
            "A reason is missing: say how you know, for those who come later.",
        );
    }
    let word = Word {
        operator: signed.session.operator.name(),
        truth,
        kind: fields.get("kind"),
        note: fields.get("note"),
        ends_sessions: fields.get("sessions") == ENDS,
    };
    match keep(&console, &id, word).await {
        Ok(kept) => {
            let path = layout::decision_path(&kept.label.id);
            Redirect::to(&format!("{path}?done=label#label")).into_response()
        }
        Err(NotKept::Unread) => layout::unread(),
        Err(NotKept::Unknown) => not_kept(StatusCode::NOT_FOUND, "No decision has this id."),
        Err(NotKept::Unwritten(error)) => not_kept(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("The labels cannot be written: {error}."),
        ),
    }
}

/// The labels of some decisions. What cannot be read shows as none; the log says why.
pub(in crate::admin) async fn of(console: &Console, ids: Vec<String>) -> Labels {
    let book = Arc::clone(&console.labels);
    let found = tokio::task::spawn_blocking(move || {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        book.of(&ids)
    });
    match found.await {
        Ok(Ok(labels)) => labels,
        Ok(Err(error)) => {
            tracing::warn!(%error, "labels cannot be read");
            Labels::new()
        }
        Err(_) => Labels::new(),
    }
}

/// What is known of a decision, and for those who may the form that says it.
pub(super) fn section(signed: &Signed, id: &str, label: Option<&Label>, is_done: bool) -> Markup {
    let sessions = &signed.sessions;
    html! {
        h2 id="label" { "What it was" }
        @match label {
            Some(label) => {
                p role=[is_done.then_some("status")] {
                    "Confirmed " (layout::badge(label.label.as_str())) " by " strong { bdi { (label.operator.as_deref().unwrap_or("-")) } }
                    " at " (layout::moment(&label.time))
                    @if let Some(kind) = &label.attacker_kind { ", " bdi { (kind) } }
                    @if let Some(note) = &label.note { ": " bdi { (note) } }
                }
            }
            None => { p class="soft" { "Nobody has confirmed whether it was the user." } }
        }
        @if let Some(ending) = sessions.ending(id) {
            p role=[is_done.then_some("status")] { (what_became(ending.result)) " (" (layout::moment(&ending.at.to_rfc3339())) ")" }
        }
        @if signed.role >= Role::Analyst {
            form method="post" action={ (layout::decision_path(id)) "/label" } {
                (layout::token(signed))
                (layout::no_enter())
                p class="actions" {
                    label for="label-note" { "How you know, for the record"
                        input id="label-note" type="text" name="note" size="36" maxlength=(NOTE_CHARS_MAX) required;
                    }
                    label for="label-kind" { "Kind of attack, if it was one"
                        input id="label-kind" type="text" name="kind" size="14" maxlength=(NAME_CHARS_MAX) autocapitalize="none";
                    }
                }
                @if sessions.is_on() {
                    p {
                        label {
                            input type="checkbox" name="sessions" value=(ENDS) checked;
                            " If compromised, end the sessions of this user at WSO2"
                        }
                    }
                }
                p class="actions" {
                    button name="truth" value="safe" { "Confirm safe" }
                    button name="truth" value="compromised" { "Confirm compromised" }
                }
            }
        }
    }
}

/// What became of the sessions, and what to do where they go on.
fn what_became(result: Option<EndResult>) -> &'static str {
    match result {
        None => {
            "The sessions of this user at WSO2 are being ended: load the page again to see what came of it."
        }
        Some(EndResult::Ended) => "The sessions of this user at WSO2 were ended.",
        Some(EndResult::None) => "The user was not signed in at WSO2: there was no session to end.",
        Some(EndResult::Forgotten) => {
            "The sessions at WSO2 were not ended: this node does not know, or no longer, who the user is. It remembers whoever signed in through it with a password, until 24 hours after their latest request or its own restart. End the sessions in WSO2's console."
        }
        Some(EndResult::UnknownUser) => {
            "The sessions at WSO2 were not ended: it finds no user, or more than one, by the name with which this one signed in. End the sessions in WSO2's console."
        }
        Some(EndResult::Refused) => {
            "The sessions at WSO2 were not ended: it refused. The client in upstream.management needs the right secret and the scopes internal_user_mgt_list, internal_session_view and internal_session_delete in the user's tenant. Then confirm again, or end the sessions in WSO2's console."
        }
        Some(EndResult::Away) => {
            "The sessions at WSO2 were not ended: it did not answer, three times. Confirm again, or end the sessions in WSO2's console."
        }
        Some(EndResult::Busy) => {
            "The sessions at WSO2 were not ended: those of too many others are being ended. Confirm again in a moment."
        }
    }
}

fn not_kept(status: StatusCode, text: &str) -> Response {
    layout::failed(status, "Not kept", text)
}
