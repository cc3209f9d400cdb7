//! Operators who sign in to the console by an OpenID Connect provider: who is let in as what, and what is tried against it.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::World;
use crate::operators::Browser;
use crate::operators::PASSWORD;
use crate::operators::employ;
use crate::operators::eventually;
use crate::operators::hidden;
use reqwest::Method;
use reqwest::Url;
use riskgate::domain::operator::roster::Role;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use wso2_sim::Client;
use wso2_sim::Flaws;
use wso2_sim::Outage;
use wso2_sim::SignatureFlaw;
use wso2_sim::Sim;
use wso2_sim::SimConfig;
use wso2_sim::User;
use wso2_sim::browser::param;
use wso2_sim::seed::SUPER_TENANT;

const ORIGIN: &str = "https://risk.example.com";
pub(crate) const SECRET: &str = "the-secret-of-the-console";
const COOKIE: &str = "__Host-rg_console";
const ATTEMPT: &str = "__Host-rg_console_oidc";

/// A gateway whose operators sign in at an identity server of their own.
pub(crate) struct Desk {
    pub(crate) world: World,
    pub(crate) provider: Sim,
    _folder: TempDir,
}

/// How it is set up.
pub(crate) struct SetUp {
    pub(crate) origin: &'static str,
    pub(crate) secret: Option<&'static str>,
    /// What the gateway's file says.
    pub(crate) written: &'static str,
    pub(crate) more: &'static str,
}

impl Default for SetUp {
    fn default() -> Self {
        Self {
            origin: ORIGIN,
            secret: Some(SECRET),
            written: SECRET,
            more: "",
        }
    }
}

impl Desk {
    pub(crate) async fn new(set_up: SetUp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let SetUp {
            origin,
            secret,
            written,
            more,
        } = set_up;
        let mut client = Client::new(SUPER_TENANT, "console", secret);
        client.redirect_uris = vec![
            format!("{origin}/console/sign-in/callback"),
            format!("{origin}/console/sign-in"),
        ];
        client.is_pkce_required = true;
        let user = |name: &str, roles: &[&str]| {
            User::new(SUPER_TENANT, name, &format!("{name}-password")).with_roles(roles)
        };
        let provider = SimConfig {
            clients: vec![client],
            users: vec![
                user("ada", &["everyone", "risk-viewer", "risk-admin"]),
                user("vi", &["risk-viewer"]),
                user("dave", &["everyone", "Risk-Admin"]),
            ],
            ..SimConfig::default()
        };
        let provider = Sim::start(provider).await.unwrap();
        let file = folder.path().join("secret");
        let named = secret.map_or_else(String::new, |_| {
            std::fs::write(&file, format!("{written}\n")).unwrap();
            format!("client_secret_file = '{}'", file.display())
        });
        let config = format!(
            "[admin]\norigin = '{origin}'\n[admin.oidc]\nissuer = '{}/oauth2/token'\nclient_id = 'console'\n{named}\n\
             scopes = ['openid', 'profile', 'roles']\nname_claim = 'username'\n{more}\n[admin.oidc.roles]\n\
             viewer = ['risk-viewer']\nadmin = ['risk-admin']\n",
            provider.url
        );
        let world = World::start(Options {
            // Options are kept for the whole of the run.
            config: Box::leak(config.into_boxed_str()),
            ..Options::default()
        })
        .await;
        Self {
            world,
            provider,
            _folder: folder,
        }
    }

    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser::new(&self.world)
    }

    /// How often a code was redeemed at the provider, or tried to.
    fn redemptions(&self) -> usize {
        let recorded = self.provider.recorded();
        let redeems = |request: &&wso2_sim::RecordedRequest| {
            request.method == "POST" && request.header_values("user-agent") == ["riskgate"]
        };
        recorded.iter().filter(redeems).count()
    }

    /// Somebody signs in at the provider: the answer with which it sends them back.
    pub(crate) async fn at_provider(&self, address: &str, name: &str) -> Url {
        let mut browser = wso2_sim::browser::Browser::new(&[]).unwrap();
        let password = format!("{name}-password");
        let page = browser
            .login(address, "https://risk.example.com/", name, &password, None)
            .await
            .unwrap();
        page.location().unwrap_or_else(|| panic!("{page:?}"))
    }

    /// A browser that comes back from the provider.
    pub(crate) async fn back(&self, browser: &mut Browser<'_>, back: &Url) -> Answer {
        let path = format!("{}?{}", back.path(), back.query().unwrap_or_default());
        browser.get(&path).await
    }

    /// An admin with a password, whom the gateway knows when this returns.
    async fn employ(&self, name: &str) {
        employ(&self.world, &[(name, Role::Admin)]);
        let mut ada = self.browser();
        self.sign_in(&mut ada, "ada").await;
        eventually(async || {
            let sessions = ada.get("/console/sessions").await;
            let line = format!("<li>{name} (admin)</li>");
            sessions.body.contains(&line).then_some(())
        })
        .await;
    }

    /// The whole way of somebody.
    pub(crate) async fn sign_in(&self, browser: &mut Browser<'_>, name: &str) -> Answer {
        let address = leads_to(&begin(browser, "/console").await);
        let back = self.at_provider(&address, name).await;
        self.world.expect_record();
        self.back(browser, &back).await
    }
}

