//! `riskgate rollout`: the flags, and what is printed.

use super::Desk;
use super::operator::password;
use clap::Args;
use clap::Subcommand;
use riskgate::app::RunError;
use riskgate::app::rollout;
use riskgate::app::rollout::Change;
use riskgate::config::ConfigError;
use riskgate::config::overrides;
use riskgate::domain::policy::decision::Mode;
use riskgate::domain::printable;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Print the stages, their friction budgets, what waits for approval and what has fallen back
    ///
    /// Examples:
    ///   riskgate rollout status
    ///   riskgate rollout status --json --admin 10.0.0.7:9090
    ///
    /// Exit codes: 0 printed, 2 no gateway answers, or it has no rollout file.
    #[command(verbatim_doc_comment)]
    Status {
        #[command(flatten)]
        desk: Desk,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Go on to a stronger mode, or to more users
    ///
    /// Where the file says `approvals = 2`, another operator has to approve it. The operator's password is read from
    /// standard input, one line. Without --application and --tenant it is about everybody for whom there is no stage.
    ///
    /// Examples:
    ///   riskgate rollout promote --application expenses --to enforce --percent 10 --as ada --reason "a quiet week"
    ///   pass show riskgate/ada | riskgate rollout promote --to advise --as ada --reason "everybody else"
    ///
    /// Exit codes: 0 done or asked for, 1 the file cannot be written, 2 it is not done.
    #[command(verbatim_doc_comment)]
    Promote {
        #[command(flatten)]
        desk: Desk,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        word: WordArgs,
    },
    /// Go back to a weaker mode, or to fewer users: at once, by one operator
    ///
    /// The operator's password is read from standard input, one line.
    ///
    /// Examples:
    ///   riskgate rollout demote --application expenses --to monitor --as ada --reason "complaints from the field"
    ///   riskgate rollout demote --application expenses --to enforce --percent 10 --as ada
    ///
    /// Exit codes: 0 done, 1 the file cannot be written, 2 it is not done: the line says why.
    #[command(verbatim_doc_comment)]
    Demote {
        #[command(flatten)]
        desk: Desk,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        word: WordArgs,
    },
    /// Approve what another operator has asked for
    ///
    /// Without --to it prints what waits, and approves nothing: who approves says what was read.
    /// The operator's password is read from standard input, one line.
    ///
    /// Examples:
    ///   riskgate rollout approve --application expenses
    ///   riskgate rollout approve --application expenses --to enforce --percent 10 --as bo
    ///
    /// Exit codes: 0 done, 1 the file cannot be written, 2 it is not done: the line says why.
    #[command(verbatim_doc_comment)]
    Approve {
        #[command(flatten)]
        desk: Desk,
        #[command(flatten)]
        whom: ScopeArgs,
        /// What you have read that it asks for: if something else waits by now, it is not approved. Must be there
        #[arg(long, value_name = "MODE", value_parser = overrides::mode)]
        to: Option<Mode>,
        /// For how many of a hundred users, with --to
        #[arg(long, value_name = "PERCENT", default_value_t = 100, requires = "to", value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
        #[command(flatten)]
        word: WordArgs,
    },
}

/// For whom. Without either: for everybody for whom there is no stage.
#[derive(Args, Debug)]
pub(crate) struct ScopeArgs {
    /// The client id, or the issuer of SAML requests
    #[arg(long, value_name = "ID")]
    application: Option<String>,
    /// The tenant domain
    #[arg(long, value_name = "DOMAIN")]
    tenant: Option<String>,
}

/// What is to hold for whom.
#[derive(Args, Debug)]
pub(crate) struct Target {
    #[command(flatten)]
    scope: ScopeArgs,
    /// off, monitor, advise or enforce
    #[arg(long, value_name = "MODE", value_parser = overrides::mode)]
    to: Mode,
    /// For how many of a hundred users
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    percent: u8,
}

/// Who says so, and why.
#[derive(Args, Debug)]
pub(crate) struct WordArgs {
    /// An operator with the role admin, whose password is read from standard input [default: $USER]
    #[arg(long = "as", value_name = "NAME")]
    operator: Option<String>,
    /// Why, for the record [default for approve: the reason of who asked]
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Does what the command says.
pub(crate) fn run(command: RolloutCommand) -> Result<ExitCode, RunError> {
    match command {
        RolloutCommand::Status { desk, json } => {
            let status = rollout::status(&desk.config()?)?;
            if json {
                println!("{}", status.json());
            } else {
                print!("{}", printable::lines(&status.table()));
            }
            Ok(ExitCode::SUCCESS)
        }
        RolloutCommand::Promote { desk, target, word } => say(
            &desk,
            "promote",
            target.scope,
            Some((target.to, target.percent)),
            word,
        ),
        RolloutCommand::Demote { desk, target, word } => say(
            &desk,
            "demote",
            target.scope,
            Some((target.to, target.percent)),
            word,
        ),
        RolloutCommand::Approve {
            desk,
            whom,
            to,
            percent,
            word,
        } => {
            let Some(to) = to else {
                return unread(&desk, &whom);
            };
            say(&desk, "approve", whom, Some((to, percent)), word)
        }
    }
}

/// Prints what waits for approval. To approve it takes more words, which show that it was read.
fn unread(desk: &Desk, whom: &ScopeArgs) -> Result<ExitCode, RunError> {
    let status = rollout::status(&desk.config()?)?;
    let (tenant, application) = (whom.tenant.as_deref(), whom.application.as_deref());
    let problem = match status.waiting(tenant, application) {
        Some(waiting) => {
            println!("{}", printable::plain(&waiting.line()));
            "missing: say what you approve, with --percent where it is not 100"
        }
        None => "missing, and nothing waits there: `riskgate rollout status` lists what does",
    };
    Err(RunError::Config(vec![ConfigError::new("--to", problem)]))
}

fn say(
    desk: &Desk,
    word: &'static str,
    scope: ScopeArgs,
    to: Option<(Mode, u8)>,
    said: WordArgs,
) -> Result<ExitCode, RunError> {
    let config = desk.config()?;
    let operator = said
        .operator
        .or_else(|| std::env::var("USER").ok())
        .filter(|name| !name.trim().is_empty())
        .ok_or_else(|| {
            let problem = "missing: name the operator who says so";
            RunError::Config(vec![ConfigError::new("--as", problem)])
        })?;
    let change = Change {
        word,
        tenant: scope.tenant,
        application: scope.application,
        mode: to.map(|(mode, _)| mode),
        percentage: to.map_or(100, |(_, percentage)| percentage),
        operator,
        password: password()?,
        reason: said.reason,
    };
    let said = rollout::change(&config, &change)?;
    let line = format!("{}: {} -> {}", said.action, said.from, said.to);
    println!("{}", printable::plain(&line));
    if let (true, Some((mode, percentage))) = (said.action == "proposed", to) {
        println!(
            "another operator has to approve it: `riskgate rollout approve --to {} --percent {percentage}`, for the same application and \
             tenant",
            mode.as_str()
        );
    } else {
        println!("the gateway takes it over within two seconds");
    }
    Ok(ExitCode::SUCCESS)
}
