//! The stream of the fleet beside the audit file: from the configuration to its parts, and the thread that they run on. It
//! ends after the audit log, whose last records it sends.

use crate::adapters::audit_stream::AuditStream;
use crate::adapters::redis::FORMS;
use crate::adapters::redis::RedisStream;
use crate::adapters::store::without_credentials;
use crate::app::assemble;
use crate::app::keys::Keys;
use crate::app::trust;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::audit::chain::node_name;
use crate::flow::ports::RecordStream;
use crate::flow::ports::RecordTap;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::remedy::Side;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How many records a stream may be set to hold.
const RECORDS: RangeInclusive<u64> = 1_000..=1_000_000;
/// The longest that one round trip may take: no request waits for it.
const ALLOWED: Duration = Duration::from_secs(2);

/// The stream that runs.
#[derive(Debug)]
pub struct Running {
    /// The stream.
    pub stream: Arc<dyn RecordStream>,
    /// Where it and its readers run.
    pub runtime: Handle,
    queue: Arc<AuditStream>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// The stream, where one is configured; or the first key that is wrong.
pub fn open(config: &Config, file: &str, keys: &Keys) -> Result<Option<RedisStream>, ConfigError> {
    let said = &config.audit.stream;
    if !said.enabled {
        return Ok(None);
    }
    let wrong = |key: &str, problem: String| {
        ConfigError::new(file, format!("audit.stream.{key}: {problem}"))
    };
    if !node_name(&said.name) {
        let problem = format!(
            "`{}`, expected up to 64 letters, digits, `.`, `_` or `-`",
            said.name
        );
        return Err(wrong("name", problem));
    }
    if !RECORDS.contains(&said.records_max) {
        let (least, most) = (RECORDS.start(), RECORDS.end());
        let problem = format!("{}, expected {least} to {most}", said.records_max);
        return Err(wrong("records_max", problem));
    }
    let Some(url) = url(config) else {
        let problem = format!(
            "missing, and the state is not in Redis: set it to the fleet's Redis ({FORMS}), or audit.stream.enabled = false"
        );
        return Err(wrong("url", problem));
    };
    let mut settings = assemble::store(config, file, keys)?.redis;
    settings.response_timeout = ALLOWED;
    settings.write_timeout = ALLOWED;
    settings.connection_timeout = settings.connection_timeout.max(ALLOWED / 2);
    // What it evicts is the state's concern: the file has every record.
    settings.on_warning = None;
    // Where it names neither address nor authorities of its own, those of the state are what counts.
    if said.url.is_some() || said.ca_file.is_some() {
        settings.side = Side::RedisStream;
    }
    if let Some(path) = &said.ca_file {
        settings.tls = trust::redis(Some(path), "audit.stream.ca_file", file)?;
    }
    let opened = RedisStream::connect(url, settings, &said.name, said.records_max);
    let named = |error| wrong("url", format!("`{}`: {error}", without_credentials(url)));
    opened.map(Some).map_err(named)
}

/// Where the stream is: at its own URL, or in the state's Redis.
pub fn url(config: &Config) -> Option<&str> {
    let state = Some(config.state.url.as_str()).filter(|url| url.starts_with("redis"));
    config.audit.stream.url.as_deref().or(state)
}

impl Running {
    /// Begins to send what the queue is handed.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        stream: RedisStream,
        metrics: &Arc<Metrics>,
        health: &Arc<Health>,
    ) -> std::io::Result<Self> {
        let stream: Arc<dyn RecordStream> = Arc::new(stream);
        let queue = Arc::new(AuditStream::new(Arc::clone(metrics)));
        let (stop, stopped) = watch::channel(false);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let sending = Arc::clone(&queue).run(Arc::clone(&stream), Arc::clone(health), stopped);
        let thread = std::thread::Builder::new()
            .name("riskgate-stream".to_owned())
            .spawn(move || runtime.block_on(sending))?;
        Ok(Self {
            stream,
            runtime: handle,
            queue,
            stop,
            thread,
        })
    }

    /// Who takes the lines.
    pub fn tap(&self) -> Arc<dyn RecordTap> {
        Arc::clone(&self.queue) as Arc<dyn RecordTap>
    }

    /// Sends what is left, and ends.
    pub fn end(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the stream of audit records panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_stream_is_where_the_state_is_or_where_it_is_said_to_be() {
        let off = config("[audit.stream]\nrecords_max = 1");
        assert!(open(&off, "f", &Keys::throwaway(7)).unwrap().is_none());
        for text in [
            "[state]\nurl = \"redis://127.0.0.1\"\n[audit.stream]\nenabled = true",
            "[audit.stream]\nenabled = true\nurl = \"redis+cluster://a,b\"\nname = \"edge.1\"",
            "[audit.stream]\nenabled = true\nurl = \"redis+sentinel://a/m\"",
            "[audit.stream]\nenabled = true\nurl = \"rediss://a\"",
        ] {
            let stream = open(&config(text), "f", &Keys::throwaway(7))
                .unwrap()
                .unwrap();
            assert!(stream.key().starts_with("rg:1:audit:{"), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy_and_no_password() {
        for (text, said) in [
            (
                "",
                "f: audit.stream.url: missing, and the state is not in Redis: set it to the fleet's Redis (redis://, ",
            ),
            (
                "url = \"redis://u:canary@h/x\"",
                "f: audit.stream.url: `redis://…@h/x`: the database must be",
            ),
            (
                "url = \"http://u:canary@h\"",
                "f: audit.stream.url: `http://…@h`: expected one of redis://",
            ),
            (
                "url = \"redis://h\"\nname = \"a{b}\"",
                "f: audit.stream.name: `a{b}`, expected up to 64 letters",
            ),
            (
                "url = \"redis://h\"\nrecords_max = 999",
                "f: audit.stream.records_max: 999, expected 1000 to 1000000",
            ),
            (
                "url = \"rediss://h\"\nca_file = \"/nowhere.pem\"",
                "f: audit.stream.ca_file: `/nowhere.pem` cannot be read as PEM",
            ),
        ] {
            let config = config(&format!("[audit.stream]\nenabled = true\n{text}"));
            let error = open(&config, "f", &Keys::throwaway(7))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(said) && !error.contains("canary"),
                "{error}"
            );
        }
    }
}
