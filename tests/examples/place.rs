//! A folder in which commands of the pages are run as they stand. Only names and ports are exchanged, since a test has no
//! `login.example.com` and no port 443; each place says with what.

use crate::Which;
use crate::block;
use crate::files::nothing;
use crate::files::read;
use crate::files::root;
use crate::gateway::PATIENCE;
use regex::Regex;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

/// An example that is run, and what its output must have in it (a regular expression).
pub(crate) type Step = (Which, &'static str);

/// A command in running text, between backticks, with its page and what its output must have in it.
pub(crate) type Inline = (&'static str, &'static str, &'static str);

/// What the operators type where a password is asked for.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Somebody at a terminal: types the password where one is asked for, and goes on when the gateway knows of a new operator.
/// `run` is left in a terminal of its own, in place of what ran there.
const RISKGATE: &str = r#"#!/bin/bash
if [ "$1" != run ]; then
    before=$(records)
    PROGRAM "$@" <"$PLACE/password" || exit
    [ "$1" != operator ] || [ ! -e "$PLACE/run.pid" ] || until [ "$(records)" -gt "$before" ]; do sleep 0.05; done
    exit 0
fi
systemctl stop
PROGRAM "$@" </dev/null >>"$PLACE/run.log" 2>&1 &
echo $! >"$PLACE/run.pid"
until curl -fs -o "$PLACE/ready" "http://127.0.0.1:$ADMIN_PORT/health/ready"; do
    kill -0 $! || { cat "$PLACE/run.log" >&2; exit 1; }
    sleep 0.05
done
"#;

/// There is no systemd in a test.
const SYSTEMCTL: &str = r#"#!/bin/bash
if [ "$1" != start ] && [ -e "$PLACE/run.pid" ]; then
    pid=$(cat "$PLACE/run.pid")
    kill "$pid" 2>/dev/null
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    rm "$PLACE/run.pid"
fi
[ "$1" = stop ] || riskgate run -c conf/mine.toml
"#;

/// Whoever types goes on when the request has its record, and its place in the metrics.
const CURL: &str = r#"#!/bin/bash
before=$(records)
PATH=${PATH#*:} curl "$@" || exit
case "$*" in *https://localhost:*) until [ "$(records)" -gt "$before" ]; do sleep 0.05; done ;; esac
"#;

/// How many records there are.
const RECORDS: &str = "#!/bin/bash\ncat \"$PLACE\"/data/audit.jsonl 2>/dev/null | wc -l\n";

/// The machine at the other end is this one.
const SSH: &str = "#!/bin/bash\nexit 0\n";

/// A folder with the program and what is shipped beside it.
pub(crate) struct Place {
    folder: PathBuf,
    admin_port: u16,
    /// What stands in pages, and what it is here.
    replaced: Vec<(String, String)>,
    /// Variables that pages take from a line before.
    variables: Vec<(String, String)>,
}

impl Place {
    /// Makes a folder such a place; the gateway's admin listener is on that port.
    pub(crate) fn new(folder: &Path, admin_port: u16) -> Self {
        let folder = folder.to_owned();
        let program = env!("CARGO_BIN_EXE_riskgate");
        let texts = [
            ("bin/riskgate", RISKGATE.replace("PROGRAM", program)),
            (
                "target/release/riskgate",
                RISKGATE.replace("PROGRAM", program),
            ),
            (
                "opt/riskgate-new/riskgate",
                RISKGATE.replace("PROGRAM", program),
            ),
            ("bin/systemctl", SYSTEMCTL.to_owned()),
            ("bin/curl", CURL.to_owned()),
            ("bin/records", RECORDS.to_owned()),
            ("bin/ssh", SSH.to_owned()),
            ("password", format!("{PASSWORD}\n")),
        ];
        for empty in [
            "certs",
            "conf/examples",
            "data",
            "vendor",
            "opt/riskgate",
            "somewhere/else",
        ] {
            fs::create_dir_all(folder.join(empty)).unwrap();
        }
        for (path, text) in texts {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let links = [
            ("conf/model", "conf/model"),
            ("conf/challenger", "conf/model"),
            ("candidate", "conf/model"),
            ("NEW", "conf/model"),
            ("vendor/geo", "tests/data/geo"),
            ("logins.csv", "tests/data/events/month.csv"),
        ];
        for (here, there) in links {
            symlink(root().join(there), folder.join(here)).unwrap();
        }
        for copy in ["conf/policy.toml", "draft.toml"] {
            fs::copy(root().join("conf/policy.toml"), folder.join(copy)).unwrap();
        }
        let mut place = Self {
            folder,
            admin_port,
            replaced: Vec::new(),
            variables: Vec::new(),
        };
        let here = place.folder.display().to_string();
        place.replace("/etc/riskgate/riskgate.toml", "conf/mine.toml");
        place.replace("127.0.0.1:9090", &format!("127.0.0.1:{admin_port}"));
        for absolute in ["/opt/", "/somewhere/"] {
            place.replace(absolute, &format!("{here}{absolute}"));
        }
        place
    }

    /// This is something else here.
    pub(crate) fn replace(&mut self, page: &str, here: &str) {
        self.replaced.push((page.to_owned(), here.to_owned()));
    }

    /// A variable of the shell.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A text of a page as it is here.
    pub(crate) fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (page, here) in &self.replaced {
            text = text.replace(page, here);
        }
        text
    }

    /// Where something of it is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs examples, one after the other: each must go well and say what is expected.
    #[track_caller]
    pub(crate) fn run(&self, steps: &[Step]) {
        let found = steps.iter().filter_map(|(which, expected)| {
            let wrong = self.wrong(&block(*which).text, expected)?;
            Some(format!("{which:?}{wrong}"))
        });
        nothing(
            "examples that do not do what their pages say",
            found.collect(),
        );
    }

    /// The same for commands in running text.
    #[track_caller]
    pub(crate) fn run_inline(&self, commands: &[Inline]) {
        let found = commands.iter().filter_map(|(page, command, expected)| {
            assert!(
                read(page).contains(&format!("`{command}`")),
                "{page}: {command}"
            );
            let wrong = self.wrong(command, expected)?;
            Some(format!("{page}: {command}{wrong}"))
        });
        nothing(
            "commands that do not do what their pages say",
            found.collect(),
        );
    }

    fn wrong(&self, text: &str, expected: &str) -> Option<String> {
        let (is_well, said) = self.run_text(text);
        let is_expected = Regex::new(expected).unwrap().is_match(&said);
        let well = if is_well { "went well" } else { "failed" };
        (!is_well || !is_expected).then(|| format!(" {well}, expected `{expected}`: {said}"))
    }

    /// Runs lines of a page: whether they went well, and what they say.
    pub(crate) fn run_text(&self, text: &str) -> (bool, String) {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("timeout")
            .arg((PATIENCE * 3).as_secs().to_string())
            .args(["bash", "-euo", "pipefail", "-c", &self.here(text)])
            .current_dir(&self.folder)
            .env("PATH", format!("{}/bin:{path}", self.folder.display()))
            .env("PLACE", &self.folder)
            .env("ADMIN_PORT", self.admin_port.to_string())
            .env("CURL_CA_BUNDLE", self.folder.join("certs/dev-ca.crt"))
            .envs(self.variables.iter().cloned())
            .env("NO_PROXY", "*")
            .env("USER", "ann")
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.success(), said)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.folder.join("run.pid")).unwrap_or_default();
        let pid = pid.trim();
        if pid.is_empty() {
            return;
        }
        let signal = |name: &str| {
            let sent = Command::new("kill").args([name, pid]).output();
            sent.is_ok_and(|output| output.status.success())
        };
        signal("-TERM");
        let end = Instant::now() + PATIENCE;
        while signal("-0") && Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
