//! Says what happened: logs for engineers, metrics for machines, health for load balancers. A leaf: it names the domain
//! alone. Nothing here ever receives a username, an address, a code or a token.

/// Counters, histograms and gauges.
pub mod metrics;

/// Liveness and readiness.
pub mod health;

/// What mends a connection.
pub mod remedy;

/// One event, one line.
mod plain;

/// Leaves lines out that say nothing.
mod quiet;

use plain::Plain;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// Why `filter` cannot be used, or nothing. A word of its own must be a level: the library would take any other for the name
/// of a module, and leave out the lines of all the rest.
pub fn filter_problem(filter: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let is_odd = |word: &&str| {
        !word.is_empty()
            && !word.contains(['=', '['])
            && !LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    if let Some(word) = filter.split(',').map(str::trim).find(is_odd) {
        return Some(format!(
            "`{word}`: expected a level (error, warn, info, debug, trace, off) or TARGET=LEVEL, such as `info,pingora=warn`"
        ));
    }
    let error = EnvFilter::try_new(filter).err()?;
    Some(format!("`{filter}`: {error}"))
}

/// Starts logging to standard error. `filter` is a level or a list of `target=level`; the variable `RUST_LOG` wins over
/// it. Returns an error when the filter cannot be read or logging was started before.
pub fn start_logging(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter =
        EnvFilter::try_new(&filter).map_err(|error| format!("log filter `{filter}`: {error}"))?;
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(quiet::Quiet);
    let has_colours = std::io::stderr().is_terminal();
    let writer = move || Plain::new(std::io::stderr(), format, has_colours);
    let started = match format {
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .with_writer(writer)
                    .with_ansi(has_colours),
            )
            .try_init(),
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(writer)
                    .with_ansi(has_colours),
            )
            .try_init(),
    };
    started.map_err(|error| error.to_string())
}
