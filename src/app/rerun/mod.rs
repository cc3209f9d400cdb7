//! `riskgate replay`: what another policy or model would have said of the decisions in an audit log. Each is given again from
//! its record, by the code that gave it; what a record does not hold is counted and named, never guessed.

/// Charts as SVG.
mod charts;

/// The short replay of `riskgate check`.
pub mod glance;

/// The report as a page.
mod html;

/// The report.
pub mod report;

/// What is counted.
mod tally;

/// The report in words.
mod text;

use crate::adapters::clock::SystemClock;
use crate::app::RunError;
use crate::app::assemble;
use crate::app::explain::resolver;
use crate::app::model;
use crate::app::model::recorded::Labels;
use crate::app::records;
use crate::app::records::Block;
use crate::app::records::Blocks;
use crate::app::records::Line;
use crate::app::rerun::report::Report;
use crate::app::rerun::tally::People;
use crate::app::rerun::tally::Replayed;
use crate::app::rerun::tally::Tally;
use crate::config::Config;
use crate::config::PolicySettings;
use crate::domain::audit::AuditEvent;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::policy::PolicySet;
use crate::domain::recorded::Case;
use crate::domain::recorded::Gap;
use crate::domain::recorded::Risk;
use crate::domain::recorded::names::Names;
use crate::domain::risk::ModelOutput;
use crate::domain::risk::ScoreSource;
use crate::domain::target::user_domain;
use crate::domain::time::Deadline;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use crate::flow::ports::RiskModel;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Seek;
use std::io::SeekFrom;
use std::num::NonZero;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// The longest that one run of a model may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Blocks of lines that wait for each thread.
const WAITING: usize = 2;
/// Threads at most.
const THREADS_MAX: usize = 64;

/// What to replay, by what.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Audit files and folders of them; without any, the configured log.
    pub audit: Vec<PathBuf>,
    /// The draft; the configured policy when absent.
    pub policy: Option<PathBuf>,
    /// The text of a draft, in place of a file.
    pub draft: Option<String>,
    /// A model whose scores take the place of the recorded ones.
    pub model: Option<PathBuf>,
    /// What is known of decisions by now.
    pub labels: Option<PathBuf>,
    /// Who belongs to which group (columns user, group and, if there, tenant).
    pub people: Option<PathBuf>,
    /// Earlier decisions are left out.
    pub from: Option<Timestamp>,
    /// Threads; one per core when absent.
    pub threads: Option<NonZero<usize>>,
    /// Only so many bytes at the end of the log.
    pub tail_bytes: Option<u64>,
    /// Nothing more is read after this long.
    pub patience: Option<Duration>,
}

/// By what everything is judged.
struct Judge<'j> {
    policy: &'j PolicySet,
    models: Option<Vec<(RequestKind, Arc<dyn RiskModel>)>>,
    labels: Option<Labels>,
    people: People,
    from: Option<Timestamp>,
}

/// Some lines of a file.
struct Piece {
    file: Arc<Path>,
    block: Block,
}

