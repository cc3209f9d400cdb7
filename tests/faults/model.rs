//! The model is slow, answers nonsense, is missing or damaged, or its runtime is: logins are scored by the same model
//! evaluated natively, or go on unscored, and never as low.

use crate::gateway::World;
use crate::gateway::root;
use crate::traffic::Crowd;
use crate::traffic::Phase;
use crate::traffic::Scored;
use crate::traffic::alone;
use crate::traffic::in_time;
use crate::traffic::knocks;
use crate::traffic::native_world;
use crate::traffic::normal;
use crate::traffic::recovered;
use crate::traffic::recovery_max;
use crate::traffic::until_part;
use crate::traffic::world;
use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

const UNSCORED: &str = "riskgate_unscored_total";
const FALLBACKS: &str = "riskgate_score_fallbacks_total";
const RELOADS: &str = "riskgate_reloads_total";

async fn with_model(dir: &Path) -> World {
    world(&format!("model.dir = '{}'\n", dir.display())).await
}

fn misbehaving(name: &str) -> std::path::PathBuf {
    root().join("tests/data/models").join(name)
}

/// A copy of the shipped model that a test may damage.
fn copy_of_the_model() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy_into(folder.path());
    folder
}

/// The manifest comes last: it is what a reload looks at.
fn copy_into(folder: &Path) {
    let shipped = root().join("conf/model");
    let files: Vec<_> = fs::read_dir(&shipped)
        .expect("the shipped model")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    for file in files.iter().filter(|name| *name != "manifest.toml") {
        fs::copy(shipped.join(file), folder.join(file)).expect("a copy");
    }
    let manifest = fs::read(shipped.join("manifest.toml")).expect("a manifest");
    fs::write(folder.join("manifest.toml"), manifest).expect("a copy");
}

/// Flips one bit in the middle of the model file.
fn damage(folder: &Path) {
    let files = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let file = files
        .into_iter()
        .find(|path| path.extension().is_some_and(|kind| kind == "onnx"))
        .expect("a model file");
    let mut bytes = fs::read(&file).expect("a model");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("a damaged model");
}

fn touch(folder: &Path) {
    let file = folder.join("manifest.toml");
    let text = fs::read(&file).expect("a manifest");
    fs::write(&file, text).expect("the same manifest");
}

