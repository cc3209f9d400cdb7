//! The rollout as it runs: the friction budget of each stage, stages that have fallen back, and operators who promote and
//! demote. A request costs a look into a set that is nearly always empty, and a place in its stage's window at its end.
//!
//! What falls back is what the score alone decides. What is owed stays owed, and what a rule of the policy refuses or holds
//! stays refused and held (docs/adr/0017).

/// What operators do about it.
pub mod desk;

use crate::domain::audit::AUDIT_SCHEMA;
use crate::domain::audit::AuditEvent;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::friction::Count;
use crate::domain::friction::OnExceeded;
use crate::domain::friction::Reach;
use crate::domain::friction::Window;
use crate::domain::history::Provenance;
use crate::domain::outcome::AuthOutcome;
use crate::domain::policy::decision::Adjustment;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Matched;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::rollout::Share;
use crate::domain::policy::rollout::StageMark;
use crate::domain::policy::scope::Scope;
use crate::domain::policy::standing::Standing;
use crate::domain::review::printable;
use crate::domain::rollout_plan::Level;
use crate::domain::rollout_plan::Plan;
use crate::domain::rollout_plan::Stage;
use crate::domain::rollout_plan::named;
use crate::domain::rollout_plan::status::Fall;
use crate::domain::rollout_plan::status::Falls;
use crate::domain::route::Door;
use crate::domain::signals::Signals;
use crate::domain::signals::Subject;
use crate::flow::Dependencies;
use crate::flow::admit;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::ports::PlanFiles;
use crate::flow::snapshot::Planned;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

/// Windows that are kept: those of two whole plans, so that a reload finds room.
const WINDOWS_MAX: usize = 512;

/// What the node knows of its rollout.
#[derive(Debug, Default)]
pub struct RolloutWatch {
    files: Option<Arc<dyn PlanFiles>>,
    fallen: ArcSwap<BTreeSet<StageMark>>,
    inner: Mutex<Inner>,
    /// Held while the file is read, changed and written.
    asking: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    windows: HashMap<StageMark, Window>,
    falls: Falls,
    /// Stages over their budget of which it was said and nothing else done.
    told: BTreeSet<StageMark>,
}

impl RolloutWatch {
    /// One that keeps what has fallen in files, and begins with what they say.
    pub fn new(files: Arc<dyn PlanFiles>) -> Self {
        let falls = match files.read_falls() {
            Ok(Some(text)) => Falls::parse(&text).unwrap_or_else(|problem| {
                tracing::error!(%problem, "what had fallen back cannot be read: every stage holds as planned");
                Falls::default()
            }),
            Ok(None) => Falls::default(),
            Err(error) => {
                tracing::error!(%error, "what had fallen back cannot be read: every stage holds as planned");
                Falls::default()
            }
        };
        let fallen = falls.fall.iter().filter_map(Fall::mark).collect();
        Self {
            files: Some(files),
            fallen: ArcSwap::from_pointee(fallen),
            inner: Mutex::new(Inner {
                falls,
                ..Inner::default()
            }),
            asking: Mutex::default(),
        }
    }

    /// Whether a stage has fallen back.
    pub fn has_fallen(&self, share: Share) -> bool {
        let fallen = self.fallen.load();
        !fallen.is_empty() && share.mark().is_some_and(|mark| fallen.contains(&mark))
    }

    /// The mode for a subject where nothing is owed and no rule speaks: that of its stage, or monitor.
    pub(in crate::flow) fn mode_of(&self, share: Share, stable: u64) -> Mode {
        let mode = share.mode_of(stable);
        if mode == Mode::Enforce && self.has_fallen(share) {
            Mode::Monitor
        } else {
            mode
        }
    }

    /// Takes over what has fallen, and keeps it where it outlives the process.
    fn keep(&self, inner: &Inner) {
        let marks: BTreeSet<StageMark> = inner.falls.fall.iter().filter_map(Fall::mark).collect();
        self.fallen.store(Arc::new(marks));
        let Some(files) = self.files.clone() else {
            return;
        };
        let text = inner.falls.to_text();
        let write = move || {
            if let Err(error) = files.write_falls(&text) {
                tracing::error!(%error, "what has fallen back is not kept: a restart forgets it");
            }
        };
        // Somebody may wait for the answer to a request on this thread.
        if let Err(error) = std::thread::Builder::new()
            .name("rollout".to_owned())
            .spawn(write)
        {
            tracing::error!(%error, "what has fallen back is not kept: a restart forgets it");
        }
    }
}

/// The mode of a request, as [`Assessed::stable_key`] has it once all is known. `behind` is what it presents.
pub(in crate::flow) fn mode_of(
    exchange: &Exchange,
    signals: &Signals,
    behind: Option<&Provenance>,
) -> Mode {
    let named = signals.subject.key();
    let behind = behind.and_then(|link| link.subject);
    let subject = if exchange.door == Some(Door::Authorize) {
        // A name there is a hint.
        behind.or(named)
    } else {
        named.or(behind)
    };
    let stable = subject.map_or(signals.hashes.address, |subject| subject.0.value_hash());
    share(exchange, signals).mode_of(stable)
}

