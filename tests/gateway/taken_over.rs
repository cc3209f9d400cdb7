//! What a reload takes over beside the snapshot while clients are served: with what sessions at WSO2 are ended, and by which
//! provider operators sign in.

use crate::ended::confirm;
use crate::ended::ended;
use crate::ended::expect;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::lifecycle::until_reloaded;
use crate::operators::Browser;
use crate::operators::with_operators;
use crate::operators_by_provider::Desk;
use crate::operators_by_provider::SECRET;
use crate::operators_by_provider::SetUp;
use crate::operators_by_provider::begin;
use crate::operators_by_provider::has_session;
use crate::operators_by_provider::leads_to;
use reqwest::Url;
use riskgate::domain::audit::AuditEvent;
use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use wso2_sim::browser::param;

/// A connection that is there before the first reload, and must be there after the last.
struct Lasting<'w> {
    world: &'w World,
    line: TcpStream,
}

impl<'w> Lasting<'w> {
    async fn begin(world: &'w World) -> Self {
        let line = TcpStream::connect(("127.0.0.1", world.port)).await;
        let mut lasting = Self {
            world,
            line: line.unwrap(),
        };
        lasting.ask().await;
        lasting
    }

    async fn ask(&mut self) {
        const ASKS: &[u8] = b"HEAD /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n";
        self.world.expect_record();
        self.line.write_all(ASKS).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = self.line.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "the connection was dropped: {answer:?}");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }

    async fn until_reloaded(&mut self, result: &str, count: f64) {
        until_reloaded(self.world, result, count).await;
        self.ask().await;
    }
}

