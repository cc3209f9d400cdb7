//! Commands of the pages, run in the order in which somebody would: by whoever sets riskgate up, by analysts on a gateway
//! that has something to show (`busy.rs`), by whoever brings it to Redis.

use crate::BLOCKS;
use crate::Which;
use crate::block;
use crate::files::nothing;
use crate::files::read;
use crate::files::root;
use crate::gateway::listening_port;
use crate::gateway::redis::RedisServer;
use crate::place::Inline;
use crate::place::Place;
use crate::place::Step;
use regex::Regex;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::app::assemble;
use riskgate::app::keys::Keys;
use riskgate::config::Config;
use riskgate::domain::history::Observation;
use riskgate::domain::history::ScopeUse;
use riskgate::domain::history::scopes::Bearers;
use riskgate::domain::ids::Pseudonym;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::StateStore;
use std::fs;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;
use tempfile::TempDir;
use wso2_sim::Sim;
use wso2_sim::SimConfig;
use wso2_sim::SimTls;

/// Before there is a configuration.
pub(crate) const CERTIFICATES: &[Step] = &[
    (
        ("certs/README.md", "riskgate certs\n"),
        "the authority, for clients to trust",
    ),
    (("conf/wso2/README.md", "openssl s_client"), "DNS:localhost"),
];

/// From the first check to the end of a node.
pub(crate) const NEWCOMER: &[Step] = &[
    (("README.md", "check -c conf/mine.toml"), "can be used"),
    (
        ("docs/guides/first-week.md", "riskgate run -c"),
        "can be used",
    ),
    (("docs/AUDIT.md", "riskgate audit verify"), "sound: "),
    (("README.md", "run -c conf/mine.toml"), "\"verdict\": "),
    (("certs/README.md", "--cert certs/dev-client.crt"), "keys"),
    (
        ("docs/guides/first-week.md", "would_have_total"),
        "riskgate_would_have_total",
    ),
    (
        ("docs/guides/load-balancer.md", "oauth2/jwks"),
        "\"prefix\": ",
    ),
    (("docs/guides/tuning.md", "model inspect"), "row"),
    (("docs/guides/upgrading.md", "riskgate-new"), "can be used"),
    (("docs/OPERATIONS.md", "systemctl restart"), "can be used"),
    (
        ("docs/guides/first-week.md", "replay --policy draft.toml"),
        "challenge rate",
    ),
    (("docs/guides/incident.md", "riskgate off"), "off"),
];

/// On what the newcomer has by then.
const IN_PASSING: &[Inline] = &[
    (
        "conf/wso2/README.md",
        "openssl rand -hex 32 > certs/actions.secret",
        "",
    ),
    ("docs/DEPLOY.md", "riskgate --version", "model"),
    ("docs/guides/incident.md", "riskgate health", "ready"),
    (
        "docs/guides/incident.md",
        "riskgate off --monitor",
        "monitor",
    ),
    (
        "docs/guides/incident.md",
        "riskgate off --undo",
        "as it was",
    ),
    (
        "docs/guides/redis.md",
        "openssl rand -out certs/riskgate.key 32",
        "",
    ),
    (
        "docs/guides/tuning.md",
        "riskgate model eval conf/model --audit data/audit.jsonl",
        "verdicts +allow",
    ),
    (
        "docs/guides/tuning.md",
        r#"jq -r 'select(.verdict and .verdict != "allow") | [.client_id, .reasons[0]] | @tsv' data/audit.jsonl | sort | uniq -c | sort -rn | head"#,
        "expenses",
    ),
    (
        "docs/guides/upgrading.md",
        "riskgate model inspect NEW/",
        "row",
    ),
    (
        "docs/guides/upgrading.md",
        "riskgate replay --policy draft.toml --model NEW/",
        "challenge rate",
    ),
];
/// From one node to Redis and to a rollout; what is said to Redis itself is [`ACL`].
pub(crate) const FLEET: &[Step] = &[
    (
        ("docs/guides/redis.md", "check -c conf/mine.toml"),
        "can be used",
    ),
    (
        ("docs/guides/redis.md", "riskgate state copy"),
        r"all +[1-9]",
    ),
    (("docs/CONSOLE.md", "riskgate check --reach"), "can be used"),
];
/// With a rollout file.
pub(crate) const ROLLOUT: &[Step] = &[
    (("docs/ROLLOUT.md", "riskgate rollout status"), "monitor"),
    (("docs/guides/upgrading.md", "keys rotate"), "secret"),
    (("docs/reference/events.md", "--events logins.csv"), "AUC"),
];
pub(crate) const ACL: Which = ("docs/STATE.md", "ACL SETUSER");
/// Shows what was counted in weeks.
pub(crate) const SCOPES: Which = ("docs/TOKENS.md", "riskgate scopes suggest");

