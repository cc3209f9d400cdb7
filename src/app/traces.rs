//! From `[traces]` to what takes and sends spans.

use crate::adapters::otlp;
use crate::adapters::otlp::Exporter;
use crate::app::trust;
use crate::config::Config;
use crate::config::ConfigError;
use crate::flow::tracing::Traces;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;

/// What `[traces]` says, when something is traced.
pub fn traces(
    config: &Config,
    file: &str,
    metrics: &Arc<Metrics>,
) -> Result<Option<(Traces, Exporter)>, ConfigError> {
    let said = &config.traces;
    let wrong = |problem: String| ConfigError::new(file, format!("traces.{problem}"));
    let Some(url) = &said.url else {
        return Ok(None);
    };
    if !(0.0..=100.0).contains(&said.sample_percent) {
        return Err(wrong(format!(
            "sample_percent: {}, expected 0 to 100",
            said.sample_percent
        )));
    }
    if said.service.is_empty() || said.service.len() > 100 {
        return Err(wrong("service: expected 1 to 100 characters".to_owned()));
    }
    let url = otlp::target(url).map_err(|error| wrong(error.to_string()))?;
    let authorities = trust::of_file_or_system(said.ca_file.as_deref(), url.scheme() == "https")
        .map_err(|error| wrong(format!("ca_file: {error}")))?;
    let (sink, exporter) = otlp::sink(url, &authorities, &said.service, Arc::clone(metrics))
        .map_err(|error| wrong(error.to_string()))?;
    let traces = Traces {
        sink: Arc::new(sink),
        share: said.sample_percent / 100.0,
    };
    Ok(Some((traces, exporter)))
}
