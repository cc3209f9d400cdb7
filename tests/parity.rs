//! The model in ONNX Runtime, its native twin and the trainer's own numbers are the same; and what misbehaves is
//! refused at load or answered with an error in time.
//!
//! Needs the library that `scripts/fetch-onnxruntime.sh` fetches; without it these tests fail.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

use riskgate::adapters::native::NativeModel;
use riskgate::adapters::onnx::LoadSettings;
use riskgate::adapters::onnx::LoadedModel;
use riskgate::adapters::onnx::ModelFault;
use riskgate::adapters::onnx::ModelLoadError;
use riskgate::adapters::onnx::ProofError;
use riskgate::adapters::onnx::load;
use riskgate::adapters::onnx::load_with;
use riskgate::adapters::onnx::manifest::Golden;
use riskgate::domain::features::Feature;
use riskgate::domain::features::FeatureSchema;
use riskgate::domain::features::FeatureVector;
use riskgate::domain::kind::RequestKind;
use riskgate::domain::risk::ModelOutput;
use riskgate::domain::risk::Thresholds;
use riskgate::domain::time::Deadline;
use riskgate::flow::ports::ModelError;
use riskgate::flow::ports::RiskModel;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

const SHIPPED: &str = "conf/model";
/// The starter, whose files have names that tests may rely on.
const STARTER: &str = "tests/data/models/starter";

fn misbehaving(kind: &str) -> PathBuf {
    Path::new("tests/data/models").join(kind)
}

fn loaded(dir: &Path) -> LoadedModel {
    loaded_for(RequestKind::Login, dir)
}

fn loaded_for(kind: RequestKind, dir: &Path) -> LoadedModel {
    let model = load(dir, None).unwrap().into_kind(kind).unwrap();
    assert!(
        model.primary.is_some(),
        "run scripts/fetch-onnxruntime.sh first: {:?}",
        model.missing
    );
    model
}

fn primary(dir: &Path) -> Arc<dyn RiskModel> {
    loaded(dir).primary.unwrap()
}

fn golden_of(kind: RequestKind) -> Golden {
    let file = match kind {
        RequestKind::Login => "golden.json",
        RequestKind::Token => "golden-token.json",
        RequestKind::M2m => "golden-m2m.json",
    };
    Golden::parse(&fs::read(Path::new(SHIPPED).join(file)).unwrap()).unwrap()
}

fn golden(dir: &Path) -> Golden {
    Golden::parse(&fs::read(dir.join("golden.json")).unwrap()).unwrap()
}

fn run(model: &dyn RiskModel, row: &FeatureVector) -> Result<ModelOutput, ModelError> {
    model.run(row, Deadline::after(Instant::now(), Duration::from_secs(5)))
}

