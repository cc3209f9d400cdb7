//! What is wrong with a configuration is said before a port is bound: file, key, what was expected, exit code 2. `run` and
//! `check` agree.

use crate::gateway::redis::RedisServer;
use crate::gateway::redis::free_port;
use crate::gateway::root;
use crate::setup::Setup;
use crate::traffic::alone_without_runtime;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use tempfile::TempDir;

/// `run` and `check` find the same in a file with `changes`, and say it in the same words.
fn assert_refused(changes: &str, parts: &[&str]) {
    let setup = Setup::with(changes);
    let file = setup.file();
    let mut parts = parts.to_vec();
    if !parts.iter().any(|part| part.starts_with('/')) {
        parts.push(&file);
    }
    let run = setup.run();
    run.assert_says(&parts);
    let check = setup.check(&[]);
    check.assert_says(&parts);
    assert!(!run.complaint().is_empty(), "{}", run.text);
    assert_eq!(run.complaint(), check.complaint());
    println!("{}", run.complaint().join("\n"));
    // The same once more where both ports are taken: had one been tried, the message would be another.
    let (listen, admin) = (taken(), taken());
    let port = |listener: &TcpListener| listener.local_addr().expect("its address").port();
    let blocked = Setup::on(port(&listen), port(&admin), changes);
    let ending = blocked.run_unwatched();
    assert_eq!(ending.code, Some(2));
    assert!(!ending.text.contains("cannot be bound"), "{}", ending.text);
}

fn taken() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

#[test]
fn a_right_configuration_passes() {
    let _alone = alone_without_runtime();
    let setup = Setup::with("");
    let ending = setup.check(&[]);
    assert_eq!(ending.code, Some(0), "{}", ending.text);
    // A check writes nothing.
    let written = fs::read_dir(setup.folder()).expect("the folder").count();
    assert_eq!(written, 1, "more than the configuration");
}

#[test]
fn an_unknown_key() {
    let _alone = alone_without_runtime();
    assert_refused(
        "server.listen_on = \"127.0.0.1:1\"",
        &["listen_on", "expected one of", "`listen`"],
    );
    assert_refused("[sever]", &["sever", "expected one of", "`server`"]);
}

#[test]
fn a_value_of_another_type() {
    let _alone = alone_without_runtime();
    assert_refused(
        "score.budget_ms = \"twenty\"",
        &["budget_ms", "expected a whole number"],
    );
    assert_refused("mode.default = \"enforced\"", &["enforced", "`enforce`"]);
    assert_refused(
        "score.budget_ms = 0",
        &["score.budget_ms: 0", "expected 1 to 60000"],
    );
}

#[test]
fn an_application_that_proves_nothing_cannot_be_enforced() {
    let _alone = alone_without_runtime();
    let silent = "step_up.applications = [{ client_id = \"expenses\", proof = \"none\" }]\n";
    assert_refused(
        &format!("{silent}mode.default = \"enforce\""),
        &[
            "step_up.applications[0].proof",
            "`expenses`",
            "`enforce`",
            "set a proof",
        ],
    );
    assert_refused(
        &format!(
            "{silent}mode.overrides = [{{ tenant = \"example.com\", mode = \"enforce\", percentage = 1 }}]"
        ),
        &["step_up.applications[0].proof"],
    );
    let exempt = "mode.default = \"enforce\"\n\
                  mode.overrides = [{ application = \"expenses\", mode = \"advise\" }]";
    let setup = Setup::with(&format!("{silent}{exempt}"));
    let ending = setup.check(&[]);
    assert_eq!(ending.code, Some(0), "{}", ending.text);
    assert_refused(
        "step_up.user_seconds = 5",
        &["step_up", "user_seconds", "60"],
    );
}

#[test]
fn an_application_that_proves_by_our_own_step_needs_the_listener() {
    let _alone = alone_without_runtime();
    assert_refused(
        "step_up.applications = [{ client_id = \"expenses\", proof = \"action\" }]\n",
        &[
            "step_up.applications[0].proof",
            "expenses",
            "actions.secret_file",
        ],
    );
}

#[test]
fn a_file_that_is_not_there() {
    let _alone = alone_without_runtime();
    let setup = Setup::with("");
    fs::remove_file(setup.file()).expect("the file goes");
    for ending in [setup.run(), setup.check(&[])] {
        ending.assert_says(&[&setup.file(), "cannot be read"]);
    }
}

