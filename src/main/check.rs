//! `riskgate check`: the flags, and what is printed.

use clap::Args;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::config::overrides::Overrides;
use riskgate::domain::printable;
use std::process::ExitCode;

/// Exit code when nothing is wrong, but there are warnings, and none are allowed.
const WARNED: u8 = 4;

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    overrides: Overrides,
    /// Also contact the identity server, Redis and the provider of operators
    #[arg(long)]
    reach: bool,
    /// Let warnings fail, for pipelines
    #[arg(long)]
    strict: bool,
}

/// Looks at everything that the gateway would look at, and says what is to be said of it.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, RunError> {
    let config = args
        .overrides
        .config()
        .map_err(|error| RunError::Config(vec![error]))?;
    let file = args.overrides.file_name();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::System(format!("no runtime: {error}")))?;
    let findings = runtime.block_on(app::check::check(&config, &file, args.reach));
    for line in &findings.fine {
        println!("ok       {}", printable::plain(line));
    }
    for line in &findings.warnings {
        println!("warning  {}", printable::plain(line));
    }
    if !findings.problems.is_empty() {
        return Err(RunError::Config(findings.problems));
    }
    let file = printable::plain(&file);
    if args.strict && !findings.warnings.is_empty() {
        let count = findings.warnings.len();
        eprintln!(
            "riskgate: {file} can be used, but there are warnings ({count}), which --strict does not allow"
        );
        return Ok(ExitCode::from(WARNED));
    }
    println!("{file} can be used");
    Ok(ExitCode::SUCCESS)
}