/// Presses the button of the sign-in page.
pub(crate) async fn begin(browser: &mut Browser<'_>, to: &str) -> Answer {
    let page = browser.get("/console/sign-in").await;
    let fields = [("token", hidden(&page.body)), ("to", to.to_owned())];
    let request = browser
        .request(Method::POST, "/console/sign-in/provider")
        .form(&fields);
    browser.send(request).await
}

/// Where a page leads by itself.
pub(crate) fn leads_to(page: &Answer) -> String {
    assert_eq!(page.status, 200, "{page:?}");
    let (_, rest) = page
        .body
        .split_once("http-equiv=\"refresh\" content=\"0;url=")
        .unwrap_or_else(|| panic!("it leads nowhere: {page:?}"));
    rest.split('"').next().unwrap().replace("&amp;", "&")
}

pub(crate) fn has_session(browser: &Browser<'_>) -> bool {
    browser.cookies.iter().any(|(name, _)| name == COOKIE)
}

/// The same answer of the provider with another value of a parameter; without it when there is none.
fn with(back: &Url, name: &str, value: Option<&str>) -> Url {
    let mut fields: Vec<(String, String)> = back.query_pairs().into_owned().collect();
    fields.retain(|(known, _)| known != name);
    fields.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    let mut changed = back.clone();
    changed.query_pairs_mut().clear().extend_pairs(fields);
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_role_at_the_provider_signs_in_and_out() {
    let desk = Desk::new(SetUp::default()).await;
    let world = &desk.world;
    let mut browser = desk.browser();
    let page = browser.get("/console/sign-in").await;
    assert!(
        page.body.contains("Sign in with 127.0.0.1") && page.body.contains("type=\"password\""),
        "{}",
        page.body
    );
    let onward = begin(&mut browser, "/console/model").await;
    let address = leads_to(&onward);
    let asked = Url::parse(&address).unwrap();
    for (name, value) in [
        ("client_id", "console"),
        ("code_challenge_method", "S256"),
        (
            "redirect_uri",
            "https://risk.example.com/console/sign-in/callback",
        ),
        ("scope", "openid profile roles"),
    ] {
        assert_eq!(param(&asked, name).as_deref(), Some(value), "{address}");
    }
    let cookie = onward.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with(&format!("{ATTEMPT}="))
            && cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600"),
        "{cookie}"
    );

    let back = desk.at_provider(&address, "ada").await;
    world.expect_record();
    let admitted = desk.back(&mut browser, &back).await;
    assert_eq!(leads_to(&admitted), "/console/model");
    let cookies: Vec<&str> = admitted
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    assert!(
        cookies[0].starts_with(&format!("{COOKIE}="))
            && cookies[0].ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure")
            && cookies[1].starts_with(&format!("{ATTEMPT}=;"))
            && cookies[1].ends_with("Max-Age=0"),
        "{cookies:?}"
    );
    let record = world.last_record().await;
    assert_eq!(
        (&*record.action, record.operator.as_deref()),
        ("signed_in", Some("oidc:ada"))
    );
    let id = User::new(SUPER_TENANT, "ada", "").id();
    let note = record.note.unwrap();
    assert!(
        note.starts_with(&format!("admin, subject {id} of http://127.0.0.1:")),
        "{note}"
    );

    // A session like any other: its name, role, list, form and end.
    browser.read_token().await;
    let sessions = browser.get("/console/sessions").await;
    assert_eq!(sessions.status, 200);
    assert!(sessions.body.contains("oidc:ada") && sessions.body.contains("admin"));
    let session = browser.cookies.clone();
    world.expect_record();
    let out = browser.post("/console/sign-out", &[]).await;
    let link = format!(
        "{}/oidc/logout?client_id=console&amp;post_logout_redirect_uri=https%3A%2F%2Frisk.example.com%2Fconsole%2Fsign-in\"",
        desk.provider.url
    );
    assert!(out.status == 200 && out.body.contains(&link), "{out:?}");
    let record = world.last_record().await;
    assert_eq!(
        (&*record.action, record.operator.as_deref()),
        ("signed_out", Some("oidc:ada"))
    );
    browser.cookies = session.clone();
    assert_eq!(browser.get("/console").await.status, 303);

    // The client proved itself and the attempt, and nothing of it is written down.
    let recorded = desk.provider.recorded();
    let redeemed = recorded
        .iter()
        .find(|request| {
            request.header_values("user-agent") == ["riskgate"] && request.method == "POST"
        })
        .unwrap();
    let form: Vec<(String, String)> = form_urlencoded::parse(&redeemed.body)
        .into_owned()
        .collect();
    let verifier = &form
        .iter()
        .find(|(name, _)| name == "code_verifier")
        .unwrap()
        .1;
    assert!(redeemed.header_values("authorization")[0].starts_with("Basic "));
    let code = param(&back, "code").unwrap();
    world.leaks_nothing(&[SECRET, verifier, &code, &session[0].1, "ada-password"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_at_the_provider_are_roles_here_or_nothing() {
    let desk = Desk::new(SetUp::default()).await;
    let mut vi = desk.browser();
    let admitted = desk.sign_in(&mut vi, "vi").await;
    assert_eq!(leads_to(&admitted), "/console");
    assert_eq!(vi.get("/console").await.status, 200);
    assert_eq!(vi.get("/console/sessions").await.status, 403);
    // Names that differ by a letter's case are others.
    let mut dave = desk.browser();
    let refused = desk.sign_in(&mut dave, "dave").await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("[admin.oidc.roles]") && !has_session(&dave));
    let record = desk.world.last_record().await;
    assert_eq!(
        (
            &*record.action,
            record.operator.as_deref(),
            record.note.as_deref()
        ),
        (
            "sign_in_failed",
            Some("oidc:dave"),
            Some("by the provider: no_role")
        )
    );

    // Operators with passwords come in beside them, also when the provider is away. A name of theirs is another's.
    desk.employ("vi").await;
    let mut local = desk.browser();
    assert_eq!(local.sign_in("vi", PASSWORD).await.status, 303);
    assert_eq!(local.get("/console/sessions").await.status, 200);
    assert_eq!(vi.get("/console/sessions").await.status, 403);
    let sessions = local.get("/console/sessions").await;
    assert!(sessions.body.contains("oidc:vi"), "{}", sessions.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_by_what_was_not_begun_in_their_browser() {
    let desk = Desk::new(SetUp::default()).await;
    let world = &desk.world;
    // A form that was planted, or sent from elsewhere.
    let mut ada = desk.browser();
    let request = ada.request(Method::POST, "/console/sign-in/provider");
    assert_eq!(ada.send(request.form(&[("token", "x")])).await.status, 403);
    let request = ada.request(Method::POST, "/console/sign-in/provider");
    let request = request.header("origin", "https://evil.example");
    assert_eq!(ada.send(request).await.status, 403);
    let request = ada.request(Method::GET, "/console/sign-in/callback?code=x&state=y");
    let request = request.header("host", "evil.example");
    assert_eq!(ada.send(request).await.status, 421);

    let address = leads_to(&begin(&mut ada, "/console").await);
    let back = desk.at_provider(&address, "ada").await;
    // Somebody else's answer in a browser that began nothing (login CSRF), or something else.
    let mut victim = desk.browser();
    let refused = desk.back(&mut victim, &back).await;
    assert!(
        refused.status == 400 && !has_session(&victim),
        "{refused:?}"
    );
    begin(&mut victim, "/console").await;
    let attempt = victim.cookies.clone();
    world.expect_record();
    let refused = desk.back(&mut victim, &back).await;
    assert!(
        refused.status == 400 && !has_session(&victim),
        "{refused:?}"
    );
    // A cookie that was made up.
    victim.cookies = vec![(ATTEMPT.to_owned(), format!("{}x", attempt[0].1))];
    assert_eq!(desk.back(&mut victim, &back).await.status, 400);
    assert_eq!(desk.redemptions(), 0, "nothing was asked for them");

    // The code is taken along into an attempt of the thief's own: the provider wants its verifier.
    let mut thief = desk.browser();
    let own = leads_to(&begin(&mut thief, "/console").await);
    let own = param(&Url::parse(&own).unwrap(), "state").unwrap();
    let injected = with(&back, "state", Some(&own));
    world.expect_record();
    let refused = desk.back(&mut thief, &injected).await;
    assert!(refused.status == 400 && !has_session(&thief), "{refused:?}");
    assert!(refused.body.contains("code_refused"));
    assert_eq!(desk.redemptions(), 1);

    // What was begun here comes back once.
    let cookies = ada.cookies.clone();
    world.expect_record();
    assert_eq!(leads_to(&desk.back(&mut ada, &back).await), "/console");
    assert!(has_session(&ada));
    ada.cookies = cookies;
    world.expect_record();
    let again = desk.back(&mut ada, &back).await;
    assert!(again.status == 400 && !has_session(&ada), "{again:?}");
    assert_eq!(
        desk.redemptions(),
        2,
        "a state that is known asks for nothing"
    );
    let records = world.records().await;
    let notes: Vec<_> = records
        .iter()
        .filter_map(|record| record.note.as_deref())
        .collect();
    assert_eq!(notes[0], "by the provider: state");
    assert_eq!(notes[1], "by the provider: code_refused");
    assert_eq!(notes[3], "by the provider: state");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_provider_a_refusal_and_a_forged_token_let_nobody_in() {
    let desk = Desk::new(SetUp::default()).await;
    let issuer = format!("{}/oauth2/token", desk.provider.url);
    for (name, value, status, reason) in [
        ("iss", Some("https://evil.example"), 502, "issuer"),
        ("state", Some("forged"), 400, "state"),
        ("state", None, 400, "state"),
        ("error", Some("<script>alert(1)</script>"), 403, "denied"),
        ("code", None, 400, "malformed"),
    ] {
        let mut browser = desk.browser();
        let address = leads_to(&begin(&mut browser, "/console").await);
        let back = desk.at_provider(&address, "ada").await;
        let changed = with(&back, name, value);
        desk.world.expect_record();
        let refused = desk.back(&mut browser, &changed).await;
        assert_eq!(refused.status, status, "{name}: {refused:?}");
        assert!(
            refused.body.contains(&format!("<code>{reason}</code>"))
                && !refused.body.contains("<script>alert")
                && !has_session(&browser),
            "{refused:?}"
        );
    }
    assert_eq!(desk.redemptions(), 0);
    let flaws = Flaws::default();
    for (flaws, reason) in [
        (
            Flaws {
                signature: SignatureFlaw::ForeignKey,
                ..flaws
            },
            "token_signature",
        ),
        (
            Flaws {
                signature: SignatureFlaw::SharedSecret,
                ..flaws
            },
            "token_algorithm",
        ),
        (
            Flaws {
                has_wrong_audience: true,
                ..flaws
            },
            "token_audience",
        ),
        (
            Flaws {
                has_wrong_nonce: true,
                ..flaws
            },
            "nonce",
        ),
    ] {
        desk.provider.set_flaws(flaws);
        let mut browser = desk.browser();
        let refused = desk.sign_in(&mut browser, "ada").await;
        assert_eq!(refused.status, 502, "{refused:?}");
        assert!(refused.body.contains(reason) && !has_session(&browser));
    }
    // The provider's own name is right, and its keys may be others by now.
    desk.provider.set_flaws(flaws);
    desk.provider.rotate_keys().unwrap();
    let mut browser = desk.browser();
    let address = leads_to(&begin(&mut browser, "/console").await);
    let back = desk.at_provider(&address, "ada").await;
    desk.world.expect_record();
    let back = with(&back, "iss", Some(&issuer));
    assert_eq!(leads_to(&desk.back(&mut browser, &back).await), "/console");
    desk.world.records().await;
    assert!(!desk.world.log().contains("<script>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_led_to_pages_of_the_console_alone() {
    let desk = Desk::new(SetUp::default()).await;
    for to in [
        "https://evil.example/",
        "//evil.example",
        "/console//evil.example",
        "/\\evil.example",
    ] {
        let mut browser = desk.browser();
        let address = leads_to(&begin(&mut browser, to).await);
        let back = desk.at_provider(&address, "vi").await;
        desk.world.expect_record();
        // Neither does what is written into the answer lead away.
        let back = with(&back, "to", Some(to));
        let admitted = desk.back(&mut browser, &back).await;
        assert_eq!(leads_to(&admitted), "/console", "{to}");
    }
    desk.world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_provider_passwords_remain_and_tries_are_limited() {
    let desk = Desk::new(SetUp::default()).await;
    let world = &desk.world;
    let (code, out, err) = world.command(&["check", "--reach"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(
        out.contains("console: operators sign in by http://127.0.0.1"),
        "{out}"
    );
    for outage in [Outage::Reset, Outage::Status(503)] {
        desk.provider.set_outage(outage);
        let (code, out, err) = world.command(&["check", "--reach"]);
        assert_eq!(code, Some(2), "{out}{err}");
        assert!(
            err.contains("admin.oidc.issuer") && !err.contains(SECRET),
            "{err}"
        );
    }
    let mut browser = desk.browser();
    let away = begin(&mut browser, "/console").await;
    assert_eq!(away.status, 503, "{away:?}");
    assert!(away.body.contains("sign in with a password"));

    desk.provider.set_outage(Outage::None);
    desk.employ("ann").await;
    let address = leads_to(&begin(&mut browser, "/console").await);
    let back = desk.at_provider(&address, "ada").await;
    desk.provider.set_outage(Outage::Status(503));
    world.expect_record();
    let away = desk.back(&mut browser, &back).await;
    assert!(
        away.status == 503 && away.body.contains("provider_away"),
        "{away:?}"
    );
    assert_eq!(browser.sign_in("ann", PASSWORD).await.status, 303);
    world.records().await;

    // A browser that tries without end.
    desk.provider.set_outage(Outage::None);
    let mut browser = desk.browser();
    begin(&mut browser, "/console").await;
    let start = Instant::now();
    let attempt = browser.cookies.clone();
    let mut last = None;
    for _ in 0..21 {
        browser.cookies = attempt.clone();
        last = Some(
            browser
                .get("/console/sign-in/callback?code=c&state=s")
                .await,
        );
    }
    // On a machine on which these take a minute none is too many.
    if start.elapsed() < Duration::from_secs(55) {
        let last = last.unwrap();
        assert_eq!(last.status, 429, "{last:?}");
        let wait: u64 = last.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_client_has_its_verifier_alone() {
    let desk = Desk::new(SetUp {
        origin: "http://localhost:9090",
        secret: None,
        ..SetUp::default()
    })
    .await;
    let mut browser = desk.browser();
    let address = leads_to(&begin(&mut browser, "/console").await);
    assert!(
        browser
            .cookies
            .iter()
            .any(|(name, _)| name == "rg_console_oidc")
    );
    let mut provider = wso2_sim::browser::Browser::new(&[]).unwrap();
    let page = provider
        .login(
            &address,
            "http://localhost:9090/",
            "vi",
            "vi-password",
            None,
        )
        .await
        .unwrap();
    desk.world.expect_record();
    let back = page.location().unwrap();
    assert_eq!(leads_to(&desk.back(&mut browser, &back).await), "/console");
    assert_eq!(browser.get("/console").await.status, 200);
    let recorded = desk.provider.recorded();
    let redeemed = recorded
        .iter()
        .find(|request| {
            request.header_values("user-agent") == ["riskgate"] && request.method == "POST"
        })
        .unwrap();
    assert!(redeemed.header_values("authorization").is_empty());
    desk.world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_asked_for_the_factor_is_not_let_in() {
    let desk = Desk::new(SetUp {
        more: "acr = 'urn:riskgate:acr:mfa'",
        ..SetUp::default()
    })
    .await;
    let mut browser = desk.browser();
    let address = leads_to(&begin(&mut browser, "/console").await);
    let asked = param(&Url::parse(&address).unwrap(), "acr_values");
    assert_eq!(asked.as_deref(), Some("urn:riskgate:acr:mfa"));
    // An application of the provider that takes no notice of it.
    let back = desk.at_provider(&address, "ada").await;
    desk.world.expect_record();
    let refused = desk.back(&mut browser, &back).await;
    assert!(
        refused.status == 403
            && refused.body.contains("<code>acr</code>")
            && !has_session(&browser),
        "{refused:?}"
    );
    desk.world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_and_not_shown() {
    let desk = Desk::new(SetUp {
        written: "canary-of-a-secret",
        ..SetUp::default()
    })
    .await;
    let mut browser = desk.browser();
    let refused = desk.sign_in(&mut browser, "ada").await;
    assert!(
        refused.status == 502 && refused.body.contains("<code>client_refused</code>"),
        "{refused:?}"
    );
    assert!(!has_session(&browser) && !refused.body.contains("canary"));
    desk.world.records().await;
    desk.world.leaks_nothing(&["canary-of-a-secret"]);
}
