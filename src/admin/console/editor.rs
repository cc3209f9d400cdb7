//! The policy editor, for admins: the text of the policy file, checked and replayed before it can be saved, and earlier
//! versions that can be put back. What is saved is taken over by the reload that watches the file.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::draft;
use crate::admin::console::is_equal;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::domain::policy::POLICY_BYTES_MAX;
use crate::domain::policy::PolicySet;
use crate::domain::policy::editing::Finding;
use crate::domain::policy::editing::How;
use crate::domain::policy::editing::NOTE_CHARS_MAX;
use crate::domain::policy::editing::Replayed;
use crate::domain::policy::editing::check;
use crate::domain::policy::editing::digest_of;
use crate::domain::policy::editing::from_form;
use crate::domain::policy::editing::short;
use crate::domain::printable;
use crate::domain::review::printable as one_line;
use crate::flow::ports::Draft;
use crate::flow::ports::DraftError;
use crate::flow::ports::PolicyDesk;
use crate::flow::ports::PolicyText;
use axum::Extension;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use maud::Markup;
use maud::html;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The longest form with a draft, in bytes: every byte of the longest policy escaped, and the rest.
pub(super) const DRAFT_BYTES_MAX: usize = 3 * POLICY_BYTES_MAX + 16_384;
/// How long one waits for the draft of another to be looked at.
const WAIT: Duration = Duration::from_secs(10);

/// A draft that is being looked at.
struct Looked {
    text: String,
    /// Whether it may be saved as it is.
    is_good: bool,
    findings: Vec<Finding>,
    replayed: Option<Result<Replayed, String>>,
}

/// `GET /console/policy/edit`.
pub(super) async fn edit(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let said = match query.get("done") {
        "saved" => Some("Saved: a reload takes it over within two seconds."),
        "restored" => Some("Restored: a reload takes it over within two seconds."),
        _ => None,
    };
    let said = said.map(|text| html! { p class="notice" role="status" { (text) } });
    page(&console, &signed, StatusCode::OK, said, None, "").await
}

/// `POST /console/policy/check`: what the checker and the records say.
pub(super) async fn look(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Extension(fields): Extension<Fields>,
) -> Response {
    match looked(&console, &fields).await {
        Ok(draft) => {
            let note = fields.get("note");
            page(&console, &signed, StatusCode::OK, None, Some(draft), note).await
        }
        Err(answer) => answer,
    }
}

/// `POST /console/policy/save`: what was looked at, and nothing else.
pub(super) async fn save(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let text = from_form(fields.get("text"));
    let note = one_line(fields.get("note").trim());
    let refused = if !is_equal(&digest_of(&text), fields.get("checked")) {
        Some("The draft is not the one that was checked and replayed: look at what is said of it now, then save it.".to_owned())
    } else if note.is_empty() {
        Some("A note is missing: say why, for the record.".to_owned())
    } else {
        let base = fields.get("base").to_owned();
        match write(&console, &signed, text, base, note, How::Saved).await {
            Ok(()) => return Redirect::to("/console/policy/edit?done=saved").into_response(),
            Err(Some(error)) => Some(in_words(&error)),
            Err(None) => return busy(),
        }
    };
    let said =
        refused.map(|text| html! { p class="notice bad" role="alert" { "Not saved. " (text) } });
    match looked(&console, &fields).await {
        Ok(draft) => {
            let note = fields.get("note");
            page(
                &console,
                &signed,
                StatusCode::CONFLICT,
                said,
                Some(draft),
                note,
            )
            .await
        }
        Err(answer) => answer,
    }
}

/// `POST /console/policy/restore`: an earlier version as the present one, which is checked as any draft is.
pub(super) async fn restore(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let digest = fields.get("version").to_owned();
    let Some(found) = kept(&console, &digest).await else {
        return layout::unread();
    };
    let text = match found {
        Ok(Some(text)) => text,
        Ok(None) => return no_version(),
        Err(error) => return not_restored(&error),
    };
    let note = one_line(fields.get("note").trim());
    let base = fields.get("base").to_owned();
    match write(&console, &signed, text, base, note, How::Restored).await {
        Ok(()) => Redirect::to("/console/policy/edit?done=restored").into_response(),
        Err(Some(error)) => not_restored(&error),
        Err(None) => busy(),
    }
}