/// Every password that a program sent went on unscored, for one of these causes, and was counted as such.
async fn assert_passwords_unscored(world: &World, phase: &Phase, causes: &[&str]) {
    phase.assert_marked();
    assert!(
        phase
            .at("login")
            .any(|record| record.status.as_deref() == Some("unscored")),
        "nothing was unscored"
    );
    let recorded = phase.causes("unscored");
    assert!(
        recorded
            .keys()
            .all(|cause| causes.contains(&cause.as_str())),
        "{recorded:?}"
    );
    for Scored { record, .. } in &phase.scored {
        if record.status.as_deref() == Some("unscored") {
            assert!(
                record
                    .reasons
                    .iter()
                    .any(|reason| reason == "score_unavailable"),
                "{record:?}"
            );
            assert_eq!(record.matched.as_deref(), Some("on_unscored"), "{record:?}");
        }
    }
    for cause in recorded.keys() {
        assert!(
            world.metric(UNSCORED, &[("cause", cause)]).await > 0.5,
            "{cause}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_sleeps() {
    let _alone = alone().await;
    let world = with_model(&misbehaving("slow")).await;
    recovered(&world).await;
    let usual = Crowd::people(5).log_in(&world).await;
    let mut first = true;
    let faulty = in_time("model asleep", async || {
        if !std::mem::take(&mut first) {
            recovered(&world).await;
        }
        Crowd::programs(5).log_in(&world).await
    })
    .await;
    faulty.print("model asleep", Some(&usual));
    assert_passwords_unscored(&world, &faulty, &["model_timeout", "breaker_open"]).await;
    let passwords: Vec<_> = faulty.at("login").collect();
    assert!(
        passwords
            .iter()
            .any(|record| record.fallback.as_deref() == Some("model_timeout")),
        "{passwords:?}"
    );

    // The redemptions in between were answered. Without one, further calls are held back, and nobody waits any more.
    let faulty = in_time("model asleep, breaker open", async || {
        knocks(&world, 12).await
    })
    .await;
    faulty.print("model asleep, breaker open", None);
    faulty.assert_marked();
    let causes = faulty.causes("unscored");
    assert!(causes["breaker_open"] >= 3, "{causes:?}");
    assert_eq!(causes.values().sum::<usize>(), 12, "{causes:?}");
    assert!(world.metric(UNSCORED, &[("cause", "breaker_open")]).await > 0.5);
    assert!(
        world
            .metric("riskgate_breaker_state", &[("dependency", "model")])
            .await
            > 0.5
    );
    eprintln!(
        "model awake again: scored as before after {:?}",
        recovered(&world).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_answers_nonsense() {
    let _alone = alone().await;
    for kind in ["nan", "range"] {
        let world = with_model(&misbehaving(kind)).await;
        recovered(&world).await;
        let usual = Crowd::people(3).log_in(&world).await;
        let name = format!("model answers {kind}");
        let faulty = in_time(&name, async || Crowd::programs(5).log_in(&world).await).await;
        faulty.print(&name, Some(&usual));
        assert_passwords_unscored(&world, &faulty, &["model_output", "breaker_open"]).await;
        eprintln!(
            "model sane again: scored as before after {:?}",
            recovered(&world).await
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_missing_and_comes() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let world = with_model(folder.path()).await;
    until_part(&world, "model", |detail| {
        detail.is_some_and(|detail| detail.contains("no model"))
    })
    .await;
    let faulty = in_time("model missing", async || {
        Crowd::people(5).log_in(&world).await
    })
    .await;
    faulty.print("model missing", None);
    assert_all_unscored(&world, &faulty).await;

    copy_into(folder.path());
    eprintln!("model comes: scored after {:?}", recovered(&world).await);
    until_part(&world, "model", |detail| {
        detail.is_none_or(|detail| !detail.contains("no model"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_damaged_at_start() {
    let _alone = alone().await;
    let folder = copy_of_the_model();
    damage(folder.path());
    let world = with_model(folder.path()).await;
    until_part(&world, "model", |detail| {
        detail.is_some_and(|detail| detail.contains("no model"))
    })
    .await;
    let log = world.log();
    assert!(log.contains(".onnx") && log.contains("sha-256"), "{log}");
    let faulty = in_time("model damaged", async || {
        Crowd::people(3).log_in(&world).await
    })
    .await;
    faulty.print("model damaged", None);
    assert_all_unscored(&world, &faulty).await;
}

/// Without any model every request goes on unscored.
async fn assert_all_unscored(world: &World, phase: &Phase) {
    phase.assert_marked();
    for Scored { record, .. } in &phase.scored {
        assert_eq!(
            (record.status.as_deref(), record.fallback.as_deref()),
            (Some("unscored"), Some("model_missing")),
            "{record:?}"
        );
        assert!(
            record
                .reasons
                .iter()
                .any(|reason| reason == "score_unavailable"),
            "{record:?}"
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let recorded = phase.scored.len() as f64;
    assert!(world.metric(UNSCORED, &[("cause", "model_missing")]).await >= recorded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_damaged_later_is_not_taken() {
    let _alone = alone().await;
    let folder = copy_of_the_model();
    let world = with_model(folder.path()).await;
    recovered(&world).await;
    let before = Crowd::people(1).log_in(&world).await;
    let refused = world.metric(RELOADS, &[("result", "refused")]).await;

    damage(folder.path());
    touch(folder.path());
    until_reloaded(&world, "refused", refused).await;
    let faulty = normal("model damaged on reload", async || {
        Crowd::people(4).log_in(&world).await
    })
    .await;
    faulty.print("model damaged on reload", Some(&before));
    let version = |phase: &Phase| phase.scored[0].record.config;
    assert_eq!(
        version(&faulty),
        version(&before),
        "another configuration was taken"
    );
    assert!(world.log().contains("sha-256"), "{}", world.log());

    let taken = world.metric(RELOADS, &[("result", "ok")]).await;
    copy_into(folder.path());
    until_reloaded(&world, "ok", taken).await;
    let after = Crowd::people(1).log_in(&world).await;
    assert!(version(&after) > version(&before));
}

async fn until_reloaded(world: &World, result: &str, before: f64) {
    let end = Instant::now() + recovery_max();
    while world.metric(RELOADS, &[("result", result)]).await < before + 0.5 {
        assert!(
            Instant::now() < end,
            "no reload that is {result}: {}",
            world.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn onnx_runtime_is_missing_or_no_library() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = folder.path().join("libonnxruntime.so");
    fs::write(&text, "this is no library").expect("a file");
    let well = world("").await;
    let first = Crowd::people(1).log_in(&well).await;
    let usual = Crowd::people(4).log_in(&well).await;
    for library in [Path::new("/nonexistent/libonnxruntime.so"), &text] {
        let world = world(&format!("model.library = '{}'\n", library.display())).await;
        until_part(&world, "model", |detail| {
            detail.is_some_and(|detail| detail.contains("ONNX Runtime is missing"))
        })
        .await;
        let log = world.log();
        assert!(log.contains(&library.display().to_string()), "{log}");
        let name = format!("onnx runtime from {}", library.display());
        let faulty = in_time(&name, async || Crowd::people(4).log_in(&world).await).await;
        faulty.print(&name, Some(&usual));
        faulty.assert_marked();
        faulty.assert_not_felt(&usual);
        for Scored { record, .. } in &faulty.scored {
            assert_eq!(record.status.as_deref(), Some("scored"), "{record:?}");
            match record.source.as_deref() {
                Some("native") => assert_eq!(
                    record.fallback.as_deref(),
                    Some("model_missing"),
                    "{record:?}"
                ),
                // On a busy machine a read of the state may be late.
                Some("stateless") => assert_eq!(
                    record.fallback.as_deref(),
                    Some("state_timeout"),
                    "{record:?}"
                ),
                source => assert_eq!(source, Some("provenance"), "{record:?}"),
            }
        }
        assert!(
            faulty
                .at("login")
                .any(|record| record.source.as_deref() == Some("native"))
        );
        assert!(world.metric(FALLBACKS, &[("cause", "model_missing")]).await > 0.5);
        // The native evaluator is the same model: the same row has the same score.
        let mut compared = 0;
        for ours in faulty.at("authorize").chain(faulty.at("login")) {
            for theirs in first.at("authorize").chain(first.at("login")) {
                if ours.features == theirs.features && theirs.source.as_deref() == Some("model") {
                    assert_eq!(ours.score, theirs.score, "{ours:?} {theirs:?}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 0, "no two rows were the same");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_onnx_runtime_is_not_missed() {
    let _alone = alone().await;
    let world = native_world("model.library = '/nonexistent/libonnxruntime.so'\n").await;
    until_part(&world, "model", |detail| detail.is_none()).await;
    let log = world.log();
    assert!(!log.contains("/nonexistent"), "{log}");
    let phase = Crowd::people(4).log_in(&world).await;
    phase.assert_marked();
    let native: Vec<_> = phase
        .at("login")
        .filter(|record| record.source.as_deref() == Some("native"))
        .collect();
    assert!(!native.is_empty());
    for record in native {
        assert_eq!(record.status.as_deref(), Some("scored"), "{record:?}");
        assert_eq!(record.fallback, None, "{record:?}");
        assert!(!record.contributions.is_empty(), "{record:?}");
    }
}
