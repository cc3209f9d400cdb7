//! The policy in force: its rules in their order, what holds beside them, how often each spoke, and what the checker says.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::admin::console::overview;
use crate::domain::operator::roster::Role;
use crate::domain::policy::PolicySet;
use crate::domain::policy::lint::PolicyFinding;
use crate::domain::policy::lint::Severity;
use crate::domain::risk::RiskScore;
use crate::domain::trail::sentence;
use crate::domain::trail::tally::Counts;
use crate::domain::trail::tally::Span;
use axum::Extension;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::Response;
use maud::Markup;
use maud::html;

/// `GET /console/policy`; with `?check=1` the checker is asked as well.
pub(super) async fn show(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    RawQuery(query): RawQuery,
) -> Response {
    let snapshot = console.flow.snapshot();
    let is_check = Fields::parse(query.unwrap_or_default().as_bytes()).get("check") == "1";
    let findings = if is_check {
        // Up to a second of computing.
        let snapshot = console.flow.snapshot();
        let found = console.read(move |_, _| snapshot.policy.lint()).await;
        let Some(found) = found else {
            return layout::unread();
        };
        Some(found)
    } else {
        None
    };
    let Some((_, week)) = overview::gathered(&console, Span::Week).await else {
        return layout::unread();
    };
    let policy = &snapshot.policy;
    let accounts = policy.break_glass().accounts().len();
    let body = html! {
        h1 { "Policy" }
        p {
            "Version " code { (policy.version()) } ", in force since configuration " (snapshot.version) " of this process. "
            "The first rule whose condition holds speaks; where none does, the level decides."
        }
        @match &findings {
            None => { p { a class="button" href="/console/policy?check=1" { "Check it" } } }
            Some(findings) => { (checked(findings)) }
        }
        @if signed.role >= Role::Admin {
            p { a class="button" href="/console/policy/edit" { "Edit, restore" } }
        }
        @if let Some(problems) = console.flow.rejected_reload() {
            div class="notice bad" role="alert" {
                p { "The latest reload was refused; what is shown here stays in force:" }
                ul { @for problem in problems.iter() { li { (problem) } } }
            }
        }
        h2 { "Rules" }
        @if policy.rules().is_empty() { p class="empty" { "The policy has no rules: levels decide." } }
        @else { (rules(policy, &week.matched)) }
        h2 { "Where no rule speaks" }
        (defaults(policy, &week.matched))
        p {
            @if accounts == 0 { "No break-glass account is named: a policy that blocks everybody would lock out everybody." }
            @else { (accounts) " break-glass " (if accounts == 1 { "account is" } else { "accounts are" }) " never blocked or held." }
        }
    };
    layout::page(&signed, Place::Policy, "Policy", body)
}

fn checked(findings: &[PolicyFinding]) -> Markup {
    html! {
        @if findings.is_empty() {
            p class="notice" role="status" { "The checker finds nothing: every rule can match, and nobody is locked out." }
        } @else {
            ul {
                @for finding in findings {
                    li class="notice" {
                        strong { (if finding.severity == Severity::Error { "Error" } else { "Warning" }) }
                        @if let Some(rule) = &finding.rule { " in rule " code { (rule) } }
                        ": " (finding.problem) "; " (finding.remedy)
                    }
                }
            }
        }
    }
}

fn rules(policy: &PolicySet, matched: &Counts) -> Markup {
    let caption = "Rules in their order";
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" class="number" { "No." } th scope="col" { "Name" } th scope="col" { "When" } th scope="col" { "Verdict" }
                    th scope="col" { "Reason" } th scope="col" class="number" { "Decided in seven days" }
                } }
                tbody {
                    @for (number, rule) in policy.rules().iter().enumerate() {
                        tr {
                            td class="number" { (number + 1) }
                            th scope="row" { (rule.name) @if !rule.enabled { " " (layout::badge("off")) } }
                            td { code { (rule.when.source()) } }
                            td { (layout::badge(rule.verdict.as_str())) }
                            td { (sentence(rule.reason.code())) }
                            td class="number" { (layout::grouped(matched.get(&*rule.name).copied().unwrap_or(0))) }
                        }
                    }
                }
            }
        }
    }
}

fn defaults(policy: &PolicySet, matched: &Counts) -> Markup {
    let thresholds = policy.thresholds("", "");
    let levels = [
        ("low", 0, thresholds.medium.saturating_sub(1)),
        (
            "medium",
            thresholds.medium,
            thresholds.high.saturating_sub(1),
        ),
        ("high", thresholds.high, 100),
    ];
    let count = |name: &str| layout::grouped(matched.get(name).copied().unwrap_or(0));
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Verdicts by level" {
            table {
                caption { "Verdicts by level; tenants and applications may have thresholds of their own" }
                thead { tr { th scope="col" { "Level" } th scope="col" { "Scores" } th scope="col" { "Verdict" } th scope="col" class="number" { "Decided in seven days" } } }
                tbody {
                    @for (level, from, to) in levels {
                        tr {
                            th scope="row" { (layout::badge(level)) }
                            td { (from) " to " (to) }
                            td { (layout::badge(policy.default_verdict(RiskScore::from_points(from), "", "").as_str())) }
                            td class="number" { (count(&format!("default_{level}"))) }
                        }
                    }
                    tr {
                        th scope="row" { (layout::badge("unscored")) }
                        td { "none" }
                        td { "by door and cause" }
                        td class="number" { (count("on_unscored")) }
                    }
                }
            }
        }
    }
}
