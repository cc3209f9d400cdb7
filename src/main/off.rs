//! `riskgate off`: the flags, and what is printed.

use super::values;
use clap::Args;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::config::ConfigError;
use riskgate::config::overrides::Overrides;
use riskgate::domain::policy::decision::Mode;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct OffArgs {
    /// Configuration file [default: conf/riskgate.toml if it is there]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on scoring and recording, and change nothing for anybody
    #[arg(long)]
    monitor: bool,
    /// Put the file back as it was
    #[arg(long, conflicts_with = "monitor")]
    undo: bool,
    /// Who does it, for the record [default: $USER]
    #[arg(long = "as", value_name = "NAME")]
    operator: Option<String>,
}

/// Does what the command says.
pub(crate) fn run(args: &OffArgs) -> Result<(), RunError> {
    let wrong = |error| RunError::Config(vec![error]);
    let file = args.config.clone().or_else(Overrides::shipped_file);
    let file = file.ok_or_else(|| {
        let problem = "there is none: name it with `-c`; a gateway that runs without one is started again with `--mode off`";
        wrong(ConfigError::new("configuration file", problem))
    })?;
    let by = values::operator(args.operator.clone());
    let unsaid = if args.undo {
        let (mode, unsaid) = app::off::undo(&file, &by).map_err(wrong)?;
        println!(
            "{} is as it was (mode.default = \"{}\")",
            file.display(),
            mode.as_str()
        );
        unsaid
    } else {
        let mode = if args.monitor {
            Mode::Monitor
        } else {
            Mode::Off
        };
        let switched = app::off::switch(&file, mode, &by).map_err(wrong)?;
        println!(
            "mode.default = \"{}\" in {} (was \"{}\"; {} [[mode.overrides]] set aside)",
            switched.now.as_str(),
            file.display(),
            switched.before.as_str(),
            switched.overrides
        );
        println!(
            "as it was: {}; `riskgate off --undo -c {}` puts it back",
            switched.kept.display(),
            file.display()
        );
        switched.unsaid
    };
    if let Some(problem) = unsaid {
        eprintln!("riskgate: the record of it will not say who did it: {problem}");
    }
    println!(
        "gateways that run with this file take it over within two seconds, unless they were started with --mode"
    );
    Ok(())
}
