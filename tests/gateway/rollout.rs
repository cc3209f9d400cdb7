//! The rollout from the file to what users meet: who is enforced and who is only watched, a friction budget that is used up,
//! operators who promote and demote, and files that cannot be used.

use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::rules;
use crate::operators::PASSWORD;
use crate::operators::eventually;
use crate::operators::with_operators;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::operator::roster::Role;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;
use wso2_sim::SimConfig;
use wso2_sim::seed::SUPER_TENANT;
use wso2_sim::seed::User;

const SECRET: &str = "JBSWY3DPEHPK3PXP";

/// A rollout file, which outlives the world that reads it.
pub(crate) struct File {
    folder: TempDir,
    /// How many records the start of a gateway leaves: one for each stage.
    stages: usize,
}

impl File {
    pub(crate) fn new(text: &str) -> Self {
        let file = Self {
            folder: tempfile::tempdir().unwrap(),
            stages: text.matches("[[stage]]").count(),
        };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("rollout.toml")
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    pub(crate) fn options(&self, policy: String) -> Options {
        let config = format!("[rollout]\nfile = '{}'\n", self.path().display());
        Options {
            policy: Some(policy),
            // Lives as long as the test.
            config: config.leak(),
            ..Options::default()
        }
    }

    async fn world(&self, options: Options) -> World {
        let world = World::start(options).await;
        self.expect(&world);
        world
    }

    /// The records of the stages that are in force from the start are due.
    pub(crate) fn expect(&self, world: &World) {
        (0..self.stages).for_each(|_| world.expect_record());
    }
}

fn stage(application: &str, mode: &str, percentage: u8) -> String {
    format!(
        "[[stage]]\napplication = '{application}'\nmode = '{mode}'\npercentage = {percentage}\napproved_by = ['ada']\n"
    )
}

/// An identity server with users `u-0` to `u-N` who have a second factor.
fn crowd(size: usize) -> SimConfig {
    let mut sim = SimConfig::default();
    for number in 0..size {
        let name = format!("u-{number}");
        sim.users
            .push(User::new(SUPER_TENANT, &name, PASSWORD).with_totp(SECRET));
    }
    sim
}

fn member(world: &World, number: usize) -> Person<'_> {
    let mut person = world
        .person(&format!("u-{number}"))
        .guessing(PASSWORD)
        .from(&format!("192.0.2.{}", number + 1));
    person.set_factor(SECRET);
    person
}

fn rollout_records(records: &[AuditEvent]) -> Vec<&AuditEvent> {
    let of_rollout = |record: &&AuditEvent| record.class == "rollout";
    records.iter().filter(of_rollout).collect()
}