/// `GET /console/policy/versions/{digest}`: an earlier version beside what is in the file.
pub(super) async fn version(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Path(digest): Path<String>,
) -> Response {
    let found = kept(&console, &digest).await;
    let now = desk(&console, |desk| desk.read()).await;
    let (Some(found), Some(now)) = (found, now) else {
        return layout::unread();
    };
    let (text, now) = match (found, now) {
        (Ok(Some(text)), Ok(now)) => (text, now),
        (Ok(None), _) => return no_version(),
        (Err(error), _) | (_, Err(error)) => {
            return layout::failed(
                StatusCode::INTERNAL_SERVER_ERROR,
                "It cannot be read",
                &in_words(&error),
            );
        }
    };
    let on_disk = digest_of(&now.text);
    let body = html! {
        h1 { "Policy version " code { (short(&digest)) } }
        p { a href="/console/policy/edit" { "To the editor" } }
        @if on_disk == digest { p class="notice" { "This is what is in the file." } }
        @else {
            (draft::restore(&signed, &digest, &on_disk))
            (draft::difference(&now.text, &text, "What restoring it would change"))
        }
        details { summary { "The whole text" } pre { (text) } }
    };
    layout::page(&signed, Place::Policy, "Policy version", body)
}

/// The editor with a draft, or with what is in the file.
async fn page(
    console: &Console,
    signed: &Signed,
    status: StatusCode,
    said: Option<Markup>,
    looked: Option<Looked>,
    note: &str,
) -> Response {
    let read = desk(console, |desk| (desk.read(), desk.history())).await;
    let Some((now, versions)) = read else {
        return layout::unread();
    };
    let now = match now {
        Ok(now) => now,
        Err(error) => {
            return layout::failed(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The policy cannot be read",
                &in_words(&error),
            );
        }
    };
    let on_disk = digest_of(&now.text);
    let text = looked
        .as_ref()
        .map_or(now.text.as_str(), |looked| &looked.text);
    let is_good = looked.as_ref().is_some_and(|looked| looked.is_good) && text != now.text;
    // How its lines end is nothing that acts.
    let plain = text.replace("\r\n", "\n");
    let body = html! {
        h1 { "Edit the policy" }
        (state(console, &now, &on_disk))
        @if let Some(said) = said { (said) }
        @if let Some(looked) = &looked {
            (draft::findings(&looked.findings))
            @if let Some(replayed) = &looked.replayed { (draft::replay(replayed)) }
            (draft::difference(&now.text, &looked.text, "What it would change in the file"))
        }
        h2 { "Text" }
        @if printable::lines(&plain) != plain {
            p class="notice bad" { "The text has invisible characters; they show as escapes here, and would be saved as such." }
        }
        form method="post" action="/console/policy/check" class="editor" {
            (layout::token(signed))
            input type="hidden" name="base" value=(on_disk);
            @if is_good { input type="hidden" name="checked" value=(digest_of(text)); }
            label for="text" { "Policy, in TOML" }
            // The first end of a line belongs to the form and not to the text.
            textarea id="text" name="text" rows="28" spellcheck="false" autocapitalize="none" autocomplete="off" wrap="off"
                maxlength=(POLICY_BYTES_MAX) { "\n" (text) }
            @if now.file.is_some() {
                p class="actions" {
                    label for="note" { "Why, for the record"
                        input id="note" type="text" name="note" size="48" maxlength=(NOTE_CHARS_MAX) value=(note);
                    }
                    button class=[(!is_good).then_some("primary")] { "Check and replay" }
                    @if is_good { button class="primary" formaction="/console/policy/save" { "Save" } }
                }
            }
        }
        h2 id="versions" { "Versions" }
        @match &versions {
            Ok(versions) => { (draft::versions(signed, versions, &on_disk)) }
            Err(error) => { p class="notice bad" role="alert" { (in_words(error)) } }
        }
    };
    let mut answer = layout::page(signed, Place::Policy, "Edit the policy", body);
    *answer.status_mut() = status;
    answer
}

