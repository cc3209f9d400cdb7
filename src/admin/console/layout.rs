//! What all pages have: head, navigation, who is signed in; and small parts that several pages show.

use crate::admin::console::Signed;
use crate::admin::console::TOKEN_FIELD;
use crate::admin::console::assets;
use crate::admin::console::label::Labels;
use crate::domain::printable;
use crate::domain::trail::Entry;
use crate::domain::trail::sentence;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use maud::DOCTYPE;
use maud::Markup;
use maud::html;
use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;

/// The pages in the navigation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Decisions,
    Overview,
    Review,
    Monitor,
    Model,
    Policy,
    Rollout,
    Sessions,
    /// On none of them.
    Elsewhere,
}

const NAVIGATION: [(Place, &str, &str); 7] = [
    (Place::Decisions, "/console", "Decisions"),
    (Place::Overview, "/console/overview", "Overview"),
    (Place::Review, "/console/review", "Review"),
    (Place::Monitor, "/console/monitor", "Monitor report"),
    (Place::Model, "/console/model", "Model"),
    (Place::Policy, "/console/policy", "Policy"),
    (Place::Rollout, "/console/rollout", "Rollout"),
];

/// What was wrong, as the page without a navigation says it: whoever is signed in gets the same with one.
#[derive(Clone)]
struct Failure {
    title: String,
    body: Markup,
}

/// A whole page for somebody who is signed in.
pub(super) fn page(signed: &Signed, place: Place, title: &str, body: Markup) -> Response {
    document(
        StatusCode::OK,
        title,
        html! {},
        navigation(signed, place),
        body,
    )
}

/// An answer to somebody who is signed in: where it says what was wrong, the other pages are a step away as on any page.
pub(super) fn with_navigation(signed: &Signed, mut response: Response) -> Response {
    if let Some(Failure { title, body }) = response.extensions_mut().remove::<Failure>() {
        let top = navigation(signed, Place::Elsewhere);
        *response.body_mut() = text(&title, html! {}, top, body).into();
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

fn navigation(signed: &Signed, place: Place) -> Markup {
    let is_admin = signed.role >= crate::domain::operator::roster::Role::Admin;
    html! {
        header class="top" {
            strong { "riskgate" }
            nav aria-label="Pages" {
                ul {
                    @for (other, path, name) in NAVIGATION {
                        li { a href=(path) aria-current=[(other == place).then_some("page")] { (name) } }
                    }
                    @if is_admin {
                        li { a href="/console/sessions" aria-current=[(place == Place::Sessions).then_some("page")] { "Sessions" } }
                    }
                }
            }
            form method="post" action="/console/sign-out" {
                (token(signed))
                span { (signed.session.operator.name()) " (" (signed.role) ")" }
                button { "Sign out" }
            }
        }
    }
}

/// A page for whoever asks.
pub(super) fn open_page(status: StatusCode, title: &str, body: Markup) -> Response {
    document(status, title, html! {}, html! {}, body)
}

/// A page that leads on by itself, without a script, and by its link where the browser does not.
pub(super) fn onward_page(title: &str, to: &str, link: &str) -> Response {
    let onward = format!("0;url={to}");
    let head = html! { meta http-equiv="refresh" content=(onward); };
    let body = html! {
        h1 { (title) }
        p { a href=(to) { (link) } }
    };
    document(StatusCode::OK, title, head, html! {}, body)
}

/// Where a page that says what was wrong leads, and what that is called.
pub(super) const TO_THE_DECISIONS: (&str, &str) = ("/console", "To the decisions");

/// A page that says what was wrong.
pub(super) fn failed(status: StatusCode, title: &str, text: &str) -> Response {
    failed_at(status, title, text, TO_THE_DECISIONS)
}

/// The same with another way on: where it leads, and what it is called.
pub(super) fn failed_at(
    status: StatusCode,
    title: &str,
    text: &str,
    way_on: (&'static str, &str),
) -> Response {
    failed_with(status, title, text, way_on, html! {})
}

fn failed_with(
    status: StatusCode,
    title: &str,
    text: &str,
    (to, link): (&'static str, &str),
    more: Markup,
) -> Response {
    let body = html! {
        h1 { (title) }
        p { (text) }
        p { a href=(to) { (link) } }
        (more)
    };
    let mut response = open_page(status, title, body.clone());
    response.extensions_mut().insert(Failure {
        title: title.to_owned(),
        body,
    });
    response
}

/// The same for a form that was not taken, with the text that somebody has written into it: the browser would not have it
/// back (nothing here may be stored).
pub(super) fn not_taken(
    status: StatusCode,
    title: &str,
    text: &str,
    written: &str,
    way_on: (&'static str, &str),
) -> Response {
    /// A policy is longer than this, a reason shorter.
    const ROWS_MAX: usize = 20;
    let rows = (written.lines().count() + 1).min(ROWS_MAX);
    let back = html! {
        @if !written.is_empty() {
            label for="written" { "What you have written, to copy it from here" }
            textarea id="written" rows=(rows) readonly { "\n" (written) }
        }
    };
    failed_with(status, title, text, way_on, back)
}

/// The page for records that could not be read.
pub(super) fn unread() -> Response {
    failed(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something went wrong",
        "The records could not be read. Load the page again; if that does not help, the log of the gateway says why.",
    )
}

fn document(status: StatusCode, title: &str, head: Markup, top: Markup, body: Markup) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        text(title, head, top, body),
    )
        .into_response()
}

fn text(title: &str, head: Markup, top: Markup, body: Markup) -> String {
    let version = assets::VERSION.as_str();
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                meta name="robots" content="noindex";
                title { (title) " - riskgate" }
                link rel="stylesheet" href={ "/console/assets/console.css?v=" (version) };
                (head)
                link rel="icon" href="data:,";
                script src={ "/console/assets/console.js?v=" (version) } defer {}
            }
            body {
                a class="skip" href="#content" { "To the content" }
                (top)
                main id="content" { (body) }
                footer {
                    "Times are UTC. Users and addresses are pseudonyms. Places and network operators: "
                    a href="https://db-ip.com" rel="noreferrer" { "IP Geolocation by DB-IP" }
                }
            }
        }
    };
    // Whatever a record says, it changes neither direction nor look of what is around it. Ends of lines of a file from
    // elsewhere are ends of lines.
    printable::lines(&text.into_string().replace("\r\n", "\n")).into_owned()
}

