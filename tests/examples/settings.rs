//! Settings: each piece is put on top of a configuration, the shipped policy or a rollout file, and `riskgate check` takes
//! the whole. Where a page says what a policy makes of a request, the request is described and the policy tried.

use crate::BLOCKS;
use crate::Block;
use crate::Which;
use crate::block;
use crate::files::nothing;
use crate::files::read;
use crate::files::root;
use crate::files::sources;
use regex::Regex;
use riskgate::config::Config;
use riskgate::domain::policy::PolicySet;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Mutex;
use tempfile::TempDir;
use toml::Table;
use toml::Value;

/// What pages say of a policy: the piece, a request as `riskgate policy try` is told of it, and the verdict.
const VERDICTS: &[(Which, &str, &str)] = &[
    (
        ("docs/guides/tuning.md", "our-own-network"),
        "--door login --score 30 --address 198.51.100.7",
        "allow by our-own-network",
    ),
    (
        ("docs/guides/tuning.md", "our-own-network"),
        "--door login --score 30 --address 203.0.113.7",
        "step_up by default_medium",
    ),
    (
        ("docs/guides/tuning.md", "on_unscored.surge"),
        "--door login --cause overload --unscored-percent 21",
        "step_up by on_unscored",
    ),
    (
        ("docs/guides/tuning.md", "on_unscored.surge"),
        "--door login --cause overload --unscored-percent 20",
        "allow by on_unscored",
    ),
    (
        ("docs/guides/redis.md", "state_unavailable"),
        "--door login --cause state_unavailable",
        "step_up by on_unscored",
    ),
    (
        ("docs/guides/enforcing.md", "payments"),
        "--door login --score 12 --client payments",
        "step_up by default_medium",
    ),
    (
        ("docs/guides/enforcing.md", "payments"),
        "--door login --score 12 --client another",
        "allow by default_low",
    ),
    (
        ("docs/guides/enforcing.md", "payments"),
        "--door login --cause overload --client payments",
        "step_up by on_unscored",
    ),
];

/// What a piece needs beside it, as its page has said before.
const BESIDE: &[(Which, &str)] = &[
    (("docs/guides/redis.md", "[audit.stream]"), FLEET),
    (("docs/SIGNALS.md", "iss_sub"), SIGNALS),
    (("docs/SIGNALS.md", "delivery = \"poll\""), SIGNALS),
    (("docs/SIGNALS.md", "delivery = \"webhook\""), SIGNALS),
];
const FLEET: &str =
    "[state]\nurl = 'redis://redis.internal:6379'\n[keys]\nsecret_file = 'certs/riskgate.key'\n";
const SIGNALS: &str = "[shared_signals]\nissuer = 'https://sso.example.com'\n";

/// What stands in comments of `conf/riskgate.toml` and excludes another line there.
const EITHER_OR: &[&str] = &[
    // The stages of a rollout stand in place of [mode], which has an exception there.
    "# file = \"rollout.toml\"",
    // Of receivers with another `delivery` or `subject` than the one there.
    "# token_file = \"certs/orders.token\"",
    "# secret_file = \"certs/orders.secret\"",
    "# iss_sub: the client",
];

/// What every piece is put on top of.
const SMALLEST: &str = "[upstream]\nurl = 'https://localhost:9443'\n[geo]\ncountry = 'none'\ncity = []\nasn = 'none'\nkinds = 'none'\n";

/// A folder in which a piece of settings is whole.
struct Whole {
    folder: TempDir,
}

