//! Steps that have a budget: measured by criterion, and held to it. A bench ends with an error where the median of a step is
//! above its budget, so that nobody has to compare tables. Budgets leave room for a machine that is three times slower than
//! the quiet one of `docs/PERFORMANCE.md`, or as busy.

use criterion::Bencher;
use criterion::Criterion;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::SystemTime;

/// What was measured, in the order of the benches.
static STEPS: Mutex<Vec<Step>> = Mutex::new(Vec::new());

struct Step {
    name: &'static str,
    budget: Duration,
    since: SystemTime,
}

/// Measures a step that may take `budget` at the median.
pub(crate) fn step(
    criterion: &mut Criterion,
    name: &'static str,
    budget: Duration,
    routine: impl FnMut(&mut Bencher<'_>),
) {
    let since = SystemTime::now();
    criterion.bench_function(name, routine);
    STEPS.lock().push(Step {
        name,
        budget,
        since,
    });
}

/// Says of every step that was measured in this run what it took, and fails if one took too long.
pub(crate) fn hold() -> ExitCode {
    let steps = std::mem::take(&mut *STEPS.lock());
    let mut code = ExitCode::SUCCESS;
    for step in steps {
        // A filter on the command line leaves steps out.
        let Some(took) = step.median() else { continue };
        let word = if took > step.budget {
            code = ExitCode::FAILURE;
            "OVER ITS BUDGET"
        } else {
            "within"
        };
        println!(
            "| {} | {:.2} µs | {:.1} µs | {word} |",
            step.name,
            took.as_secs_f64() * 1e6,
            step.budget.as_secs_f64() * 1e6
        );
    }
    code
}

impl Step {
    /// What criterion has written about it in this run.
    fn median(&self) -> Option<Duration> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"),
            PathBuf::from,
        );
        let folder = self.name.replace('/', "_");
        let file = target
            .join("criterion")
            .join(folder)
            .join("new/estimates.json");
        if std::fs::metadata(&file).ok()?.modified().ok()? < self.since {
            return None;
        }
        let estimates: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        let nanos = estimates.pointer("/median/point_estimate")?.as_f64()?;
        Some(Duration::from_secs_f64(nanos / 1e9))
    }
}