/// What a command-line client without a device cookie looks like; the misbehaving models misbehave on it.
fn scripted_without_cookie() -> FeatureVector {
    let mut row = FeatureVector::missing();
    row.set(Feature::ScriptedAgent, 1.0);
    row.set(Feature::DeviceCookie, 0.5);
    row
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn edit(dir: &Path, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(dir.join(file)).unwrap();
    assert!(text.contains(from), "{from} is not in {file}");
    fs::write(dir.join(file), text.replacen(from, to, 1)).unwrap();
}

fn refused(dir: &Path) -> ModelLoadError {
    load(dir, None).unwrap_err()
}

#[test]
fn onnx_runtime_native_and_trainer_agree() {
    for kind in RequestKind::ALL {
        let model = loaded_for(kind, Path::new(SHIPPED));
        let (primary, native) = (model.primary.unwrap(), model.native.unwrap());
        let golden = golden_of(kind);
        assert!(golden.rows.len() >= 30);
        for row in &golden.rows {
            let (a, b) = (
                run(&*primary, &row.vector()).unwrap(),
                run(&*native, &row.vector()).unwrap(),
            );
            let (p, q) = (a.score.probability(), b.score.probability());
            let name = format!("{}: {}", kind.as_str(), row.name);
            assert!(
                (p - q).abs() <= 1e-6 && (q - row.probability).abs() <= 1e-6,
                "{name}: {p} {q}"
            );
            let pairs = a.contributions.iter().zip(b.contributions);
            for ((x, y), z) in pairs.zip(&row.contributions) {
                assert!(
                    (x - y).abs() <= 1e-5 && (y - z).abs() <= 1e-5,
                    "{name}: {x} {y} {z}"
                );
            }
            assert_eq!(a.score.points(), b.score.points(), "{name}");
        }
    }
}

#[test]
fn contributions_and_bias_add_up_to_the_logit() {
    for kind in RequestKind::ALL {
        let model = loaded_for(kind, Path::new(SHIPPED));
        let (primary, bias) = (model.primary.unwrap(), model.bias.unwrap());
        for row in &golden_of(kind).rows {
            let output = run(&*primary, &row.vector()).unwrap();
            let p = f64::from(output.score.probability());
            if (0.001..0.999).contains(&p) {
                let sum = f64::from(output.contributions.iter().sum::<f32>() + bias);
                assert!((sum - (p / (1.0 - p)).ln()).abs() < 1e-3, "{}", row.name);
            }
        }
    }
}

/// A row from a linear congruential generator (Knuth's MMIX constants): rows need only be many and the same in every run.
/// A tenth of the values is missing, and now and then one is infinite or far out of range.
fn drawn(state: &mut u64) -> FeatureVector {
    let mut values = [f32::NAN; Feature::COUNT];
    for slot in &mut values {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let chance = (*state >> 40) as f32 / (1_u64 << 24) as f32;
        *slot = match chance {
            c if c < 0.1 => f32::NAN,
            c if c < 0.101 => f32::INFINITY,
            c if c < 0.102 => f32::NEG_INFINITY,
            c if c < 0.103 => 1e30,
            c => c * 20.0 - 9.0,
        };
    }
    FeatureVector::from_slice(&values).unwrap()
}

#[test]
fn both_evaluators_agree_beyond_the_golden_rows() {
    let mut state = 7_u64;
    let mut worst = 0.0_f32;
    for kind in RequestKind::ALL {
        let model = loaded_for(kind, Path::new(SHIPPED));
        let (primary, native) = (model.primary.unwrap(), model.native.unwrap());
        for _ in 0..34_000 {
            let row = drawn(&mut state);
            let (a, b) = (run(&*primary, &row).unwrap(), run(&*native, &row).unwrap());
            let difference = (a.score.probability() - b.score.probability()).abs();
            worst = worst.max(difference);
            assert!(difference <= 1e-6, "{row:?}");
            for (x, y) in a.contributions.iter().zip(b.contributions) {
                assert!(x.is_finite() && (x - y).abs() <= 1e-5);
            }
        }
    }
    println!("102,000 rows, the largest difference is {worst:e}");
}

#[test]
fn more_of_a_risky_thing_never_lowers_a_score() {
    const STEPS: usize = 64;
    let schema = FeatureSchema::current();
    let mut state = 11_u64;
    for kind in RequestKind::ALL {
        let native = loaded_for(kind, Path::new(SHIPPED)).native.unwrap();
        for feature in schema.features_of(kind) {
            let entry = schema.entry(feature);
            for _ in 0..20 {
                let mut row = drawn(&mut state);
                let mut before = None;
                for step in 0..=STEPS {
                    let (low, high) = entry.clip;
                    row.set(feature, low + (high - low) * step as f32 / STEPS as f32);
                    let now = run(&*native, &row).unwrap().contributions[feature.index()];
                    let change = before.map_or(0.0, |before| now - before);
                    assert!(
                        change * f32::from(entry.monotone) >= -1e-6,
                        "{} of {}",
                        entry.name,
                        kind.as_str()
                    );
                    before = Some(now);
                }
            }
        }
    }
}

#[test]
fn without_history_the_same_models_answer() {
    for kind in RequestKind::ALL {
        let model = loaded_for(kind, Path::new(SHIPPED));
        let output = run(&*model.native.unwrap(), &FeatureVector::missing()).unwrap();
        // What is not known is never medium.
        assert!(
            output.score.points() < Thresholds::default().medium,
            "{}",
            kind.as_str()
        );
    }
}

#[test]
fn each_model_is_checked_for_its_own_kind() {
    let copy = copy_of(Path::new(STARTER));
    edit(
        copy.path(),
        "manifest.toml",
        "kind = \"token\"",
        "kind = \"x\"",
    );
    edit(
        copy.path(),
        "manifest.toml",
        "kind = \"m2m\"",
        "kind = \"token\"",
    );
    edit(
        copy.path(),
        "manifest.toml",
        "kind = \"x\"",
        "kind = \"m2m\"",
    );
    let fault = refused(copy.path()).to_string();
    assert!(
        fault.contains("says `token` for `model_kind` in its metadata; expected `m2m`")
            && fault.contains("risk-token-0.1.0.onnx"),
        "{fault}"
    );
    let copy = copy_of(Path::new(STARTER));
    fs::remove_file(copy.path().join("golden-m2m.json")).unwrap();
    let fault = refused(copy.path()).to_string();
    assert!(fault.contains("golden-m2m.json` cannot be read"), "{fault}");
    let copy = copy_of(Path::new(STARTER));
    let file = copy.path().join("risk-m2m-0.1.0.onnx");
    let mut bytes = fs::read(&file).unwrap();
    bytes.pop();
    fs::write(&file, bytes).unwrap();
    let fault = refused(copy.path());
    assert!(matches!(*fault.fault, ModelFault::Digest { .. }), "{fault}");
    assert!(fault.to_string().contains("risk-m2m-0.1.0.onnx"), "{fault}");
}

#[test]
fn the_model_is_quick_enough_to_run_inline() {
    // The best of three: the machine may stand still meanwhile.
    let models = [0; 3].map(|_| loaded(Path::new(SHIPPED)));
    let [model, ..] = &models;
    let fastest = models.iter().map(|model| model.golden_p99).min();
    assert!(fastest > Some(Duration::ZERO));
    // Tens of microseconds; the bound leaves room for a slow machine.
    assert!(fastest < Some(Duration::from_millis(5)), "{fastest:?}");
    assert_eq!(model.warnings, Vec::<String>::new());
}

#[test]
fn many_threads_share_few_sessions() {
    let settings = LoadSettings {
        sessions: 2,
        ..LoadSettings::default()
    };
    let model = load_with(Path::new(SHIPPED), &settings)
        .unwrap()
        .into_kind(RequestKind::Login)
        .unwrap()
        .primary
        .unwrap();
    let rows = golden(Path::new(SHIPPED)).rows;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for row in rows.iter().cycle().take(500) {
                    let output = run(&*model, &row.vector()).unwrap();
                    assert!(
                        (output.score.probability() - row.probability).abs() <= 1e-5,
                        "{}",
                        row.name
                    );
                }
            });
        }
    });
}