#[test]
fn a_bad_network() {
    let _alone = alone_without_runtime();
    assert_refused(
        "server.trusted_proxies = [\"10.0.0.0/33\"]",
        &["server.trusted_proxies", "10.0.0.0/33"],
    );
    assert_refused(
        "server.trusted_proxies = [\"everybody\"]",
        &["server.trusted_proxies", "everybody"],
    );
}

#[test]
fn a_bad_url_of_the_identity_server() {
    let _alone = alone_without_runtime();
    for url in ["ftp://127.0.0.1:1", "not a url", "https://"] {
        assert_refused(
            &format!("upstream.url = \"{url}\""),
            &["upstream.url", "expected"],
        );
    }
    assert_refused(
        "upstream.url = \"https://127.0.0.1:1/carbon\"",
        &["upstream.url", "no path"],
    );
}

#[test]
fn an_unknown_store() {
    let _alone = alone_without_runtime();
    assert_refused(
        "state.url = \"memcached://user:canary@127.0.0.1\"",
        &["state.url", "expected", "embedded:", "redis://"],
    );
    let setup = Setup::with("state.url = \"memcached://user:canary@127.0.0.1\"");
    assert!(!setup.run().text.contains("canary"));
}

#[test]
fn a_missing_certificate() {
    let _alone = alone_without_runtime();
    let changes = "server.tls.certificate = \"/nonexistent/server.crt\"\nserver.tls.key = \"/nonexistent/server.key\"";
    let setup = Setup::with(changes);
    for ending in [setup.run(), setup.check(&[])] {
        ending.assert_says(&[&setup.file(), "server.tls", "/nonexistent/server.crt"]);
    }
}

#[test]
fn a_key_that_is_none() {
    let _alone = alone_without_runtime();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (
        folder.path().join("server.crt"),
        folder.path().join("server.key"),
    );
    fs::write(&certificate, made.cert.pem()).expect("a file");
    fs::write(&key, "canary").expect("a file");
    let changes = format!(
        "server.tls.certificate = '{}'\nserver.tls.key = '{}'",
        certificate.display(),
        key.display()
    );
    let setup = Setup::with(&changes);
    for ending in [setup.run(), setup.check(&[])] {
        ending.assert_says(&["server.tls", "server.key"]);
        assert!(!ending.text.contains("canary"), "{}", ending.text);
    }
}

fn policy(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("policy.toml");
    fs::write(&file, text).expect("a policy");
    let file = file.display().to_string();
    (folder, file)
}

#[test]
fn a_bad_rule() {
    let _alone = alone_without_runtime();
    let rule = |when: &str| {
        format!("version = 1\n[[rule]]\nname = \"first\"\nwhen = '{when}'\nverdict = \"block\"\n")
    };
    for (when, said) in [
        ("risk.scor > 5", "scor"),
        ("risk.score >", "first"),
        ("request.door == 7", "first"),
        ("risk.score > 400", "first"),
    ] {
        let (_folder, file) = policy(&rule(when));
        assert_refused(&format!("policy.file = '{file}'"), &[&file, "first", said]);
    }
}

#[test]
fn a_rule_that_locks_out_a_break_glass_account() {
    let _alone = alone_without_runtime();
    let (_folder, file) = policy(
        "version = 1\nbreak_glass = [\"admin\"]\n[[rule]]\nname = \"nobody-called-admin\"\nwhen = 'user.name == \"admin\"'\nverdict = \"block\"\n",
    );
    assert_refused(
        &format!("policy.file = '{file}'"),
        &[&file, "nobody-called-admin", "admin", "user.break_glass"],
    );
}

#[test]
fn several_problems_are_said_at_once() {
    let _alone = alone_without_runtime();
    let (_folder, file) = policy(
        "version = 1\n[[rule]]\nname = \"first\"\nwhen = 'nonsense.here'\nverdict = \"block\"\n",
    );
    let setup = Setup::with(&format!(
        "policy.file = '{file}'\nserver.trusted_proxies = [\"nowhere\"]\nscore.budget_ms = 0"
    ));
    for ending in [setup.run(), setup.check(&[])] {
        ending.assert_says(&[
            &file,
            "nonsense",
            "server.trusted_proxies",
            "score.budget_ms",
        ]);
    }
}

