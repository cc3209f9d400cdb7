//! The command line. Exit codes: 0 done, 1 something of the system failed, 2 the configuration or the command is wrong,
//! 3 nothing is known of whom was asked about, 4 what was looked at is not as it should be.

#[path = "main/audit.rs"]
mod audit;
#[path = "main/certs.rs"]
mod certs;
#[path = "main/check.rs"]
mod check;
#[path = "main/eval.rs"]
mod eval;
#[path = "main/explain.rs"]
mod explain;
#[path = "main/keys.rs"]
mod keys;
#[path = "main/label.rs"]
mod label;
#[path = "main/off.rs"]
mod off;
#[path = "main/operator.rs"]
mod operator;
#[path = "main/policy.rs"]
mod policy;
#[path = "main/replay.rs"]
mod replay;
#[path = "main/rollout.rs"]
mod rollout;
#[path = "main/scopes.rs"]
mod scopes;
#[path = "main/values.rs"]
mod values;

use clap::ArgGroup;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use mimalloc::MiMalloc;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::app::review::Said;
use riskgate::app::state::Forget;
use riskgate::app::state::Named;
use riskgate::config::Config;
use riskgate::config::overrides::Overrides;
use riskgate::config::overrides::address;
use riskgate::domain::printable;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

/// A request makes some hundred small allocations: beside the C library's, a replay executes a tenth fewer instructions.
/// Without huge pages, in whose steps of 2 MiB memory would be taken and not given back after a burst.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Risk-scoring reverse proxy for the edge in front of WSO2 Identity Server.
///
/// Every authorize, login and token request is scored inline and then passed on with its risk, asked for a stronger
/// factor, held or refused. As shipped it only watches (mode monitor): nobody is locked out.
#[derive(Debug, Parser)]
#[command(name = "riskgate", version, long_version = app::version::long())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground until SIGTERM
    ///
    /// Everything can be set in the configuration file; flags stand in for its keys. With the defaults it listens on
    /// 127.0.0.1:8080, forwards to https://localhost:9443 and only watches (mode monitor).
    ///
    /// Signals: SIGTERM drains, SIGINT ends at once, SIGHUP reads the files again (they are looked at every 2 seconds).
    ///
    /// Examples:
    ///   riskgate run --listen 127.0.0.1:8080 --upstream https://wso2.internal:9443
    ///   riskgate run -c conf/riskgate.toml --mode enforce
    ///
    /// Exit codes: 0 drained, 1 something of the system failed, 2 the configuration cannot be used.
    #[command(verbatim_doc_comment)]
    Run(Overrides),
    /// Check configuration, policy, model and certificates without binding a port
    ///
    /// Prints what is fine, what to know and what is wrong: file, key, what was expected. Writes nothing. Takes the flags
    /// of `run`, so that the same command line can be checked. What is missing and can be gone without, such as a model, is
    /// a warning, since the gateway starts without it.
    ///
    /// Examples:
    ///   riskgate check -c conf/mine.toml
    ///   riskgate check -c conf/mine.toml --reach
    ///   riskgate check -c conf/mine.toml --strict
    ///
    /// Exit codes: 0 it can be used (read the warnings all the same), 2 something is wrong, 4 with --strict: nothing is
    /// wrong, but there are warnings.
    #[command(verbatim_doc_comment)]
    Check(check::CheckArgs),
    /// Ask the gateway that runs how it is, for health checks
    ///
    /// Prints what /health/ready says: each part, and what is wrong with it.
    ///
    /// Examples:
    ///   riskgate health -c conf/mine.toml
    ///   riskgate health --admin 127.0.0.1:9090 --live
    ///
    /// Exit codes: 0 it is ready, or degraded, which serves every login; 1 it is starting or draining, or does not answer;
    /// 2 the configuration is wrong.
    #[command(verbatim_doc_comment)]
    Health {
        #[command(flatten)]
        desk: Desk,
        /// Only whether the process answers
        #[arg(long)]
        live: bool,
    },
    /// Stop scoring, for everybody and at once
    ///
    /// Writes it into the configuration, from which gateways that run take it within two seconds; the file as it was is
    /// kept beside it. Requests still pass and headers are still cleaned.
    ///
    /// Examples:
    ///   riskgate off -c /etc/riskgate/riskgate.toml
    ///   riskgate off --monitor
    ///   riskgate off --undo
    ///
    /// Exit codes: 0 written, 2 the file cannot be used.
    #[command(verbatim_doc_comment)]
    Off(off::OffArgs),
    /// Explain a decision: what was asked, what was decided and why, and what would have changed it
    ///
    /// Takes the decision from the audit log, computes its score again from the recorded row, and says whether it is the same.
    /// Reads files alone: the gateway need not run.
    ///
    /// Examples:
    ///   riskgate explain 01890a5d-ac96-774b-bcce-b302099a8057
    ///   riskgate explain 01890a5d-ac96-774b-bcce-b302099a8057 --compare 01890a5e-0dd6-7c21-9d2f-7a1b6c3d4e5f
    ///   riskgate explain 01890a5d-ac96-774b-bcce-b302099a8057 --audit /var/log/riskgate --json
    ///
    /// Exit codes: 0 explained, 1 the score comes out different, 2 a file cannot be used, 3 no record has that id.
    #[command(verbatim_doc_comment)]
    Explain(Box<explain::ExplainArgs>),
    /// Say what a draft policy or another model would have made of recorded decisions
    ///
    /// Gives every decision of an audit log again from its record, by the same code, and compares the verdicts: by
    /// application, country, kind of request and group of users, against labels where there are any, and who would be locked
    /// out. What cannot be given again from a record is counted and named. Changes nothing; the gateway need not run.
    ///
    /// Examples:
    ///   riskgate replay --policy draft.toml
    ///   riskgate replay --policy draft.toml --html report.html audit-2026-11*.jsonl
    ///   riskgate replay --model candidate --labels known.csv --people groups.csv /var/log/riskgate
    ///
    /// Exit codes: 0 done, 1 something failed, or decisions of this very policy come out another, 2 a file cannot be used,
    /// 3 there is nothing to give again, 4 break-glass accounts or the group `operators` would be locked out.
    #[command(verbatim_doc_comment)]
    Replay(Box<replay::ReplayArgs>),
    /// Keep what is known of a decision afterwards, or write all labels as CSV
    ///
    /// Said to the gateway that runs, as in its console: on record, told to receivers of shared signals, and a compromise ends
    /// sessions at WSO2 where the configuration says so. Where none answers, kept in labels.jsonl under data_dir alone, which
    /// is said. --export adds what later records say of earlier ones.
    ///
    /// Examples:
    ///   riskgate label 01890a5d-ac96-774b-bcce-b302099a8057 --compromised --kind phishing
    ///   riskgate label --export labels.csv --confidence 90
    ///
    /// Exit codes: 0 done, 2 a file cannot be used or the gateway refuses, 3 no record has that id, 4 with --export: written
    /// without audit files that are packed (.gz, .zst and such).
    #[command(verbatim_doc_comment)]
    Label(Box<label::LabelArgs>),
    /// Copy, look at or forget what is remembered
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Inspect or evaluate a model
    Model {
        #[command(subcommand)]
        command: eval::ModelCommand,
    },
    /// Try a policy
    Policy {
        #[command(subcommand)]
        command: policy::PolicyCommand,
    },
    /// List logins that are held for review, and decide about them
    ///
    /// Speaks to the gateway that runs, on its admin listener, with the operators' token (admin.token under data_dir).
    Review {
        #[command(subcommand)]
        command: ReviewCommand,
    },
    /// Say who may sign in to the console
    Operator {
        #[command(subcommand)]
        command: operator::OperatorCommand,
    },
    /// Bring applications from being watched to being enforced, and back
    ///
    /// Speaks to the gateway that runs, on its admin listener, with the operators' token (admin.token under data_dir).
    Rollout {
        #[command(subcommand)]
        command: rollout::RolloutCommand,
    },
    /// Check, export or erase audit records
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Suggest scopes that applications could do without
    Scopes {
        #[command(subcommand)]
        command: scopes::ScopesCommand,
    },
    /// Exchange the secret of the deployment, or the keys that sign
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    Certs(certs::CertsArgs),
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Copy everything that is remembered to another store, each entry with the time it has left
    ///
    /// What the target holds already stays as it is: a copy that was interrupted goes on when it is started again. The
    /// gateway must not run on a file that is copied; Redis may be in use. Tickets are not copied.
    ///
    /// Examples:
    ///   riskgate state copy --from embedded:data --to redis://127.0.0.1:6379
    ///   riskgate state copy --from redis://10.0.0.5 --to embedded:/var/lib/riskgate
    ///
    /// Exit codes: 0 copied, 1 a store failed on the way (start it again), 2 a store cannot be used or is of another
    /// secret.
    #[command(verbatim_doc_comment)]
    Copy {
        #[command(flatten)]
        place: Place,
        /// embedded:DIR, redis://HOST:PORT or one of its forms
        #[arg(long, value_name = "URL")]
        from: String,
        /// embedded:DIR, redis://HOST:PORT or one of its forms
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Print what is remembered of a user: counts and ages, no values
    ///
    /// With the embedded store the gateway must not run meanwhile; with Redis it may.
    ///
    /// Examples:
    ///   riskgate state show --user alice
    ///   riskgate state show --client expenses --tenant example.com
    ///
    /// Exit codes: 0 printed, 1 the store failed, 2 it cannot be used, 3 nothing is remembered.
    #[command(verbatim_doc_comment)]
    Show {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        whom: Whom,
    },
    /// Forget devices of a user, or everything
    ///
    /// Device cookies from before no longer speak for the user. With the embedded store the gateway must not run
    /// meanwhile; with Redis it may.
    ///
    /// Examples:
    ///   riskgate state forget --user alice --all-devices
    ///   riskgate state forget --user alice --tenant example.com --device 9f0c31d2a4b58e77
    ///
    /// Exit codes: 0 forgotten, 1 the store failed, 2 it cannot be used, 3 there was nothing to forget.
    #[command(verbatim_doc_comment)]
    Forget {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        what: What,
    },
    /// Remove the queue of held logins: for one that does not open
    ///
    /// Who is held signs in again. With the embedded store the gateway must not run meanwhile; with Redis it may.
    ///
    /// Examples:
    ///   riskgate state forget-held
    ///   riskgate state forget-held --store redis://10.0.0.5
    ///
    /// Exit codes: 0 removed, 1 the store failed, 2 it cannot be used, 3 there was none.
    #[command(verbatim_doc_comment)]
    ForgetHeld {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
enum ReviewCommand {
    /// Print the logins that wait: application, score, reasons, no names
    ///
    /// Examples:
    ///   riskgate review list
    ///   riskgate review list --all --json
    ///
    /// Exit codes: 0 printed, 2 no gateway answers, or not to this token.
    #[command(verbatim_doc_comment)]
    List {
        #[command(flatten)]
        desk: Desk,
        /// Print JSON, with whole ids and pseudonyms
        #[arg(long)]
        json: bool,
        /// Print those that have been decided as well
        #[arg(long)]
        all: bool,
    },
    /// Let the user of a held login sign in: once, within 15 minutes, from where it was held
    ///
    /// Examples:
    ///   riskgate review release 9f0c31d2 --as ann
    ///   riskgate review release 9f0c31d2a4b58e770000000000000000 --reason "called back on the known number"
    ///
    /// Exit codes: 0 released, 2 no gateway answers, or not to this token, 3 no held login has that id, or it has been
    /// refused.
    #[command(verbatim_doc_comment)]
    Release {
        #[command(flatten)]
        desk: Desk,
        #[command(flatten)]
        ruling: RulingArgs,
    },
    /// Turn a held login away: its user is told so and pointed to the help desk
    ///
    /// Examples:
    ///   riskgate review refuse 71ab04e9 --as ann --reason "nobody answers on the known number"
    ///
    /// Exit codes: 0 refused, 2 no gateway answers, or not to this token, 3 no held login has that id, or it has been
    /// released.
    #[command(verbatim_doc_comment)]
    Refuse {
        #[command(flatten)]
        desk: Desk,
        #[command(flatten)]
        ruling: RulingArgs,
    },
}

/// Where the gateway and its token are.
#[derive(Args, Debug)]
struct Desk {
    /// Configuration file [default: conf/riskgate.toml if it is there, else the built-in defaults]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of everything that riskgate writes, as shipped data (key state.data_dir)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port of the gateway's admin listener, as shipped 127.0.0.1:9090 (key admin.listen)
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    admin: Option<SocketAddr>,
}

/// What is decided, by whom and why.
#[derive(Args, Debug)]
struct RulingArgs {
    /// The id that `list` prints: at least its first 8 digits
    #[arg(value_name = "ID")]
    id: String,
    /// Who decides, for the record [default: $USER]
    #[arg(long = "as", value_name = "NAME")]
    operator: Option<String>,
    /// Why, for the record: at most 128 characters
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Where the configuration is.
#[derive(Args, Debug)]
struct Place {
    /// Configuration file [default: conf/riskgate.toml if it is there, else the built-in defaults]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where history is kept, such as embedded: or redis://HOST:PORT (key state.url)
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Folder of everything that riskgate writes, as shipped data (key state.data_dir)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// About whom.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("whom").args(["user", "client"]).required(true)))]
struct Whom {
    /// The username as it is typed at login
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The id of an OAuth client instead
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// The tenant domain; for a user of an organization its id
    #[arg(long, value_name = "DOMAIN", default_value = "carbon.super")]
    tenant: String,
}

/// What to forget.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// One device, by the hash that `state show` prints
    #[arg(long, value_name = "HASH", value_parser = values::hash)]
    device: Option<u64>,
    /// Every device
    #[arg(long)]
    all_devices: bool,
    /// All that is kept about the user, codes, tokens and sessions included
    #[arg(long)]
    everything: bool,
}

/// Exit code when what was to be looked at cannot be used.
const UNUSABLE: u8 = 2;
/// Exit code when nothing is known of whom was asked about.
const NOTHING: u8 = 3;
/// Exit code when what was written is right, but audit files that are packed are missing from it.
const NOT_ALL: u8 = 4;

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Cli::parse().command {
        Command::Run(overrides) => app::run(&overrides).map(done),
        Command::Check(args) => check::run(&args),
        Command::Health { desk, live } => health(&desk, live),
        Command::Off(args) => off::run(&args).map(done),
        Command::Explain(args) => explain::run(*args),
        Command::Label(args) => label::run(*args),
        Command::Replay(args) => replay::run(*args),
        Command::State { command } => state(command),
        Command::Review { command } => review(command),
        Command::Model { command } => match command {
            eval::ModelCommand::Inspect {
                model,
                json,
                library,
            } => inspect(&model, json, library),
            eval::ModelCommand::Eval(args) => eval::run(*args).map(done),
        },
        Command::Policy { command } => policy::run(command).map(done),
        Command::Keys { command } => keys::rotate(&command).map(done),
        Command::Certs(args) => certs::run(args).map(done),
        Command::Operator { command } => operator::run(&command),
        Command::Rollout { command } => rollout::run(command),
        Command::Scopes { command } => scopes::run(&command),
        Command::Audit { command } => audit::run(command),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("riskgate: {error}");
            ExitCode::from(match error {
                RunError::Config(_) => 2,
                RunError::System(_) => 1,
            })
        }
    }
}

fn health(desk: &Desk, live: bool) -> Result<ExitCode, RunError> {
    let report = app::health::health(&desk.config()?, live)?;
    print!("{}", report.text);
    Ok(if report.is_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn state(command: StateCommand) -> Result<ExitCode, RunError> {
    let said = match command {
        StateCommand::Copy { place, from, to } => {
            let (config, file) = place.config()?;
            let copied = app::state::copy(&config, &file, &from, &to, &mut |line| {
                eprintln!("{line}");
            })?;
            Some(copied.report())
        }
        StateCommand::Show { place, whom } => {
            let (config, file) = place.config()?;
            app::state::show(&config, &file, &whom.named())?
        }
        StateCommand::Forget { place, whom, what } => {
            let (config, file) = place.config()?;
            let what = match what.device {
                Some(device) => Forget::Device(device),
                None if what.everything => Forget::Everything,
                None => Forget::AllDevices,
            };
            app::state::forget(&config, &file, &whom.named(), what)?.map(|text| text + "\n")
        }
        StateCommand::ForgetHeld { place } => {
            let (config, file) = place.config()?;
            app::state::forget_held(&config, &file)?.map(|text| text + "\n")
        }
    };
    match said {
        Some(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        None => {
            eprintln!("riskgate: nothing is known");
            Ok(ExitCode::from(NOTHING))
        }
    }
}

fn inspect(model: &Path, json: bool, library: Option<PathBuf>) -> Result<ExitCode, RunError> {
    let inspected = app::model::inspect::inspect(model, library);
    if json {
        let text = inspected.json();
        print!(
            "{}",
            text.map_err(|error| RunError::System(error.to_string()))?
        );
    } else {
        print!("{}", printable::lines(&inspected.report()));
    }
    Ok(if inspected.usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNUSABLE)
    })
}

fn review(command: ReviewCommand) -> Result<ExitCode, RunError> {
    let (desk, ruling, is_release) = match command {
        ReviewCommand::List { desk, json, all } => {
            let listing = app::review::list(&desk.config()?, all)?;
            if json {
                println!("{}", listing.json());
            } else {
                print!("{}", listing.table());
            }
            return Ok(ExitCode::SUCCESS);
        }
        ReviewCommand::Release { desk, ruling } => (desk, ruling, true),
        ReviewCommand::Refuse { desk, ruling } => (desk, ruling, false),
    };
    let operator = ruling
        .operator
        .or_else(|| std::env::var("USER").ok())
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(|| "operator".to_owned());
    let said = app::review::decide(
        &desk.config()?,
        &ruling.id,
        is_release,
        &operator,
        &ruling.reason,
    )?;
    match said {
        Said::Done(id) if is_release => {
            println!("released  {id}\nits user can sign in within 15 minutes, once");
            Ok(ExitCode::SUCCESS)
        }
        Said::Done(id) => {
            println!("refused  {id}");
            Ok(ExitCode::SUCCESS)
        }
        Said::Nothing(why) => {
            eprintln!("riskgate: {why}; `riskgate review list --all` prints what there is");
            Ok(ExitCode::from(NOTHING))
        }
    }
}

impl Desk {
    fn config(&self) -> Result<Config, RunError> {
        let overrides = Overrides {
            config: self.config.clone(),
            data: self.data.clone(),
            admin: self.admin,
            ..Overrides::default()
        };
        overrides
            .config()
            .map_err(|error| RunError::Config(vec![error]))
    }
}

impl Place {
    fn config(&self) -> Result<(Config, String), RunError> {
        let overrides = Overrides {
            config: self.config.clone(),
            store: self.store.clone(),
            data: self.data.clone(),
            ..Overrides::default()
        };
        let config = overrides
            .config()
            .map_err(|error| RunError::Config(vec![error]))?;
        Ok((config, overrides.file_name()))
    }
}

impl Whom {
    fn named(&self) -> Named {
        let (name, is_client) = match (&self.user, &self.client) {
            (Some(user), _) => (user, false),
            (None, client) => (client.as_ref().unwrap_or(&self.tenant), true),
        };
        Named {
            name: name.clone(),
            is_client,
            tenant: self.tenant.clone(),
        }
    }
}
