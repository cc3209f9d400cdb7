//! The policy editor of the console: a draft is checked and replayed before it is saved, nobody's work is lost, what is saved
//! comes into force, what was there comes back, and all of it is on record.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::rules;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use riskgate::domain::policy::editing::digest_of;
use riskgate::domain::policy::editing::from_form;
use std::path::PathBuf;

const EDIT: &str = "/console/policy/edit";
const CHECK: &str = "/console/policy/check";
const SAVE: &str = "/console/policy/save";
const RESTORE: &str = "/console/policy/restore";

fn file(world: &World) -> PathBuf {
    world.data_dir().with_file_name("policy.toml")
}

fn on_disk(world: &World) -> String {
    std::fs::read_to_string(file(world)).unwrap()
}

/// The value of a hidden field; nothing where it is not there.
fn field(page: &str, name: &str) -> String {
    let front = format!("name=\"{name}\" value=\"");
    let rest = page.split_once(&front).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
        .to_owned()
}

/// Looks at a draft, then saves it as the page says.
async fn save(browser: &mut Browser<'_>, base: &str, text: &str, note: &str) -> Answer {
    let page = browser.post(CHECK, &[("base", base), ("text", text)]).await;
    assert_eq!(page.status, 200, "{page:?}");
    let checked = field(&page.body, "checked");
    let fields = [
        ("base", base),
        ("checked", &checked),
        ("text", text),
        ("note", note),
    ];
    browser.post(SAVE, &fields).await
}