#[test]
fn a_port_that_is_taken() {
    let _alone = alone_without_runtime();
    for key in ["server.listen", "admin.listen"] {
        let listener = taken();
        let port = listener.local_addr().expect("its address").port();
        let other = free_port();
        let setup = if key == "server.listen" {
            Setup::on(port, other, "")
        } else {
            Setup::on(other, port, "")
        };
        let ending = setup.run_unwatched();
        let address = format!("127.0.0.1:{port}");
        ending.assert_says(&[
            &setup.file(),
            key,
            &address,
            "cannot be bound",
            "another port",
        ]);
        // A check binds nothing: a gateway that runs does not make its own configuration wrong.
        let check = setup.check(&[]);
        assert_eq!(check.code, Some(0), "{}", check.text);
    }
}

#[test]
fn a_check_reaches_out_when_told_to() {
    let _alone = alone_without_runtime();
    let redis = RedisServer::start();
    let upstream = taken();
    let alive = format!("http://{}", upstream.local_addr().expect("its address"));
    let dead = format!("http://127.0.0.1:{}", free_port());
    let gone = format!("redis://127.0.0.1:{}", free_port());

    let well = Setup::with(&format!(
        "upstream.url = \"{alive}\"\nstate.url = \"{}\"",
        redis.url()
    ));
    let ending = well.check(&["--reach"]);
    assert_eq!(ending.code, Some(0), "{}", ending.text);

    let no_server = Setup::with(&format!("upstream.url = \"{dead}\""));
    assert_eq!(no_server.check(&[]).code, Some(0));
    let file = no_server.file();
    no_server
        .check(&["--reach"])
        .assert_says(&[&file, "upstream.url", "does not answer"]);

    let no_redis = Setup::with(&format!(
        "upstream.url = \"{alive}\"\nstate.url = \"{gone}\""
    ));
    assert_eq!(no_redis.check(&[]).code, Some(0));
    no_redis
        .check(&["--reach"])
        .assert_says(&[&no_redis.file(), "state.url"]);

    let no_name = Setup::with("upstream.url = \"https://identity-server.invalid\"");
    no_name.check(&["--reach"]).assert_says(&[
        "upstream.url",
        "identity-server.invalid",
        "does not resolve",
    ]);
    no_name.run().assert_says(&[
        "upstream.url",
        "identity-server.invalid",
        "does not resolve",
    ]);
}

#[test]
fn what_is_written_is_a_folder_that_can_be_written() {
    let _alone = alone_without_runtime();
    assert_refused(
        "state.data_dir = '/dev/null/data'",
        &["state.data_dir", "`/dev/null/data`", "`/dev/null`"],
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("data");
    fs::write(&file, "").expect("a file");
    let changes = format!("state.data_dir = '{}'", file.display());
    assert_refused(&changes, &["state.data_dir", "expected a folder"]);
    // What is in it is not complained of as well.
    let said = Setup::with(&changes).check(&[]).text;
    assert!(!said.contains("operators_file"), "{said}");
    assert_refused(
        "audit.file = '/nonexistent/audit.jsonl'",
        &["audit.file", "`/nonexistent/audit.jsonl`", "make it"],
    );
    assert_refused(
        &format!("audit.file = '{}'", folder.path().display()),
        &["audit.file", "is a folder, expected a file"],
    );
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
    assert_refused(
        "admin.token_file = '/nonexistent/admin.token'",
        &["/nonexistent/admin.token", "admin.token_file"],
    );
}

#[test]
fn records_may_lie_in_a_data_folder_that_is_made() {
    let _alone = alone_without_runtime();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, secret) = (folder.path().join("new"), folder.path().join("secret"));
    fs::write(&secret, [7; 32]).expect("a secret");
    let taken = taken();
    let port = taken.local_addr().expect("its address").port();
    // Nothing but the log of records makes the folder before the port that is taken is tried.
    let setup = Setup::on(
        port,
        free_port(),
        &format!(
            "state.data_dir = '{}'\naudit.file = '{}'\nkeys.secret_file = '{}'\nstate.url = 'redis://127.0.0.1:{}'",
            data.display(),
            data.join("audit.jsonl").display(),
            secret.display(),
            free_port()
        ),
    );
    let check = setup.check(&[]);
    assert_eq!(check.code, Some(0), "{}", check.text);
    assert!(!data.exists());
    setup.run_unwatched().assert_says(&["cannot be bound"]);
    assert!(data.join("audit.jsonl").exists());
}