fn write(world: &World, text: &str) {
    let file = world.config_file();
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

async fn until_said(world: &World, words: &[&str]) {
    let end = Instant::now() + PATIENCE;
    while !words.iter().all(|word| world.log().contains(word)) {
        assert!(Instant::now() < end, "{words:?}: {}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn management(secret: &Path, keys: &str) -> String {
    let secret = secret.display();
    format!(
        "\n[upstream.management]\nclient_id = \"riskgate-ops\"\nsecret_file = '{secret}'\n{keys}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_and_with_what_sessions_are_ended_is_taken_over() {
    let world = with_operators(Options {
        config: "[server]\nkeepalive_seconds = 3600\n",
        ..Options::default()
    })
    .await;
    let mut lasting = Lasting::begin(&world).await;
    let before = fs::read_to_string(world.config_file()).unwrap();
    let secret = world.config_file().with_file_name("ops.secret");
    let mut ann = Browser::of(&world, "ann").await;
    let mut alice = world.person("alice");
    let login = async |alice: &mut crate::gateway::Person<'_>| -> AuditEvent {
        alice.sign_in().await;
        world.last_record_of("login").await
    };

    // From off to on.
    fs::write(&secret, "riskgate-ops-secret\n").unwrap();
    let on = before.clone() + &management(&secret, "end_sessions = true");
    write(&world, &on);
    lasting.until_reloaded("ok", 1.0).await;
    let first = login(&mut alice).await;
    expect(&world, 2);
    confirm(&mut ann, &first.id, "x").await;
    assert_eq!(ended(&world, &first.id).await.action, "sessions_ended");
    assert!(alice.open().await.is_page("login.do"));

    // Another secret, in the same file; it is that of nobody.
    fs::write(&secret, "another secret altogether\n").unwrap();
    lasting.until_reloaded("ok", 2.0).await;
    let second = login(&mut alice).await;
    expect(&world, 2);
    confirm(&mut ann, &second.id, "x").await;
    assert_eq!(ended(&world, &second.id).await.action, "sessions_refused");

    // None at all is refused with its file and its key, and what was there stays.
    fs::remove_file(&secret).unwrap();
    lasting.until_reloaded("refused", 1.0).await;
    let named = [
        "ops.secret",
        "upstream.management.secret_file",
        "riskgate.toml",
    ];
    until_said(&world, &named).await;

    // Off: nobody is remembered.
    write(&world, &before);
    lasting.until_reloaded("ok", 3.0).await;
    let third = login(&mut alice).await;
    let page = format!("/console/decisions/{}", third.id);
    crate::operators::eventually(async || (ann.get(&page).await.status == 200).then_some(())).await;
    assert!(!ann.get(&page).await.body.contains("name=\"sessions\""));
    assert!(!world.log().contains("after a restart"), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_operators_is_taken_over() {
    let desk = Desk::new(SetUp {
        more: "[server]\nkeepalive_seconds = 3600\n",
        ..SetUp::default()
    })
    .await;
    let world = &desk.world;
    let mut lasting = Lasting::begin(world).await;
    let with = fs::read_to_string(world.config_file()).unwrap();
    let mut ada = desk.browser();
    desk.sign_in(&mut ada, "ada").await;
    assert_eq!(ada.get("/console").await.status, 200);

    // Who may come in is the same: who is in stays.
    let scopes = with.replace("\"profile\", \"roles\"", "\"roles\", \"profile\"");
    assert_ne!(scopes, with);
    write(world, &scopes);
    lasting.until_reloaded("ok", 1.0).await;
    assert_eq!(ada.get("/console").await.status, 200);
    let asked = leads_to(&begin(&mut desk.browser(), "/console").await);
    let asked = param(&Url::parse(&asked).unwrap(), "scope");
    assert_eq!(asked.as_deref(), Some("openid roles profile"));

    // Somebody is on the way when the roles change, and comes back with what he was sent away for.
    let mut vi = desk.browser();
    let address = leads_to(&begin(&mut vi, "/console").await);
    let back = desk.at_provider(&address, "vi").await;
    let roles = scopes.replace("risk-viewer", "risk-auditor");
    assert_ne!(roles, scopes);
    world.expect_record();
    write(world, &roles);
    lasting.until_reloaded("ok", 2.0).await;
    assert_eq!(ada.get("/console").await.status, 303, "ada signs in again");
    let ended = world.records().await.into_iter().rev();
    let ended = ended.filter(|record| record.action == "session_ended");
    let noted: Vec<_> = ended.map(|record| record.note).collect();
    assert_eq!(noted, [Some("oidc:ada".to_owned())]);
    world.expect_record();
    let refused = desk.back(&mut vi, &back).await;
    assert!(refused.status == 403 && !has_session(&vi), "{refused:?}");
    let mut ada = desk.browser();
    desk.sign_in(&mut ada, "ada").await;
    assert_eq!(ada.get("/console").await.status, 200);

    // What cannot be used changes nothing, and says what to do.
    write(world, &roles.replace("/oauth2/token", "/oauth2/token?x=1"));
    lasting.until_reloaded("refused", 1.0).await;
    until_said(world, &["admin.oidc.issuer", "expected no query"]).await;
    assert_eq!(ada.get("/console").await.status, 200);

    // Without a provider there is no door; the passwords stay.
    let table: toml::Table = roles.parse().unwrap();
    let mut table = table;
    table["admin"].as_table_mut().unwrap().remove("oidc");
    world.expect_record();
    write(world, &table.to_string());
    lasting.until_reloaded("ok", 3.0).await;
    assert_eq!(ada.get("/console").await.status, 303);
    let page = ada.get("/console/sign-in").await;
    assert!(!page.body.contains("Sign in with") && page.body.contains("type=\"password\""));
    assert_eq!(
        ada.get("/console/sign-in/callback?code=x").await.status,
        404
    );

    // And back again.
    write(world, &with);
    lasting.until_reloaded("ok", 4.0).await;
    let mut vi = desk.browser();
    desk.sign_in(&mut vi, "vi").await;
    assert_eq!(vi.get("/console").await.status, 200);
    assert!(!world.log().contains("after a restart"), "{}", world.log());
    world.records().await;
    world.leaks_nothing(&[SECRET]);
}
