//! The rollout: how far each application is enforced and for whom, how much of its friction budget is used, what has fallen
//! back, and who has changed what. Admins promote, approve and demote; everybody else looks.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::admin::rollout;
use crate::domain::operator::roster::Role;
use crate::domain::policy::decision::Mode;
use crate::domain::rollout_plan::TEXT_MAX;
use crate::domain::rollout_plan::status::ProposalStatus;
use crate::domain::rollout_plan::status::StageStatus;
use crate::domain::rollout_plan::status::Status;
use crate::domain::rollout_plan::status::scope_name;
use crate::domain::trail::Entry;
use crate::domain::trail::Filter;
use crate::flow::rollout::desk::RolloutError;
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

/// Changes that are shown.
const HISTORY_MAX: usize = 50;

/// `GET /console/rollout`; `application` and `tenant` in the query fill in the form.
pub(super) async fn show(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    RawQuery(query): RawQuery,
) -> Response {
    let flow = Arc::clone(&console.flow);
    let status = tokio::task::spawn_blocking(move || flow.rollout_status()).await;
    let history = console
        .read(|trail, goes_on| {
            let filter = Filter {
                class: Some("rollout".to_owned()),
                all: true,
                ..Filter::default()
            };
            trail.page(&filter, None, HISTORY_MAX, goes_on).entries
        })
        .await;
    let (Ok(status), Some(history)) = (status, history) else {
        return layout::unread();
    };
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let body = html! {
        h1 { "Rollout" }
        @match query.get("done") {
            "promote" => { p class="notice" role="status" { "Written: in force within two seconds, or once another operator has approved it." } }
            "approve" | "demote" => { p class="notice" role="status" { "Written: in force within two seconds." } }
            _ => {}
        }
        @match &status {
            Ok(status) => { (plan(&signed, status, &query)) }
            Err(RolloutError::NoPlan) => {
                p class="empty" {
                    "There is no rollout file: " code { "[mode]" } " of the configuration says whom verdicts are acted on for. "
                    "With " code { "rollout.file" } " stages, a friction budget and approvals take its place."
                }
            }
            Err(error) => { p class="notice bad" role="alert" { (error) ". The stages from before stay in force." } }
        }
        h2 { "History" }
        @if history.is_empty() { p class="soft" { "No change is on record." } } @else { (changes(&history)) }
    };
    layout::page(&signed, Place::Rollout, "Rollout", body)
}

/// `POST /console/rollout/{word}`.
pub(super) async fn change(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Extension(fields): Extension<Fields>,
    Path(word): Path<String>,
) -> Response {
    let wish = match rollout::wish(&word, |name| fields.get(name)) {
        Ok(wish) => wish,
        Err(problem) => {
            return failed(StatusCode::BAD_REQUEST, problem);
        }
    };
    let operator = signed.session.operator.name();
    match rollout::carry_out(&console.flow, wish, operator, fields.get("reason")).await {
        Ok(_) => Redirect::to(&format!("/console/rollout?done={word}")).into_response(),
        Err(error) => failed(rollout::status_of(&error), &error.to_string()),
    }
}

/// What was wrong, with the way back to the stages.
fn failed(status: StatusCode, problem: &str) -> Response {
    let text = format!("{}.", layout::first_upper(problem));
    let way_on = ("/console/rollout", "To the rollout");
    layout::failed_at(status, "Not done", &text, way_on)
}

fn plan(signed: &Signed, status: &Status, query: &Fields) -> Markup {
    let is_admin = signed.role >= Role::Admin;
    let needed = if status.approvals == 1 {
        "one operator"
    } else {
        "two operators"
    };
    html! {
        @if status.is_off {
            p class="notice bad" role="alert" { "The configuration says " code { "off" } ": nothing is scored, whatever the stages say." }
        }
        p {
            "At most " strong { (status.budget_percent) " %" } " of the users who are known to be good may be challenged within "
            (status.window_minutes) " minutes; fewer than " (status.users_min) " of them are no verdict. A promotion needs " (needed) "."
        }
        h2 { "Stages" }
        (stages(status, is_admin))
        @if !status.proposals.is_empty() {
            h2 { "Waiting for approval" }
            @for (number, proposal) in status.proposals.iter().enumerate() { (waiting(signed, number, proposal)) }
        }
        @if is_admin { (form(signed, query)) }
        @else { p class="notice" { "Stages are changed by operators with the role admin." } }
    }
}