/// Runs `riskgate rollout` on the configuration of a world, with a password on standard input.
fn command(world: &World, arguments: &[&str], password: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .arg("rollout")
        .args(arguments)
        .arg("--config")
        .arg(world.config_file())
        .current_dir(world.data_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A command that is refused before it reads has closed its input.
    drop(input.write_all(format!("{password}\n").as_bytes()));
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_application_is_enforced_and_another_only_watched() {
    let file = File::new(&stage("demo-web", "enforce", 100));
    let mut options = file.options(always("block"));
    let clients = &mut options.sim.clients;
    let of_web = |client: &&wso2_sim::Client| client.client_id == "demo-web";
    let mut other = clients.iter().find(of_web).unwrap().clone();
    other.client_id = "demo-other".to_owned();
    clients.push(other);
    let world = file.world(options).await;
    let record = world.last_record().await;
    assert_eq!(
        (
            &*record.class,
            &*record.action,
            record.client_id.as_deref(),
            record.rollout_from.as_deref(),
            record.rollout_to.as_deref(),
            record.operator.as_deref(),
        ),
        (
            "rollout",
            "in_force",
            Some("demo-web"),
            None,
            Some("enforce 100 %"),
            Some("ada"),
        )
    );
    let mut alice = world.person("alice");
    let refused = alice.open().await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(world.last_record().await.mode.as_deref(), Some("enforce"));
    let mut alice = world.person("alice").in_app("demo-other");
    alice.sign_in().await;
    let record = world.last_record_of("login").await;
    assert_eq!(
        (record.mode.as_deref(), record.verdict.as_deref()),
        (Some("monitor"), Some("block"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_on_one_side_of_a_percentage_whatever_is_presented() {
    let file = File::new(&stage("demo-web", "enforce", 50));
    let options = Options {
        sim: crowd(16),
        ..file.options(always("allow"))
    };
    let world = file.world(options).await;
    let (mut inside, mut outside) = (None, None);
    for number in 0..16 {
        let mut person = member(&world, number);
        // The address says something else than the user.
        let code = person.sign_in().await;
        let login = world.last_record_of("login").await.mode.unwrap();
        assert_eq!(person.redeem(&code).await.status, 200);
        let token = world.last_record_of("token").await.mode.unwrap();
        assert_eq!(login, token, "u-{number}");
        let side = match &*login {
            "enforce" => &mut inside,
            "monitor" => &mut outside,
            other => panic!("{other}"),
        };
        side.get_or_insert((number, person));
    }
    // Of 16 users all are on one side once in 32,768 secrets.
    let (Some((in_number, mut inside)), Some((out_number, mut outside))) = (inside, outside) else {
        panic!("all users are on one side");
    };
    // A session is of somebody, whatever name is written into the link beside it.
    let hint = format!("u-{out_number}");
    inside.open_with(&[("login_hint", &hint)]).await;
    let record = world.last_record_of("authorize").await;
    assert_eq!(record.mode.as_deref(), Some("enforce"), "{record:#?}");
    let hint = format!("u-{in_number}");
    outside.open_with(&[("login_hint", &hint)]).await;
    let record = world.last_record_of("authorize").await;
    assert_eq!(record.mode.as_deref(), Some("monitor"), "{record:#?}");
}

/// Users who are challenged from their second login on; the budget of half of them is used up by the twentieth.
async fn over_budget(file: &File, more: &[(&str, &str)]) -> World {
    let mut said: Vec<(&str, &str)> = more.to_vec();
    said.push(("user.logins >= 1", "step_up"));
    said.push(("true", "allow"));
    let options = Options {
        sim: crowd(21),
        ..file.options(rules(&said))
    };
    let world = file.world(options).await;
    for number in 0..20 {
        let mut person = member(&world, number);
        person.sign_in().await;
        world.until_learnt(&format!("u-{number}"), 1).await;
    }
    world
}

const BUDGET: &str = "[budget]\npercent = 50.0\nusers_min = 20\nlogins_min = 1\n";

/// The second login of each, which is challenged and proved.
async fn again(world: &World, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let mut person = member(world, number);
        let code = person.sign_in().await;
        // With its proof the demand is met.
        assert_eq!(person.redeem(&code).await.status, 200);
        let record = world.last_record_of("login").await;
        assert_eq!(
            (&*record.outcome, record.mode.as_deref()),
            ("succeeded", Some("enforce")),
            "u-{number}: {record:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_used_up_falls_back_until_an_operator_acts() {
    let file = File::new(&format!("{BUDGET}{}", stage("demo-web", "enforce", 100)));
    let mallory = ("user.name == \"u-20\"", "block");
    let mut world = over_budget(&file, &[mallory]).await;
    // Whoever guesses passwords, and is challenged or not, is nobody who is known to be good.
    for number in 0..20 {
        let mut thief = member(&world, number)
            .guessing("guess")
            .from("198.51.100.20");
        thief.try_password().await;
    }
    again(&world, 0..19).await;
    let status = || command(&world, &["status", "--json"], "").1;
    let stages =
        || serde_json::from_str::<serde_json::Value>(&status()).unwrap()["stages"][1].clone();
    let before = stages();
    assert_eq!(before["count"]["users"], 19, "{before}");
    assert!(before["fallen"].is_null());
    world.expect_record();
    again(&world, 19..20).await;
    let records = world.records().await;
    let fall = *rollout_records(&records).last().unwrap();
    assert_eq!(
        (
            &*fall.action,
            fall.client_id.as_deref(),
            fall.rollout_from.as_deref(),
            fall.rollout_to.as_deref(),
            fall.note.as_deref(),
        ),
        (
            "fell_back",
            Some("demo-web"),
            Some("enforce 100 %"),
            Some("monitor 100 %"),
            Some("20 of 20 known-good users challenged within 60 minutes, budget 50 %"),
        )
    );
    assert!(world.log().contains("the friction budget is used up"));
    let fallen = world
        .metric("riskgate_rollout_fallen", &[("stage", "demo-web")])
        .await;
    assert!((fallen - 1.0).abs() < f64::EPSILON);
    let share = world
        .metric("riskgate_friction_share", &[("stage", "demo-web")])
        .await;
    assert!(share > 0.9, "{share}");
    // The next one is not asked any more, and what would have been done is still recorded.
    let mut person = member(&world, 0);
    let answer = person.log_in().await;
    let record = world.last_record_of("login").await;
    assert!(answer.code().is_some(), "{record:#?}");
    assert_eq!(
        (record.mode.as_deref(), record.verdict.as_deref()),
        (Some("monitor"), Some("step_up"))
    );
    // What a rule refuses stays refused.
    let mut refused = member(&world, 20);
    let answer = refused.log_in().await;
    assert!(answer.code().is_none());
    let record = world.last_record_of("login").await;
    assert_eq!(
        (record.mode.as_deref(), record.verdict.as_deref()),
        (Some("enforce"), Some("block"))
    );
    // A restart is no operator.
    eventually(async || {
        world
            .data_dir()
            .join("rollout-fallen.toml")
            .is_file()
            .then_some(())
    })
    .await;
    world.restart().await;
    file.expect(&world);
    let answer = member(&world, 1).log_in().await;
    assert!(answer.code().is_some(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_that_is_owed_stays_owed_when_a_stage_falls_back() {
    let file = File::new(&format!("{BUDGET}{}", stage("demo-web", "enforce", 100)));
    let world = over_budget(&file, &[]).await;
    // Before the fall, somebody is asked for a factor and does not give it.
    let mut owing = member(&world, 0);
    let page = owing.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    again(&world, 1..20).await;
    world.expect_record();
    let mut last = member(&world, 0).from("198.51.100.20");
    last.sign_in().await;
    let records = world.records().await;
    let fall = *rollout_records(&records).last().unwrap();
    assert_eq!(fall.action, "fell_back");
    let answer = owing.submit_code(&page).await;
    let answer = owing.follow(answer).await;
    let code = answer.code().expect("the factor was given");
    let record = world.last_record_of("login").await;
    assert_eq!(record.mode.as_deref(), Some("enforce"), "{record:#?}");
    assert_eq!(owing.redeem(&code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_promote_approve_and_demote_on_the_command_line() {
    let file = File::new("approvals = 2\n");
    let world = with_operators(file.options(always("block"))).await;
    crate::operators::employ(
        &world,
        &[
            ("ann", Role::Analyst),
            ("ada", Role::Admin),
            ("bo", Role::Admin),
        ],
    );
    eventually(async || {
        let log = world.log();
        let changes = log.matches("the operators of the console have changed");
        (changes.count() >= 2).then_some(())
    })
    .await;
    let promote = |operator: &'static str| {
        [
            "promote",
            "--application",
            "demo-web",
            "--to",
            "enforce",
            "--as",
            operator,
            "--reason",
            "a quiet week",
        ]
    };
    // A role and a password are not enough each by itself.
    world.expect_record();
    let (code, _, error) = command(&world, &promote("ada"), "wrong horse battery");
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("name or password is wrong"), "{error}");
    let (code, _, error) = command(&world, &promote("ann"), PASSWORD);
    assert!(error.contains("needs the role admin"), "{error}");
    assert_eq!(code, Some(2), "{error}");
    let before = file.text();
    assert_eq!(before, "approvals = 2\n");

    world.expect_record();
    let (code, out, error) = command(&world, &promote("ada"), PASSWORD);
    assert_eq!(
        (code, out.lines().next()),
        (Some(0), Some("proposed: monitor 100 % -> enforce 100 %")),
        "{error}"
    );
    assert!(
        out.contains("`riskgate rollout approve --to enforce --percent 100`"),
        "{out}"
    );
    // Who approves says what was read: without, it is shown and nothing more, and no password is asked for.
    let unread = ["approve", "--application", "demo-web", "--as", "bo"];
    let (code, out, error) = command(&world, &unread, PASSWORD);
    assert_eq!(code, Some(2), "{out}{error}");
    assert!(
        out.contains("monitor 100 % -> enforce 100 %, asked for by ada")
            && out.contains(": a quiet week"),
        "{out}"
    );
    assert!(error.contains("--to: missing"), "{error}");
    let (code, out, error) = command(&world, &["approve", "--as", "bo"], PASSWORD);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{error}");
    assert!(error.contains("nothing waits"), "{error}");
    let approve = |operator: &'static str| {
        let words = ["approve", "--application", "demo-web", "--to", "enforce"];
        [words.as_slice(), &["--as", operator]].concat()
    };
    let (code, _, error) = command(&world, &approve("ada"), PASSWORD);
    assert_eq!(code, Some(2));
    assert!(error.contains("another operator has to approve"), "{error}");
    // Nothing has changed for users.
    let answer = world.person("alice").open().await;
    assert!(answer.is_page("login.do"));
    // The word, and that it is in force.
    world.expect_record();
    world.expect_record();
    let (code, out, error) = command(&world, &approve("bo"), PASSWORD);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        out.starts_with("approved: monitor 100 % -> enforce 100 %"),
        "{out}"
    );
    let records = world.records().await;
    let said: Vec<(&str, Option<&str>, Option<&str>)> = rollout_records(&records)
        .iter()
        .map(|record| {
            (
                &*record.action,
                record.operator.as_deref(),
                record.note.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("proposed", Some("ada"), Some("a quiet week")),
            ("approved", Some("bo"), None),
            ("in_force", Some("ada, bo"), Some("a quiet week")),
        ]
    );
    let refused = world.person("alice").open().await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let (_, out, _) = command(&world, &["status"], "");
    assert!(out.contains("demo-web") && out.contains("ada, bo"), "{out}");

    // Back at once, by one.
    let demote = [
        "demote",
        "--application",
        "demo-web",
        "--to",
        "monitor",
        "--as",
        "bo",
        "--reason",
        "complaints",
    ];
    world.expect_record();
    world.expect_record();
    let (code, out, error) = command(&world, &demote, PASSWORD);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        out.starts_with("demoted: enforce 100 % -> monitor 100 %"),
        "{out}"
    );
    let records = world.records().await;
    assert_eq!(records.last().unwrap().action, "in_force");
    let answer = world.person("alice").open().await;
    assert!(answer.is_page("login.do"), "{answer:?}");
    world.leaks_nothing(&[PASSWORD, "wrong horse battery"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_alone_changes_nothing_and_nobody_else_gets_in() {
    let file = File::new("");
    let world = with_operators(file.options(always("allow"))).await;
    let token = std::fs::read_to_string(world.data_dir().join("admin.token")).unwrap();
    let url = format!("http://127.0.0.1:{}/rollout", world.admin_port);
    let form = [
        ("mode", "enforce"),
        ("percentage", "100"),
        ("reason", "x"),
        ("operator", "ada"),
    ];
    let bearer = format!("Bearer {}", token.trim());
    let post = |authorization: &str, path: &str| {
        let request = world.http().post(format!("{url}{path}")).form(&form);
        request.header("authorization", authorization)
    };
    let status =
        async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    assert_eq!(status(world.http().get(&url)).await, 401);
    assert_eq!(status(post("Bearer wrong", "/promote")).await, 401);
    world.expect_record();
    assert_eq!(status(post(&bearer, "/promote")).await, 403);
    assert_eq!(status(post(&bearer, "/perhaps")).await, 400);
    let listed = world.http().get(&url).header("authorization", &bearer);
    assert_eq!(status(listed).await, 200);
    let many = "x".repeat(20_000);
    let long = post(&bearer, "/promote").body(many);
    assert_eq!(status(long).await, 413);
    assert_eq!(file.text(), "");
    assert_eq!(world.last_record().await.action, "sign_in_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_changes_nothing_and_is_named() {
    let good = stage("demo-web", "enforce", 100);
    let file = File::new(&good);
    let world = file.world(file.options(always("block"))).await;
    for (broken, said) in [
        (
            stage("demo-web", "enforce", 101),
            "stage[0].percentage: 101, expected 0 to 100",
        ),
        (stage("demo-web", "loud", 100), "unknown variant `loud`"),
        (format!("{good}{good}"), "is in stage[0] already"),
        (
            "[[stage]]\napplication = 'demo-web'\nmode = 'enforce'\n".to_owned(),
            "names 0 operators, expected 1",
        ),
        (
            "[budget]\nusers_min = 1\n".to_owned(),
            "budget: users_min: 1, expected 20 to 1000",
        ),
    ] {
        file.write(&broken);
        let (code, _, error) = world.command(&["check"]);
        assert_eq!(code, Some(2), "{error}");
        assert!(
            error.contains(said) && error.contains("rollout.toml"),
            "{error}"
        );
        eventually(async || world.log().contains(said).then_some(())).await;
        let refused = world.person("alice").open().await;
        assert_eq!(refused.status, 403, "{said}: {refused:?}");
    }
    std::fs::remove_file(file.path()).unwrap();
    eventually(async || {
        world
            .log()
            .contains("rollout.file: cannot be read")
            .then_some(())
    })
    .await;
    assert_eq!(world.person("alice").open().await.status, 403);
    let (code, _, error) = command(&world, &["status"], "");
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("cannot be read"), "{error}");
    // A good one is taken.
    world.expect_record();
    file.write(&stage("demo-web", "enforce", 0));
    drop(world.records().await);
    let answer = world.person("alice").open().await;
    assert!(answer.is_page("login.do"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_everybody_off_turns_the_rollout_off_as_well() {
    let file = File::new(&stage("demo-web", "enforce", 100));
    let world = file.world(file.options(always("block"))).await;
    assert_eq!(world.person("alice").open().await.status, 403);
    // The plan is no longer that of the gateway, and the mode is another one.
    (0..2).for_each(|_| world.expect_record());
    let (code, out, error) = world.command(&["off"]);
    assert_eq!(code, Some(0), "{out}{error}");
    let last_two = async || {
        let records = world.records().await;
        let [.., stage, mode] = records.as_slice() else {
            panic!("{records:#?}");
        };
        (stage.action.clone(), mode.action.clone())
    };
    assert_eq!(last_two().await, ("removed".into(), "mode_changed".into()));
    let answer = world.person("alice").open().await;
    assert!(answer.is_page("login.do"), "{answer:?}");
    assert_eq!(
        world.last_record_of("authorize").await.mode.as_deref(),
        Some("off")
    );
    (0..2).for_each(|_| world.expect_record());
    assert_eq!(world.command(&["off", "--undo"]).0, Some(0));
    assert_eq!(last_two().await, ("in_force".into(), "mode_changed".into()));
    assert_eq!(world.person("alice").open().await.status, 403);
}
