//! Operators of the console: how they are employed, by file and by command, and the browsers in which they work.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use reqwest::Method;
use riskgate::domain::operator::roster::Operator;
use riskgate::domain::operator::roster::Role;
use riskgate::domain::operator::roster::Roster;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The password of all of them.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A browser of an operator.
pub(crate) struct Browser<'w> {
    world: &'w World,
    pub(crate) cookies: Vec<(String, String)>,
    /// What its forms carry.
    pub(crate) token: String,
}

/// Exchanges the operators, as a whole. Each that comes, goes or has another role is a record.
pub(crate) fn employ(world: &World, operators: &[(&str, Role)]) {
    let last = world.data_dir().join("operators.last");
    let before = std::fs::read_to_string(&last).unwrap_or_default();
    let before = Roster::parse(&before).unwrap();
    let mut roster = Roster::default();
    for (name, role) in operators {
        let salt = [name.len() as u8; 16];
        roster
            .put(Operator::new(name, *role, PASSWORD, &salt).unwrap())
            .unwrap();
    }
    let is_in = |one: &Operator, roster: &Roster| roster.operators().contains(one);
    let come = roster.operators().iter().filter(|one| !is_in(one, &before));
    let gone = before
        .operators()
        .iter()
        .filter(|one| roster.find(one.name()).is_none());
    (0..come.count() + gone.count()).for_each(|_| world.expect_record());
    std::fs::write(&last, roster.to_text()).unwrap();
    let new = world.data_dir().join("operators.new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .unwrap();
    file.write_all(roster.to_text().as_bytes()).unwrap();
    std::fs::rename(new, world.data_dir().join("operators.toml")).unwrap();
}

pub(crate) async fn with_operators(options: Options) -> World {
    let world = World::start(options).await;
    employ(
        &world,
        &[
            ("vi", Role::Viewer),
            ("ann", Role::Analyst),
            ("ada", Role::Admin),
        ],
    );
    let mut browser = Browser::new(&world);
    eventually(async || {
        let page = browser.get("/console/sign-in").await;
        (!page.body.contains("no operator yet")).then_some(())
    })
    .await;
    world
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "it did not come to be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl<'w> Browser<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        Self {
            world,
            cookies: Vec::new(),
            token: String::new(),
        }
    }

    /// A browser in which this operator is signed in.
    pub(crate) async fn of(world: &'w World, name: &str) -> Self {
        let mut browser = Self::new(world);
        let answer = browser.sign_in(name, PASSWORD).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        browser.read_token().await;
        browser
    }

    pub(crate) async fn read_token(&mut self) {
        let page = self.get("/console/policy").await;
        assert_eq!(page.status, 200, "{page:?}");
        self.token = hidden(&page.body);
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://127.0.0.1:{}{path}", self.world.admin_port);
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = self.world.http().request(method, url);
        if cookies.is_empty() {
            request
        } else {
            request.header("cookie", cookies.join("; "))
        }
    }

    pub(crate) async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let answer = Answer::read(request.send().await.expect("the console answers")).await;
        for (name, value) in &answer.headers {
            if name.eq_ignore_ascii_case("set-cookie") {
                let (name, rest) = value.split_once('=').unwrap();
                let value = rest.split(';').next().unwrap();
                self.cookies.retain(|(other, _)| other != name);
                if !value.is_empty() {
                    self.cookies.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.send(request).await
    }

    /// Sends a form of the session.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("token", self.token.clone())];
        all.extend(
            fields
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let request = self.request(Method::POST, path).form(&all);
        self.send(request).await
    }

    pub(crate) async fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        let page = self.get("/console/sign-in").await;
        let token = hidden(&page.body);
        let fields = [
            ("token", token.as_str()),
            ("name", name),
            ("password", password),
            ("to", ""),
        ];
        self.world.expect_record();
        let request = self.request(Method::POST, "/console/sign-in").form(&fields);
        self.send(request).await
    }
}

/// Sends a request to the operators' listener, and hangs up after a while without waiting for the answer.
pub(crate) async fn hang_up(world: &World, request: reqwest::RequestBuilder, after: Duration) {
    let request = request.build().expect("a request");
    let (method, path) = (request.method(), request.url().path());
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n",
        world.admin_port
    );
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\r\n", value.to_str().expect("text"));
    }
    let body = request.body().and_then(|body| body.as_bytes());
    let body = String::from_utf8_lossy(body.unwrap_or_default());
    text += &format!("content-length: {}\r\n\r\n{body}", body.len());
    let address = ("127.0.0.1", world.admin_port);
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("it is sent");
    tokio::time::sleep(after).await;
}

/// The token in a page's form.
pub(crate) fn hidden(page: &str) -> String {
    let (_, rest) = page
        .split_once("name=\"token\" value=\"")
        .unwrap_or_else(|| panic!("no form: {page}"));
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn operators_are_made_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_riskgate"))
            .args(arguments)
            .arg("--data")
            .arg(folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let add = ["operator", "add", "ann", "--role", "analyst"];
    let (code, out, err) = run(&add, &format!("{PASSWORD}\n"));
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "added: analyst ann\n"),
        "{err}"
    );
    let file = folder.path().join("operators.toml");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, _, err) = run(&add, "too short\n");
    assert_eq!(code, Some(2));
    assert!(
        err.contains("at least 15 characters") && !err.contains("too short"),
        "{err}"
    );
    let (code, out, _) = run(&["operator", "list"], "");
    assert_eq!((code, out.as_str()), (Some(0), "analyst  ann\n"));
    assert_eq!(run(&["operator", "remove", "ann"], "").0, Some(0));
    assert_eq!(run(&["operator", "remove", "ann"], "").0, Some(3));
}
