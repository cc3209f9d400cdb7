//! A client that speaks HTTP/2 over TLS to the gateway, many requests on one connection.

#[path = "frames.rs"]
pub mod frames;

use super::PATIENCE;
use super::World;
use bytes::Bytes;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection.
#[derive(Clone)]
pub struct Http2 {
    requests: h2::client::SendRequest<Bytes>,
    authority: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Http2Answer {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: String,
}

impl Http2Answer {
    /// A text member of the JSON body.
    pub fn member(&self, name: &str) -> String {
        self.json()[name]
            .as_str()
            .unwrap_or_else(|| panic!("no `{name}` in {self:?}"))
            .to_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Http2 {
    /// Connects to the gateway of a world with TLS.
    pub async fn connect(world: &World) -> Self {
        let tls = secured(world, b"h2").await;
        let (requests, connection) = h2::client::handshake(tls).await.expect("HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        Self {
            requests,
            authority: format!("localhost:{}", world.port),
        }
    }

    /// A new stream: the head of a request whose body does not come, or not yet.
    pub async fn open(&self, path: &str) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let request = http::Request::post(format!("https://{}{path}", self.authority))
            .version(http::Version::HTTP_2)
            .body(())
            .expect("a request");
        let mut requests = self.requests.clone().ready().await.expect("a connection");
        requests.send_request(request, false).expect("a stream")
    }

    /// Whether the gateway takes no more requests on it.
    pub async fn is_over(&self) -> bool {
        let ready = self.requests.clone().ready();
        tokio::time::timeout(PATIENCE, ready)
            .await
            .is_ok_and(|ready| ready.is_err())
    }

    /// Sends a request without a body: the status, if the whole answer came.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Option<u16> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .version(http::Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let exchange = async {
            let mut requests = self.requests.clone().ready().await.ok()?;
            let request = request.body(()).expect("a request");
            let (answer, _) = requests.send_request(request, true).ok()?;
            let (head, mut body) = answer.await.ok()?.into_parts();
            while let Some(data) = body.data().await {
                let data = data.ok()?;
                drop(body.flow_control().release_capacity(data.len()));
            }
            Some(head.status.as_u16())
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("an answer in time, or none")
    }

    /// The same, dropped at once; `None` when the connection takes no more.
    pub async fn try_open(&self, path: &str) -> Option<()> {
        let request = http::Request::post(format!("https://{}{path}", self.authority))
            .version(http::Version::HTTP_2)
            .body(())
            .expect("a request");
        let mut requests = self.requests.clone().ready().await.ok()?;
        requests.send_request(request, false).ok().map(drop)
    }

    /// Sends a request without a body; `None` when it is not answered. No record is counted as due.
    pub async fn ask(&self, request: http::Request<()>) -> Option<Http2Answer> {
        let exchange = async {
            let mut requests = self.requests.clone().ready().await.ok()?;
            let (answer, _) = requests.send_request(request, true).ok()?;
            let (head, mut body) = answer.await.ok()?.into_parts();
            let mut whole = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.ok()?;
                drop(body.flow_control().release_capacity(data.len()));
                whole.extend_from_slice(&data);
            }
            Some(Http2Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: String::from_utf8_lossy(&whole).into_owned(),
            })
        };
        tokio::time::timeout(PATIENCE, exchange).await.ok()?
    }

    /// Sends a request, its body in pieces of `piece` bytes, and reads the answer. One record is due for it.
    pub async fn send(
        &self,
        world: &World,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        piece: usize,
    ) -> Http2Answer {
        world.expect_record();
        let exchange = async {
            let mut request = http::Request::builder()
                .method(method)
                .uri(format!("https://{}{path}", self.authority))
                .version(http::Version::HTTP_2);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let mut requests = self.requests.clone().ready().await.expect("a connection");
            let (answer, mut stream) = requests
                .send_request(request.body(()).expect("a request"), body.is_empty())
                .expect("a stream");
            let pieces: Vec<&[u8]> = body.as_bytes().chunks(piece.max(1)).collect();
            for (number, bytes) in pieces.iter().enumerate() {
                let ends = number + 1 == pieces.len();
                stream
                    .send_data(Bytes::copy_from_slice(bytes), ends)
                    .expect("a stream that is open");
            }
            let (head, mut body) = answer.await.expect("an answer").into_parts();
            let mut whole = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.expect("data");
                drop(body.flow_control().release_capacity(data.len()));
                whole.extend_from_slice(&data);
            }
            Http2Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: String::from_utf8_lossy(&whole).into_owned(),
            }
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("an answer in time")
    }
}

/// A TLS connection to the gateway of a world, for this protocol.
pub async fn secured(world: &World, protocol: &[u8]) -> TlsStream<TcpStream> {
    let certificate = world.data_dir().with_file_name("server.crt");
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_file(certificate).expect("a certificate");
    roots.add(der).expect("a certificate");
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let tcp = TcpStream::connect(("127.0.0.1", world.port))
        .await
        .expect("the gateway accepts");
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .expect("TLS");
    assert_eq!(
        tls.get_ref().1.alpn_protocol(),
        Some(protocol),
        "the gateway speaks the protocol"
    );
    tls
}
