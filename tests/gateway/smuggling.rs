//! Framing: whatever a client writes for a Content-Length or a Transfer-Encoding, the identity server sees as many requests
//! as were authorised, each framed in one plain way. The upstream here is a reader that takes nothing but that way.

use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::in_front_of;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Probes in flight.
const CONCURRENCY: usize = 16;
/// The longest that a probe waits for the other side to close.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a smuggled request would ask for.
const SMUGGLED: &str = "/oauth2/jwks?smuggled";

/// What the gateway itself asks the identity server for.
const OWN: [&str; 2] = [
    "/oauth2/jwks",
    "/oauth2/token/.well-known/openid-configuration",
];

/// What reached the identity server's side.
#[derive(Debug, Default)]
struct Seen {
    /// Target and `activityid` of each request, in order.
    requests: Vec<(String, String)>,
    /// Bytes that are no request in the plain form.
    oddities: Vec<String>,
}

/// Accepts connections and reads requests strictly.
async fn upstream() -> (u16, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
    (port, seen)
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = until(&mut stream, &mut bytes, b"\r\n\r\n").await else {
            if !bytes.is_empty() {
                let rest = String::from_utf8_lossy(&bytes).into_owned();
                seen.lock().unwrap().oddities.push(rest);
            }
            return;
        };
        let head: Vec<u8> = bytes.drain(..end).collect();
        match plain(&head) {
            Ok((request, framing)) => {
                seen.lock().unwrap().requests.push(request);
                if !body(&mut stream, &mut bytes, framing).await {
                    // The client broke off in the middle of its body, and the gateway with it.
                    return;
                }
            }
            Err(problem) => {
                let head = String::from_utf8_lossy(&head).into_owned();
                let oddity = format!("{problem}: {head:?}");
                seen.lock().unwrap().oddities.push(oddity);
                return;
            }
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads until `mark` is there; the position behind it.
async fn until(stream: &mut TcpStream, bytes: &mut Vec<u8>, mark: &[u8]) -> Option<usize> {
    loop {
        let found = bytes.windows(mark.len()).position(|part| part == mark);
        if let Some(at) = found {
            return Some(at + mark.len());
        }
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Chunked,
    Length(usize),
}

/// Target, `activityid` and framing of a head in which nothing could be read in two ways.
fn plain(head: &[u8]) -> Result<((String, String), Framing), &'static str> {
    // A byte is a character; those above ASCII are allowed in values (RFC 9110 section 5.5).
    let head: String = head.iter().copied().map(char::from).collect();
    if head
        .chars()
        .any(|c| c < ' ' && !"\t\r\n".contains(c) || c == '\x7f')
    {
        return Err("control characters");
    }
    let lines: Vec<&str> = head.trim_end_matches("\r\n").split("\r\n").collect();
    if lines.iter().any(|line| line.contains(['\r', '\n'])) {
        return Err("a bare line end");
    }
    let words: Vec<&str> = lines[0].split(' ').collect();
    let [_, target, "HTTP/1.1"] = words[..] else {
        return Err("another request line");
    };
    let (mut length, mut is_chunked) = (None, false);
    let mut id = String::new();
    let mut names = HashSet::new();
    for line in &lines[1..] {
        let (name, value) = line.split_once(": ").ok_or("a line that is no field")?;
        let name = name.to_ascii_lowercase();
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("a name that is no token");
        }
        let bare: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        match name.as_str() {
            "content-length" => {
                if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err("a length that is no number");
                }
                length = Some(value.parse().map_err(|_| "a huge length")?);
            }
            "transfer-encoding" if value == "chunked" => is_chunked = true,
            "activityid" => value.clone_into(&mut id),
            _ if bare == "transferencoding" || bare == "contentlength" => {
                return Err("another spelling of framing");
            }
            _ => {}
        }
        if matches!(bare.as_str(), "contentlength" | "transferencoding" | "host")
            && !names.insert(bare)
        {
            return Err("a repetition");
        }
    }
    match (length, is_chunked) {
        (Some(_), true) => Err("two framings"),
        (None, true) => Ok(((target.to_owned(), id), Framing::Chunked)),
        (length, false) => Ok((
            (target.to_owned(), id),
            Framing::Length(length.unwrap_or(0)),
        )),
    }
}