#[test]
fn a_missing_library_leaves_the_native_model() {
    let model = load(
        Path::new(SHIPPED),
        Some(Path::new("no/such/libonnxruntime.so")),
    )
    .unwrap()
    .into_kind(RequestKind::Login)
    .unwrap();
    assert!(model.primary.is_none());
    let output = run(&*model.native.unwrap(), &FeatureVector::missing()).unwrap();
    assert!(output.score.probability() > 0.0);
    let missing = model.missing.expect("a word about the library");
    assert!(missing.contains("no/such/libonnxruntime.so"), "{missing}");
}

#[test]
fn a_missing_library_and_another_form_leave_nothing() {
    let fault = load(
        &misbehaving("network"),
        Some(Path::new("no/such/libonnxruntime.so")),
    )
    .unwrap_err();
    assert!(
        matches!(*fault.fault, ModelFault::Evaluator { .. }),
        "{fault}"
    );
}

#[test]
fn a_model_of_another_form_runs_without_a_native_twin() {
    let model = loaded(&misbehaving("network"));
    assert!(model.native.is_none() && model.bias.is_none());
    assert!(
        model
            .warnings
            .iter()
            .any(|warning| warning.contains("not of the additive form")),
        "{:?}",
        model.warnings
    );
    let output = run(&*model.primary.unwrap(), &FeatureVector::missing()).unwrap();
    assert_eq!(output.contributions, [0.0; Feature::COUNT]);
}

