//! From samples to medians, ratios, a table and a JSON file. A ratio is taken within a round, where both sides met the
//! same machine, and the median is taken over the ratios.

use crate::Gateway;
use crate::PEERS;
use crate::VARIANTS;
use crate::Variant;
use crate::driver::Round;
use crate::process::Cpu;
use crate::traffic::Traffic;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One round of one variant.
#[derive(Debug)]
pub(crate) struct Sample {
    /// What the clients saw.
    pub(crate) round: Round,
    /// CPU time of the gateway until it was idle again; of load and upstream where there is no gateway.
    pub(crate) gateway: Cpu,
    /// CPU time of load and upstream.
    pub(crate) driver: Cpu,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    began: String,
    load_before: String,
    samples: Vec<Entry>,
    metrics_before: BTreeMap<&'static str, String>,
    metrics_after: BTreeMap<&'static str, String>,
    peak_rss_kib: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Entry {
    variant: Variant,
    round: usize,
    quiet: bool,
    sample: Sample,
}

/// Least, median and greatest value.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Sample {
    fn requests(&self) -> f64 {
        self.round.nanos.len() as f64
    }

    fn rate(&self) -> f64 {
        self.requests() / self.round.took.as_secs_f64()
    }

    fn cpu_micros(&self) -> f64 {
        self.gateway.total().as_secs_f64() * 1e6 / self.requests()
    }

    /// Milliseconds below which `share` of the answers came.
    fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.round.nanos.len().saturating_sub(1);
        let nanos = self.round.nanos.get((last as f64 * share).round() as usize);
        nanos.map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
    }

    fn refused(&self) -> f64 {
        let refused: u64 = self
            .round
            .statuses
            .iter()
            .filter(|(status, _)| **status >= 400)
            .map(|(_, count)| count)
            .sum();
        refused as f64 / self.requests()
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            low: at(0),
            median: at(values.len() / 2),
            high: at(values.len().saturating_sub(1)),
        }
    }

    fn json(self) -> Value {
        json!({"min": self.low, "median": self.median, "max": self.high})
    }
}

impl Report {
    /// A report that begins now.
    pub(crate) fn begin() -> Self {
        Self {
            began: jiff::Timestamp::now().to_string(),
            load_before: load_average(),
            ..Self::default()
        }
    }

    /// One more sample.
    pub(crate) fn add(&mut self, variant: Variant, round: usize, quiet: bool, sample: Sample) {
        self.samples.push(Entry {
            variant,
            round,
            quiet,
            sample,
        });
    }

    /// The metrics of a gateway before the rounds.
    pub(crate) fn before(&mut self, gateway: &'static str, metrics: String) {
        self.metrics_before.insert(gateway, metrics);
    }

    /// The metrics of a gateway after the saturated rounds.
    pub(crate) fn after(&mut self, gateway: &'static str, metrics: String) {
        self.metrics_after.insert(gateway, metrics);
    }

    /// The greatest resident memory of a gateway.
    pub(crate) fn peak(&mut self, gateway: &'static str, kib: u64) {
        self.peak_rss_kib.insert(gateway, kib);
    }

    /// What was measured, in order.
    fn measured(&self) -> impl Iterator<Item = Variant> {
        VARIANTS
            .into_iter()
            .filter(|variant| self.of(*variant, false).next().is_some())
    }

    fn of(&self, variant: Variant, quiet: bool) -> impl Iterator<Item = &Entry> {
        self.samples
            .iter()
            .filter(move |entry| entry.variant == variant && entry.quiet == quiet)
    }

