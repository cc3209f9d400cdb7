//! `riskgate scopes`: the flags, and what is printed.

use super::NOTHING;
use super::Place;
use clap::Subcommand;
use riskgate::app;
use riskgate::app::RunError;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum ScopesCommand {
    /// Print which scopes of which application are granted and which are used, and which could go
    ///
    /// A scope is to be removed if it was granted for long and often enough, never used, and policy says that every use of it
    /// passes here (token.watched_scopes). With the embedded store the gateway must not run meanwhile.
    ///
    /// Examples:
    ///   riskgate scopes suggest --client 1u31N7of6gCNR9FqkG1neSlsF_Qa
    ///   riskgate scopes suggest --tenant example.com --json
    ///
    /// Exit codes: 0 printed, 1 the store failed, 2 it cannot be used, 3 nothing is known.
    #[command(verbatim_doc_comment)]
    Suggest {
        #[command(flatten)]
        place: Place,
        /// The id of one OAuth client
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        /// One tenant domain
        #[arg(long, value_name = "DOMAIN")]
        tenant: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does what the command says.
pub(crate) fn run(command: &ScopesCommand) -> Result<ExitCode, RunError> {
    let ScopesCommand::Suggest {
        place,
        client,
        tenant,
        json,
    } = command;
    let (config, file) = place.config()?;
    let found = app::scopes::suggest(&config, &file, client.as_deref(), tenant.as_deref())?;
    if *json {
        println!("{}", app::scopes::json(&found)?);
    } else {
        print!("{}", app::scopes::table(&found));
    }
    if found.is_empty() {
        eprintln!("riskgate: nothing is known of these scopes");
        return Ok(ExitCode::from(NOTHING));
    }
    Ok(ExitCode::SUCCESS)
}