#[test]
fn an_answer_that_is_no_number_is_an_error() {
    let model = primary(&misbehaving("nan"));
    assert_eq!(
        run(&*model, &scripted_without_cookie()),
        Err(ModelError::Output)
    );
    assert!(run(&*model, &FeatureVector::missing()).is_ok());
}

#[test]
fn an_answer_out_of_range_is_an_error() {
    let model = primary(&misbehaving("range"));
    assert_eq!(
        run(&*model, &scripted_without_cookie()),
        Err(ModelError::Output)
    );
    assert!(run(&*model, &FeatureVector::missing()).is_ok());
}

#[test]
fn a_run_that_overruns_is_interrupted_and_the_session_lives_on() {
    let settings = LoadSettings {
        sessions: 1,
        ..LoadSettings::default()
    };
    let model = load_with(&misbehaving("slow"), &settings)
        .unwrap()
        .into_kind(RequestKind::Login)
        .unwrap()
        .primary
        .unwrap();
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let answer = model.run(
            &scripted_without_cookie(),
            Deadline::after(begun, Duration::from_millis(20)),
        );
        let took = begun.elapsed();
        assert_eq!(answer, Err(ModelError::Timeout));
        assert!(took >= Duration::from_millis(20), "{took:?}");
        fastest = fastest.min(took);
        assert!(run(&*model, &FeatureVector::missing()).is_ok());
    }
    // Uninterrupted it takes seconds.
    assert!(fastest < Duration::from_millis(500), "{fastest:?}");
}

#[test]
fn a_sleeping_watchdog_wakes_for_a_run() {
    let model = primary(&misbehaving("slow"));
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        // Longer than the watchdog stays awake without traffic.
        thread::sleep(Duration::from_millis(400));
        let begun = Instant::now();
        let answer = model.run(
            &scripted_without_cookie(),
            Deadline::after(begun, Duration::from_millis(10)),
        );
        assert_eq!(answer, Err(ModelError::Timeout));
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest < Duration::from_millis(500), "{fastest:?}");
}

#[test]
fn who_finds_every_session_busy_waits_no_longer_than_the_deadline() {
    let settings = LoadSettings {
        sessions: 1,
        ..LoadSettings::default()
    };
    let model = load_with(&misbehaving("slow"), &settings)
        .unwrap()
        .into_kind(RequestKind::Login)
        .unwrap()
        .primary
        .unwrap();
    let busy = Arc::clone(&model);
    let holder = thread::spawn(move || {
        busy.run(
            &scripted_without_cookie(),
            Deadline::after(Instant::now(), Duration::from_millis(800)),
        )
    });
    // Again and again, until the other one has the session and while it has it.
    let (mut late, mut fastest) = (0, Duration::MAX);
    while !holder.is_finished() {
        let begun = Instant::now();
        let answer = model.run(
            &FeatureVector::missing(),
            Deadline::after(begun, Duration::from_millis(10)),
        );
        if answer == Err(ModelError::Timeout) {
            late += 1;
            fastest = fastest.min(begun.elapsed());
        }
    }
    assert!(
        late > 0 && fastest < Duration::from_millis(400),
        "{fastest:?}"
    );
    assert_eq!(holder.join().unwrap(), Err(ModelError::Timeout));
}

#[test]
fn a_deadline_that_never_comes_is_no_trouble() {
    let model = primary(Path::new(SHIPPED));
    let far = Deadline::after(Instant::now(), Duration::from_secs(u64::from(u32::MAX)));
    assert!(model.run(&FeatureVector::missing(), far).is_ok());
}

#[test]
fn a_flipped_byte_is_noticed() {
    let copy = copy_of(Path::new(STARTER));
    let file = copy.path().join("risk-login-0.1.0.onnx");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let fault = refused(copy.path());
    assert!(matches!(*fault.fault, ModelFault::Digest { .. }), "{fault}");
    assert!(
        fault.to_string().contains("risk-login-0.1.0.onnx"),
        "{fault}"
    );
}

