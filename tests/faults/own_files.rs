//! Files that a gateway keeps for itself and finds damaged at its next start: `run` refuses each of them, and `check` says the
//! same in the same words, without touching it.

use crate::setup::Setup;
use crate::setup::finish;
use crate::traffic::alone_without_runtime;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// How long a start may take on a machine that is busy.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// What damages a file, and what is then said of it beside its path.
type Damage = (&'static str, &'static [u8], &'static [&'static str]);

const DAMAGES: [Damage; 8] = [
    (
        "secret.key",
        b"canary",
        &[
            "state.data_dir: 6 bytes",
            "at least 32",
            "put a copy of it back",
        ],
    ),
    (
        "secret.previous.key",
        b"canary",
        &[
            "keys.previous_secret_file: 6 bytes",
            "put a copy of it back",
        ],
    ),
    (
        "admin.token",
        b"canary",
        &[
            "admin.token_file: expected 32 to 256",
            "the next start makes another",
        ],
    ),
    ("operators.toml", b"canary", &["admin.operators_file"]),
    (
        "signing/es256.pem",
        b"canary",
        &["signing.directory: expected a private key"],
    ),
    (
        "audit-seal.key",
        b"canary",
        &["audit.file: the keys", "is no seal", "move it away"],
    ),
    (
        "audit-people.key",
        b"\xff",
        &[
            "audit.file: the keys",
            "people's names",
            "put a copy of it back",
        ],
    ),
    (
        "state.redb",
        b"canary",
        &["state.url: the state file", "is damaged", "move it away"],
    ),
];

/// A gateway that serves.
fn started(setup: &Setup) -> Child {
    let mut child = setup.start(&["run"]);
    let end = Instant::now() + STARTED_WITHIN;
    while TcpStream::connect(setup.admin()).is_err() {
        let ended = child.try_wait().expect("the process can be asked");
        if ended.is_some() || Instant::now() > end {
            child.kill().ok();
            panic!("no start: {:?}", finish(child));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn end(child: Child) {
    let asked = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(asked.expect("kill runs").success());
    // How it ends is for others to say: it may not have begun to listen to signals.
    finish(child);
}

/// Every file below a folder, with what it holds.
fn held(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut held = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            held.extend(self::held(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            held.push((path, bytes));
        }
    }
    held.sort();
    held
}

#[test]
fn a_damaged_file_of_its_own_is_found_by_a_check_and_left_as_it_is() {
    let _alone = alone_without_runtime();
    let setup = Setup::with("signing.enabled = true\nserver.drain_seconds = 0");
    let data = setup.folder().join("data");
    let gateway = started(&setup);
    // A gateway that runs is not disturbed, and what it has open is not looked into.
    let check = setup.check(&[]);
    assert_eq!(check.code, Some(0), "{}", check.text);
    assert!(check.text.contains("was not looked into"), "{}", check.text);
    end(gateway);
    let secret = fs::read(data.join("secret.key")).expect("the secret");
    fs::write(data.join("secret.previous.key"), secret).expect("a secret before it");
    let check = setup.check(&[]);
    assert_eq!(check.code, Some(0), "{}", check.text);
    assert!(
        !check.text.contains("was not looked into"),
        "{}",
        check.text
    );
    for (name, bytes, parts) in DAMAGES {
        let path = data.join(name);
        let good = fs::read(&path).ok();
        fs::write(&path, bytes).expect("the file can be written");
        let before = held(&data);
        let check = setup.check(&[]);
        println!("{}", check.text);
        check.assert_says(&[&path.display().to_string()]);
        check.assert_says(parts);
        assert!(!check.text.contains("canary"), "{}", check.text);
        assert!(held(&data) == before, "{name}: a check changes something");
        let run = setup.run();
        assert_eq!(run.complaint(), check.complaint(), "{name}");
        match good {
            Some(good) => fs::write(&path, good),
            None => fs::remove_file(&path),
        }
        .expect("the file can be put back");
    }
    // With all of them as they were it starts again.
    let check = setup.check(&[]);
    assert_eq!(check.code, Some(0), "{}", check.text);
    end(started(&setup));
}
