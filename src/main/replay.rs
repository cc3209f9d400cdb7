//! `riskgate replay`: the flags, and what is printed.

use super::NOTHING;
use super::Place;
use super::values;
use clap::Args;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::app::rerun::Plan;
use riskgate::domain::time::Timestamp;
use std::num::NonZero;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code when break-glass accounts or operators would be locked out.
const LOCKED_OUT: u8 = 4;

/// What to replay, by what.
#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    place: Place,
    /// Audit files, or folders of them [default: the log of the configuration, with its older files]
    #[arg(value_name = "FILE")]
    audit: Vec<PathBuf>,
    /// The draft [default: the policy of the configuration, which then must reproduce its own verdicts]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A model (.onnx), its manifest.toml or the folder of both, to score the recorded rows anew
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Which decisions were attacks (columns id, label, and if there attacker_kind, cohort, campaign)
    #[arg(long, value_name = "CSV")]
    labels: Option<PathBuf>,
    /// Who belongs to which group (columns user, group, and if there tenant); the group `operators` must not be locked out
    #[arg(long, value_name = "CSV")]
    people: Option<PathBuf>,
    /// Leave out what is older: YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, UTC
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    from: Option<Timestamp>,
    /// Write the report as JSON; - for the standard output, in place of the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page with charts, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

/// Replays and prints.
pub(crate) fn run(args: ReplayArgs) -> Result<ExitCode, RunError> {
    let (config, _) = args.place.config()?;
    let plan = Plan {
        audit: args.audit,
        policy: args.policy,
        model: args.model,
        labels: args.labels,
        people: args.people,
        from: args.from,
        threads: args.threads,
        ..Plan::default()
    };
    let report = app::rerun::replay(&config, &plan)?;
    if let Some(path) = &args.html {
        write(path, &report.html()?)?;
    }
    match &args.json {
        Some(path) if path == Path::new("-") => print!("{}", report.json()?),
        Some(path) => {
            write(path, &report.json()?)?;
            print!("{}", report.text());
        }
        None => print!("{}", report.text()),
    }
    let locked_out = report.locked_out.break_glass.count + report.locked_out.operators.count;
    Ok(match report.replayed {
        0 => {
            eprintln!("riskgate: no decision could be given again");
            ExitCode::from(NOTHING)
        }
        _ if report.not_reproduced > 0 => ExitCode::FAILURE,
        _ if locked_out > 0 => ExitCode::from(LOCKED_OUT),
        _ => ExitCode::SUCCESS,
    })
}

fn write(path: &Path, text: &str) -> Result<(), RunError> {
    std::fs::write(path, text).map_err(|error| {
        RunError::System(format!("`{}` cannot be written: {error}", path.display()))
    })
}
