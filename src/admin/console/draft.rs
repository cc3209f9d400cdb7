//! What a page shows of a draft of the policy: what the checker says, what the records say, what differs, and the versions
//! that were in the file.

use crate::admin::console::Signed;
use crate::admin::console::layout;
use crate::domain::policy::editing::Finding;
use crate::domain::policy::editing::How;
use crate::domain::policy::editing::Replayed;
use crate::domain::policy::editing::Versions;
use crate::domain::policy::editing::short;
use maud::Markup;
use maud::html;
use similar::ChangeTag;
use similar::TextDiff;
use std::time::Duration;

/// Lines around a change.
const AROUND: usize = 3;
/// Lines of a comparison that are shown.
const LINES_MAX: usize = 2_000;
/// How long two texts are compared for the shortest way; after it a longer one will do.
const COMPARE_FOR: Duration = Duration::from_millis(300);

/// What the checker says.
pub(super) fn findings(findings: &[Finding]) -> Markup {
    let errors = findings.iter().filter(|finding| finding.is_error).count();
    html! {
        h2 { "What the checker says" }
        @if findings.is_empty() {
            p class="notice" role="status" { "Nothing: every rule can match, and nobody is locked out." }
        } @else {
            p class={ "notice" (if errors > 0 { " bad" } else { "" }) } role=(if errors > 0 { "alert" } else { "status" }) {
                (errors) " " (if errors == 1 { "error" } else { "errors" }) ", " (findings.len() - errors) " other findings."
                @if errors > 0 { " It cannot be saved so." }
            }
            ul {
                @for finding in findings {
                    li {
                        strong { (if finding.is_error { "Error" } else { "Warning" }) }
                        @if let Some(line) = finding.line { ", line " (line) }
                        ", " (finding.place) ": " (finding.problem) "; " (finding.remedy)
                    }
                }
            }
        }
    }
}

/// What the records say.
pub(super) fn replay(replayed: &Result<Replayed, String>) -> Markup {
    html! {
        h2 { "What it would have said of the latest decisions" }
        @match replayed {
            Err(problem) => { p class="notice bad" role="alert" { "It cannot be replayed: " (problem) "." } }
            Ok(found) if found.decisions == 0 => { p class="soft" { "There is no decision on record that can be given again." } }
            Ok(found) => { (figures(found)) }
        }
    }
}

fn figures(found: &Replayed) -> Markup {
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    html! {
        @if found.break_glass_new > 0 {
            p class="notice bad" role="alert" {
                strong { (found.break_glass_new) } " break-glass accounts that got in would have been locked out. It cannot be saved so."
            }
        } @else if found.break_glass > 0 {
            p class="notice" { (found.break_glass) " break-glass accounts would not have got in, and did not as recorded." }
        }
        @if found.doubles {
            p class="notice bad" { "It would have challenged more than twice as many." }
        }
        ul class="tiles" {
            li { "Decisions" b { (layout::grouped(found.decisions)) }
                @if let Some([first, last]) = &found.hours { (first) " to " (last) }
            }
            li { "Stricter" b { (layout::grouped(found.stricter)) } }
            li { "Milder" b { (layout::grouped(found.milder)) } }
            li { "Challenged" b { (share(found.challenged_after)) } "now " (share(found.challenged_before)) }
            li { "Newly refused or held" b { (layout::grouped(found.refused)) } "users" }
            li { "Newly asked, no factor seen" b { (layout::grouped(found.without_factor)) } "users" }
        }
        p class="soft" {
            @if found.is_cut { "Only the end of the records was looked at. " }
            @if found.left_out > 0 { (layout::grouped(found.left_out)) " decisions are left out: what they hang on is not recorded. " }
            code { "riskgate replay" } " tells more."
        }
        @if !found.changes.is_empty() {
            ul {
                @for (before, after, count) in &found.changes {
                    li { (layout::grouped(*count)) " from " (layout::badge(before)) " to " (layout::badge(after)) }
                }
            }
        }
        @if !found.applications.is_empty() { (applications(found)) }
        @if !found.examples.is_empty() {
            details {
                summary { "Some of the decisions that change" }
                ul {
                    @for [id, time, before, after, matched] in &found.examples {
                        li {
                            a href=(layout::decision_path(id)) { (layout::moment(time)) } ": " (layout::badge(before)) " to "
                            (layout::badge(after)) " by " (layout::words(matched))
                        }
                    }
                }
            }
        }
    }
}

fn applications(found: &Replayed) -> Markup {
    let caption = "Applications in which most changes";
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "Application" } th scope="col" class="number" { "Decisions" }
                    th scope="col" class="number" { "Stricter" } th scope="col" class="number" { "Milder" }
                } }
                tbody {
                    @for (name, decisions, stricter, milder) in &found.applications {
                        tr {
                            th scope="row" { (name) }
                            td class="number" { (layout::grouped(*decisions)) }
                            td class="number" { (layout::grouped(*stricter)) }
                            td class="number" { (layout::grouped(*milder)) }
                        }
                    }
                }
            }
        }
    }
}

