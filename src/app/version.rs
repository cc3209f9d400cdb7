//! What `riskgate --version` prints: the version, the commit that the program was built from, the models that it was
//! shipped with. It says nothing of the models that run, which `riskgate_info` and `model inspect` name.

use crate::adapters::onnx::manifest::Manifest;
use std::fmt::Write;
use std::sync::LazyLock;

/// The commit, as the build script has found it, or `unknown`.
pub const COMMIT: &str = env!("RISKGATE_BUILT_FROM");

static TEXT: LazyLock<String> =
    LazyLock::new(|| text(COMMIT, include_str!("../../conf/model/manifest.toml")));

/// The lines, without the program's name.
pub fn long() -> &'static str {
    &TEXT
}

fn text(commit: &str, manifest: &str) -> String {
    let mut text = format!("{}\ncommit  {commit}", env!("CARGO_PKG_VERSION"));
    let models = Manifest::parse(manifest).map_or_else(|_| Vec::new(), |shipped| shipped.models);
    for model in models {
        let (kind, version, digest) = (model.kind.as_str(), &model.version, &model.sha256);
        // Writing to a string does not fail.
        write!(text, "\nmodel   {kind} {version} sha256:{digest}").unwrap_or(());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_model_is_named_with_its_digest() {
        let lines: Vec<&str> = long().lines().collect();
        assert_eq!(lines[0], env!("CARGO_PKG_VERSION"));
        assert!(lines[1].starts_with("commit  "), "{lines:?}");
        let kinds = ["login", "token", "m2m"];
        assert_eq!(lines.len(), 2 + kinds.len(), "{lines:?}");
        for (line, kind) in lines[2..].iter().zip(kinds) {
            let (_, digest) = line.split_once(" sha256:").unwrap();
            assert!(line.starts_with(&format!("model   {kind} ")), "{line}");
            assert_eq!(digest.len(), 64, "{line}");
        }
    }
}
