//! What one score costs: natively and in ONNX Runtime, the watchdog included.
//!
//! `cargo bench --bench score`. Needs the library that `scripts/fetch-onnxruntime.sh` fetches.

mod budget;

use criterion::Criterion;
use criterion::criterion_group;
use riskgate::adapters::onnx::load;
use riskgate::adapters::onnx::manifest::Golden;
use riskgate::domain::features::FeatureVector;
use riskgate::domain::kind::RequestKind;
use riskgate::domain::time::Deadline;
use riskgate::flow::ports::RiskModel;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::process;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

const MODEL: &str = "conf/model";

fn score(c: &mut Criterion) {
    match prepare() {
        Ok((native, primary, rows)) => {
            measure(
                c,
                ("score/native", Duration::from_micros(2)),
                &*native,
                &rows,
            );
            measure(
                c,
                ("score/onnx_runtime", Duration::from_micros(25)),
                &*primary,
                &rows,
            );
        }
        Err(error) => {
            eprintln!("cannot measure: {error}");
            process::exit(1);
        }
    }
}

type Prepared = (Arc<dyn RiskModel>, Arc<dyn RiskModel>, Vec<FeatureVector>);

fn prepare() -> Result<Prepared, Box<dyn Error>> {
    let loaded = load(Path::new(MODEL), None)?
        .into_kind(RequestKind::Login)
        .ok_or("there is no model for logins")?;
    let golden = Golden::parse(&std::fs::read(Path::new(MODEL).join("golden.json"))?)?;
    let rows = golden.rows.iter().map(|row| row.vector()).collect();
    let native = loaded.native.ok_or("the model is not additive")?;
    let primary = loaded
        .primary
        .ok_or("no library; run scripts/fetch-onnxruntime.sh first")?;
    Ok((native, primary, rows))
}

fn measure(
    c: &mut Criterion,
    (name, budget): (&'static str, Duration),
    model: &dyn RiskModel,
    rows: &[FeatureVector],
) {
    let mut rows = rows.iter().cycle();
    budget::step(c, name, budget, |b| {
        b.iter(|| {
            let deadline = Deadline::after(Instant::now(), Duration::from_millis(10));
            rows.next().map(|row| model.run(black_box(row), deadline))
        });
    });
}

criterion_group!(benches, score);

fn main() -> ExitCode {
    benches();
    budget::hold()
}