/// Replays.
pub fn replay(config: &Config, plan: &Plan) -> Result<Report, RunError> {
    let begun = SystemClock.instant();
    let files = if plan.audit.is_empty() {
        records::log(&config.audit_file())
    } else {
        records::files(&plan.audit)?
    };
    let packed = if plan.audit.is_empty() {
        records::packed_log(&config.audit_file())
    } else {
        records::packed(&plan.audit)?
    };
    let (policy, mut warnings) = policy(config, plan)?;
    warnings.extend(records::passed_over(&packed));
    let (models, model) = match &plan.model {
        Some(path) => {
            let loaded = model::load(path, None)?.into_parts();
            let versions: Vec<String> = loaded
                .iter()
                .map(|(kind, model)| format!("{} {}", kind.as_str(), model.identity.version))
                .collect();
            let models = loaded.into_iter().filter_map(|(kind, model)| {
                let evaluator = model.native.or(model.primary)?;
                Some((kind, evaluator))
            });
            (Some(models.collect()), Some(versions.join(", ")))
        }
        None => (None, None),
    };
    let resolver = resolver(config);
    let people = match &plan.people {
        Some(path) if resolver.is_none() => {
            return Err(model::wrong(
                path,
                "names cannot be found among pseudonyms without the secret of the deployment (keys.secret_file)",
            ));
        }
        Some(path) => People::read(path)?,
        None => People::default(),
    };
    let names = Names::of(&policy, resolver).and(people.accounts());
    let judge = Judge {
        policy: &policy,
        models,
        labels: plan.labels.as_deref().map(Labels::read).transpose()?,
        people,
        from: plan.from,
    };
    let threads = plan
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZero::get)
        .min(THREADS_MAX);
    let tally = work(plan, &files, &judge, &names, threads)?;
    let took = SystemClock.instant().saturating_duration_since(begun);
    let mut report = Report::of(tally, &policy, took);
    report.files = files.len();
    report.draft = plan
        .policy
        .clone()
        .or_else(|| config.policy_file())
        .map_or_else(
            || "the built-in policy".to_owned(),
            |path| path.display().to_string(),
        );
    report.model = model;
    report.names_told = names.can_tell();
    report.has_labels = judge.labels.is_some();
    report.warnings = warnings;
    Ok(report)
}

/// The draft. What `riskgate check` calls an error keeps nobody from trying it: it is a warning here.
fn policy(config: &Config, plan: &Plan) -> Result<(PolicySet, Vec<String>), RunError> {
    if let Some(text) = &plan.draft {
        return assemble::policy_of(text, "draft").map_err(RunError::Config);
    }
    let Some(path) = &plan.policy else {
        return assemble::policy(config).map_err(RunError::Config);
    };
    let draft = Config {
        policy: PolicySettings {
            file: Some(path.clone()),
        },
        ..config.clone()
    };
    match assemble::policy(&draft) {
        Ok(read) => Ok(read),
        Err(problems) => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            match PolicySet::parse(&text) {
                Ok(policy) => Ok((policy, problems.iter().map(ToString::to_string).collect())),
                Err(_) => Err(RunError::Config(problems)),
            }
        }
    }
}

/// Reads on this thread, judges on the others.
fn work(
    plan: &Plan,
    files: &[PathBuf],
    judge: &Judge<'_>,
    names: &Names,
    threads: usize,
) -> Result<Tally, RunError> {
    let (sender, receiver) = sync_channel::<Piece>(WAITING * threads);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| judge_all(&receiver, judge, names.clone())))
            .collect();
        let read = read(plan, files, &mut |piece| sender.send(piece).is_ok());
        drop(sender);
        let mut tally = Tally::default();
        for worker in workers {
            match worker.join() {
                Ok(part) => tally.merge(part),
                Err(_) => return Err(RunError::System("a thread of the replay failed".to_owned())),
            }
        }
        let read = read?;
        tally.broken += read.too_long;
        tally.is_cut = read.is_cut;
        Ok(tally)
    })
}

/// What reading has left out.
struct ReadUp {
    too_long: u64,
    is_cut: bool,
}

fn read(
    plan: &Plan,
    files: &[PathBuf],
    give: &mut dyn FnMut(Piece) -> bool,
) -> Result<ReadUp, RunError> {
    let begun = SystemClock.instant();
    let mut read = ReadUp {
        too_long: 0,
        is_cut: false,
    };
    for (path, skipped) in starts(plan, files)? {
        let mut input = File::open(&path).map_err(|error| records::unreadable(&path, &error))?;
        let file: Arc<Path> = Arc::from(path.as_path());
        if skipped > 0 {
            read.is_cut = true;
            let moved = input.seek(SeekFrom::Start(skipped));
            moved.map_err(|error| records::unreadable(&path, &error))?;
        }
        let mut blocks = if skipped > 0 {
            Blocks::within(input)
        } else {
            Blocks::new(input)
        };
        while let Some(block) = blocks
            .read()
            .map_err(|error| records::unreadable(&path, &error))?
        {
            let took = SystemClock.instant().saturating_duration_since(begun);
            if plan.patience.is_some_and(|patience| took > patience) {
                read.is_cut = true;
                return Ok(read);
            }
            let file = Arc::clone(&file);
            if !give(Piece { file, block }) {
                return Ok(read);
            }
        }
        read.too_long += blocks.too_long();
    }
    Ok(read)
}

