//! Examples that cannot be run here, why, and what is looked at instead.

use crate::Block;
use crate::Which;
use crate::block;
use crate::files::nothing;
use crate::files::read;
use crate::files::root;
use regex::Regex;
use riskgate::domain::policy::reason::Reason;
use std::fs;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

/// What is looked at in place of running it.
#[derive(Clone, Copy)]
pub(crate) enum Instead {
    /// It is a drawing.
    Nothing,
    /// Its headings are those of the demo, its words those of decisions.
    Demo,
    /// The targets of `make` exist.
    Make,
    /// It can be read by the shell, and the files of the repository that it names exist.
    Shell,
    /// It is valid to systemd, for the unit that is shipped.
    Systemd,
    /// This test reads it from the page and runs it.
    RunBy(&'static str),
    /// It is a part of this file, which is compiled and run.
    PartOf(&'static str),
    /// The program of this file knows its flags.
    Flags(&'static str),
}

use Instead::Demo;
use Instead::Flags;
use Instead::Make;
use Instead::Nothing;
use Instead::PartOf;
use Instead::RunBy;
use Instead::Shell;
use Instead::Systemd;

pub(crate) const UNTRIED: &[(Which, &str, Instead)] = &[
    (("CONTRIBUTING.md", "make test"), "CI runs them", Make),
    (("README.md", "make demo"), "CI runs both", Make),
    (
        ("README.md", "signs in on a new phone"),
        "CI runs the demo, with other times",
        Demo,
    ),
    (("README.md", "WSO2 IS"), "a drawing", Nothing),
    (("README.md", "make vendor"), "builds for minutes", Make),
    (("docs/ARCHITECTURE.md", "main, app"), "a drawing", Nothing),
    (("docs/DEPLOY.md", "docker build"), "no engine", Shell),
    (
        ("docs/DEPLOY.md", "docker compose build"),
        "no engine",
        Shell,
    ),
    (
        ("docs/DEPLOY.md", "--entrypoint cat"),
        "no engine, no image of WSO2",
        Shell,
    ),
    (("docs/DEPLOY.md", "kubectl apply"), "no cluster", Shell),
    (
        ("docs/DEPLOY.md", "systemctl enable"),
        "no systemd, no root",
        Shell,
    ),
    (("docs/OPERATIONS.md", "[Socket]"), "no systemd", Systemd),
    (
        ("docs/SIGNALS.md", "PyJWKClient"),
        "no PyJWT here",
        RunBy("tests/oidc/signals.test.mjs"),
    ),
    (
        ("training/README.md", "make train"),
        "trains for an hour",
        Make,
    ),
    (
        ("wso2-sim/README.md", "cargo run"),
        "another package",
        Flags("wso2-sim/src/main.rs"),
    ),
    (
        ("wso2-sim/README.md", "Sim::start"),
        "lines without a function",
        PartOf("tests/examples/simulator.rs"),
    ),
];

/// Runs a program on a text: what it has against it, be it a warning alone.
fn against(program: &str, arguments: &[&str], text: &str) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_fine = output.status.success() && said.is_empty();
    (!is_fine).then_some(said)
}

/// What is wrong with an example.
fn wrong(block: &Block, instead: Instead) -> Vec<String> {
    let text = &block.text;
    let words = |pattern: &str, file: &str| -> Vec<String> {
        let known = read(file);
        let pattern = Regex::new(pattern).unwrap();
        let found = pattern.find_iter(text).map(|found| found.as_str().trim());
        let missing = found.filter(|word| !known.contains(*word));
        missing
            .map(|word| format!("{file} has no `{word}`"))
            .collect()
    };
    match instead {
        Nothing if block.language == "text" => Vec::new(),
        Nothing => vec!["it is no drawing".to_owned()],
        Demo => {
            let mut wrong = words(r"(?m)^\d\. .*$", "examples/demo/chapters.rs");
            let code = Regex::new(r" ([a-z]+_[a-z_]+)\b").unwrap();
            let verdicts = ["allow", "step_up", "review", "block"];
            for found in code.captures_iter(text) {
                if !verdicts.contains(&&found[1]) && Reason::from_code(&found[1]).is_none() {
                    wrong.push(format!("no reason code `{}`", &found[1]));
                }
            }
            wrong
        }
        Make => {
            let makefile = read("Makefile");
            let calls = text.lines().filter_map(|line| line.strip_prefix("make "));
            let targets = calls.flat_map(|line| line.split('#').next().unwrap().split_whitespace());
            let missing = targets.filter(|target| !makefile.contains(&format!("\n{target}: ")));
            missing
                .map(|target| format!("no target `{target}`"))
                .collect()
        }
        Shell => {
            let files = Regex::new(r"(?m)(?:^|[ =])(?:deploy|conf|docs|scripts)/[\w./-]+").unwrap();
            let files = files
                .find_iter(text)
                .map(|found| found.as_str().trim_matches([' ', '=', '\n']));
            let missing = files.filter(|file| !root().join(file).exists());
            let missing = missing.map(|file| format!("no file `{file}`"));
            missing.chain(against("bash", &["-n"], text)).collect()
        }
        Systemd => {
            let folder = tempfile::tempdir().unwrap();
            let unit = read("deploy/systemd/riskgate.service");
            let program = Regex::new("(?m)^ExecStart=[^ ]+").unwrap();
            let unit = program.replace(&unit, "ExecStart=/bin/true");
            fs::write(folder.path().join("riskgate.service"), &*unit).unwrap();
            let socket = folder.path().join("riskgate.socket");
            fs::write(&socket, text).unwrap();
            let path = socket.display().to_string();
            // The unit itself is tried by tests/deploy.
            against("systemd-analyze", &["verify", &path], "")
                .into_iter()
                .filter(|said| said.contains("riskgate.socket"))
                .collect()
        }
        RunBy(file) if read(file).contains(&block.page) => Vec::new(),
        RunBy(file) => vec![format!("{file} does not read the page")],
        Flags(file) => {
            let known = read(file);
            let flags = Regex::new(r" --([a-z-]+)").unwrap();
            let flags = flags.captures_iter(text).map(|found| found[1].to_owned());
            let missing = flags.filter(|flag| !known.contains(&flag.replace('-', "_")));
            missing
                .map(|flag| format!("{file} has no `{flag}`"))
                .collect()
        }
        PartOf(file) => {
            let known: Vec<String> = read(file)
                .lines()
                .map(|line| line.trim().to_owned())
                .collect();
            let lines = text
                .lines()
                .map(|line| line.split(" //").next().unwrap().trim());
            let missing = lines.filter(|line| !known.iter().any(|known| known == line));
            missing
                .map(|line| format!("{file} has no `{line}`"))
                .collect()
        }
    }
}

#[test]
fn examples_that_cannot_be_run_are_looked_at() {
    let mut findings = Vec::new();
    for (which, _, instead) in UNTRIED {
        let block = block(*which);
        let wrong = wrong(block, *instead).into_iter();
        findings.extend(wrong.map(|wrong| format!("{}: {wrong}", block.place())));
    }
    nothing("examples that are wrong", findings);
}
