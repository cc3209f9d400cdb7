//! A client with one connection, which says exactly what became of each request: answered, refused at the door, lost, or
//! sent into a connection that had just been closed while it was idle. It repeats nothing by itself.

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client.
pub struct Client {
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    line: Option<Line>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Head, without the empty line.
    pub head: String,
    /// Body, without chunks.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
#[expect(dead_code, reason = "the words are printed")]
pub enum Failure {
    /// No connection was to be had.
    Refused(String),
    /// No TLS was to be had.
    Handshake(String),
    /// The connection had been used before, and was closed before a byte of the answer: what RFC 9112 section 9.5 allows.
    Idle,
    /// The request is lost.
    Lost(String),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

struct Line {
    stream: Box<dyn Duplex>,
    answers: u32,
    /// The certificate of the other side, DER.
    certificate: Option<Vec<u8>>,
}

impl Answer {
    /// Whether the connection ends with it.
    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Trusts these certificates alone.
pub fn trusting(authority_pem: &str) -> Arc<ClientConfig> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(authority_pem.as_bytes()).expect("a certificate");
    roots.add(der).expect("a certificate");
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each handshake is a whole one: a session that is taken up again shows no certificate.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

impl Client {
    /// Of the gateway at a port of this machine.
    pub fn new(port: u16, tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            port,
            tls,
            line: None,
        }
    }

    /// Goes to another port with its next connection.
    pub fn turn_to(&mut self, port: u16) {
        self.port = port;
    }

    /// Gives up its connection.
    pub fn hang_up(&mut self) {
        self.line = None;
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        self.line.is_some()
    }

    /// The certificate of the other side, DER.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.line.as_ref()?.certificate.as_deref()
    }

    /// Makes a connection unless it has one.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        if self.line.is_some() {
            return Ok(());
        }
        let refused = |error: std::io::Error| Failure::Refused(error.to_string());
        let stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        let (stream, certificate): (Box<dyn Duplex>, _) = match &self.tls {
            None => (Box::new(stream), None),
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("a name");
                let shaken = TlsConnector::from(Arc::clone(config)).connect(name, stream);
                let stream = tokio::time::timeout(PATIENCE, shaken)
                    .await
                    .map_err(|_| Failure::Handshake("it took too long".to_owned()))?
                    .map_err(|error| Failure::Handshake(error.to_string()))?;
                let shown = stream.get_ref().1.peer_certificates();
                let leaf = shown
                    .and_then(|chain| chain.first())
                    .map(|leaf| leaf.to_vec());
                (Box::new(stream), leaf)
            }
        };
        self.line = Some(Line {
            stream,
            answers: 0,
            certificate,
        });
        Ok(())
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        self.connect().await?;
        let Some(mut line) = self.line.take() else {
            return Err(Failure::Lost("no connection".to_owned()));
        };
        let answer = tokio::time::timeout(PATIENCE, line.exchange(request))
            .await
            .map_err(|_| Failure::Lost("no answer in time".to_owned()))??;
        line.answers += 1;
        if !answer.closes() {
            self.line = Some(line);
        }
        Ok(answer)
    }
}

impl Line {
    async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        // The other side may have answered and closed before it has read everything.
        let sent = self.stream.write_all(request).await;
        let mut read = Vec::with_capacity(2048);
        let head = loop {
            if let Some(end) = find(&read, b"\r\n\r\n") {
                break end;
            }
            let more = self.stream.read_buf(&mut read).await;
            match more {
                Ok(0) | Err(_) if read.is_empty() && self.answers > 0 => return Err(Failure::Idle),
                Ok(0) => return Err(self.lost("closed", &read)),
                Err(error) => {
                    let text = format!("{error} (sent: {sent:?})");
                    return Err(self.lost(&text, &read));
                }
                Ok(_) => {}
            }
        };
        let text = String::from_utf8_lossy(&read[..head]).into_owned();
        let status = text.split(' ').nth(1).and_then(|text| text.parse().ok());
        let mut answer = Answer {
            status: status.unwrap_or(0),
            head: text,
            body: read.split_off(head + 4),
        };
        let is_chunked = answer
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = answer
            .header("content-length")
            .and_then(|value| value.parse::<usize>().ok());
        loop {
            let is_whole = match length {
                _ if is_chunked => answer.body.ends_with(b"0\r\n\r\n"),
                Some(length) => answer.body.len() >= length,
                None => matches!(answer.status, 204 | 304),
            };
            if is_whole {
                return Ok(answer);
            }
            match self.stream.read_buf(&mut answer.body).await {
                Ok(0) if length.is_none() && !is_chunked => return Ok(answer),
                Ok(0) => return Err(self.lost("closed in the answer", &answer.body)),
                Err(error) => return Err(self.lost(&error.to_string(), &answer.body)),
                Ok(_) => {}
            }
        }
    }

    fn lost(&self, why: &str, read: &[u8]) -> Failure {
        Failure::Lost(format!(
            "{why}, after {} answers and {} bytes of this one",
            self.answers,
            read.len()
        ))
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
