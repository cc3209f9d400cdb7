//! Clients over HTTP/1.1 with keep-alive, in a closed loop (each connection sends its next request when it has the answer to
//! the last one) or at a steady rate. Raw sockets, so that the load costs little beside what it measures. Over TLS and
//! HTTP/2 as well, in a closed loop.

use crate::traffic::Requests;
use crate::traffic::Traffic;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use bytes::Bytes;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::task::LocalSet;

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 16_384;
/// What a round may take beyond its length before it counts as hung.
const GRACE: Duration = Duration::from_secs(5);
/// What the timer may be late.
const TIMER: Duration = Duration::from_millis(2);

/// For whom the certificate of a run is.
pub(crate) const HOST: &str = "login.example.com";
/// Streams at a time on each connection of HTTP/2.
const STREAMS: usize = 4;

/// How clients reach the gateway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// HTTP/1.1.
    Plain,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3.
    H2,
}

/// A connection of either kind.
trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// What one round came to.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// The time of every answer in nanoseconds, ascending.
    pub(crate) nanos: Vec<u64>,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

/// The head of a message, as far as its end matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Its bytes, the empty line included.
    pub(crate) bytes: usize,
    /// Bytes of the body; 0 when no length is given.
    pub(crate) content_length: usize,
    /// The status of an answer; 0 for a request.
    pub(crate) status: u16,
    /// Whether the sender closes the connection after this message.
    pub(crate) closes: bool,
}

/// Keeps `connections` busy with `traffic` for `length`.
pub(crate) async fn run(
    address: SocketAddr,
    traffic: Traffic,
    connections: usize,
    length: Duration,
) -> Result<Round> {
    run_by(address, Way::Plain, traffic, connections, length).await
}

/// The same by any way; with HTTP/2 there are as many streams on a quarter of the connections.
pub(crate) async fn run_by(
    address: SocketAddr,
    way: Way,
    traffic: Traffic,
    connections: usize,
    length: Duration,
) -> Result<Round> {
    let requests = Rc::new(Requests::of(traffic));
    let start = Instant::now();
    let end = start + length;
    let all = all(address, length, async |clients: &mut Clients| {
        for seed in 1..=connections as u64 {
            let requests = Rc::clone(&requests);
            match way {
                Way::Plain | Way::Tls => {
                    clients.spawn_local(client(address, way, requests, seed, end));
                }
                Way::H2 if seed.is_multiple_of(STREAMS as u64) => {
                    clients.spawn_local(h2_client(address, requests, seed, end));
                }
                Way::H2 => {}
            }
        }
    });
    all.await.map(|round| round.since(start))
}

/// Sends `rate` requests a second for `length` over up to `connections`, whether or not answers come in time; how long one
/// took counts from the moment at which it was due, where its connection was not free by then.
///
/// It looks at the clock without pause, so it does so on a thread that gives way to all that shares its core: the upstream
/// and the state's server answer when they are asked.
pub(crate) async fn steady(
    address: SocketAddr,
    traffic: Traffic,
    connections: usize,
    rate: f64,
    length: Duration,
) -> Result<Round> {
    let clients = move || {
        give_way()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(steady_clients(address, traffic, connections, rate, length))
    };
    let (done, round) = tokio::sync::oneshot::channel();
    // Nobody waits any more when the bench has ended early.
    std::thread::spawn(move || drop(done.send(clients())));
    round.await.context("the clients panicked")?
}

/// Lets this thread run when no other wants its core. A low priority would not do: who wakes up beside it waits for the
/// next tick all the same, 4 ms.
fn give_way() -> Result<()> {
    let thread = std::fs::read_link("/proc/thread-self")?;
    let thread = thread
        .file_name()
        .context("the system numbers no threads")?;
    let done = std::process::Command::new("chrt")
        .args(["--idle", "--pid", "0"])
        .arg(thread)
        .status()
        .context("chrt is missing; Debian has it in util-linux")?;
    if !done.success() {
        bail!("chrt: {done}");
    }
    Ok(())
}

