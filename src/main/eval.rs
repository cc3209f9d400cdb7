//! `riskgate model`: its commands; the flags of `eval`, and what that prints.

use super::values;
use clap::ArgGroup;
use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::app::model::eval::Evaluation;
use riskgate::app::model::eval::Evaluator;
use riskgate::app::model::eval::Input;
use riskgate::app::replay::events::Label;
use riskgate::domain::time::Timestamp;
use std::path::PathBuf;

/// What to do with a model.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Say what a model is, whether it passes every check, and how long it takes here
    ///
    /// Takes a model (.onnx), a manifest.toml or the folder of both. A model file alone is checked without golden vectors.
    ///
    /// Examples:
    ///   riskgate model inspect conf/model
    ///   riskgate model inspect candidate.onnx --json
    ///
    /// Exit codes: 0 the gateway would use it, 2 it would refuse it.
    #[command(verbatim_doc_comment)]
    Inspect {
        /// A model (.onnx), its manifest.toml or the folder of both
        #[arg(value_name = "FILE")]
        model: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The ONNX Runtime library [default: as the gateway finds it]
        #[arg(long, value_name = "FILE")]
        library: Option<PathBuf>,
    },
    /// Play login events through the gateway's own path and say how good the model is
    ///
    /// The events are a CSV with the columns of the public RBA data set and, if there, further ones (docs/reference/events.md),
    /// in the order of time. Each is scored before its outcome is known, decided by the policy in mode enforce, and learnt from
    /// by the gateway's own rule. With --audit it is the rows of a gateway's own audit log that are scored, as recorded.
    /// Nothing is written but what the flags name.
    ///
    /// Examples:
    ///   riskgate model eval conf/model --events logins.csv
    ///   riskgate model eval risk.onnx --events - --from 2020-03-01 --scores out.csv < logins.csv
    ///   riskgate model eval candidate --audit data/audit.jsonl --labels known.csv --json figures.json
    ///
    /// Exit codes: 0 done, 1 something of the system failed, 2 the model or an event cannot be used.
    #[command(verbatim_doc_comment)]
    Eval(Box<EvalArgs>),
}

/// What to evaluate.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("rows").args(["events", "audit"]).required(true)))]
pub(crate) struct EvalArgs {
    /// A model (.onnx), its manifest.toml or the folder of both
    #[arg(value_name = "FILE")]
    model: PathBuf,
    /// The events as CSV; - for the standard input
    #[arg(long, value_name = "CSV")]
    events: Option<PathBuf>,
    /// An audit log instead, whose rows are scored as they were recorded; - for the standard input
    #[arg(long, value_name = "JSONL", conflicts_with_all = ["geo", "label", "skip_bad"])]
    audit: Option<PathBuf>,
    /// With --audit: which exchanges were attacks (columns id, label, and if there attacker_kind, cohort, campaign)
    #[arg(
        long,
        value_name = "CSV",
        requires = "audit",
        conflicts_with = "events"
    )]
    labels: Option<PathBuf>,
    /// Folder of address databases that win over the file's columns, such as vendor/geo
    #[arg(long, value_name = "DIR")]
    geo: Option<PathBuf>,
    /// Write one row per event: score, verdict, label
    #[arg(long, value_name = "CSV")]
    scores: Option<PathBuf>,
    /// Write the feature vectors as a NumPy array, in the same order
    #[arg(long, value_name = "NPY")]
    features: Option<PathBuf>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Events before this moment only warm the state: YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, UTC
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    from: Option<Timestamp>,
    /// The policy [default: conf/policy.toml if it is there, else the built-in one]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// What makes an event an attack: attacker-kind, account-takeover, or attack-ip (either of the last two columns)
    #[arg(long, value_name = "COLUMN", value_parser = values::label)]
    label: Option<Label>,
    /// What computes the scores: the native evaluator where the graph has one (equal to ONNX Runtime within 1e-6, which
    /// is proved when the model is loaded, and quicker), or one of the two by name
    #[arg(long, value_enum, value_name = "NAME", default_value_t = EvaluatorName::Auto)]
    evaluator: EvaluatorName,
    /// The ONNX Runtime library [default: as the gateway finds it]
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// Pass over up to N bad records
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_bad: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EvaluatorName {
    Auto,
    Native,
    OnnxRuntime,
}

/// Evaluates and prints the figures.
pub(crate) fn run(args: EvalArgs) -> Result<(), RunError> {
    let input = match (args.audit, args.events) {
        (Some(log), _) => Input::Audit {
            log,
            labels: args.labels,
        },
        (None, events) => Input::Events(events.unwrap_or_default()),
    };
    let evaluation = Evaluation {
        model: args.model,
        input,
        geo: args.geo,
        scores: args.scores,
        features: args.features,
        json: args.json,
        from: args.from,
        policy: args.policy,
        label: args.label,
        evaluator: match args.evaluator {
            EvaluatorName::Auto => None,
            EvaluatorName::Native => Some(Evaluator::Native),
            EvaluatorName::OnnxRuntime => Some(Evaluator::OnnxRuntime),
        },
        library: args.library,
        skip_bad: args.skip_bad,
    };
    let evaluated = app::model::eval::eval(&evaluation, &mut |line| eprintln!("{line}"))?;
    print!("{}", evaluated.report());
    Ok(())
}
