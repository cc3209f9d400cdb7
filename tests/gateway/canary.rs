//! Canaries: every password, code, token, secret, cookie and name of people that passes a door is one of its kind, and
//! afterwards neither log (at debug level), records, metrics, webhooks, spans, answers of the gateway's own nor the store
//! have one of them in them, in clear or encoded.

#[path = "canary/marks.rs"]
mod marks;
#[path = "canary/receiver.rs"]
mod receiver;

use crate::gateway::Answer;
use crate::gateway::CALLBACK;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::form;
use crate::gateway::listening_port;
use crate::gateway::on_both_stores;
use crate::gateway::param;
use crate::gateway::rules;
use crate::resource::Service;
use crate::resource::bearer;
use crate::resource::orders;
use crate::review::review;
use crate::review::waiting;
use marks::Marks;
use receiver::receiver;
use receiver::until_told;
use reqwest::Method;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use tempfile::TempDir;
use wso2_sim::Outage;
use wso2_sim::SimConfig;
use wso2_sim::seed::SUPER_TENANT;
use wso2_sim::seed::User;

const TOTP: &str = "KRSXG5CTZQ7NBSWY";
/// Who logs in, is held, owes a factor; and who does not exist.
const CALM: (&str, &str) = ("zq7calmperson", "zq7 calm pässword/1");
const HELD: (&str, &str) = ("zq7heldperson", "zq7-held-password&2");
const OWES: (&str, &str) = ("zq7owingperson", "zq7-owing-password+3");
const NOBODY: (&str, &str) = ("zq7nobodyatall", "zq7-nobody-password=4");
const WRONG: &str = "zq7-wrong-password%5";
/// What nobody has issued.
const FORGED: [(&str, &str); 7] = [
    ("a foreign bearer token", "zq7foreignbearertoken"),
    ("a foreign cookie", "zq7foreigncookievalue"),
    ("a foreign code", "zq7foreigncodevalue"),
    ("a foreign refresh token", "zq7foreignrefreshtoken"),
    ("a password in a query", "zq7passwordinquery"),
    ("a header of an API", "zq7headerofanapikey"),
    (
        "a code verifier",
        "zq7codeverifierofpkce-0123456789-0123456789",
    ),
];
const ACTIONS: &str = "zq7-secret-of-wso2-and-the-gateway";
const GATEWAY: &str = "zq7-secret-of-the-gateway-itself-and-nobody-else";
const ALERTS: &str = "zq7-secret-of-the-receiver-of-alerts";
/// Files under the data folder that are there to keep secrets.
const KEEPS_SECRETS: [&str; 2] = ["admin.token", "signing"];

/// A world in which everything that can be switched on is.
struct Stage {
    world: World,
    marks: Marks,
    /// What the gateway itself has said.
    said: Vec<(String, Vec<u8>)>,
    actions: String,
    told: Arc<Mutex<Vec<u8>>>,
    _folder: TempDir,
    _service: Service,
}