fn stages(status: &Status, is_admin: bool) -> Markup {
    let caption = "Stages, the most specific one holds";
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table class="stages" {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "For" } th scope="col" { "Mode" } th scope="col" class="number" { "Users" } th scope="col" { "State" }
                    th scope="col" class="number" { "Known-good users" } th scope="col" class="number" { "Challenged" }
                    th scope="col" { "Approved by" } th scope="col" { "Reason" }
                    @if is_admin { th scope="col" { "Change" } }
                } }
                tbody { @for stage in &status.stages { (row(status, stage, is_admin)) } }
            }
        }
    }
}

fn row(status: &Status, stage: &StageStatus, is_admin: bool) -> Markup {
    let name = name(stage.tenant.as_deref(), stage.application.as_deref());
    let count = stage.count;
    html! {
        tr {
            th scope="row" { (name) }
            td { (layout::badge(stage.mode.as_str())) }
            td class="number" { (stage.percentage) " %" }
            td {
                @match (&stage.fallen, stage.in_force) {
                    (Some(fall), _) => {
                        strong { "fallen back to monitor" } " at " (layout::moment(&fall.at)) ": " (fall.count.challenged) " of "
                        (fall.count.users) " challenged"
                    }
                    (None, true) => "in force",
                    (None, false) => "not in force yet",
                }
            }
            td class="number" { (layout::grouped(count.users.into())) }
            td class="number" {
                (layout::percent(count.challenged.into(), count.users.into())) " of " (status.budget_percent) " %"
            }
            td {
                @if stage.approved_by.is_empty() { "-" }
                @for (number, by) in stage.approved_by.iter().enumerate() { @if number > 0 { ", " } bdi { (by) } }
                @if !stage.approved_at.is_empty() { " " (layout::moment(&stage.approved_at)) }
            }
            td { @if stage.reason.is_empty() { "-" } @else { (stage.reason) } }
            @if is_admin {
                td { a href=(link(stage)) aria-label={ "Change the stage of " (name) } { "Change" } }
            }
        }
    }
}

/// The form, filled in with a stage.
fn link(stage: &StageStatus) -> String {
    format!(
        "/console/rollout?application={}&tenant={}&mode={}&percentage={}#change",
        layout::encoded(stage.application.as_deref().unwrap_or("")),
        layout::encoded(stage.tenant.as_deref().unwrap_or("")),
        stage.mode,
        stage.percentage,
    )
}

fn name(tenant: Option<&str>, application: Option<&str>) -> String {
    match (tenant, application) {
        (None, None) => "everybody else".to_owned(),
        _ => scope_name(tenant, application),
    }
}

fn waiting(signed: &Signed, number: usize, proposal: &ProposalStatus) -> Markup {
    let title = name(proposal.tenant.as_deref(), proposal.application.as_deref());
    let heading = format!("proposal-{number}");
    let field = format!("reason-{number}");
    let is_own = proposal.by == **signed.session.operator.name();
    html! {
        section class="panel" aria-labelledby=(heading) {
            h3 id=(heading) { bdi { (title) } ": " (proposal.from) " to " (proposal.to) }
            p { "Asked for by " strong { (proposal.by) } " at " (layout::moment(&proposal.at)) ": " bdi { (proposal.reason) } }
            @if signed.role < Role::Admin {}
            @else if is_own { p class="soft" { "Another operator has to approve what you have asked for." } }
            @else {
                form method="post" action="/console/rollout/approve" class="actions" {
                    (layout::token(signed))
                    input type="hidden" name="tenant" value=(proposal.tenant.as_deref().unwrap_or(""));
                    input type="hidden" name="application" value=(proposal.application.as_deref().unwrap_or(""));
                    input type="hidden" name="to" value=(proposal.to);
                    label for=(field) { "Reason, for the record"
                        input id=(field) type="text" name="reason" size="40" maxlength=(TEXT_MAX);
                    }
                    button class="primary" { "Approve" }
                }
            }
        }
    }
}