/// A place with a simulated WSO2 behind TLS and certificates for everything, and the configuration for the first week.
struct Beginning {
    place: Place,
    mine: String,
    _sim: Sim,
    _folder: TempDir,
}

impl Beginning {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, admin_port) = (listening_port(), listening_port());
        let sim = SimConfig {
            tls: Some(SimTls::SelfSigned),
            ..SimConfig::default()
        };
        let sim = Sim::start(sim).await.unwrap();
        let address = sim.url.strip_prefix("https://").unwrap();
        let address = address.replace("127.0.0.1", "localhost");

        let mut place = Place::new(folder.path(), admin_port);
        place.replace("audit-auditor.NODE.key", "audit-auditor.*.key");
        place.replace("wso2.internal:9443", &address);
        place.replace("wso2.internal", "localhost");
        place.replace("localhost:8080", &format!("localhost:{port}"));
        place.replace(
            "https://login.example.com",
            &format!("https://localhost:{port}"),
        );
        place.replace("0.0.0.0:443", &format!("127.0.0.1:{port}"));
        place.replace("login.example.com", "localhost");
        place.replace("certs/server.", "certs/dev-server.");
        place.run(CERTIFICATES);
        // What the simulator shows was issued by an authority, which is to be trusted in its place.
        fs::write(place.path("certs/wso2-ca.pem"), sim.ca_pem()).unwrap();

        // Wide budgets and a quick end: a busy machine must not turn a test of pages into one of speed.
        let mine = place.here(&read("conf/examples/monitor-only.toml"));
        let mine = mine.replace("[server]", "[server]\ndrain_seconds = 0\ngrace_seconds = 0");
        let mine = mine.replace("[upstream]", "[upstream]\nconnect_timeout_ms = 5000");
        let mine = format!(
            "{mine}\n[admin]\nlisten = '127.0.0.1:{admin_port}'\n[score]\nbudget_ms = 10000\n"
        );
        let beginning = Self {
            place,
            mine,
            _sim: sim,
            _folder: folder,
        };
        // What the pages begin with, as it is edited.
        let edited = beginning.place.path("conf/examples/monitor-only.toml");
        fs::write(edited, &beginning.mine).unwrap();
        beginning.configure(&beginning.mine);
        beginning
    }

    fn configure(&self, text: &str) {
        for name in ["conf/mine.toml", "conf/riskgate.toml"] {
            fs::write(self.place.path(name), text).unwrap();
        }
    }

    /// Runs a line that stands in no page.
    #[track_caller]
    fn also(&self, line: &str) -> String {
        let (is_well, said) = self.place.run_text(line);
        assert!(is_well, "{line}: {said}");
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_by_the_pages_from_certificates_to_the_end() {
    let beginning = Beginning::new().await;
    beginning.place.run(NEWCOMER);
    beginning.place.run_inline(IN_PASSING);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_becomes_a_fleet_and_is_rolled_out() {
    let mut beginning = Beginning::new().await;
    beginning.also("riskgate run -c conf/mine.toml");
    // Something to remember.
    beginning.also(
        "curl -sf -u demo-service:demo-service-secret -d grant_type=client_credentials https://login.example.com/oauth2/token",
    );

    let path = |name: &str| beginning.place.path(name);
    let (certificate, key) = (path("certs/dev-server.crt"), path("certs/dev-server.key"));
    let redis = RedisServer::start_tls(&certificate, &key, &path("certs/dev-ca.crt"));
    // What an administrator types into redis-cli, on one line.
    let page = read(ACL.0);
    let of_state = page.split("`riskgate state` needs `").nth(1).unwrap();
    let words = block(ACL).text.split_whitespace();
    let words = words.chain(of_state.split('`').take(1)).collect::<Vec<_>>();
    let (acl, port) = (words.join(" "), redis.port());
    let said = beginning.also(&format!(
        "redis-cli --tls --cacert certs/dev-ca.crt -h localhost -p {port} <<'END'\n{acl}\nEND\n"
    ));
    assert_eq!(said, "OK\n");
    fs::copy(path("certs/dev-ca.crt"), path("certs/redis-ca.pem")).unwrap();
    fs::copy(path("data/secret.key"), path("certs/riskgate.key")).unwrap();

    let place = &mut beginning.place;
    place.replace("redis.internal:6379", &format!("localhost:{port}"));
    place.replace("embedded:/var/lib/riskgate", "embedded:data");
    let fleet = block(("docs/guides/redis.md", "redis_ca_file"));
    let fleet = beginning.place.here(&fleet.text);
    let patient = "[state]\nresponse_timeout_ms = 5000\nconnect_timeout_ms = 5000";
    let with_redis = format!("{}\n{}", beginning.mine, fleet.replace("[state]", patient));
    beginning.configure(&with_redis);
    beginning.place.run(FLEET);
    assert!(beginning.also("riskgate health").contains("state"));

    beginning.also("systemctl stop");
    let plan = &block(("docs/ROLLOUT.md", "file = \"rollout.toml\"")).text;
    let planned = beginning
        .mine
        .replace("[mode]\ndefault = \"monitor\"\n", "");
    beginning.configure(&format!("{planned}\n{plan}"));
    fs::write(beginning.place.path("rollout.toml"), "").unwrap();
    beginning.also("systemctl start");
    beginning.place.run(ROLLOUT);
    let written = fs::read_to_string(beginning.place.path("rollout.toml")).unwrap();
    assert!(written.contains("complaints from the field"), "{written}");
}

/// Each form of `state.url` in the table of the page is taken by a gateway, for the user with the rights of the pages.
#[tokio::test(flavor = "multi_thread")]
async fn each_form_of_redis_is_reached() {
    let mut beginning = Beginning::new().await;
    let cluster = RedisServer::start_cluster();
    let one = RedisServer::start();
    let sentinel = RedisServer::start_sentinel(&format!(
        "sentinel monitor mymaster 127.0.0.1 {} 1\n",
        one.port()
    ));
    let page = read(ACL.0);
    let permit = |servers: &[RedisServer], before: &str| {
        let more = page.split(&format!("{before} `")).nth(1).unwrap();
        let more = more.split('`').next().unwrap().split(' ');
        let words = block(ACL).text.split_whitespace().chain(more);
        let words: Vec<&[u8]> = words.map(str::as_bytes).collect();
        for server in servers {
            assert_eq!(server.command(&words), b"+OK\r\n");
        }
    };
    permit(&cluster, "A cluster needs");
    permit(std::slice::from_ref(&one), "a server behind Sentinel");
    let secret = beginning.place.path("certs/riskgate.key");
    fs::write(secret, "0123456789abcdef0123456789abcdef").unwrap();

    let hosts = |servers: &[&RedisServer]| {
        let hosts = servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port()));
        hosts.collect::<Vec<_>>().join(",")
    };
    beginning
        .place
        .replace("USER:PASSWORD", "riskgate:PASSWORD");
    beginning.place.replace("HOST:6379", &hosts(&[&one]));
    beginning
        .place
        .replace("HOST:26379,HOST2:26379", &hosts(&[&sentinel]));
    beginning
        .place
        .replace("HOST:7000,HOST2:7000", &hosts(&[&cluster[1], &cluster[2]]));
    let guide = read("docs/guides/redis.md");
    let form = Regex::new(r"(?m)^\| [A-Za-z]+ \| `([^`]+)`").unwrap();
    let forms: Vec<&str> = form
        .captures_iter(&guide)
        .map(|found| found.extract::<1>().1[0])
        .collect();
    assert_eq!(forms.len(), 3, "{forms:?}");
    let configure = |beginning: &Beginning, form: &str, more: &str| {
        let url = beginning.place.here(form);
        let state = format!(
            "[state]\nurl = '{url}'\nresponse_timeout_ms = 5000\nconnect_timeout_ms = 5000\n{more}\n[keys]\nsecret_file = 'certs/riskgate.key'\n"
        );
        beginning.configure(&format!("{}\n{state}", beginning.mine));
    };
    for form in &forms {
        configure(&beginning, form, "");
        let said = beginning.also("riskgate check -c conf/mine.toml --reach");
        assert!(said.contains("can be used"), "{said}");
    }

    // The Sentinel wants a password from now on.
    let password: &[&[u8]] = &[
        b"ACL",
        b"SETUSER",
        b"default",
        b"resetpass",
        b">open-sesame",
    ];
    assert_eq!(sentinel.command(password), b"+OK\r\n");
    let form = forms.iter().find(|form| form.contains("sentinel"));
    let form = form.expect("a form for Sentinels");
    let key = &block(("docs/guides/redis.md", "sentinel_password_file")).text;
    let key = key.replace("[state]", "");
    let file = beginning.place.path("certs/sentinel.password");
    let check = "riskgate check -c conf/mine.toml --reach";
    let refused = |beginning: &Beginning| {
        let (is_well, said) = beginning.place.run_text(check);
        assert!(!is_well, "{said}");
        assert!(said.contains("state.sentinel_password_file"), "{said}");
        assert!(!said.contains("sesame"), "{said}");
        said
    };
    configure(&beginning, form, "");
    let said = refused(&beginning);
    assert!(said.contains("wants a password"), "{said}");
    configure(&beginning, form, &key);
    let said = refused(&beginning);
    assert!(said.contains("cannot be read"), "{said}");
    fs::write(&file, "close-sesame").unwrap();
    let said = refused(&beginning);
    assert!(said.contains("refuses what"), "{said}");
    fs::write(&file, "open-sesame\n").unwrap();
    let said = beginning.also(check);
    assert!(said.contains("can be used"), "{said}");
}