impl Stage {
    async fn start(store: Store) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kept = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (actions, alerts) = (kept("actions", ACTIONS), kept("alerts", ALERTS));
        let own = kept("gateway", GATEWAY);
        let (url, told) = receiver();
        let service = Service::start().await;
        let port = listening_port();
        let config = format!(
            "[log]\nfilter = 'debug'\n\
             [keys]\nsecret_file = '{own}'\n\
             [actions]\nlisten = '127.0.0.1:{port}'\nsecret_file = '{actions}'\n\
             [alerts]\nurl = '{url}/hooks/zq7-path-of-the-webhook'\nsecret_file = '{alerts}'\nscore_min = 1\n\
             [traces]\nurl = '{url}/v1/traces'\nsample_percent = 100.0\n\
             [signing]\nresign_tokens = true\n{}",
            orders(&service.url, "")
        );
        let mut sim = SimConfig::default();
        for (name, password) in [CALM, HELD, OWES] {
            sim.users
                .push(User::new(SUPER_TENANT, name, password).with_totp(TOTP));
        }
        let at_login = |name: &str| format!("request.door == \"login\" && user.name == \"{name}\"");
        let policy = rules(&[
            (&at_login(HELD.0), "review"),
            (&at_login(OWES.0), "step_up"),
            ("client.id == \"demo-service\"", "block"),
            ("true", "allow"),
        ]);
        let world = World::start(Options {
            mode: "enforce",
            policy: Some(policy),
            store,
            // Lives as long as the test.
            config: config.leak(),
            sim,
            ..Options::default()
        })
        .await;
        let mut marks = Marks::default();
        for (name, password) in [CALM, HELD, OWES, NOBODY] {
            marks.add("a name", name);
            marks.add("a password", password);
        }
        marks.add("a wrong password", WRONG);
        for (what, value) in FORGED {
            marks.add(what, value);
        }
        for client in ["demo-web", "demo-service", "demo-legacy"] {
            marks.add("a client's secret", &format!("{client}-secret"));
        }
        marks.add("the secret of the actions", ACTIONS);
        marks.add("the secret of the alerts", ALERTS);
        marks.add("the address of the webhook", "zq7-path-of-the-webhook");
        marks.add("the gateway's secret", GATEWAY);
        let token = std::fs::read_to_string(world.data_dir().join("admin.token")).unwrap();
        marks.add("the operators' token", token.trim());
        Self {
            world,
            marks,
            said: Vec::new(),
            actions: format!("http://127.0.0.1:{port}"),
            told,
            _folder: folder,
            _service: service,
        }
    }

    fn person(&self, (name, password): (&str, &str)) -> Person<'_> {
        let mut person = self.world.person(name).guessing(password);
        person.set_factor(TOTP);
        person
    }

    /// An answer that the gateway has made itself.
    fn says(&mut self, place: &str, answer: &Answer) {
        // A cookie is for the browser that gets it.
        let headers = answer
            .headers
            .iter()
            .filter(|(name, _)| name != "set-cookie");
        let said = format!("{:?}\n{}", headers.collect::<Vec<_>>(), answer.body);
        self.said.push((place.to_owned(), said.into_bytes()));
    }

    /// Tokens of an answer.
    fn issued(marks: &mut Marks, answer: &Answer) {
        assert_eq!(answer.status, 200, "{answer:?}");
        for name in ["access_token", "refresh_token", "id_token"] {
            if let Some(token) = answer.json()[name].as_str() {
                marks.add(name, token);
            }
        }
    }

    fn holds(marks: &mut Marks, person: &Person<'_>) {
        for cookie in person.cookies().split("; ") {
            let (name, value) = cookie.split_once('=').unwrap_or((cookie, ""));
            if value.len() >= 8 {
                marks.add(name, value);
            }
        }
    }
}

