//! The short replay of `riskgate check`: the end of the log under the policy that would be in force.

use crate::app::rerun::Plan;
use crate::app::rerun::replay;
use crate::app::rerun::report::Report;
use crate::config::Config;
use std::collections::BTreeSet;
use std::time::Duration;

/// How much of the log is looked at: some ten thousand records.
const TAIL_BYTES: u64 = 32 * 1024 * 1024;
/// And for how long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a short replay says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Glance {
    /// A line of summary; `None` where there are no records.
    pub summary: Option<String>,
    /// The applications of the records; `None` where there are no records.
    pub applications: Option<BTreeSet<String>>,
    /// What an operator should know before this policy is in force.
    pub warnings: Vec<String>,
}

/// Replays the end of the configured log, if there is one.
pub fn glance(config: &Config) -> Glance {
    if !config.audit_file().is_file() {
        return Glance::default();
    }
    let plan = Plan {
        tail_bytes: Some(TAIL_BYTES),
        patience: Some(PATIENCE),
        ..Plan::default()
    };
    match replay(config, &plan) {
        Ok(report) if report.replayed > 0 => of(&report),
        Ok(_) => Glance::default(),
        Err(error) => Glance {
            summary: None,
            applications: None,
            warnings: vec![format!("the records cannot be replayed: {error}")],
        },
    }
}

fn of(report: &Report) -> Glance {
    let all = &report.all;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let (before, after) = (
        percent(all.challenge_rate_before),
        percent(all.challenge_rate_after),
    );
    let summary = format!(
        "replay: of the last {} recorded decisions {} get stricter and {} milder; challenged {before}, then {after}",
        report.replayed, all.stricter, all.milder
    );
    let mut warnings = Vec::new();
    let locked_out = report.locked_out.break_glass.count;
    if locked_out > 0 {
        warnings.push(format!(
            "replay: {locked_out} break-glass accounts would not have got in; `riskgate replay` tells which requests"
        ));
    }
    if report.doubles() {
        warnings.push(format!(
            "replay: this policy challenges more than twice as much as was recorded ({after} instead of {before})"
        ));
    }
    if report.not_reproduced > 0 {
        warnings.push(format!(
            "replay: {} decisions of this very policy come out another: the records were changed, or this version decides differently",
            report.not_reproduced
        ));
    }
    let names = report.applications.iter().map(|row| row.name.clone());
    Glance {
        summary: Some(summary),
        applications: Some(names.collect()),
        warnings,
    }
}