/// Whether the mode is off for some users of the application and not for others.
pub(in crate::flow) fn splits(exchange: &Exchange, signals: &Signals) -> bool {
    let share = share(exchange, signals);
    share.weakest() == Mode::Off && share.strongest() != Mode::Off
}

/// What holds for the application of a request.
pub(in crate::flow) fn share(exchange: &Exchange, signals: &Signals) -> Share {
    let application = signals.client_id.as_deref().unwrap_or("");
    let rollout = &exchange.snapshot.rollout;
    rollout.share(exchange.tenant(), application)
}

/// Whether a decision holds although its stage has fallen back: something is owed, or a rule of the policy refuses or holds.
pub(in crate::flow) fn stays(
    decision: &Decision,
    standing: &Standing,
    owes: bool,
    is_limited: bool,
) -> bool {
    let owed = owes || standing.barred || standing.outstanding || standing.approval;
    let said = match decision.adjusted {
        Some(Adjustment::BreakGlass { from }) => from,
        Some(Adjustment::Demanded { .. }) | None => decision.verdict,
    };
    let by_rule = matches!(decision.matched, Matched::Rule { .. });
    is_limited || owed || (by_rule && said >= Verdict::Review)
}

/// An exchange has ended: what it says about the budget of its stage.
pub(in crate::flow) fn note(dependencies: &Dependencies, exchange: &Exchange) {
    let Some(mark) = exchange.stage else {
        return;
    };
    let Some(planned) = &exchange.snapshot.plan else {
        return;
    };
    let budget = &planned.plan.budget;
    let Some((user, is_challenged)) = known_good(exchange, budget.logins_min) else {
        return;
    };
    let watch = &dependencies.rollout;
    let mut inner = watch.inner.lock();
    let has_room = inner.windows.len() < WINDOWS_MAX || inner.windows.contains_key(&mark);
    if !has_room {
        return;
    }
    let minute = exchange.at.seconds().div_euclid(60);
    let window = inner.windows.entry(mark).or_default();
    let count = window.note(user, is_challenged, minute, budget);
    if !budget.is_exceeded(count) {
        inner.told.remove(&mark);
        return;
    }
    let Some(stage) = planned.plan.find(mark) else {
        return;
    };
    match budget.on_exceeded {
        OnExceeded::Tell => {
            if inner.told.insert(mark) {
                say(dependencies, exchange, planned, stage, count, "over_budget");
            }
        }
        OnExceeded::FallBack => {
            let at = dependencies.clock.now().to_rfc3339();
            let falling: Vec<&Stage> = match budget.falls_back {
                Reach::Application => vec![stage],
                Reach::All => planned.plan.all().filter(|one| one.enforces()).collect(),
            };
            let mut new = Vec::new();
            for stage in falling {
                let fall = Fall::new(stage, at.clone(), count);
                if !inner.falls.fall.iter().any(|old| old.mark == fall.mark) {
                    inner.falls.fall.push(fall);
                    new.push(stage);
                }
            }
            if !new.is_empty() {
                watch.keep(&inner);
            }
            drop(inner);
            for stage in new {
                say(dependencies, exchange, planned, stage, count, "fell_back");
            }
        }
    }
}

/// The user of an exchange who is known to be good, and whether it was challenged. Good is who has logged in often enough
/// before, and now either was accepted by the identity server, with the factor where one was asked for, or comes with the
/// device cookie that the gateway has given to this user alone. A password that was guessed is neither: else whoever
/// guesses passwords could have the challenges turned off.
fn known_good(exchange: &Exchange, logins_min: u32) -> Option<(u64, bool)> {
    let assessed = exchange.assessed.as_ref()?;
    let decided = exchange.decided.as_ref()?;
    if matches!(assessed.signals.subject, Subject::Client { .. }) || assessed.is_hint {
        return None;
    }
    let subject = assessed.subject()?;
    if assessed.logins() < logins_min {
        return None;
    }
    let link = assessed.provenance.as_deref();
    let verdict = decided.decision.verdict;
    let is_challenged = verdict > Verdict::Allow || link.is_some_and(|link| link.demanded);
    let is_proved = assessed.facts.second_factor
        || link.is_some_and(Provenance::has_strong_factor)
        || exchange.proof == Some("proven");
    // Where nothing is asked for, nobody can prove anything.
    let proves = !is_challenged || is_proved || decided.mode != Mode::Enforce;
    let by_device = assessed.device == DeviceStanding::Known && verdict > Verdict::Allow;
    let is_good = by_device || (is_confirmed(exchange, assessed) && proves);
    is_good.then(|| (subject.0.value_hash(), is_challenged))
}

fn is_confirmed(exchange: &Exchange, assessed: &Assessed) -> bool {
    match exchange.door {
        Some(Door::Login | Door::Authn | Door::Flow | Door::Basic) => {
            exchange.outcome == AuthOutcome::Succeeded
        }
        // A refresh is no login of the user's.
        Some(Door::Token) => {
            exchange.outcome == AuthOutcome::TokensIssued
                && assessed.facts.grant_type.as_deref() != Some("refresh_token")
        }
        _ => false,
    }
}