#[test]
fn what_the_gateway_goes_without_is_a_warning_with_its_key() {
    let _alone = alone_without_runtime();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params =
        rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a certificate");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let ended = params.self_signed(&key).expect("a certificate");
    fs::write(at("server.crt"), ended.pem()).expect("a file");
    fs::write(at("server.key"), key.serialize_pem()).expect("a file");
    let damaged = at("model");
    fs::create_dir(&damaged).expect("a folder");
    for file in fs::read_dir(root().join("conf/model")).expect("the models") {
        let file = file.expect("a file");
        let mut bytes = fs::read(file.path()).expect("a file");
        if file.path().extension().is_some_and(|name| name == "onnx") {
            bytes.truncate(bytes.len() / 2);
        }
        fs::write(damaged.join(file.file_name()), bytes).expect("a file");
    }
    let missing = at("no-model").display().to_string();
    let geo = root().join("tests/data/geo").display().to_string();
    let geo = format!(
        "geo.country = '{geo}/country.mmdb'\ngeo.city = ['{geo}/city-ipv4.mmdb', '{geo}/city-ipv6.mmdb']\n\
         geo.asn = '{geo}/asn.csv'"
    );
    let kinds = format!(
        "geo.kinds = '{}/tests/data/geo/network-kinds.csv'",
        root().display()
    );
    for (changes, parts) in [
        (
            format!(
                "server.tls.certificate = '{}'\nserver.tls.key = '{}'",
                at("server.crt").display(),
                at("server.key").display()
            ),
            &[
                "server.tls.certificate: ",
                "server.crt",
                "has ended at 2021-01-01",
                "renewed",
            ][..],
        ),
        (
            format!("model.dir = '{missing}'"),
            &[
                "model.dir: no model",
                &missing,
                "every request is unscored",
                "riskgate model inspect",
            ],
        ),
        (
            format!("model.dir = '{}'", damaged.display()),
            &["model.dir: no model", ".onnx", "every request is unscored"],
        ),
        (
            format!("geo.kinds = '{missing}.csv'"),
            &[
                "geo.kinds: network kind database",
                &missing,
                "cannot be read",
            ],
        ),
        (
            format!("model.challenger.dir = '{missing}'"),
            &["model.challenger.dir: no challenger", &missing],
        ),
    ] {
        let rest = if changes.starts_with("geo.kinds") {
            ""
        } else {
            &kinds
        };
        let setup = Setup::with(&format!("{geo}\n{rest}\n{changes}"));
        let lenient = setup.check(&[]);
        assert_eq!(lenient.code, Some(0), "{}", lenient.text);
        let warnings: Vec<&str> = lenient
            .text
            .lines()
            .filter(|line| line.starts_with("warning  "))
            .collect();
        let [warning] = warnings[..] else {
            panic!("not one warning: {}", lenient.text);
        };
        for part in parts {
            assert!(warning.contains(part), "`{part}` is not in: {warning}");
        }
        let strict = setup.check(&["--strict"]);
        assert_eq!(strict.code, Some(4), "{}", strict.text);
        assert!(strict.text.contains(warning), "{}", strict.text);
        assert!(
            strict.text.contains("there are warnings (1)"),
            "{}",
            strict.text
        );
    }
    // What is wrong stays what it is, and what is right too.
    let wrong = Setup::with("score.budget_ms = 0").check(&["--strict"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.text);
    let right = Setup::with(&format!("{geo}\n{kinds}")).check(&["--strict"]);
    assert_eq!(right.code, Some(0), "{}", right.text);
}

#[test]
fn a_command_says_everything_that_it_could_be_given() {
    let _alone = alone_without_runtime();
    for (words, part) in [
        (
            "label 01890a5d-ac96-774b-bcce-b302099a8057",
            "<--safe|--compromised|--export <CSV>>",
        ),
        ("model eval conf/model", "<--events <CSV>|--audit <JSONL>>"),
        ("state show", "<--user <NAME>|--client <ID>>"),
        ("run --listen localhost:8080", "an IP address and a port"),
        ("health --admin 9090", "an IP address and a port"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_riskgate"));
        command.current_dir(root()).args(words.split(' '));
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}