/// The hidden field of every form.
pub(super) fn token(signed: &Signed) -> Markup {
    html! { input type="hidden" name=(TOKEN_FIELD) value=(signed.session.form_token); }
}

/// Enter in a field presses the first button of a form. Where buttons say opposite things, that is this one, which does
/// nothing: who has typed a reason is not taken to mean the button that happens to stand first.
pub(super) fn no_enter() -> Markup {
    html! { button disabled hidden { "Press a button" } }
}

/// A code as a badge: its text says what its colour says.
pub(super) fn badge(code: &str) -> Markup {
    html! { span class={ "badge " (code) } { (words(code)) } }
}

/// A code with its underscores as spaces.
pub(super) fn words(code: &str) -> String {
    code.replace('_', " ")
}

/// What a record says of browser or system, as one would say it; of what could not be read it has codes.
pub(super) fn agent(said: &str) -> &str {
    match said {
        "UNKNOWN" => "not recognized",
        "none" => "not named",
        other => other,
    }
}

/// What a record says of a device, in words.
pub(super) fn device(said: &str) -> &str {
    match said {
        "known" => "known to this user",
        "none" => "no device cookie",
        "foreign" => "of others, or forged",
        other => other,
    }
}

/// A message or a name with a capital letter in front.
pub(super) fn first_upper(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), rest.as_str())
}

/// A moment, without its date's `T` and its fractions.
pub(super) fn moment(time: &str) -> Markup {
    let shown = time.get(..19).unwrap_or(time).replace('T', " ");
    html! { time datetime=(time) { (shown) } }
}

/// The path of a decision.
pub(super) fn decision_path(id: &str) -> String {
    format!("/console/decisions/{}", encoded(id))
}

/// The path of a user.
pub(super) fn user_path(subject: &str) -> String {
    format!("/console/users/{}", encoded(subject))
}

/// Text as a part of a path or a query.
pub(super) fn encoded(text: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
    utf8_percent_encode(text, PLAIN).to_string()
}

/// The front of a pseudonym, which is enough to tell users apart on a page.
pub(super) fn front(subject: &str) -> &str {
    subject.get(..10).unwrap_or(subject)
}