/// Says that a budget is used up: in the log, as a metric, as a record, and by it as an alert.
fn say(
    dependencies: &Dependencies,
    exchange: &Exchange,
    planned: &Planned,
    stage: &Stage,
    count: Count,
    action: &'static str,
) {
    let budget = &planned.plan.budget;
    let name = named(stage.scope.as_ref());
    let level = Level(stage.mode, stage.percentage).to_string();
    let mut note = format!(
        "{} of {} known-good users challenged within {} minutes, budget {} %",
        count.challenged, count.users, budget.window_minutes, budget.percent
    );
    if exchange.stage != Some(stage.mark()) {
        // It falls with another one.
        let first = exchange.stage.and_then(|mark| planned.plan.find(mark));
        note = format!(
            "{}: {note}",
            named(first.and_then(|one| one.scope.as_ref()))
        );
    }
    let to = if action == "fell_back" {
        tracing::error!(stage = %name, was = %level, count.users, count.challenged, budget = budget.percent,
            "the friction budget is used up: the stage falls back to monitor until an operator promotes or demotes it");
        Level(Mode::Monitor, 100).to_string()
    } else {
        tracing::error!(stage = %name, mode = %level, count.users, count.challenged, budget = budget.percent,
            "the friction budget is used up");
        level.clone()
    };
    dependencies.metrics.rollout(action);
    record(
        dependencies,
        exchange.snapshot.version,
        Entry {
            action,
            scope: stage.scope.as_ref(),
            from: &level,
            to: &to,
            operator: None,
            note: &note,
        },
    );
}

/// What a record says.
struct Entry<'a> {
    action: &'static str,
    scope: Option<&'a Scope>,
    from: &'a str,
    to: &'a str,
    operator: Option<&'a str>,
    note: &'a str,
}

fn record(dependencies: &Dependencies, version: u64, entry: Entry<'_>) {
    let text = |text: &str| Some(printable(text)).filter(|text| !text.is_empty());
    let is_by_operator = entry.operator.is_some();
    dependencies.audit.write(AuditEvent {
        schema: AUDIT_SCHEMA,
        time: dependencies.clock.now().to_rfc3339(),
        id: admit::request_id(dependencies).to_string(),
        class: "rollout".into(),
        route: "rollout".to_owned(),
        method: if is_by_operator { "POST" } else { "OTHER" }.into(),
        tenant: entry.scope.and_then(Scope::tenant).and_then(text),
        client_id: entry.scope.and_then(Scope::application).and_then(text),
        action: entry.action.into(),
        outcome: "none".into(),
        rollout_from: text(entry.from),
        rollout_to: text(entry.to),
        operator: entry.operator.and_then(text),
        note: text(entry.note),
        config: version,
        ..AuditEvent::default()
    });
}

/// Other stages are in force from now on: leaves a record of each that differs, and forgets what was counted for those that
/// are no more. At the start of the process everything that is in force is recorded.
pub(in crate::flow) fn taken(
    dependencies: &Dependencies,
    version: u64,
    (before, now): (Option<&Planned>, Option<&Planned>),
    is_start: bool,
) {
    if before.map(|planned| &planned.plan) == now.map(|planned| &planned.plan) {
        return;
    }
    let nothing = Plan::default();
    let plan = |planned: Option<&Planned>| planned.map_or(nothing.clone(), |one| one.plan.clone());
    let (before, after) = (plan(before), plan(now));
    for stage in after.all() {
        let scope = stage.scope.as_ref();
        let was = before.stage(scope);
        if was.is_some_and(|was| was.mark() == stage.mark()) {
            continue;
        }
        let operators = stage.approval.by.join(", ");
        record(
            dependencies,
            version,
            Entry {
                action: "in_force",
                scope,
                from: &if is_start {
                    String::new()
                } else {
                    before.level(scope)
                },
                to: &Level(stage.mode, stage.percentage).to_string(),
                operator: Some(&operators)
                    .filter(|names| !names.is_empty())
                    .map(String::as_str),
                note: &stage.approval.reason,
            },
        );
    }
    for stage in before.all() {
        let scope = stage.scope.as_ref();
        if after.stage(scope).is_none() {
            record(
                dependencies,
                version,
                Entry {
                    action: "removed",
                    scope,
                    from: &Level(stage.mode, stage.percentage).to_string(),
                    // Without a plan it is the configuration that says what holds.
                    to: &now.map_or_else(String::new, |_| after.level(scope)),
                    operator: None,
                    note: "",
                },
            );
        }
    }
    let watch = &dependencies.rollout;
    let mut inner = watch.inner.lock();
    inner.windows.retain(|mark, _| after.find(*mark).is_some());
    inner.told.retain(|mark| after.find(*mark).is_some());
    let known = inner.falls.fall.len();
    // Without a plan nobody has said that what had fallen is well again.
    if now.is_some() {
        let stays = |fall: &Fall| fall.mark().is_some_and(|mark| after.find(mark).is_some());
        inner.falls.fall.retain(stays);
    }
    if inner.falls.fall.len() != known {
        watch.keep(&inner);
    }
}
