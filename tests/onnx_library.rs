//! What happens when the ONNX Runtime library is wrong. One test in a process of its own: the first library that loads
//! stays.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

use riskgate::adapters::onnx::LoadedModel;
use riskgate::adapters::onnx::load;
use riskgate::domain::kind::RequestKind;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn login(library: Option<&Path>) -> LoadedModel {
    let models = load(Path::new("conf/model"), library).unwrap();
    models.into_kind(RequestKind::Login).unwrap()
}

#[test]
fn a_file_that_is_no_library_leaves_the_native_model_until_a_good_one_is_named() {
    let dir = TempDir::new().unwrap();
    let text = dir.path().join("libonnxruntime.so");
    fs::write(&text, "not a library").unwrap();
    // The C library is a library, but not this one.
    let other = fs::read_dir("/proc/self/map_files")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("libc.so"))
        })
        .unwrap();

    for (wrong, expected) in [
        (text.as_path(), "libonnxruntime.so"),
        (dir.path(), "not a file"),
        (other.as_path(), "does not export `OrtGetApiBase`"),
    ] {
        let model = login(Some(wrong));
        assert!(model.primary.is_none() && model.native.is_some());
        let missing = model.missing.expect("a word about the library");
        assert!(missing.contains(expected), "{missing}");
    }

    let model = login(Some(Path::new("vendor/onnxruntime/libonnxruntime.so")));
    assert!(
        model.primary.is_some(),
        "run scripts/fetch-onnxruntime.sh first: {:?}",
        model.missing
    );
    // Once loaded it stays; a name that leads nowhere is still reported.
    let model = login(Some(&text));
    assert!(model.primary.is_some());
    let model = login(Some(Path::new("no/such/library.so")));
    assert!(model.primary.is_none());
}