/// What follows `$` is run at the root of the repository, what stands below it is what is printed; but for how long it took.
#[test]
fn sessions_at_a_terminal_are_what_the_program_prints() {
    let speed = Regex::new(r"(?m)^speed .*$| +$").unwrap();
    let mut findings = Vec::new();
    for block in BLOCKS.iter().filter(|block| block.language == "console") {
        if block.is(SCOPES) {
            continue;
        }
        let (command, shown) = block.text.split_once('\n').unwrap();
        let said = typed(command)
            .current_dir(root())
            .env_remove("RISKGATE_SECRET")
            .env_remove("RISKGATE_SECRET_FILE")
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        if speed.replace_all(&said, "") != speed.replace_all(shown, "") {
            findings.push(format!("{}: {command}\n{said}", block.place()));
        }
    }
    nothing("sessions that are otherwise", findings);
}

/// What the page shows is put into the state, and comes out again. Times are other ones: what is old is forgotten.
#[tokio::test]
async fn scopes_are_suggested_as_the_page_shows() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.state.data_dir = folder.path().to_owned();
    let keys = Keys::load(&config, &OsEntropy).unwrap();
    let settings = assemble::store(&config, "test", &keys).unwrap().embedded;
    let (command, shown) = block(SCOPES).text.split_once('\n').unwrap();
    let client = command.rsplit(' ').next().unwrap();
    let usage = |at| {
        ScopeUse::new(
            SubjectKey(Pseudonym::from_bytes([7; 16])),
            client,
            "carbon.super",
            Bearers::Users,
            at,
        )
    };
    let (first, last) = (ago(60), ago(1));
    let (mut granted, mut used) = (usage(first).unwrap(), usage(last).unwrap());
    for part in shown.split("\n\n") {
        let (head, rows) = part.split_once('\n').unwrap();
        let tokens = head.rsplit(": ").next().unwrap().split(' ').next();
        let (of_grants, of_uses) = match head.split('`').nth(1) {
            None => (&mut granted.all, &mut used.all),
            Some(group) => (
                granted.groups.entry(group.to_owned()).or_default(),
                used.groups.entry(group.to_owned()).or_default(),
            ),
        };
        of_grants.tokens = tokens.unwrap().parse().unwrap();
        for row in rows.lines().skip(1) {
            let cells: Vec<&str> = row.split_whitespace().collect();
            let count = |cell: usize| cells[cell].parse().unwrap();
            of_grants
                .scopes
                .entry(cells[0].to_owned())
                .or_default()
                .granted = count(1);
            let uses = of_uses.scopes.entry(cells[0].to_owned()).or_default();
            (uses.used, uses.asked) = (count(2), count(3));
        }
    }
    let store = EmbeddedStore::open(&folder.path().join("state.redb"), settings).unwrap();
    let seen = |usage: ScopeUse| Observation {
        at: usage.at,
        scopes: vec![usage],
        ..Observation::default()
    };
    store.record(&[seen(granted), seen(used)]).await.unwrap();
    drop(store);

    // The policy of the page, which follows.
    let policy = format!(
        "version = 1\n{}",
        block(("docs/TOKENS.md", "watched_scopes")).text
    );
    fs::write(folder.path().join("policy.toml"), policy).unwrap();
    fs::write(
        folder.path().join("riskgate.toml"),
        format!(
            "[state]\ndata_dir = '{0}'\n[policy]\nfile = '{0}/policy.toml'\n",
            folder.path().display()
        ),
    )
    .unwrap();
    let said = typed(command)
        .arg("--config")
        .arg(folder.path().join("riskgate.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    let time = Regex::new(r"\d{4}-\d\d-\d\dT[0-9:.]{12}Z").unwrap();
    assert_eq!(
        time.replace_all(said.trim_end(), "TIME"),
        time.replace_all(shown.trim_end(), "TIME")
    );
}

/// What follows the prompt, as a process.
fn typed(line: &str) -> Command {
    let words = line.strip_prefix("$ riskgate ").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_riskgate"));
    command.args(words.split_whitespace());
    command
}

fn ago(days: u64) -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let then = since - Duration::from_secs(days * 86_400);
    Timestamp(i64::try_from(then.as_millis()).unwrap())
}
