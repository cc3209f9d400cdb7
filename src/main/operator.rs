//! `riskgate operator add | remove | list`: who may sign in to the console.

use super::Desk;
use super::NOTHING;
use super::values;
use clap::Subcommand;
use clap::ValueEnum;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::app::RunError;
use riskgate::app::console;
use riskgate::config::ConfigError;
use riskgate::domain::operator::roster::PASSWORD_BYTES_MAX;
use riskgate::domain::operator::roster::Role;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Read;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Let somebody sign in to the console, or give them another role and password
    ///
    /// The password is read from standard input, one line of at least 15 characters; on a terminal it shows as it is typed. A gateway that runs takes
    /// the change over within a second or two; sessions with the old password end.
    ///
    /// Examples:
    ///   riskgate operator add ann --role analyst
    ///   pass show riskgate/ann | riskgate operator add ann --role admin -c conf/mine.toml
    ///
    /// Exit codes: 0 done, 1 the file cannot be written, 2 the name or the password is not taken.
    #[command(verbatim_doc_comment)]
    Add {
        #[command(flatten)]
        desk: Desk,
        /// Letters, digits, `-`, `_`, `.` and `@`, at most 64
        #[arg(value_name = "NAME")]
        name: String,
        /// viewer: looks. analyst: also decides about held logins and confirms decisions. admin: also edits the policy,
        /// changes the rollout and ends sessions of other operators
        #[arg(long, value_name = "ROLE")]
        role: RoleName,
        /// Who does it, for the record [default: $USER]
        #[arg(long = "as", value_name = "NAME")]
        operator: Option<String>,
    },
    /// Take an operator away; their sessions end
    ///
    /// Examples:
    ///   riskgate operator remove ann --as bo
    ///
    /// Exit codes: 0 done, 1 the file cannot be written, 3 there is none of that name.
    #[command(verbatim_doc_comment)]
    Remove {
        #[command(flatten)]
        desk: Desk,
        /// The name
        #[arg(value_name = "NAME")]
        name: String,
        /// Who does it, for the record [default: $USER]
        #[arg(long = "as", value_name = "NAME")]
        operator: Option<String>,
    },
    /// Print roles and names
    ///
    /// Examples:
    ///   riskgate operator list -c conf/mine.toml
    ///
    /// Exit codes: 0 printed, 2 the file cannot be used.
    #[command(verbatim_doc_comment)]
    List {
        #[command(flatten)]
        desk: Desk,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleName {
    Viewer,
    Analyst,
    Admin,
}

/// Does what is asked.
pub(crate) fn run(command: &OperatorCommand) -> Result<ExitCode, RunError> {
    match command {
        OperatorCommand::Add {
            desk,
            name,
            role,
            operator,
        } => {
            let role = match role {
                RoleName::Viewer => Role::Viewer,
                RoleName::Analyst => Role::Analyst,
                RoleName::Admin => Role::Admin,
            };
            let config = desk.config()?;
            let by = values::operator(operator.clone());
            let was_there = console::add(&config, name, role, &password()?, &by, &OsEntropy)?;
            let done = if was_there { "changed" } else { "added" };
            println!("{done}: {role} {name}");
        }
        OperatorCommand::Remove {
            desk,
            name,
            operator,
        } => {
            let by = values::operator(operator.clone());
            if !console::remove(&desk.config()?, name, &by)? {
                eprintln!("riskgate: there is no operator of that name");
                return Ok(ExitCode::from(NOTHING));
            }
            println!("removed: {name}");
        }
        OperatorCommand::List { desk } => print!("{}", console::list(&desk.config()?)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// One line of standard input.
pub(crate) fn password() -> Result<String, RunError> {
    let input = std::io::stdin();
    if input.is_terminal() {
        eprintln!("Password (it shows):");
    }
    let mut line = String::new();
    // One more than may be: what is longer is refused and not cut.
    let most = PASSWORD_BYTES_MAX as u64 + 3;
    input
        .lock()
        .take(most)
        .read_line(&mut line)
        .map_err(|error| {
            RunError::Config(vec![ConfigError::new(
                "the password",
                format!("cannot be read from standard input: {error}"),
            )])
        })?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_owned())
}
