//! Changes that come by a file: each is on record, with what has changed and, where a command made it, who says to have done so;
//! also those of a time in which no gateway ran.

use crate::gateway::Options;
use crate::gateway::World;
use crate::operators::PASSWORD;
use crate::operators::eventually;
use riskgate::domain::audit::AuditEvent;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

/// `riskgate operator ...` with a password.
fn operator(world: &World, arguments: &[&str], password: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .arg("operator")
        .args(arguments)
        .arg("--config")
        .arg(world.config_file())
        .current_dir(world.data_dir().parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(password.as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// What a record says: action, who, what.
fn said(record: &AuditEvent) -> (&str, Option<&str>, Option<&str>) {
    assert_eq!((record.route.as_str(), &*record.method), ("file", "OTHER"));
    (
        &*record.action,
        record.operator.as_deref(),
        record.note.as_deref(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_who_come_and_go_are_on_record() {
    let mut world = World::start(Options::default()).await;
    world.expect_record();
    operator(
        &world,
        &["add", "bo", "--role", "viewer", "--as", "ada"],
        PASSWORD,
    );
    let record = world.last_record().await;
    assert_eq!(record.class, "operator");
    assert_eq!(
        said(&record),
        ("operator_added", Some("ada"), Some("bo: viewer"))
    );
    // Every command hashes the password with another salt.
    world.expect_record();
    operator(
        &world,
        &["add", "bo", "--role", "admin", "--as", "eve\u{1b}[31m"],
        PASSWORD,
    );
    let record = world.last_record().await;
    let (action, by, note) = said(&record);
    assert_eq!(
        (action, note),
        (
            "operator_changed",
            Some("bo: admin, was viewer, another password")
        )
    );
    assert!(
        by.unwrap().starts_with("eve") && !by.unwrap().contains('\u{1b}'),
        "{by:?}"
    );

    // An editor says nobody's name, and not that of whoever came before it.
    let path = world.data_dir().join("operators.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    world.expect_record();
    std::fs::write(&path, text.replace("\"admin\"", "\"analyst\"")).unwrap();
    assert_eq!(
        said(&world.last_record().await),
        ("operator_changed", None, Some("bo: analyst, was admin"))
    );
    // What cannot be used changes nothing, and is no record.
    std::fs::write(&path, "[[operator]]\nname = 'x'\n").unwrap();
    eventually(async || world.log().contains("stay as they were").then_some(())).await;
    std::fs::write(&path, text.replace("\"admin\"", "\"analyst\"")).unwrap();

    // While no gateway runs, and while what it had seen is still right.
    (0..2).for_each(|_| world.expect_record());
    world
        .restart_after(|world| {
            operator(world, &["remove", "bo", "--as", "ada"], "");
            operator(
                world,
                &["add", "cy", "--role", "viewer", "--as", "ada"],
                PASSWORD,
            );
        })
        .await;
    let records = world.records().await;
    let [.., added, removed] = records.as_slice() else {
        panic!("{records:#?}");
    };
    assert_eq!(
        said(added),
        ("operator_added", Some("ada"), Some("cy: viewer"))
    );
    assert_eq!(
        said(removed),
        ("operator_removed", Some("ada"), Some("bo: was analyst"))
    );
    world.restart().await;
    world.records().await;
    world.leaks_nothing(&[PASSWORD, "$argon2id$"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_turns_everything_off_is_on_record() {
    let mut world = World::start(Options {
        mode: "enforce",
        ..Options::default()
    })
    .await;
    let changed = |record: &AuditEvent| {
        assert_eq!(
            (&*record.class, &*record.action),
            ("rollout", "mode_changed")
        );
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (
            text(&record.operator),
            text(&record.rollout_from),
            text(&record.rollout_to),
        )
    };
    let of = |by: &str, from: &str, to: &str| (by.to_owned(), from.to_owned(), to.to_owned());
    world.expect_record();
    let (code, _, errors) = world.command(&["off", "--as", "ada"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(
        changed(&world.last_record().await),
        of("ada", "enforce 100 %", "off 100 %")
    );
    world.expect_record();
    assert_eq!(
        world.command(&["off", "--monitor", "--as", "bo"]).0,
        Some(0)
    );
    assert_eq!(
        changed(&world.last_record().await),
        of("bo", "off 100 %", "monitor 100 %")
    );
    // While no gateway runs.
    world.expect_record();
    world
        .restart_after(|world| {
            assert_eq!(world.command(&["off", "--undo", "--as", "ada"]).0, Some(0));
        })
        .await;
    assert_eq!(
        changed(&world.last_record().await),
        of("ada", "monitor 100 %", "enforce 100 %")
    );
    // An editor; the same again is no change.
    let file = world.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    world.expect_record();
    std::fs::write(&file, text.replace("\"enforce\"", "\"advise\"")).unwrap();
    assert_eq!(
        changed(&world.last_record().await),
        of("", "enforce 100 %", "advise 100 %")
    );
    world.restart().await;
    world.records().await;
}