fn form(signed: &Signed, query: &Fields) -> Markup {
    // Nothing is proposed: who has read nothing of this form and presses a button has changed nobody's mode.
    let asked = query.get("mode");
    let percentage = query.get("percentage");
    html! {
        h2 id="change" { "Change a stage" }
        form method="post" action="/console/rollout/promote" class="panel" {
            (layout::token(signed))
            (layout::no_enter())
            p class="actions" {
                label for="application" { "Application, by client id"
                    input id="application" type="text" name="application" size="24" maxlength=(TEXT_MAX) value=(query.get("application"))
                        autocapitalize="none" spellcheck="false";
                }
                label for="tenant" { "Tenant"
                    input id="tenant" type="text" name="tenant" size="18" maxlength=(TEXT_MAX) value=(query.get("tenant"))
                        autocapitalize="none" spellcheck="false";
                }
                label for="mode" { "Mode"
                    select id="mode" name="mode" required aria-describedby="change-mode" {
                        option value="" { "choose" }
                        @for mode in Mode::ALL { option value=(mode) selected[asked == mode.as_str()] { (mode) } }
                    }
                }
                label for="percentage" { "Percent of users, 0 to 100"
                    input id="percentage" type="number" name="percentage" min="0" max="100" value=(percentage) required
                        aria-describedby="change-mode";
                }
            }
            p class="soft" { "Without application and tenant: everybody for whom there is no stage." }
            p class="soft" id="change-mode" {
                "The mode holds for that share of the users. The others get the next weaker one: " code { "monitor" } " below "
                code { "enforce" } " and " code { "advise" } ", " code { "off" } " (nothing is scored) below " code { "monitor" } ". "
                "A first step to " code { "enforce" } " is a small share, such as 10."
            }
            p class="soft" {
                "Promote is for what gives somebody a stronger mode, demote for what gives nobody one. Each refuses what is the other's."
            }
            p class="actions" {
                label for="reason" { "Reason, for the record"
                    input id="reason" type="text" name="reason" size="48" maxlength=(TEXT_MAX) required;
                }
                button class="primary" { "Promote" }
                button formaction="/console/rollout/demote" { "Demote" }
            }
        }
    }
}

fn changes(entries: &[Entry]) -> Markup {
    let caption = "Changes, the latest first";
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "Time (UTC)" } th scope="col" { "What" } th scope="col" { "For" } th scope="col" { "From" }
                    th scope="col" { "To" } th scope="col" { "By" } th scope="col" { "Why" }
                } }
                tbody {
                    @for entry in entries {
                        tr {
                            td class="time" { a href=(layout::decision_path(&entry.id)) { (layout::moment(&entry.time)) } }
                            td { (layout::words(&entry.action)) }
                            td { (name(entry.tenant.as_deref(), entry.client_id.as_deref())) }
                            td { (entry.rollout_from.as_deref().unwrap_or("-")) }
                            td { (entry.rollout_to.as_deref().unwrap_or("-")) }
                            td { (entry.operator.as_deref().unwrap_or("-")) }
                            td { (entry.note.as_deref().unwrap_or("-")) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_fills_in_the_form_and_nothing_else() {
        let stage = StageStatus {
            application: Some("a&b=\"<".to_owned()),
            mode: Mode::Enforce,
            percentage: 10,
            ..StageStatus::default()
        };
        assert_eq!(
            link(&stage),
            "/console/rollout?application=a%26b%3D%22%3C&tenant=&mode=enforce&percentage=10#change"
        );
    }
}