/// Which text is edited, what is in force, and why the file is not, where it is not.
fn state(console: &Console, now: &PolicyText, on_disk: &str) -> Markup {
    let snapshot = console.flow.snapshot();
    let in_force = snapshot.policy.version();
    let is_same = short(on_disk) == &**in_force;
    html! {
        @match &now.file {
            Some(file) => {
                p {
                    "This is the file " code { (file) } ", version " code { (short(on_disk)) } ". "
                    @if is_same { "It is in force." }
                    @else { "In force is " code { (in_force) } "; a reload takes the file over within two seconds." }
                }
            }
            None => {
                p class="notice" {
                    "No policy file is configured: the policy that is built in is in force. To change it, write it into a file and name that in "
                    code { "policy.file" } " of the configuration."
                }
            }
        }
        @if let Some(problems) = console.flow.rejected_reload() {
            div class="notice bad" role="alert" {
                p { "The latest reload was refused; what was in force before stays:" }
                ul { @for problem in problems.iter() { li { (problem) } } }
            }
        }
    }
}

/// Looks at the draft of a form: checker and records, one draft at a time.
async fn looked(console: &Console, fields: &Fields) -> Result<Looked, Response> {
    let text = from_form(fields.get("text"));
    let place = place(console).await.ok_or_else(busy)?;
    let looked = desk(console, move |desk| {
        let _place = place;
        let now = desk.read().ok();
        let present = now.and_then(|now| PolicySet::parse(&now.text).ok());
        let (_, findings) = check(&text, present.as_ref());
        let has_errors = findings.iter().any(|finding| finding.is_error);
        let replayed = (!has_errors).then(|| desk.replay(&text));
        let locks_out = |found: &Result<Replayed, String>| {
            found
                .as_ref()
                .map_or(true, |found| found.break_glass_new > 0)
        };
        Looked {
            is_good: replayed.as_ref().is_some_and(|found| !locks_out(found)),
            text,
            findings,
            replayed,
        }
    });
    looked.await.ok_or_else(layout::unread)
}

/// Writes a draft and leaves a record. `Err(None)` when others take too long.
async fn write(
    console: &Console,
    signed: &Signed,
    text: String,
    base: String,
    note: String,
    how: How,
) -> Result<(), Option<DraftError>> {
    let place = place(console).await.ok_or(None)?;
    let operator = signed.session.operator.name().to_string();
    let flow = Arc::clone(&console.flow);
    let at = console.now();
    let written = desk(console, move |desk| {
        let _place = place;
        let draft = Draft {
            text: &text,
            base: &base,
            how,
            operator: &operator,
            note: &note,
        };
        let from = desk.save(&draft, at)?;
        flow.record_policy(&draft, &from, &digest_of(&text));
        Ok(())
    });
    written.await.ok_or(None)?.map_err(Some)
}

/// The place of the one draft that is looked at. `None` when others take too long.
async fn place(console: &Console) -> Option<OwnedSemaphorePermit> {
    let place = Arc::clone(&console.desk.drafts).acquire_owned();
    let place = tokio::time::timeout(WAIT, place).await;
    place.ok()?.ok()
}

/// Asks the desk away from the threads of the listener. `None` when that thread failed.
async fn desk<T: Send + 'static>(
    console: &Console,
    ask: impl FnOnce(&dyn PolicyDesk) -> T + Send + 'static,
) -> Option<T> {
    let desk = Arc::clone(&console.policy);
    let asked = tokio::task::spawn_blocking(move || ask(desk.as_ref()));
    asked.await.ok()
}

async fn kept(console: &Console, digest: &str) -> Option<Result<Option<String>, DraftError>> {
    let digest = digest.to_owned();
    desk(console, move |desk| desk.version(&digest)).await
}

fn in_words(error: &DraftError) -> String {
    let more = match error {
        DraftError::Changed => {
            ": somebody else was quicker. What is shown below is the difference to what is there now; check it and save again if that is meant"
        }
        DraftError::Wrong(_) => ", which it has to be without",
        _ => "",
    };
    let text = format!("{error}{more}.");
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), chars.as_str())
}

fn not_restored(error: &DraftError) -> Response {
    let status = match error {
        DraftError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    };
    layout::failed(status, "Not restored", &in_words(error))
}

fn no_version() -> Response {
    layout::failed(
        StatusCode::NOT_FOUND,
        "No such version",
        "No version of the policy with this digest is kept: it may be too old.",
    )
}

fn busy() -> Response {
    layout::failed(
        StatusCode::SERVICE_UNAVAILABLE,
        "Busy",
        "Another draft is being looked at. Try again in a moment.",
    )
}
