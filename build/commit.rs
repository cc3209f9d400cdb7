//! Which commit a source tree is of: by what git says, or by the mark that `git archive` leaves in a source archive. Part
//! of the build script and of its test; it must not fail a build.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The variable that names the commit where neither can be asked, as in the build of an image.
pub(crate) const VARIABLE: &str = "RISKGATE_COMMIT";

/// What goes into the program, from the root: a change to any of it makes the tree differ from its commit.
const BUILT_FROM: [&str; 6] = [
    "Cargo.lock",
    "Cargo.toml",
    "build",
    "build.rs",
    "conf",
    "src",
];

/// What marks a tree that differs from its commit.
const MODIFIED: &str = "-modified";

/// The id of a commit, 7 to 64 hexadecimal digits, with `-modified` after it where the tree differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Commit(String);

impl Commit {
    /// Reads one; what is no id is none.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let id = text.strip_suffix(MODIFIED).unwrap_or(text);
        let is_id = (7..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| Self(text.to_owned()))
    }

    /// The commit of the tree at `root`: a clone's, else a source archive's. An archive inside a clone of something else is
    /// not taken for that.
    pub(crate) fn of_tree(root: &Path) -> Option<Self> {
        if root.join(".git").exists()
            && let Some(id) = git(root, &["rev-parse", "HEAD"])
        {
            let status = ["status", "--porcelain", "--untracked-files=no", "--"];
            let is_modified = git(root, &[&status[..], &BUILT_FROM[..]].concat())
                .is_none_or(|changes| !changes.is_empty());
            let suffix = if is_modified { MODIFIED } else { "" };
            return Self::of_text(&format!("{id}{suffix}"));
        }
        let mark = std::fs::read_to_string(root.join("build/archive.txt")).ok()?;
        Self::of_text(&mark)
    }

    /// As it is printed.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The files whose change may change the answer of [`Commit::of_tree`].
pub(crate) fn watched(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = BUILT_FROM.iter().map(|path| root.join(path)).collect();
    if root.join(".git").exists() {
        let branch = git(root, &["symbolic-ref", "--quiet", "HEAD"]);
        for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
            let path = git(root, &["rev-parse", "--git-path", name]);
            // Cargo would run the script each time for a file that is not there.
            files.extend(
                path.map(|path| root.join(path))
                    .filter(|path| path.exists()),
            );
        }
    }
    files
}

/// What git prints, without white space around it; nothing where it fails.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
