//! `riskgate certs`: the flags, and what is printed.

use clap::Args;
use riskgate::adapters::clock::SystemClock;
use riskgate::app::RunError;
use riskgate::app::certs;
use riskgate::app::certs::DAYS_MAX;
use riskgate::domain::printable::lines;
use riskgate::flow::ports::Clock;
use std::path::PathBuf;

/// Make certificates for development: an authority, both TLS listeners, a client
///
/// Writes dev-ca.crt, and dev-server, dev-actions and dev-client each as .crt and .key (P-256, keys for their owner
/// alone), and prints what goes into riskgate.toml and how a client trusts it. The authority's key is never written: who
/// trusts it trusts these certificates and nothing that anybody could issue later. Not for production.
///
/// Examples:
///   riskgate certs
///   riskgate certs --name gateway.test --name 192.0.2.7 --days 7
///   riskgate certs --out /tmp/certs --force
///
/// Exit codes: 0 written, 1 a file cannot be written, 2 a name is none, or files are there already.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct CertsArgs {
    /// The folder that they are written into
    #[arg(long, value_name = "DIR", default_value = "certs")]
    out: PathBuf,
    /// A name or address of the listeners, in place of the default ones; may be given several times
    #[arg(
        long = "name",
        value_name = "NAME",
        default_values = ["localhost", "127.0.0.1", "::1"]
    )]
    names: Vec<String>,
    /// For how many days they are good, at most 365; riskgate warns in the last 30
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    days: u32,
    /// Replace those that are there, the authority included
    #[arg(long)]
    force: bool,
}

/// Does what the command says.
pub(crate) fn run(args: CertsArgs) -> Result<(), RunError> {
    let wanted = certs::Wanted {
        out: args.out,
        names: args.names,
        days: args.days,
        force: args.force,
    };
    let made = certs::make(wanted, SystemClock.now())?;
    print!("{}", lines(&made.report()));
    Ok(())
}