/// Reasons: the first ones in words.
pub(super) fn reasons(codes: &[String], most: usize) -> Markup {
    html! {
        @for (number, code) in codes.iter().take(most).enumerate() {
            @if number > 0 { "; " }
            (sentence(code))
        }
        @if codes.len() > most { "; " (codes.len() - most) " more" }
    }
}

/// A percentage with one decimal; a dash of nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// A number with groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A table of records, the latest first; with `labels` also what analysts know of them, and where they are `of_fleet` the
/// nodes that wrote them.
pub(super) fn table(
    entries: &[Entry],
    caption: &str,
    labels: Option<&Labels>,
    of_fleet: bool,
) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table class="decisions" {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "Time (UTC)" }
                    th scope="col" { "Verdict" }
                    th scope="col" class="number" { "Score" }
                    th scope="col" { "Level" }
                    th scope="col" { "Door" }
                    th scope="col" { "Application" }
                    th scope="col" { "User" }
                    th scope="col" { "From" }
                    th scope="col" { "Reasons" }
                    th scope="col" { "Done" }
                    th scope="col" { "Outcome" }
                    @if of_fleet { th scope="col" { "Node" } }
                    @if labels.is_some() { th scope="col" { "Confirmed" } }
                } }
                tbody {
                    @for entry in entries { (row(entry, labels, of_fleet)) }
                }
            }
        }
    }
}

fn row(entry: &Entry, labels: Option<&Labels>, of_fleet: bool) -> Markup {
    let verdict = match (&entry.verdict, &entry.operator) {
        (Some(verdict), _) => badge(verdict),
        (None, Some(_)) => badge("operator"),
        (None, None) => html! { "-" },
    };
    html! {
        tr {
            td class="time" { a href=(decision_path(&entry.id)) { (moment(&entry.time)) } }
            td { (verdict) }
            td class="number" { @match entry.score { Some(score) => { (score) } None => { "-" } } }
            td {
                @match (entry.level.as_deref(), entry.status.as_deref()) {
                    (Some(level), _) => (badge(level)),
                    (None, Some("unscored")) => (badge("unscored")),
                    _ => "-",
                }
            }
            td { (words(entry.door.as_deref().unwrap_or(&entry.class))) }
            td { (entry.client_id.as_deref().unwrap_or("-")) }
            td {
                @match &entry.subject {
                    Some(subject) => { a href=(user_path(subject)) { code { (front(subject)) } } }
                    None => "-",
                }
            }
            td {
                bdi { (entry.country.as_deref().unwrap_or("-")) }
                @if let Some(network) = &entry.network { " " span class="soft" { (network) } }
            }
            td { (reasons(&entry.reasons, 2)) }
            td {
                (words(&entry.action))
                @if let Some(mode) = entry.mode.as_deref().filter(|mode| *mode != "enforce") { " " span class="soft" { "(" (mode) ")" } }
            }
            td { (words(&entry.outcome)) }
            @if of_fleet { td { (entry.node().unwrap_or("-")) } }
            @if let Some(labels) = labels {
                td { @match labels.get(&entry.id) { Some(label) => (badge(label.label.as_str())), None => "-" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::trail::Writer;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1_000, 1_234_567].map(grouped)[..]
        );
        assert_eq!(
            (percent(1, 3).as_str(), percent(0, 0).as_str()),
            ("33.3 %", "-")
        );
    }

    #[test]
    fn what_comes_from_records_cannot_leave_its_place() {
        let hostile = "\"><script>alert(1)</script>&'\u{202e}";
        let entry = Entry {
            id: hostile.to_owned(),
            time: hostile.to_owned(),
            class: hostile.to_owned(),
            door: Some(hostile.to_owned()),
            client_id: Some(hostile.to_owned()),
            subject: Some(hostile.to_owned()),
            country: Some(hostile.to_owned()),
            network: Some(hostile.to_owned()),
            level: Some(hostile.to_owned()),
            verdict: Some(hostile.to_owned()),
            mode: Some(hostile.to_owned()),
            reasons: vec![hostile.to_owned(); 3],
            action: hostile.to_owned(),
            outcome: hostile.to_owned(),
            chain: Writer {
                node: hostile.to_owned(),
            },
            ..Entry::default()
        };
        let text = table(&[entry], hostile, None, true).into_string();
        assert!(
            !text.contains("<script") && !text.contains("\"><s"),
            "{text}"
        );
        assert!(text.contains("&lt;script&gt;"));
    }
}
