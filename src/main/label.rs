//! `riskgate label`: the flags, and what is printed.

use super::NOT_ALL;
use super::NOTHING;
use super::Place;
use clap::ArgGroup;
use clap::Args;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::app::label_desk;
use riskgate::app::label_desk::Said;
use riskgate::app::labels::Word;
use riskgate::config::overrides::address;
use riskgate::domain::label::Truth;
use riskgate::domain::printable::plain;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// What is known of which decision.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("word").args(["safe", "compromised", "export"]).required(true)))]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    place: Place,
    /// Address and port of the gateway's admin listener (key admin.listen)
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, conflicts_with = "export")]
    admin: Option<SocketAddr>,
    /// The id of the decision
    #[arg(
        value_name = "DECISION-ID",
        required_unless_present = "export",
        conflicts_with = "export"
    )]
    id: Option<String>,
    /// It was the user
    #[arg(long)]
    safe: bool,
    /// It was somebody else
    #[arg(long)]
    compromised: bool,
    /// The kind of attacker, such as stuffing or phishing
    #[arg(long, value_name = "NAME", requires = "compromised")]
    kind: Option<String>,
    /// Leave the sessions of the user at WSO2, which end where upstream.management.end_sessions says so
    #[arg(long, requires = "compromised")]
    keep_sessions: bool,
    /// Why, for those who come later
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Who says so [default: $USER]
    #[arg(long = "as", value_name = "NAME")]
    operator: Option<String>,
    /// Write all labels, also what later records say of earlier ones, as CSV
    #[arg(long, value_name = "CSV")]
    export: Option<PathBuf>,
    /// With --export: only labels that are worth so many percent; 70 leaves out hints (what WSO2 told afterwards)
    #[arg(long, value_name = "PERCENT", default_value_t = 0, requires = "export")]
    confidence: u8,
    /// Audit files, or folders of them: no gateway is asked then [default: the log of the configuration, with its older files]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    audit: Vec<PathBuf>,
}

/// Keeps a label, or writes all of them.
pub(crate) fn run(args: LabelArgs) -> Result<ExitCode, RunError> {
    let (mut config, _) = args.place.config()?;
    config.admin.listen = args.admin.unwrap_or(config.admin.listen);
    if let Some(out) = &args.export {
        let exported = app::labels::export(&config, &args.audit, out, args.confidence)?;
        for (source, (safe, compromised)) in &exported.by_source {
            println!(
                "{:<8}  {safe} safe, {compromised} compromised",
                source.as_str()
            );
        }
        if exported.broken > 0 {
            eprintln!(
                "riskgate: {} lines of the log are no records",
                exported.broken
            );
        }
        if let Some(packed) = &exported.passed_over {
            eprintln!("riskgate: {}", plain(packed));
            return Ok(ExitCode::from(NOT_ALL));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let operator = args
        .operator
        .or_else(|| std::env::var("USER").ok())
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(|| "operator".to_owned());
    let word = Word {
        id: args.id.unwrap_or_default().trim().to_ascii_lowercase(),
        truth: if args.compromised {
            Truth::Compromised
        } else {
            Truth::Safe
        },
        operator,
        attacker_kind: args.kind,
        note: args.note,
        audit: args.audit,
    };
    let said = label_desk::say(&config, &word, args.keep_sessions)?;
    match &said {
        Said::ByGateway { label, .. } | Said::InFile { label, .. } => {
            println!("{}  {}", label.label.as_str(), plain(&label.id));
        }
        Said::Nothing => {
            eprintln!("riskgate: no record has the id `{}`", plain(&word.id));
            if let Some(packed) = app::labels::passed_over(&config, &word.audit)? {
                eprintln!("riskgate: {}", plain(&packed));
            }
            return Ok(ExitCode::from(NOTHING));
        }
    }
    if let Some(remark) = said.remark() {
        eprintln!("riskgate: {remark}");
    }
    Ok(ExitCode::SUCCESS)
}