    fn spread(&self, variant: Variant, quiet: bool, value: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.of(variant, quiet).map(|entry| value(&entry.sample)))
    }

    /// `value` of a variant over that of the bare proxy with the same traffic, round by round.
    fn ratio(&self, variant: Variant, quiet: bool, value: impl Fn(&Sample) -> f64) -> Spread {
        let bare = Variant {
            gateway: Gateway::Bare,
            traffic: variant.traffic,
        };
        self.over(variant, bare, quiet, value)
    }

    /// `value` of a variant over that of another, round by round.
    fn over(
        &self,
        variant: Variant,
        base: Variant,
        quiet: bool,
        value: impl Fn(&Sample) -> f64,
    ) -> Spread {
        let ratios = self.of(variant, quiet).filter_map(|entry| {
            let base = self
                .of(base, quiet)
                .find(|other| other.round == entry.round)?;
            Some(value(&entry.sample) / value(&base.sample))
        });
        Spread::of(ratios)
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let _infallible = self.write_table(&mut text);
        text
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nratios to the bare proxy with the same traffic: median (least..greatest of the rounds)"
        )?;
        writeln!(
            out,
            "{:<20} {:>22} {:>22} {:>22}",
            "", "requests/s", "CPU per request", "p50, one connection"
        )?;
        for variant in self.measured() {
            let cell = |spread: Spread| {
                format!(
                    "{:.2} ({:.2}..{:.2})",
                    spread.median, spread.low, spread.high
                )
            };
            let rate = cell(self.ratio(variant, false, Sample::rate));
            // Load and upstream work in both: only gateways are compared by what they use.
            let cpu = if variant.gateway == Gateway::Direct {
                "-".to_owned()
            } else {
                cell(self.ratio(variant, false, Sample::cpu_micros))
            };
            let quiet = cell(self.ratio(variant, true, |sample| sample.quantile_ms(0.5)));
            writeln!(
                out,
                "{:<20} {rate:>22} {cpu:>22} {quiet:>22}",
                name(variant)
            )?;
        }
        writeln!(out, "\nmedians of the rounds")?;
        writeln!(
            out,
            "{:<20} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "req/s", "CPU us", "p50 ms", "p99 ms", "1c p50", "1c p99", "refused"
        )?;
        for variant in self.measured() {
            let rate = self.spread(variant, false, Sample::rate).median;
            let cpu = self.spread(variant, false, Sample::cpu_micros).median;
            let [p50, p99] = [0.5, 0.99].map(|share| {
                self.spread(variant, false, |sample| sample.quantile_ms(share))
                    .median
            });
            let [quiet, tail] = [0.5, 0.99].map(|share| {
                self.spread(variant, true, |sample| sample.quantile_ms(share))
                    .median
            });
            let refused = self.spread(variant, false, Sample::refused).median * 100.0;
            writeln!(
                out,
                "{:<20} {rate:>9.0} {cpu:>8.1} {p50:>9.3} {p99:>9.3} {quiet:>9.3} {tail:>9.3} {refused:>8.1}%",
                name(variant)
            )?;
        }
        self.write_peers(out)?;
        writeln!(out, "\nCPU us per request by thread (median)")?;
        for variant in self
            .measured()
            .filter(|variant| variant.gateway != Gateway::Direct)
        {
            let threads = self
                .threads(variant)
                .into_iter()
                .filter(|(_, micros)| *micros >= 0.05);
            let line: Vec<_> = threads
                .map(|(name, micros)| format!("{name} {micros:.1}"))
                .collect();
            writeln!(out, "{:<20} {}", name(variant), line.join(", "))?;
        }
        for (gateway, kib) in &self.peak_rss_kib {
            writeln!(
                out,
                "peak resident memory, {gateway}: {:.1} MiB",
                *kib as f64 / 1024.0
            )?;
        }
        for gateway in self.metrics_after.keys() {
            writeln!(out, "\n{gateway}, of the saturated rounds:")?;
            for (what, value) in self.counted(gateway) {
                writeln!(out, "  {what}: {value:.1}")?;
            }
        }
        writeln!(
            out,
            "\nmachine: {}; load average before {}, after {}",
            machine(),
            self.load_before,
            load_average()
        )
    }

    /// What riskgate uses for a scored token request over what each peer, or another build, uses for the same request.
    fn write_peers(&self, out: &mut String) -> std::fmt::Result {
        let of = |gateway| Variant {
            gateway,
            traffic: Traffic::Token,
        };
        let own = of(Gateway::Enforce);
        let peers = PEERS.into_iter().chain([Gateway::Beside]).map(of);
        let peers = peers.filter(|peer| self.of(*peer, false).next().is_some());
        let peers: Vec<Variant> = peers.collect();
        if peers.is_empty() || self.of(own, false).next().is_none() {
            return Ok(());
        }
        writeln!(out, "\ntoken / enforce over the peers: CPU per request")?;
        for peer in peers {
            let ratio = self.over(own, peer, false, Sample::cpu_micros);
            writeln!(
                out,
                "{:<20} {:>8.2} ({:.2}..{:.2})",
                peer.gateway.as_str(),
                ratio.median,
                ratio.low,
                ratio.high
            )?;
        }
        Ok(())
    }

    fn threads(&self, variant: Variant) -> Vec<(String, f64)> {
        let names: std::collections::BTreeSet<&String> = self
            .of(variant, false)
            .flat_map(|entry| entry.sample.gateway.0.keys())
            .collect();
        let micros = |name: &String| {
            let of = |sample: &Sample| {
                sample
                    .gateway
                    .0
                    .get(name)
                    .map_or(0.0, |used| used.as_secs_f64() * 1e6 / sample.requests())
            };
            self.spread(variant, false, of).median
        };
        names
            .into_iter()
            .map(|name| (name.clone(), micros(name)))
            .collect()
    }

    /// What the gateway's own metrics counted between the two readings: shares in percent, times in microseconds.
    fn counted(&self, gateway: &str) -> Vec<(String, f64)> {
        let (Some(before), Some(after)) = (
            self.metrics_before.get(gateway),
            self.metrics_after.get(gateway),
        ) else {
            return Vec::new();
        };
        let (before, after) = (series(before), series(after));
        let grown = |name: &str| {
            after.get(name).copied().unwrap_or_default()
                - before.get(name).copied().unwrap_or_default()
        };
        let of = |start: &str| -> Vec<(String, f64)> {
            let names = after.keys().filter(|name| name.starts_with(start));
            names
                .map(|name| (name.clone(), grown(name)))
                .filter(|(_, value)| *value > 0.0)
                .collect()
        };
        let mut counted = Vec::new();
        let scores = of("riskgate_score_seconds_count");
        let all: f64 = scores.iter().map(|(_, count)| count).sum();
        for (name, count) in &scores {
            let labels = name
                .strip_prefix("riskgate_score_seconds_count")
                .unwrap_or_default();
            counted.push((format!("scores {labels}, percent"), count / all * 100.0));
        }
        for what in ["score", "state_load", "decision"] {
            for (name, count) in of(&format!("riskgate_{what}_seconds_count")) {
                let sum = grown(&name.replace("_count", "_sum"));
                let labels = name
                    .split_once('{')
                    .map_or("", |(_, labels)| labels.trim_end_matches('}'));
                counted.push((format!("mean time, {what} {labels}, us"), sum / count * 1e6));
            }
        }
        counted.extend(of("riskgate_requests_total"));
        for loss in [
            "riskgate_audit_events_dropped_total",
            "riskgate_state_writes_lost_total",
            "riskgate_panics_total",
        ] {
            counted.push((loss.to_owned(), grown(loss)));
        }
        for losses in [
            "riskgate_unscored_total",
            "riskgate_score_fallbacks_total",
            "riskgate_state_errors_total",
        ] {
            counted.extend(of(losses));
        }
        counted
    }

    /// Everything, for machines.
    pub(crate) fn json(&self) -> Result<String> {
        let variants = self.measured().map(|variant| {
            let quantile = |quiet, share| self.spread(variant, quiet, move |sample: &Sample| sample.quantile_ms(share)).json();
            json!({
                "gateway": variant.gateway.as_str(),
                "traffic": variant.traffic.as_str(),
                "ratio_to_bare": {
                    "requests_per_second": self.ratio(variant, false, Sample::rate).json(),
                    "cpu_per_request": self.ratio(variant, false, Sample::cpu_micros).json(),
                    "p50_one_connection": self.ratio(variant, true, |sample| sample.quantile_ms(0.5)).json(),
                },
                "requests_per_second": self.spread(variant, false, Sample::rate).json(),
                "cpu_micros_per_request": self.spread(variant, false, Sample::cpu_micros).json(),
                "cpu_micros_per_request_by_thread": self.threads(variant).into_iter().collect::<BTreeMap<_, _>>(),
                "load_and_upstream_cpu_micros_per_request":
                    self.spread(variant, false, |sample| sample.driver.total().as_secs_f64() * 1e6 / sample.requests()).json(),
                "p50_ms": quantile(false, 0.5),
                "p99_ms": quantile(false, 0.99),
                "one_connection_p50_ms": quantile(true, 0.5),
                "one_connection_p99_ms": quantile(true, 0.99),
                "refused_share": self.spread(variant, false, Sample::refused).json(),
            })
        });
        let counted: BTreeMap<_, BTreeMap<_, _>> = self
            .metrics_after
            .keys()
            .map(|gateway| (*gateway, self.counted(gateway).into_iter().collect()))
            .collect();
        let report = json!({
            "began": self.began,
            "machine": machine(),
            "load_average": {"before": self.load_before, "after": load_average()},
            "connections": crate::CONNECTIONS,
            "rounds": crate::ROUNDS,
            "round_ms": crate::ROUND.as_millis() as u64,
            "peak_rss_kib": self.peak_rss_kib,
            "variants": variants.collect::<Vec<_>>(),
            "metrics": counted,
        });
        Ok(serde_json::to_string_pretty(&report)?)
    }

    /// Refuses numbers that are about something else: requests that failed, refusals instead of logins, lost scores.
    pub(crate) fn check(&self, refused_max: f64) -> Result<()> {
        for entry in &self.samples {
            let (variant, sample) = (entry.variant, &entry.sample);
            let may_refuse = matches!(
                variant.gateway,
                Gateway::Enforce | Gateway::Onnx | Gateway::Beside
            ) && variant.traffic != Traffic::Passed;
            let refused_max = if may_refuse { refused_max } else { 0.0 };
            let failed = sample.round.statuses.keys().any(|status| *status >= 500);
            if failed || sample.refused() > refused_max || sample.round.nanos.is_empty() {
                bail!(
                    "{}: these answers are not what was to be measured: {:?}",
                    name(variant),
                    sample.round.statuses
                );
            }
        }
        for gateway in self.metrics_after.keys() {
            let lost = self.counted(gateway).into_iter().find(|(name, count)| {
                *count > 0.0 && (name.starts_with("riskgate_unscored") || name.contains("panics"))
            });
            if let Some((name, count)) = lost {
                bail!("{gateway}: {name} {count}: what was measured is not scoring");
            }
        }
        Ok(())
    }
}

fn name(variant: Variant) -> String {
    format!(
        "{} / {}",
        variant.traffic.as_str(),
        variant.gateway.as_str()
    )
}

/// The series of the text exposition format.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    format!("{cores} x {model}")
}
