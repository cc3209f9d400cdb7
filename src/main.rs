//! The command line. Exit codes: 0 done, 1 something of the system failed, 2 the configuration or the command is wrong.

use clap::Parser;
use clap::Subcommand;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::config::overrides::Overrides;
use std::process::ExitCode;

/// Risk-scoring reverse proxy for the edge in front of WSO2 Identity Server.
///
/// Every authorize, login and token request is scored inline and then passed on with its risk, asked for a stronger
/// factor, held or refused. As shipped it only watches (mode monitor): nobody is locked out.
#[derive(Debug, Parser)]
#[command(name = "riskgate", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground until SIGTERM
    ///
    /// Examples:
    ///   riskgate run --listen 127.0.0.1:8080 --upstream https://wso2.internal:9443
    ///   riskgate run -c conf/riskgate.toml --mode enforce
    #[command(verbatim_doc_comment)]
    Run(Overrides),
    /// Check configuration, policy, model and certificates without binding a port
    ///
    /// Prints what is fine, what to know and what is wrong: file, key, what was expected. Exit code 2 when something is
    /// wrong.
    Check {
        #[command(flatten)]
        overrides: Overrides,
        /// Also contact the identity server and Redis
        #[arg(long)]
        reach: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(overrides) => app::run(&overrides),
        Command::Check { overrides, reach } => check(&overrides, reach),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("riskgate: {error}");
            ExitCode::from(match error {
                RunError::Config(_) => 2,
                RunError::System(_) => 1,
            })
        }
    }
}

fn check(overrides: &Overrides, reach: bool) -> Result<(), RunError> {
    let config = overrides
        .config()
        .map_err(|error| RunError::Config(vec![error]))?;
    let file = overrides
        .file()
        .map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::System(format!("no runtime: {error}")))?;
    let findings = runtime.block_on(app::check::check(&config, &file, reach));
    for line in &findings.fine {
        println!("ok       {line}");
    }
    for line in &findings.warnings {
        println!("warning  {line}");
    }
    if findings.problems.is_empty() {
        println!("{file} can be used");
        Ok(())
    } else {
        Err(RunError::Config(findings.problems))
    }
}