/// What differs between two texts, line by line.
pub(super) fn difference(old: &str, new: &str, title: &str) -> Markup {
    let diff = TextDiff::configure()
        .timeout(COMPARE_FOR)
        .diff_lines(old, new);
    let groups = diff.grouped_ops(AROUND);
    let mut left = LINES_MAX;
    let mut shown = Vec::with_capacity(groups.len());
    for group in &groups {
        let changes = group.iter().flat_map(|op| diff.iter_changes(op));
        let lines: Vec<_> = changes.take(left).collect();
        left -= lines.len();
        shown.push(lines);
    }
    let number =
        |index: Option<usize>| index.map_or(String::new(), |index| (index + 1).to_string());
    html! {
        h2 { (title) }
        @if groups.is_empty() {
            p class="soft" { "Nothing differs." }
        } @else {
            div class="scroll" tabindex="0" role="region" aria-label=(title) {
                table class="diff" {
                    caption { "Lines that go are marked with a minus, lines that come with a plus" }
                    thead { tr {
                        th scope="col" class="number" { "Was" } th scope="col" class="number" { "Is" }
                        th scope="col" { "Line" }
                    } }
                    @for lines in &shown {
                        tbody {
                            @for change in lines {
                                @let (class, sign) = match change.tag() {
                                    ChangeTag::Delete => ("gone", "-"),
                                    ChangeTag::Insert => ("come", "+"),
                                    ChangeTag::Equal => ("same", " "),
                                };
                                tr class=(class) {
                                    td class="number" { (number(change.old_index())) }
                                    td class="number" { (number(change.new_index())) }
                                    td { code { (sign) " " (change.value().trim_end_matches(['\n', '\r'])) } }
                                }
                            }
                        }
                    }
                }
            }
            @if left == 0 { p class="soft" { "Only the first " (layout::grouped(LINES_MAX as u64)) " lines are shown." } }
        }
    }
}

/// The versions that were in the file, the latest first. `on_disk` is the digest of what is in it now.
pub(super) fn versions(signed: &Signed, versions: &Versions, on_disk: &str) -> Markup {
    let caption = "Versions of the file, the latest first";
    html! {
        @if versions.version.is_empty() {
            p class="soft" { "Nothing was saved here yet. What is in the file is kept when it is replaced." }
        } @else {
            div class="scroll" tabindex="0" role="region" aria-label=(caption) {
                table {
                    caption { (caption) }
                    thead { tr {
                        th scope="col" { "Time (UTC)" } th scope="col" { "Version" } th scope="col" { "How" } th scope="col" { "By" }
                        th scope="col" { "Why" } th scope="col" { "Restore" }
                    } }
                    tbody {
                        @for version in versions.version.iter().rev() {
                            tr {
                                td class="time" { (layout::moment(&version.time)) }
                                td { a href={ "/console/policy/versions/" (version.digest) } { code { (short(&version.digest)) } } }
                                td { (match version.how {
                                    How::Found => "found in the file",
                                    How::Saved => "saved",
                                    How::Restored => "restored",
                                }) }
                                td { (version.operator.as_deref().unwrap_or("-")) }
                                td { @if version.note.is_empty() { "-" } @else { (version.note) } }
                                td {
                                    @if version.digest == on_disk { "in the file" }
                                    @else { (restore(signed, &version.digest, on_disk)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The button that puts a version back.
pub(super) fn restore(signed: &Signed, digest: &str, on_disk: &str) -> Markup {
    html! {
        form method="post" action="/console/policy/restore" {
            (layout::token(signed))
            input type="hidden" name="version" value=(digest);
            input type="hidden" name="base" value=(on_disk);
            button aria-label={ "Restore version " (short(digest)) } { "Restore" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_marked_by_signs_and_escaped() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let new = old.replace("b\n", "<b>\n");
        let text = difference(old, &new, "T").into_string();
        assert!(
            text.contains("<code>- b</code>") && text.contains("<code>+ &lt;b&gt;</code>"),
            "{text}"
        );
        // Lines far from a change are not shown.
        assert!(!text.contains("<code>  h</code>"), "{text}");
        assert!(
            difference(old, old, "T")
                .into_string()
                .contains("Nothing differs")
        );
    }

    #[test]
    fn long_texts_are_cut() {
        let new = (0..LINES_MAX * 2)
            .map(|line| format!("{line}\n"))
            .collect::<String>();
        let text = difference("", &new, "T").into_string();
        assert_eq!(text.matches("class=\"come\"").count(), LINES_MAX);
        assert!(text.contains("Only the first 2,000 lines"));
    }

    #[test]
    fn nobody_is_locked_out_in_silence() {
        let found = Replayed {
            decisions: 10,
            break_glass: 1,
            break_glass_new: 1,
            ..Replayed::default()
        };
        let text = replay(&Ok(found)).into_string();
        assert!(text.contains("would have been locked out"), "{text}");
        assert!(
            replay(&Err("<x>".to_owned()))
                .into_string()
                .contains("&lt;x&gt;")
        );
    }
}