#[test]
fn a_missing_model_file_is_named() {
    let copy = copy_of(Path::new(STARTER));
    fs::remove_file(copy.path().join("risk-login-0.1.0.onnx")).unwrap();
    assert!(
        refused(copy.path())
            .to_string()
            .contains("risk-login-0.1.0.onnx` cannot be read")
    );
    assert!(
        refused(Path::new("no/such/model"))
            .to_string()
            .contains("no/such/model")
    );
}

#[test]
fn breaches_of_the_contract_are_refused_with_file_and_expectation() {
    for (kind, expected) in [
        (
            "external_data",
            "keeps the tensor `seg_weight` outside of the file",
        ),
        (
            "foreign_operator",
            "of the domain `com.microsoft`; expected standard operators only",
        ),
        (
            "not_monotone",
            "lets the risk move the wrong way as `geo_km` grows",
        ),
        (
            "wrong_names",
            "for `feature_names` in its metadata; expected `the 77 names of the schema in its order`",
        ),
        (
            "wrong_schema",
            "for `feature_schema_sha256` in its metadata; expected `",
        ),
        (
            "wrong_shape",
            "`features` of shape [N, 76]; expected [N, 77]",
        ),
    ] {
        let fault = refused(&misbehaving(kind)).to_string();
        assert!(fault.contains(expected), "{kind}: {fault}");
        assert!(fault.contains("model.onnx"), "{kind}: {fault}");
    }
}

#[test]
fn a_manifest_cannot_lead_out_of_its_directory() {
    let copy = copy_of(Path::new(STARTER));
    edit(
        copy.path(),
        "manifest.toml",
        "risk-login-0.1.0.onnx",
        "../risk-login-0.1.0.onnx",
    );
    assert!(
        refused(copy.path())
            .to_string()
            .contains("expected a plain file name in the same directory")
    );
}

#[test]
fn a_manifest_of_another_schema_is_refused() {
    let copy = copy_of(Path::new(STARTER));
    edit(
        copy.path(),
        "manifest.toml",
        "schema_version = 3",
        "schema_version = 4",
    );
    let fault = refused(copy.path()).to_string();
    assert!(
        fault.contains("is for schema 4; expected schema 3"),
        "{fault}"
    );
}

#[test]
fn golden_vectors_of_another_model_are_refused() {
    let copy = copy_of(Path::new(STARTER));
    edit(
        copy.path(),
        "golden.json",
        "\"model_version\": \"0.1.0\"",
        "\"model_version\": \"0.0.9\"",
    );
    assert!(
        refused(copy.path())
            .to_string()
            .contains("is for model version `0.0.9`")
    );
}

#[test]
fn a_model_that_answers_otherwise_than_its_trainer_says_is_refused() {
    let copy = copy_of(Path::new(STARTER));
    edit(
        copy.path(),
        "golden.json",
        "\"probability\":0.0",
        "\"probability\":0.1",
    );
    let fault = refused(copy.path());
    assert!(
        matches!(
            *fault.fault,
            ModelFault::Proof(ProofError::Golden {
                what: "probability",
                ..
            })
        ),
        "{fault}"
    );
}

#[test]
fn a_model_over_the_size_limit_is_not_read() {
    let settings = LoadSettings {
        model_bytes_max: 1000,
        ..LoadSettings::default()
    };
    let fault = load_with(Path::new(STARTER), &settings)
        .unwrap_err()
        .to_string();
    assert!(
        fault.contains("is larger than the 1000 bytes allowed"),
        "{fault}"
    );
}

#[test]
fn the_manifest_itself_can_be_named() {
    let model = loaded(&Path::new(STARTER).join("manifest.toml"));
    assert_eq!(model.identity.version, "0.1.0");
    assert_eq!(model.identity.digest.len(), 64);
}

#[test]
fn the_native_model_stands_alone() {
    let model = loaded(Path::new(STARTER));
    let bytes = fs::read("tests/data/models/starter/risk-login-0.1.0.onnx").unwrap();
    let native =
        NativeModel::from_bytes(&bytes, RequestKind::Login, model.identity.clone()).unwrap();
    assert_eq!(Some(native.bias()), model.bias);
    assert_eq!(native.identity(), &model.identity);
}