/// The files with the place from which each is read.
fn starts(plan: &Plan, files: &[PathBuf]) -> Result<Vec<(PathBuf, u64)>, RunError> {
    let Some(mut left) = plan.tail_bytes else {
        return Ok(files.iter().map(|path| (path.clone(), 0)).collect());
    };
    let mut starts = Vec::new();
    for path in files.iter().rev() {
        if left == 0 {
            break;
        }
        let size = std::fs::metadata(path)
            .map_err(|error| records::unreadable(path, &error))?
            .len();
        starts.push((path.clone(), size.saturating_sub(left)));
        left = left.saturating_sub(size);
    }
    starts.reverse();
    Ok(starts)
}

fn judge_all(pieces: &Mutex<Receiver<Piece>>, judge: &Judge<'_>, mut names: Names) -> Tally {
    let mut tally = Tally::default();
    loop {
        let piece = pieces.lock().recv();
        let Ok(Piece { file, block }) = piece else {
            return tally;
        };
        for (number, line) in block.lines() {
            match Line::parse(line) {
                Line::Record(event) => judge.judge(&event, &mut names, &mut tally),
                Line::Other => {}
                Line::Broken(problem) => tally.break_at(&file, number, problem),
            }
        }
    }
}

impl Judge<'_> {
    fn judge(&self, event: &AuditEvent, names: &mut Names, tally: &mut Tally) {
        tally.records += 1;
        let case = match Case::read(event) {
            Ok(case) => case,
            Err(gap) => return tally.leave_out(gap),
        };
        if self.from.is_some_and(|from| case.at < from) {
            tally.earlier += 1;
            return;
        }
        let label = match &self.labels {
            None => None,
            Some(labels) => labels.of(&event.id),
        };
        let changed = match self.rescored(&case) {
            Ok(changed) => changed,
            Err(gap) => return tally.leave_out(gap),
        };
        let now = changed.as_ref().unwrap_or(&case);
        let again = match now.decide(self.policy, names.name_of(event)) {
            Ok(again) => again,
            Err(gap) => return tally.leave_out(gap),
        };
        let name = names.find(event).flatten();
        let tenant = event.tenant.as_deref().unwrap_or("");
        let organization = event.organization.as_deref().unwrap_or("");
        let accounts = self.policy.break_glass();
        let by_name = name.is_some_and(|name| accounts.contains(tenant, organization, name));
        tally.add(&Replayed {
            break_glass: by_name || event.break_glass,
            group: name.and_then(|name| {
                self.people
                    .group(user_domain(tenant, Some(organization)), name)
            }),
            same: self.models.is_none()
                && event.policy.as_deref() == Some(&**self.policy.version()),
            case: &case,
            points: now.risk.points(),
            again: &again,
            label,
        });
    }

    /// The case with the score of the new model; `None` where the recorded one stands.
    fn rescored<'e>(&self, case: &Case<'e>) -> Result<Option<Case<'e>>, Gap> {
        let Some(models) = &self.models else {
            return Ok(None);
        };
        match case.risk {
            // Why there was no score is not the model's doing.
            Risk::Unscored(_) => Ok(None),
            Risk::Scored {
                source: ScoreSource::Provenance,
                ..
            } => Err(Gap::NoRow),
            Risk::Scored { .. } => {
                let row = case.row()?;
                let own = models.iter().find(|(kind, _)| *kind == case.kind);
                let (_, model) = own.ok_or(Gap::NoModel)?;
                let output = run(model, &row).ok_or(Gap::NoModel)?;
                Ok(Some(case.rescored(&output, &row)))
            }
        }
    }
}

fn run(model: &Arc<dyn RiskModel>, row: &FeatureVector) -> Option<ModelOutput> {
    let deadline = Deadline::after(SystemClock.instant(), PATIENCE);
    model.run(row, deadline).ok()
}

#[cfg(test)]
mod tests;