async fn steady_clients(
    address: SocketAddr,
    traffic: Traffic,
    connections: usize,
    rate: f64,
    length: Duration,
) -> Result<Round> {
    let requests = Rc::new(Requests::of(traffic));
    let start = Instant::now();
    let all = all(address, length, async |clients: &mut Clients| {
        for number in 0..connections {
            let first = start + Duration::from_secs_f64(number as f64 / rate);
            let pause = Duration::from_secs_f64(connections as f64 / rate);
            let seed = number as u64 + 1;
            let requests = Rc::clone(&requests);
            clients.spawn_local(steady_client(
                address,
                requests,
                seed,
                first..start + length,
                pause,
            ));
        }
    });
    all.await.map(|round| round.since(start))
}

type Clients = JoinSet<Result<Round>>;

/// What all clients came to that `begin` starts.
async fn all(
    address: SocketAddr,
    length: Duration,
    begin: impl AsyncFnOnce(&mut Clients),
) -> Result<Round> {
    let local = LocalSet::new();
    let clients = local.run_until(async {
        let mut clients = JoinSet::new();
        begin(&mut clients).await;
        let mut all = Round::default();
        while let Some(round) = clients.join_next().await {
            let round = round.context("a client ended early")??;
            all.nanos.extend(round.nanos);
            for (status, count) in round.statuses {
                *all.statuses.entry(status).or_default() += count;
            }
        }
        anyhow::Ok(all)
    });
    tokio::time::timeout(length + GRACE, clients)
        .await
        .with_context(|| format!("{address} did not answer in time"))?
}

impl Round {
    fn since(mut self, start: Instant) -> Self {
        self.took = start.elapsed();
        self.nanos.sort_unstable();
        self
    }

    fn note(&mut self, since: Instant, status: u16) -> Result<()> {
        self.nanos.push(u64::try_from(since.elapsed().as_nanos())?);
        *self.statuses.entry(status).or_default() += 1;
        Ok(())
    }
}

/// xorshift: which user comes next must cost nothing.
struct Random(u64);

impl Random {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A connection that is kept, and what was read of it beyond an answer.
struct Kept {
    address: SocketAddr,
    way: Way,
    stream: Box<dyn Wire>,
    buffer: Vec<u8>,
}

impl Kept {
    async fn open(address: SocketAddr, way: Way) -> Result<Self> {
        Ok(Self {
            address,
            way,
            stream: wire(address, way).await?,
            buffer: Vec::with_capacity(8_192),
        })
    }

    /// Sends a request and reads the answer to its end; its status.
    async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let address = self.address;
        let Some(head) = read_head(&mut self.stream, &mut self.buffer).await? else {
            bail!("{address} closed without an answer")
        };
        while self.buffer.len() < head.bytes + head.content_length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("{address} closed within an answer");
            }
        }
        self.buffer.drain(..head.bytes + head.content_length);
        if head.closes {
            self.stream = wire(address, self.way).await?;
            self.buffer.clear();
        }
        Ok(head.status)
    }
}

async fn client(
    address: SocketAddr,
    way: Way,
    requests: Rc<Requests>,
    seed: u64,
    end: Instant,
) -> Result<Round> {
    let mut round = Round::default();
    let mut kept = Kept::open(address, way).await?;
    let mut random = Random::of(seed);
    while Instant::now() < end {
        let sent = Instant::now();
        let status = kept.exchange(requests.pick(random.next())).await?;
        round.note(sent, status)?;
    }
    Ok(round)
}

async fn steady_client(
    address: SocketAddr,
    requests: Rc<Requests>,
    seed: u64,
    times: std::ops::Range<Instant>,
    pause: Duration,
) -> Result<Round> {
    let mut round = Round::default();
    let mut kept = Kept::open(address, Way::Plain).await?;
    let mut random = Random::of(seed);
    let mut due = times.start;
    while due < times.end {
        let since = if Instant::now() < due {
            // The timer is a millisecond wide: the rest of the time is spent looking, so that requests that are due one after
            // the other do not come together. What it is late all the same is not the gateway's.
            tokio::time::sleep_until((due - TIMER).into()).await;
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            Instant::now()
        } else {
            due
        };
        let status = kept.exchange(requests.pick(random.next())).await?;
        round.note(since, status)?;
        due += pause;
    }
    Ok(round)
}