async fn until_in_force(browser: &mut Browser<'_>) {
    eventually(async || {
        let page = browser.get(EDIT).await;
        page.body.contains("It is in force.").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_checked_replayed_saved_put_in_force_and_restored() {
    let world = with_operators(Options {
        mode: "enforce",
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    assert_eq!(world.person("alice").open().await.status, 200);
    let first = on_disk(&world);
    let mut ada = Browser::of(&world, "ada").await;
    let page = ada.get(EDIT).await.body;
    assert!(
        page.contains("It is in force.") && page.contains("policy.toml"),
        "{page}"
    );
    assert!(page.contains("Nothing was saved here yet"), "{page}");
    let base = field(&page, "base");
    assert_eq!(base, digest_of(&first));
    // What was not looked at cannot be saved.
    assert_eq!(field(&page, "checked"), "");

    let draft = first.replace("verdict = \"allow\"", "verdict = \"block\"");
    assert_ne!(draft, first);
    let looked = eventually(async || {
        let page = ada
            .post(CHECK, &[("base", &base), ("text", &draft)])
            .await
            .body;
        // As soon as the record of the request is written.
        (!page.contains("no decision on record")).then_some(page)
    })
    .await;
    assert!(
        looked.contains("<code>- verdict = &quot;allow&quot;</code>"),
        "{looked}"
    );
    assert!(
        looked.contains("<code>+ verdict = &quot;block&quot;</code>"),
        "{looked}"
    );
    assert!(looked.contains("class=\"badge block\""), "{looked}");
    assert_eq!(on_disk(&world), first, "looking changes nothing");
    let note = "an <b>attack</b> goes on";
    let fields = [("base", base.as_str()), ("text", &draft), ("note", note)];
    let unlooked = ada.post(SAVE, &fields).await;
    assert_eq!(unlooked.status, 409);
    assert!(
        unlooked.body.contains("is not the one that was checked"),
        "{unlooked:?}"
    );
    let nameless = save(&mut ada, &base, &draft, " ").await;
    assert_eq!(nameless.status, 409);
    assert!(nameless.body.contains("A note is missing"), "{nameless:?}");
    assert_eq!(on_disk(&world), first);

    world.expect_record();
    let saved = save(&mut ada, &base, &draft, note).await;
    assert_eq!(
        (saved.status, saved.header("location")),
        (303, Some("/console/policy/edit?done=saved")),
        "{saved:?}"
    );
    assert_eq!(on_disk(&world), draft);
    let record = world.last_record().await;
    assert_eq!(
        (
            &*record.class,
            &*record.action,
            record.operator.as_deref(),
            record.note.as_deref()
        ),
        ("operator", "policy_saved", Some("ada"), Some(note))
    );
    assert_eq!(
        (record.policy_from.as_deref(), record.policy_to.as_deref()),
        (Some(&*base), Some(&*digest_of(&draft)))
    );
    until_in_force(&mut ada).await;
    assert_eq!(world.person("alice").open().await.status, 403);
    let page = ada.get(EDIT).await.body;
    assert!(
        page.contains("an &lt;b&gt;attack&lt;/b&gt; goes on"),
        "{page}"
    );

    // One click puts back what was there.
    let version = ada.get(&format!("/console/policy/versions/{base}")).await;
    assert_eq!(version.status, 200);
    assert!(
        version
            .body
            .contains("<code>+ verdict = &quot;allow&quot;</code>"),
        "{version:?}"
    );
    let now = field(&page, "base");
    world.expect_record();
    let restored = ada
        .post(RESTORE, &[("base", &now), ("version", &base)])
        .await;
    assert_eq!(restored.status, 303, "{restored:?}");
    assert_eq!(on_disk(&world), first);
    let record = world.last_record().await;
    assert_eq!(record.action, "policy_restored");
    assert_eq!(record.policy_to.as_deref(), Some(&*base));
    until_in_force(&mut ada).await;
    assert_eq!(world.person("alice").open().await.status, 200);
    // A second click finds that there is nothing to do, and leaves no record.
    let again = ada
        .post(RESTORE, &[("base", &base), ("version", &base)])
        .await;
    assert_eq!(again.status, 409);
    world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_admins_the_later_one_sees_what_the_other_has_done() {
    let world = with_operators(Options {
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    let first = on_disk(&world);
    let base = digest_of(&first);
    let (one, other) = (format!("# one\n{first}"), format!("# other\n{first}"));
    let mut ada = Browser::of(&world, "ada").await;
    world.expect_record();
    assert_eq!(save(&mut ada, &base, &one, "one").await.status, 303);
    let late = save(&mut ada, &base, &other, "other").await;
    assert_eq!(late.status, 409);
    assert!(late.body.contains("somebody else was quicker"), "{late:?}");
    // The draft is still there, beside what the other has written.
    assert!(
        late.body.contains("# other") && late.body.contains("<code>- # one</code>"),
        "{late:?}"
    );
    assert_eq!(on_disk(&world), one);
    assert_eq!(field(&late.body, "base"), digest_of(&one));
    let fields = [("base", base.as_str()), ("version", base.as_str())];
    assert_eq!(ada.post(RESTORE, &fields).await.status, 409);
    // What somebody writes beside the console is no less somebody's work.
    world.set_policy(&always("block"));
    let by_hand = on_disk(&world);
    let late = save(&mut ada, &digest_of(&one), &other, "other").await;
    assert_eq!(late.status, 409);
    assert_eq!(on_disk(&world), by_hand);
    world.records().await;
}

/// Pages are not stored by browsers, so that the way back would show the sign-in and no draft.
#[tokio::test(flavor = "multi_thread")]
async fn a_draft_outlasts_the_session_in_which_it_was_written() {
    let world = with_operators(Options {
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    let draft = "# written for an hour </textarea><script>\nversion = 1\n";
    let shown = "# written for an hour &lt;/textarea&gt;&lt;script&gt;\nversion = 1\n</textarea>";
    let fields = [("text", draft)];
    let mut ada = Browser::of(&world, "ada").await;
    let open = ada.cookies.clone();
    // Another session's form, then none's.
    let token = std::mem::take(&mut ada.token);
    let old = ada.post(CHECK, &fields).await;
    assert!(old.status == 403 && old.body.contains(shown), "{old:?}");
    ada.cookies.clear();
    ada.token = token;
    let ended = ada.post(CHECK, &fields).await;
    assert!(
        ended.status == 401 && ended.body.contains(shown),
        "{ended:?}"
    );
    // Who may not edit gets nothing back, and what is too long is not read.
    let mut vi = Browser::of(&world, "vi").await;
    let refused = vi.post(CHECK, &fields).await;
    assert!(refused.status == 403 && !refused.body.contains("textarea"));
    let long = "x".repeat(2 << 20);
    let ended = ada.post(CHECK, &[("text", &long)]).await;
    assert!(ended.status == 401 && !ended.body.contains("textarea"));
    ada.cookies = open;
    assert_eq!(ada.get(EDIT).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_its_line_and_never_saved() {
    let world = with_operators(Options {
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    let first = on_disk(&world);
    let base = digest_of(&first);
    let mut ada = Browser::of(&world, "ada").await;
    let hostile = "</textarea><script>alert(1)</script>";
    for (draft, said) in [
        (
            first.replace("\"allow\"", "\"maybe\""),
            "line 5, rule `rule-0`, key `verdict`".to_owned(),
        ),
        (
            format!("{first}\nsurprise = 1\n"),
            "unknown key `surprise`".to_owned(),
        ),
        ("[[[".to_owned(), "line 1".to_owned()),
        (String::new(), "has no `version`".to_owned()),
        (
            format!("# {hostile}\n{}", first.replace("true", "user.nme")),
            "key `when`".to_owned(),
        ),
        (
            format!("# \u{202e}\n{first}"),
            "invisible character".to_owned(),
        ),
        (
            format!("{first}#{}", "x".repeat(256 * 1024)),
            "expected at most 262144".to_owned(),
        ),
    ] {
        // As a browser sends it: with carriage returns.
        let sent = draft.replace('\n', "\r\n");
        let page = ada.post(CHECK, &[("base", &base), ("text", &sent)]).await;
        assert_eq!(page.status, 200);
        let plain = page.body.replace("&quot;", "\"");
        assert!(plain.contains(&said), "{said}: {plain}");
        assert!(page.body.contains("It cannot be saved so."), "{said}");
        assert_eq!(field(&page.body, "checked"), "", "{said}");
        assert!(!page.body.contains("<script>alert"), "{}", page.body);
        // Nor by whoever makes the form by hand.
        let digest = digest_of(&from_form(&sent));
        let fields = [
            ("base", base.as_str()),
            ("checked", &digest),
            ("text", &sent),
            ("note", "x"),
        ];
        assert_eq!(ada.post(SAVE, &fields).await.status, 409, "{said}");
        assert_eq!(on_disk(&world), first);
    }
    let long = "x".repeat(900_000);
    assert_eq!(
        ada.post(CHECK, &[("base", &base), ("text", &long)])
            .await
            .status,
        413
    );
    for version in ["", "none", "../../policy", &"0".repeat(64)] {
        let fields = [("base", base.as_str()), ("version", version)];
        assert_eq!(ada.post(RESTORE, &fields).await.status, 404, "{version}");
    }

    // A file that cannot be written is said.
    let blocker = file(&world).with_file_name(".policy.toml.new");
    std::fs::create_dir(&blocker).unwrap();
    let draft = format!("# more\n{first}");
    let failed = save(&mut ada, &base, &draft, "more").await;
    assert_eq!(failed.status, 409);
    assert!(failed.body.contains("cannot be written"), "{failed:?}");
    std::fs::remove_dir(&blocker).unwrap();
    assert_eq!(on_disk(&world), first);
    world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_is_refused_is_said_and_the_way_back_is_open() {
    let world = with_operators(Options {
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    let first = on_disk(&world);
    let base = digest_of(&first);
    let mut ada = Browser::of(&world, "ada").await;
    world.expect_record();
    let second = format!("# second\n{first}");
    assert_eq!(save(&mut ada, &base, &second, "second").await.status, 303);
    until_in_force(&mut ada).await;
    // Written by hand, past the checker.
    std::fs::write(file(&world), "version = 1\n[[rule]]\nname = \"<x>\"\n").unwrap();
    let page = eventually(async || {
        let page = ada.get(EDIT).await.body;
        page.contains("The latest reload was refused")
            .then_some(page)
    })
    .await;
    assert!(
        page.contains("policy.toml") && page.contains("&lt;x&gt;"),
        "{page}"
    );
    let looked = ada.get("/console/policy").await.body;
    assert!(looked.contains("The latest reload was refused"), "{looked}");
    let now = field(&page, "base");
    world.expect_record();
    let restored = ada
        .post(RESTORE, &[("base", &now), ("version", &base)])
        .await;
    assert_eq!(restored.status, 303, "{restored:?}");
    until_in_force(&mut ada).await;
    assert!(
        !ada.get(EDIT)
            .await
            .body
            .contains("The latest reload was refused")
    );
    assert_eq!(on_disk(&world), first);
    world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_that_locks_out_a_break_glass_account_is_refused() {
    let policy = format!("break_glass = [\"alice\"]\n{}", always("allow"));
    let world = with_operators(Options {
        policy: Some(policy),
        ..Options::default()
    })
    .await;
    world.person("alice").sign_in().await;
    let record = world.last_record_of("login").await;
    assert!(record.break_glass, "{record:#?}");
    let first = on_disk(&world);
    let base = digest_of(&first);
    let mut ada = Browser::of(&world, "ada").await;
    let draft = first
        .replace("break_glass = [\"alice\"]\n", "")
        .replace("\"allow\"", "\"block\"");
    let page = ada
        .post(CHECK, &[("base", &base), ("text", &draft)])
        .await
        .body;
    assert!(page.contains("no longer names alice"), "{page}");
    assert!(page.contains("would have been locked out"), "{page}");
    assert_eq!(field(&page, "checked"), "");
    let digest = digest_of(&draft);
    let fields = [
        ("base", base.as_str()),
        ("checked", &digest),
        ("text", &draft),
        ("note", "x"),
    ];
    let refused = ada.post(SAVE, &fields).await;
    assert_eq!(refused.status, 409);
    assert!(
        refused.body.contains("locked out 1 break-glass accounts"),
        "{refused:?}"
    );
    assert_eq!(on_disk(&world), first);
    // Where the account stays one, the same rule only asks it for a factor.
    let milder = rules(&[("!user.break_glass", "block"), ("true", "allow")]);
    let milder = first.replace(&always("allow"), &milder);
    world.expect_record();
    assert_eq!(save(&mut ada, &base, &milder, "x").await.status, 303);
    world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_lines_end_as_on_windows_can_be_edited() {
    let world = with_operators(Options {
        mode: "enforce",
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    let first = on_disk(&world);
    std::fs::write(file(&world), first.replace('\n', "\r\n")).unwrap();
    let mut ada = Browser::of(&world, "ada").await;
    let page = ada.get(EDIT).await.body;
    assert!(!page.contains("\\r"), "{page}");
    let draft = first.replace("verdict = \"allow\"", "verdict = \"block\"");
    world.expect_record();
    let sent = draft.replace('\n', "\r\n");
    let saved = save(&mut ada, &field(&page, "base"), &sent, "ends of lines").await;
    assert_eq!(saved.status, 303, "{saved:?}");
    assert_eq!(on_disk(&world), draft);
}
