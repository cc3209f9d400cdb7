//! `riskgate explain`: the flags, and what is printed.

use super::NOTHING;
use super::Place;
use clap::Args;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::app::explain::Asked;
use riskgate::app::explain::Told;
use riskgate::domain::explain::words::Language;
use riskgate::domain::printable::plain;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to explain.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    place: Place,
    /// The id: X-Risk-Decision-Id, the reference on a page, `id` of a record
    #[arg(value_name = "DECISION-ID")]
    id: String,
    /// Audit files, or folders of them [default: the log of the configuration, with its older files]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    audit: Vec<PathBuf>,
    /// A model (.onnx), its manifest.toml or the folder of both [default: the model of the configuration]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The policy [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Put another decision beside it
    #[arg(long, value_name = "DECISION-ID")]
    compare: Option<String>,
    /// Print JSON, the whole record included
    #[arg(long)]
    json: bool,
    /// The language of the sentences: en
    #[arg(long, value_name = "CODE", default_value = "en", value_parser = language)]
    lang: Language,
}

/// Explains and prints.
pub(crate) fn run(args: ExplainArgs) -> Result<ExitCode, RunError> {
    let (config, _) = args.place.config()?;
    let id = |text: String| text.trim().to_ascii_lowercase();
    let asked = Asked {
        id: id(args.id),
        other: args.compare.map(id),
        audit: args.audit,
        model: args.model,
        policy: args.policy,
    };
    let told = app::explain::explain(&config, &asked)?;
    if let Told::Nothing(id) = &told {
        eprintln!(
            "riskgate: no record has the id `{}`; --audit names other files or folders",
            plain(id)
        );
        if let Some(packed) = app::explain::passed_over(&config, &asked)? {
            eprintln!("riskgate: {}", plain(&packed));
        }
        return Ok(ExitCode::from(NOTHING));
    }
    if args.json {
        print!("{}", told.json()?);
    } else {
        print!("{}", told.text(args.lang));
    }
    Ok(if told.is_different() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn language(code: &str) -> Result<Language, String> {
    Language::from_code(code).ok_or_else(|| {
        let codes = Language::ALL.map(Language::code);
        format!("expected {}", codes.join(" or "))
    })
}