/// Takes the body off; `false` when it does not come.
async fn body(stream: &mut TcpStream, bytes: &mut Vec<u8>, framing: Framing) -> bool {
    match framing {
        Framing::Length(length) => {
            while bytes.len() < length {
                if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
                    return false;
                }
            }
            bytes.drain(..length);
            true
        }
        Framing::Chunked => {
            let Some(end) = until(stream, bytes, b"0\r\n\r\n").await else {
                return false;
            };
            bytes.drain(..end);
            true
        }
    }
}

/// Lines that say `chunked` in other words, or the length in other words.
fn lines() -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let controls = (1..=0x20).chain([0x22, 0x27, 0x2c, 0x3b, 0x7f, 0x80, 0x85, 0xa0, 0xff]);
    for byte in controls {
        let put = |before: &str, after: &str| {
            let mut line = before.as_bytes().to_vec();
            line.push(byte);
            line.extend(after.as_bytes());
            line
        };
        lines.extend([
            put("", "Transfer-Encoding: chunked"),
            put("Transfer-Encoding", ": chunked"),
            put("Transfer-Encoding:", "chunked"),
            put("Transfer-Encoding: ", "chunked"),
            put("Transfer-Encoding: chunked", ""),
            put("Transfer-Encoding: chun", "ked"),
            put("Transfer", "Encoding: chunked"),
            put("X: X", "Transfer-Encoding: chunked"),
            put("X: X\r", "Transfer-Encoding: chunked"),
            put("X: X", "\nTransfer-Encoding: chunked"),
            put("Transfer-Encoding: chunked", "X: X"),
            put("Transfer-Encoding: chunked\r", "X: X"),
            put("Content-Length: 5", ""),
            put("Content-Length:", "5"),
            put("Content-Length", ": 5"),
        ]);
    }
    let spelled = [
        "Transfer-Encoding: chunked",
        "transfer-encoding: chunked",
        "TRANSFER-ENCODING: CHUNKED",
        "Transfer-Encoding: Chunked",
        "Transfer_Encoding: chunked",
        "Transfer.Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked;x=y",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: ",
        "Transfer-Encoding:",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunk\r\n ed",
        "Transfer-Encoding: chunked\r\n x",
        "Transfer-Encoding\r\n: chunked",
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
        "Connection: Content-Length",
        "TE: chunked",
        "Trailer: Content-Length",
        "Expect: 100-continue\r\nTransfer-Encoding: chunked",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 05",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: 5e0",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: 5;6",
        "Content-Length: ",
        "Content-Length: 99999999999999999999",
        "Content-Length: 18446744073709551621",
        "Content_Length: 5",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 0",
        "content-length: 5\r\nContent-Length: 5",
    ];
    lines.extend(spelled.iter().map(|line| line.as_bytes().to_vec()));
    lines
}

