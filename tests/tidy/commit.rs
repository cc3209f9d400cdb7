//! The build script names the commit that a tree is of: a clone's, a changed clone's, a source archive's, and none where
//! there is nothing to go by.

#[path = "../../build/commit.rs"]
#[allow(dead_code, reason = "the build script uses all of it")]
mod built_from;

use built_from::Commit;
use std::path::Path;
use std::process::Command;

/// Runs git in `folder` as somebody who has no settings.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
        .args(["-c", "commit.gpgsign=false"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A clone of what the commit is read from, with one commit.
fn clone(folder: &Path) -> String {
    for (path, text) in [
        (".gitattributes", crate::files::read(".gitattributes")),
        ("build/archive.txt", crate::files::read("build/archive.txt")),
        ("src/main.rs", "fn main() {}\n".to_owned()),
        ("README.md", "one\n".to_owned()),
    ] {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(folder, &["init", "--quiet"]);
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message", "one"]);
    git(folder, &["rev-parse", "HEAD"])
}

#[test]
fn a_clone_is_of_its_commit_and_says_when_it_differs() {
    let folder = tempfile::tempdir().unwrap();
    let id = clone(folder.path());
    let named = || Commit::of_tree(folder.path()).unwrap().as_str().to_owned();
    assert_eq!(named(), id);
    std::fs::write(folder.path().join("README.md"), "two\n").unwrap();
    assert_eq!(named(), id, "a page is no part of the program");
    std::fs::write(folder.path().join("src/main.rs"), "fn main() { }\n").unwrap();
    assert_eq!(named(), format!("{id}-modified"));
    let watched = built_from::watched(folder.path());
    for file in ["src", "Cargo.lock", ".git/HEAD"] {
        assert!(
            watched.iter().any(|path| path.ends_with(file)),
            "{watched:?}"
        );
    }
    assert!(
        watched
            .iter()
            .any(|path| path.to_string_lossy().contains(".git/refs/heads/")),
        "{watched:?}"
    );
}

#[test]
fn a_source_archive_is_of_the_commit_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let id = clone(folder.path());
    // Inside a clone of something else, which it must not be taken for.
    let other = tempfile::tempdir().unwrap();
    clone(other.path());
    let unpacked = other.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let archive = other.path().join("archive.tar");
    let archive = archive.to_str().unwrap();
    git(folder.path(), &["archive", "--output", archive, "HEAD"]);
    let done = Command::new("tar")
        .args(["-xf", archive, "-C"])
        .arg(&unpacked)
        .status();
    assert!(done.unwrap().success());
    assert_eq!(Commit::of_tree(&unpacked).unwrap().as_str(), id);
    // A copy of a clone without its `.git` says nothing: the mark is not filled in.
    std::fs::copy(
        folder.path().join("build/archive.txt"),
        unpacked.join("build/archive.txt"),
    )
    .unwrap();
    assert_eq!(Commit::of_tree(&unpacked), None);
}

#[test]
fn only_an_id_is_taken_from_outside() {
    for id in ["0123abc", "0123abc-modified", &"f".repeat(64)] {
        assert_eq!(Commit::of_text(id).unwrap().as_str(), id);
    }
    for other in ["", "main", "0123ab", "0123abc dirty", "-modified", "$(x)"] {
        assert_eq!(Commit::of_text(other), None, "{other}");
    }
}