/// Streams on one connection of HTTP/2, each with its next request when it has the answer to the last one.
async fn h2_client(
    address: SocketAddr,
    requests: Rc<Requests>,
    seed: u64,
    end: Instant,
) -> Result<Round> {
    let (client, connection) = h2::client::handshake(tls(address, b"h2").await?).await?;
    let streams = async {
        let streams = (0..STREAMS as u64).map(|stream| {
            let (client, requests) = (client.clone(), Rc::clone(&requests));
            h2_stream(client, requests, seed * STREAMS as u64 + stream, end)
        });
        futures_util::future::try_join_all(streams).await
    };
    let rounds = tokio::select! {
        rounds = streams => rounds?,
        ended = connection => {
            ended?;
            bail!("{address} closed within a round")
        }
    };
    let mut all = Round::default();
    for round in rounds {
        all.nanos.extend(round.nanos);
        for (status, count) in round.statuses {
            *all.statuses.entry(status).or_default() += count;
        }
    }
    Ok(all)
}

async fn h2_stream(
    mut client: h2::client::SendRequest<Bytes>,
    requests: Rc<Requests>,
    seed: u64,
    end: Instant,
) -> Result<Round> {
    let mut round = Round::default();
    let mut random = Random::of(seed);
    while Instant::now() < end {
        let (head, body) = as_h2(requests.pick(random.next()))?;
        let sent = Instant::now();
        client = client.ready().await?;
        let (answer, mut send) = client.send_request(head, body.is_empty())?;
        if !body.is_empty() {
            send.send_data(body, true)?;
        }
        let answer = answer.await?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        while let Some(piece) = body.data().await {
            let length = piece?.len();
            body.flow_control().release_capacity(length)?;
        }
        round.note(sent, status)?;
    }
    Ok(round)
}

/// A request of HTTP/1.1 as one of HTTP/2.
fn as_h2(request: &[u8]) -> Result<(http::Request<()>, Bytes)> {
    let text = std::str::from_utf8(request)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next(), first.next());
    let mut built = http::Request::builder()
        .version(http::Version::HTTP_2)
        .method(method.unwrap_or_default())
        .uri(format!("https://{HOST}{}", path.unwrap_or_default()));
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if !name.eq_ignore_ascii_case("host") {
            built = built.header(name.to_ascii_lowercase(), value);
        }
    }
    Ok((built.body(())?, Bytes::copy_from_slice(body.as_bytes())))
}

async fn wire(address: SocketAddr, way: Way) -> Result<Box<dyn Wire>> {
    Ok(match way {
        Way::Plain => Box::new(connect(address).await?),
        Way::Tls | Way::H2 => Box::new(tls(address, b"http/1.1").await?),
    })
}

/// A connection over TLS that takes any certificate: who answers is known.
async fn tls(
    address: SocketAddr,
    protocol: &[u8],
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(HOST)?;
    let stream = connector.connect(name, connect(address).await?).await?;
    if stream.get_ref().1.alpn_protocol() != Some(protocol) {
        bail!(
            "{address} does not speak {}",
            String::from_utf8_lossy(protocol)
        );
    }
    Ok(stream)
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One GET on a connection that stays open.
pub(crate) async fn ask_once(stream: &mut TcpStream) -> Result<()> {
    let request = format!("GET /oauth2/jwks HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(2_048);
    let head = read_head(stream, &mut buffer).await?.context("no answer")?;
    while buffer.len() < head.bytes + head.content_length {
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("closed within an answer");
        }
    }
    if head.status != 200 || head.closes {
        bail!("an answer {} that keeps nothing open", head.status);
    }
    Ok(())
}

/// One GET; the body of the answer.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = connect(address).await?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("no answer to {path}"))?;
    Ok(body.to_owned())
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("{address} cannot be reached"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads until `buffer` begins with a whole head. `None` when the connection ended before one began.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Option<Head>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return parse_head(buffer.get(..end).unwrap_or_default(), end + 4).map(Some);
        }
        if buffer.len() > HEAD_BYTES_MAX {
            bail!("a head of more than {HEAD_BYTES_MAX} bytes");
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                bail!("the connection ended within a head")
            };
        }
    }
}

fn parse_head(head: &[u8], bytes: usize) -> Result<Head> {
    let text = std::str::from_utf8(head)?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = match first.strip_prefix("HTTP/1.1 ") {
        Some(rest) => rest.get(..3).unwrap_or_default().parse()?,
        None => 0,
    };
    let mut parsed = Head {
        bytes,
        content_length: 0,
        status,
        closes: false,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            parsed.content_length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("connection") {
            parsed.closes = value.trim().eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a message without a length: `{first}`");
        }
    }
    Ok(parsed)
}