/// Each line in each of the ways in which two readers could disagree.
fn probes() -> Vec<Vec<u8>> {
    let smuggled = format!("GET {SMUGGLED} HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\r\n");
    let ends_early = format!("0\r\n\r\n{smuggled}");
    let in_chunk = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let chunk_head = format!("{:x}\r\n", smuggled.len()).len();
    let shapes = [
        // The length is right, the chunks end before it.
        (Some(ends_early.len()), ends_early.as_str()),
        // The chunks are right, the length ends before them.
        (Some(chunk_head), in_chunk.as_str()),
        // No length beside it.
        (None, ends_early.as_str()),
    ];
    let mut probes = Vec::new();
    for line in lines() {
        for path in ["/oauth2/token", "/oauth2/introspect"] {
            for (length, body) in shapes {
                let mut probe = format!(
                    "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                )
                .into_bytes();
                if let Some(length) = length {
                    probe.extend(format!("Content-Length: {length}\r\n").as_bytes());
                }
                probe.extend(&line);
                probe.extend(b"\r\nConnection: close\r\n\r\n");
                probe.extend(body.as_bytes());
                probes.push(probe);
            }
        }
    }
    probes
}

/// Sends bytes and says that there are no more; waits for the other side to close.
async fn send(port: u16, bytes: &[u8]) {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await
    };
    // A refusal may come before everything is written.
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .map(drop)
        .unwrap_or_else(|_| panic!("not closed: {:?}", String::from_utf8_lossy(bytes)));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_requests_arrive_as_were_authorised() {
    let (port, seen) = upstream().await;
    let world = World::start(in_front_of(port)).await;
    let probes = probes();
    assert!(probes.len() >= 1_500, "{} probes", probes.len());
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let mut tasks = Vec::new();
    for probe in probes {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let gateway = world.port;
        tasks.push(tokio::spawn(async move {
            send(gateway, &probe).await;
            drop(place);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let authorised = assert_as_authorised(&world, &seen).await;
    // Some of the lines are harmless (`Transfer-Encoding: identity` is not): the probes do reach the other side.
    assert!(authorised > 20, "{authorised} probes were forwarded");
}

/// Of requests that come in one piece (RFC 9112 section 9.3.2) the first is served. The connection ends behind its answer, so
/// that whoever sent the others knows that nobody has acted on them.
#[tokio::test(flavor = "multi_thread")]
async fn of_pipelined_requests_the_first_is_served_and_no_other() {
    let world = World::start(Options::default()).await;
    let get = "GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let form =
        "grant_type=client_credentials&client_id=demo-service&client_secret=demo-service-secret";
    let post = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    for (first, second) in [
        (get, get),
        (get, post.as_str()),
        (&post, get),
        (&post, &post),
    ] {
        let mark = world.mark().await;
        let answer = world.raw(format!("{first}{second}").as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
        let received = world.received_one_since(mark);
        assert!(first.starts_with(&received.method), "{received:?}");
        world.record_since(mark).await;
    }
    assert_eq!(world.get("/oauth2/jwks").await.status, 200);
}

/// Waits until as many requests have arrived as were authorised, each in the plain form and none smuggled; how many.
async fn assert_as_authorised(world: &World, seen: &Mutex<Seen>) -> usize {
    let arrived = || -> Vec<String> {
        let seen = seen.lock().unwrap();
        let clients = seen
            .requests
            .iter()
            .filter(|(target, _)| !OWN.contains(&target.as_str()));
        let mut ids: Vec<String> = clients.map(|(_, id)| id.clone()).collect();
        ids.sort_unstable();
        ids
    };
    let authorised = || -> Vec<String> {
        let records = world.read_records().into_iter();
        let mut ids: Vec<String> = records
            .filter(|record| record.grounds.is_some())
            .map(|record| record.id)
            .collect();
        ids.sort_unstable();
        ids
    };
    // The last records are on their way.
    let end = Instant::now() + PATIENCE;
    while arrived() != authorised() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        arrived(),
        authorised(),
        "{:?}",
        seen.lock().unwrap().requests
    );
    let seen = seen.lock().unwrap();
    assert!(seen.oddities.is_empty(), "{:#?}", seen.oddities);
    let is_smuggled = |(target, _): &(String, String)| target == SMUGGLED;
    assert!(
        !seen.requests.iter().any(is_smuggled),
        "a request was smuggled"
    );
    authorised().len()
}

/// Longer than the deadline of a body and of an answer.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// Another program's opinion: smugglex (MIT), which `scripts/smugglex.sh` installs, names in `RISKGATE_SMUGGLEX` and runs. A
/// finding of it fails the test, and so does a request that arrives and was not authorised.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs another program: scripts/smugglex.sh"]
async fn another_program_smuggles_nothing() {
    let program = std::env::var_os("RISKGATE_SMUGGLEX").expect("RISKGATE_SMUGGLEX names smugglex");
    let (port, seen) = upstream().await;
    let world = World::start(in_front_of(port)).await;
    let (mut checks, mut findings) = (0, Vec::new());
    for path in ["/oauth2/token", "/oauth2/introspect"] {
        for more in [&[][..], &["--fuzz"]] {
            let mut command = tokio::process::Command::new(&program);
            command
                .args([
                    "--json",
                    "--no-color",
                    "--timeout",
                    "5",
                    "--vhost",
                    "localhost",
                ])
                .args(more)
                .arg(format!("http://127.0.0.1:{}{path}", world.port))
                .stdin(std::process::Stdio::null())
                .kill_on_drop(true);
            let output = tokio::time::timeout(Duration::from_secs(1_200), command.output())
                .await
                .expect("it ends in time")
                .expect("it can be started");
            let text = String::from_utf8_lossy(&output.stdout);
            let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| {
                panic!(
                    "no report: {text}{}",
                    String::from_utf8_lossy(&output.stderr)
                )
            });
            for target in report["results"].as_array().expect("results") {
                assert!(target["error"].is_null(), "{target}");
                for check in target["checks"].as_array().expect("checks") {
                    checks += 1;
                    eprintln!(
                        "smugglex: {path} {more:?} {}: vulnerable {}, {}",
                        check["check_type"], check["vulnerable"], check["detection_signals"]
                    );
                    if check["vulnerable"] == true {
                        findings.push(check.clone());
                    }
                }
            }
        }
    }
    assert!(checks >= 4, "{checks} checks");
    // A client that leaves before its body was authorised may not arrive; what arrives was authorised, once. A record comes
    // when the exchange ends, which is later where a body was announced and did not come.
    let arrived: Vec<(String, String)> = {
        let seen = seen.lock().unwrap();
        assert!(seen.oddities.is_empty(), "{:#?}", seen.oddities);
        let clients = seen.requests.iter();
        clients
            .filter(|(target, _)| !OWN.contains(&target.as_str()))
            .cloned()
            .collect()
    };
    let without = || -> Vec<&(String, String)> {
        let records = world.read_records().into_iter();
        let authorised: HashSet<String> = records
            .filter(|record| record.grounds.is_some())
            .map(|record| record.id)
            .collect();
        let missing = arrived.iter().filter(|(_, id)| !authorised.contains(id));
        missing.collect()
    };
    let end = Instant::now() + ENDS_WITHIN;
    while !without().is_empty() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let missing = without();
    let of_them: Vec<_> = world
        .read_records()
        .into_iter()
        .filter(|record| missing.iter().any(|(_, id)| *id == record.id))
        .collect();
    assert!(
        missing.is_empty(),
        "arrived and were not authorised: {missing:?}; their records: {of_them:#?}"
    );
    let ids: HashSet<&String> = arrived.iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len(), arrived.len(), "a request arrived twice");
    let count = arrived.len();
    assert!(count > 20, "{count} requests arrived");
    // That an answer takes its time is no finding: where a body is announced and does not come, it is waited for.
    let timing = ["connection_timeout", "timing_anomaly", "extreme_timing"];
    let is_slow = |signal: &serde_json::Value| {
        let signal = signal.as_str().unwrap_or_default();
        timing.iter().any(|known| signal.starts_with(known))
    };
    let is_slow_only = |finding: &serde_json::Value| {
        let signals = finding["detection_signals"].as_array();
        signals.is_some_and(|signals| !signals.is_empty() && signals.iter().all(is_slow))
    };
    let (slow, wrong): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_slow_only);
    for finding in &slow {
        eprintln!("smugglex: waits for {}", finding["payload"]);
    }
    let (slow, found) = (slow.len(), wrong.len());
    eprintln!(
        "smugglex: {checks} checks, {found} findings, {slow} of time alone; {count} requests arrived, each authorised"
    );
    eprintln!("\nhardening|B5: checks of smugglex|{checks}|0|{found}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The PROXY protocol is not spoken: an address that comes before the request is no address, and nothing goes on behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_a_request_is_no_request() {
    let (port, seen) = upstream().await;
    let world = World::start(in_front_of(port)).await;
    let request =
        format!("GET {SMUGGLED} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    binary.extend([192, 0, 2, 66, 127, 0, 0, 1, 0x30, 0x39, 0, 80]);
    let text = b"PROXY TCP4 192.0.2.66 127.0.0.1 12345 80\r\n".to_vec();
    for before in [text, b"PROXY UNKNOWN\r\n".to_vec(), binary] {
        let answer = world
            .raw_unrecorded(&[&before, request.as_bytes()].concat())
            .await;
        assert!(
            answer.status == 0 || answer.status == 400,
            "{before:?}: {answer:?}"
        );
    }
    let requests = seen.lock().unwrap().requests.clone();
    let smuggled = requests.iter().filter(|(target, _)| target == SMUGGLED);
    assert_eq!(smuggled.count(), 0, "{requests:?}");
}