impl Whole {
    fn of(text: &str, beside: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("conf");
        fs::create_dir(&conf).unwrap();
        let model = root().join("conf/model");
        symlink(&model, conf.join("model")).unwrap();
        symlink(&model, conf.join("challenger")).unwrap();
        let whole = Self { folder };
        let piece: Table = text.parse().map_err(|error| format!("no TOML: {error}"))?;
        let mut policy: Table = read("conf/policy.toml").parse().unwrap();
        let mut config: Table = SMALLEST.parse().unwrap();
        merge(&mut config, beside.parse().unwrap());
        if Config::parse(text).is_ok() {
            merge(&mut config, piece);
        } else if PolicySet::parse(text).is_ok() {
            policy = piece;
        } else if PolicySet::parse(&format!("version = 1\n{text}")).is_ok() {
            merge(&mut policy, piece);
        } else {
            let file = "[rollout]\nfile = 'rollout.toml'\n";
            merge(&mut config, file.parse().unwrap());
            whole.write("rollout.toml", text);
        }
        whole.supply(&mut config);
        whole.write("conf/policy.toml", &policy.to_string());
        whole.write("conf/riskgate.toml", &config.to_string());
        Ok(whole)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Secrets are for their owner alone.
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = file.open(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    /// Makes the files that the settings name. Absolute paths are taken as beneath the folder.
    fn supply(&self, table: &mut Table) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        self.supply_with(table, &made.cert.pem(), &made.signing_key.serialize_pem());
    }

    fn supply_with(&self, table: &mut Table, certificate: &str, key: &str) {
        for (name, value) in table.iter_mut() {
            match value {
                Value::Table(inner) => self.supply_with(inner, certificate, key),
                Value::Array(list) => {
                    let tables = list.iter_mut().filter_map(Value::as_table_mut);
                    tables.for_each(|inner| self.supply_with(inner, certificate, key));
                }
                // It is made at the first start.
                Value::String(path) if name == "people_key_file" => {
                    *path = path.trim_start_matches('/').to_owned();
                }
                Value::String(path) => {
                    let text = match name.as_str() {
                        "certificate" | "client_certificate" | "ca_file" | "client_ca_file"
                        | "redis_ca_file" => certificate,
                        "key" | "client_key" => key,
                        // Nothing is planned yet.
                        "file" if path == "rollout.toml" => "",
                        // Nobody has come yet.
                        "operators_file" => "",
                        _ if name.ends_with("_file") => "0123456789abcdef0123456789abcdef\n",
                        _ => continue,
                    };
                    *path = path.trim_start_matches('/').to_owned();
                    if !self.folder.path().join(&*path).exists() {
                        self.write(path, text);
                    }
                }
                _ => {}
            }
        }
    }

    /// Runs the program here: whether it went well, and all that it said.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_riskgate"))
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("the program runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }
}

/// Lists are put before those that are there: the first rule that holds decides.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(more)) => merge(known, more),
            (Some(Value::Array(known)), Value::Array(more)) => {
                known.splice(0..0, more);
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// What `riskgate check` has against it.
fn wrong(text: &str, beside: &str) -> Option<String> {
    match Whole::of(text, beside) {
        Err(error) => Some(error),
        Ok(whole) => {
            let (is_taken, said) = whole.run(&["check"]);
            (!is_taken).then_some(said)
        }
    }
}

fn beside(block: &Block) -> &'static str {
    let found = BESIDE.iter().find(|(which, _)| block.is(*which));
    found.map_or("", |(_, text)| text)
}

#[test]
fn settings_are_taken() {
    let waiting: Mutex<Vec<&Block>> = Mutex::default();
    let toml = BLOCKS.iter().filter(|block| block.language == "toml");
    waiting.lock().unwrap().extend(toml);
    let findings: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(block) = { waiting.lock().unwrap().pop() } {
                    if let Some(said) = wrong(&block.text, beside(block)) {
                        let finding = format!("{}: {said}\n{}", block.place(), block.text);
                        findings.lock().unwrap().push(finding);
                    }
                }
            });
        }
    });
    nothing(
        "settings that are not taken",
        findings.into_inner().unwrap(),
    );
}

#[test]
fn policies_decide_as_the_pages_say() {
    for (which, request, verdict) in VERDICTS {
        let whole = Whole::of(&block(*which).text, "").unwrap();
        let arguments: Vec<&str> = ["policy", "try"]
            .into_iter()
            .chain(request.split(' '))
            .collect();
        let (_, said) = whole.run(&arguments);
        let expected = format!("verdict  {verdict}\n");
        assert!(said.contains(&expected), "{which:?}, {request}: {said}");
    }
}

/// The comments of the shipped files hold what has no default, and examples: they are settings as well.
#[test]
fn what_the_shipped_files_have_in_comments_is_taken() {
    let setting = Regex::new(r"(?m)^# (\[|[a-z_.]+ = )").unwrap();
    for file in ["conf/riskgate.toml", "conf/policy.toml"] {
        let text: String = read(file)
            .lines()
            .filter(|line| !EITHER_OR.iter().any(|other| line.contains(other)))
            .map(|line| format!("{}\n", setting.replace(line, "$1")))
            .collect();
        if let Some(said) = wrong(&text, "") {
            panic!("{file}: {said}");
        }
    }
}

/// Single settings in running text, where they name their section.
#[test]
fn settings_in_running_text_are_known() {
    let setting = Regex::new(r"`((?:[a-z_]+\.)+[a-z_]+ = [^`]+)`").unwrap();
    let (mut findings, mut seen) = (Vec::new(), 0);
    for page in sources("", &[".md"]) {
        for found in setting.captures_iter(&page.text) {
            seen += 1;
            let policy = format!("version = 1\n{}", &found[1]);
            if let Err(error) = Config::parse(&found[1])
                && PolicySet::parse(&policy).is_err()
            {
                findings.push(format!("{}: {}: {error}", page.path, &found[1]));
            }
        }
    }
    nothing("settings that are not known", findings);
    assert!(seen >= 12, "{seen} settings");
}

#[test]
fn example_configurations_are_taken() {
    let mut findings = Vec::new();
    for file in sources("conf/examples", &[".toml"]) {
        let said = wrong(&file.text, "");
        findings.extend(said.map(|said| format!("{}: {said}", file.path)));
    }
    nothing("configurations that are not taken", findings);
}