/// Logins, tokens, and everything that tokens are good for.
async fn calm(stage: &mut Stage) {
    let mut marks = std::mem::take(&mut stage.marks);
    let mut calm = stage.person(CALM);
    let verifier = [
        ("login_hint", CALM.0),
        ("state", FORGED[2].1),
        ("prompt", "login"),
    ];
    let page = calm.open_with(&verifier).await;
    let key = param(&page.url, "sessionDataKey");
    marks.add("a login in progress", &key.expect("a login page"));
    let answer = calm.submit_password(&page).await;
    let answer = calm.follow(answer).await;
    let code = answer
        .code()
        .unwrap_or_else(|| panic!("no code: {answer:?}"));
    marks.add("a code", &code);
    Stage::holds(&mut marks, &calm);
    let tokens = calm.redeem(&code).await;
    Stage::issued(&mut marks, &tokens);
    let (access, refresh) = (
        tokens.member("access_token"),
        tokens.member("refresh_token"),
    );
    for path in ["/oauth2/userinfo", "/orders/7"] {
        let request = calm.request(Method::GET, path);
        let answer = calm
            .send(request.header("authorization", bearer(&access)))
            .await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let fields = [("token", access.as_str())];
    let told = stage
        .world
        .post("/oauth2/introspect", Some("demo-web"), &fields)
        .await;
    assert_eq!(told.json()["active"], true, "{told:?}");
    let devices = calm.get("/riskgate/devices").await;
    let fields = [("grant_type", "refresh_token"), ("refresh_token", &refresh)];
    let tokens = calm.token(&fields).await;
    Stage::issued(&mut marks, &tokens);
    let again = calm.redeem(&code).await;
    assert_eq!(again.status, 400, "{again:?}");
    let fields = [("token", refresh.as_str())];
    stage
        .world
        .post("/oauth2/revoke", Some("demo-web"), &fields)
        .await;
    let hint = format!(
        "/oidc/logout?{}",
        form(&[("id_token_hint", &tokens.member("id_token"))])
    );
    calm.get(&hint).await;
    drop(calm);
    stage.marks = marks;
    stage.says("the page of the devices", &devices);

    // By password, in each way.
    let fields = [
        ("grant_type", "password"),
        ("username", CALM.0),
        ("password", CALM.1),
    ];
    let tokens = stage
        .world
        .post("/oauth2/token", Some("demo-legacy"), &fields)
        .await;
    Stage::issued(&mut stage.marks, &tokens);
    let body = json!({"grant_type": "password", "username": CALM.0, "password": WRONG});
    let request = stage
        .world
        .request(Method::POST, "/oauth2/token")
        .json(&body);
    let secret = basic("demo-legacy", "demo-legacy-secret");
    stage
        .world
        .send(request.header("authorization", secret))
        .await;
    let request = stage.world.request(Method::GET, "/scim2/Me");
    stage
        .world
        .send(request.header("authorization", basic(CALM.0, CALM.1)))
        .await;
    let fields = [("login_hint", CALM.0), ("scope", "openid")];
    let ciba = stage
        .world
        .post("/oauth2/ciba", Some("demo-web"), &fields)
        .await;
    stage
        .marks
        .add("an auth_req_id", &ciba.member("auth_req_id"));
    let fields = [("client_id", "demo-web"), ("scope", "openid")];
    let device = stage
        .world
        .post("/oauth2/device_authorize", Some("demo-web"), &fields)
        .await;
    stage
        .marks
        .add("a device code", &device.member("device_code"));
    let fields = [
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid"),
        ("login_hint", CALM.0),
    ];
    let pushed = stage
        .world
        .post("/oauth2/par", Some("demo-web"), &fields)
        .await;
    stage
        .marks
        .add("a request_uri", &pushed.member("request_uri"));
}

/// Logins that do not go through: wrong, held, owing a factor.
async fn stopped(stage: &mut Stage) {
    for (name, password) in [(CALM.0, WRONG), NOBODY] {
        let answer = stage.person((name, password)).try_password().await;
        assert!((300..400).contains(&answer.status), "{answer:?}");
    }
    let mut marks = std::mem::take(&mut stage.marks);
    let mut held = stage.person(HELD);
    let answer = held.try_password().await;
    let page = answer
        .location()
        .unwrap_or_else(|| panic!("not held: {answer:?}"));
    let waits = held.get(page.path()).await;
    assert_eq!(waits.status, 202, "{waits:?}");
    Stage::holds(&mut marks, &held);
    let id = waiting(&stage.world).await[0].id.clone();
    stage.world.expect_record();
    let list = review(&stage.world, &["list", "--json"]).await;
    let refused = review(
        &stage.world,
        &["refuse", &id, "--as", "ann", "--reason", "not he"],
    )
    .await;
    assert_eq!(refused.code, 0, "{}", refused.err);
    let turned = held.get(page.path()).await;
    drop(held);
    let mut owes = stage.person(OWES);
    let code = owes.sign_in().await;
    marks.add("a code", &code);
    let tokens = owes.redeem(&code).await;
    Stage::issued(&mut marks, &tokens);
    Stage::holds(&mut marks, &owes);
    drop(owes);
    stage.marks = marks;
    stage.says("the answer to a held login", &answer);
    stage.says("the page of a held login", &waits);
    stage.says("the page of a refused login", &turned);
    for outcome in [list, refused] {
        let text = outcome.out + &outcome.err;
        stage
            .said
            .push(("riskgate review".to_owned(), text.into_bytes()));
    }
    let fields = [("grant_type", "client_credentials")];
    let blocked = stage
        .world
        .post("/oauth2/token", Some("demo-service"), &fields)
        .await;
    assert!((400..500).contains(&blocked.status), "{blocked:?}");
    stage.says("a blocked token request", &blocked);
}

/// Requests that the gateway refuses, all of them with something in them that it must not repeat.
async fn refused(stage: &mut Stage) {
    let value = |what: &str| FORGED.iter().find(|(name, _)| *name == what).unwrap().1;
    let cookie = value("a foreign cookie");
    let twice = format!(
        "username={0}&username={0}&password={1}",
        NOBODY.0,
        value("a code verifier")
    );
    let long = format!(
        "username={}&password={}",
        NOBODY.0,
        value("a code verifier").repeat(400)
    );
    let odd = format!(
        "username={}&password={}%zz",
        NOBODY.0,
        value("a code verifier")
    );
    let query = format!("/oauth2/token?password={}", value("a password in a query"));
    let login = format!("/commonauth?password={}", value("a password in a query"));
    let cookies =
        format!("commonAuthId={cookie}; __Host-rg_device={cookie}; __Host-rg_review={cookie}");
    let form_type = "application/x-www-form-urlencoded";
    for (place, path, kind, body) in [
        (
            "a parameter twice",
            "/commonauth",
            form_type,
            twice.as_str(),
        ),
        ("a value that is too long", "/commonauth", form_type, &long),
        ("a wrong escape", "/commonauth", form_type, &odd),
        ("a wrong type", "/commonauth", "text/plain", &twice),
        ("broken JSON", "/oauth2/token", "application/json", &twice),
        (
            "a password in the query of a token request",
            &query,
            form_type,
            "grant_type=password",
        ),
        (
            "a password in the query of a login",
            &login,
            form_type,
            "sessionDataKey=1",
        ),
    ] {
        let request = stage.world.request(Method::POST, path);
        let request = request
            .header("content-type", kind)
            .header("cookie", &cookies);
        let answer = stage.world.send(request.body(body.to_owned())).await;
        assert!((400..500).contains(&answer.status), "{place}: {answer:?}");
        stage.says(place, &answer);
    }
    let foreign = bearer(value("a foreign bearer token"));
    for path in [
        "/orders/7",
        "/carbon/admin",
        "/nowhere",
        "/riskgate/devices",
        "/riskgate/review/x",
    ] {
        let request = stage
            .world
            .request(Method::GET, path)
            .header("cookie", &cookies);
        let request = request.header("x-api-key", value("a header of an API"));
        let answer = stage
            .world
            .send(request.header("authorization", &foreign))
            .await;
        stage.says(path, &answer);
    }
    for fields in [
        [
            ("grant_type", "authorization_code"),
            ("code", value("a foreign code")),
            ("redirect_uri", CALLBACK),
            ("code_verifier", value("a code verifier")),
        ]
        .as_slice(),
        &[
            ("grant_type", "refresh_token"),
            ("refresh_token", value("a foreign refresh token")),
        ],
    ] {
        stage
            .world
            .post("/oauth2/token", Some("demo-web"), fields)
            .await;
    }
    // The identity server is away.
    for outage in [Outage::Reset, Outage::Status(503)] {
        stage.world.sim.set_outage(outage);
        let fields = [
            ("username", NOBODY.0),
            ("password", NOBODY.1),
            ("sessionDataKey", cookie),
        ];
        let answer = stage.world.post("/commonauth", None, &fields).await;
        assert!(answer.status >= 500, "{answer:?}");
        stage.says("the identity server is away", &answer);
        let query = form(&[
            ("access_token", value("a foreign bearer token")),
            ("login_hint", NOBODY.0),
        ]);
        for path in ["/oauth2/userinfo", "/oauth2/authorize"] {
            let answer = stage
                .world
                .get(&format!("{path}?client_id=demo-web&{query}"))
                .await;
            stage.says("the identity server is away", &answer);
        }
    }
    stage.world.sim.set_outage(Outage::None);
}

/// The listeners for WSO2 and for operators.
async fn beside(stage: &mut Stage) {
    let http = stage.world.http().clone();
    let question = json!({"decision_id": "01890a5d-ac96-774b-bcce-b302099a8057", "username": CALM.0, "tenant": "carbon.super"});
    let step = json!({"actionType": "AUTHENTICATION", "flowId": FORGED[2].1, "event": {"user": {"sub": CALM.0}}});
    for (path, body) in [
        ("/actions/risk", &question),
        ("/actions/authenticate", &step),
        ("/actions/risk", &step),
    ] {
        for secret in [ACTIONS, FORGED[0].1] {
            let request = http
                .post(format!("{}{path}", stage.actions))
                .bearer_auth(secret);
            let answer = Answer::read(request.json(body).send().await.unwrap()).await;
            // What WSO2 asks about it is told; a name is not repeated.
            stage.says(path, &answer);
        }
    }
    let admin = format!("http://127.0.0.1:{}", stage.world.admin_port);
    for path in [
        "/review",
        "/review/x/release",
        "/config",
        "/metrics",
        "/health/ready",
    ] {
        let request = http.get(format!("{admin}{path}")).bearer_auth(FORGED[0].1);
        let answer = Answer::read(request.send().await.unwrap()).await;
        stage.says(&format!("admin {path}"), &answer);
    }
}

/// Everything under a folder but what is there to keep secrets.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if KEEPS_SECRETS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

/// All keys and values of Redis, as it writes them into a file.
fn redis(world: &mut World) -> Vec<u8> {
    let redis = world.redis();
    redis.command(&[b"CONFIG", b"SET", b"rdbcompression", b"no"]);
    let saved = redis.command(&[b"SAVE"]);
    assert!(
        saved.starts_with(b"+OK"),
        "{}",
        String::from_utf8_lossy(&saved)
    );
    let folder = redis.command(&[b"CONFIG", b"GET", b"dir"]);
    let folder = String::from_utf8(folder).unwrap();
    let folder = folder.lines().last().unwrap().to_owned();
    std::fs::read(Path::new(&folder).join("dump.rdb")).unwrap()
}

async fn nothing_that_is_secret_shows(store: Store) {
    let mut stage = Stage::start(store).await;
    calm(&mut stage).await;
    stopped(&mut stage).await;
    refused(&mut stage).await;
    beside(&mut stage).await;
    until_told(&stage.told).await;

    // They went through, and they would be found.
    let received = format!(
        "{:?}",
        stage
            .world
            .sim
            .recorded()
            .iter()
            .map(|request| request.body_text())
            .collect::<Vec<_>>()
    );
    assert!(
        stage.marks.found_in(received.as_bytes()).len() >= 6,
        "{received}"
    );
    let mut outputs = std::mem::take(&mut stage.said);
    let metrics = stage.world.admin("/metrics").await.1;
    outputs.push(("metrics".to_owned(), metrics.into_bytes()));
    assert_eq!(stage.world.stop().await, Some(0));
    if store == Store::Redis {
        outputs.push(("redis".to_owned(), redis(&mut stage.world)));
    }
    let log = stage.world.log();
    assert!(log.contains("DEBUG"), "the log says everything");
    outputs.push(("log".to_owned(), log.into_bytes()));
    files(&stage.world.data_dir(), &mut outputs);
    let told = stage.told.lock().unwrap().clone();
    // Whom a webhook is for is in the address that it is sent to.
    let told = String::from_utf8_lossy(&told).replace("/hooks/zq7-path-of-the-webhook", "");
    outputs.push(("webhooks and spans".to_owned(), told.into_bytes()));

    let mut wrong = Vec::new();
    let (mut bytes, places) = (0, outputs.len());
    for (place, output) in outputs {
        bytes += output.len();
        wrong.extend(
            stage
                .marks
                .found_in(&output)
                .into_iter()
                .map(|found| format!("{place}: {found}")),
        );
    }
    eprintln!(
        "canaries: {} values, {places} outputs of {bytes} bytes, {} found",
        stage.marks.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

on_both_stores!(canaries, nothing_that_is_secret_shows);
