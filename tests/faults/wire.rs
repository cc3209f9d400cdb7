//! Ports that are closed, and a TCP wire between two ends that can be made slow, cut in the middle of an answer, or let run. One direction is
//! touched, from the server to the client, so that what is asked always arrives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes that are carried in one piece.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces that may be on their way.
const PIECES_MAX: usize = 1024;
/// Stands for an answer that is not cut.
const UNCUT: u64 = u64::MAX;

/// Nothing.
enum Never {}

/// A port that nobody else can take and at which connections are refused.
pub struct Closed(TcpSocket);

/// A wire to one server. Dropping it cuts every connection.
pub struct Wire {
    address: SocketAddr,
    faults: Arc<Faults>,
    _carrier: JoinSet<()>,
}

struct Faults {
    connections: AtomicU64,
    delay_ms: AtomicU64,
    cut_after: AtomicU64,
}

impl Closed {
    /// A closed port.
    pub fn port() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("a free port");
        Self(socket)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("its address")
    }
}

impl Wire {
    /// A wire to `server`, without fault.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let faults = Arc::new(Faults {
            connections: AtomicU64::new(0),
            delay_ms: AtomicU64::new(0),
            cut_after: AtomicU64::new(UNCUT),
        });
        let mut carrier = JoinSet::new();
        let shared = Arc::clone(&faults);
        carrier.spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                shared.connections.fetch_add(1, Ordering::Relaxed);
                wires.spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            faults,
            _carrier: carrier,
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often somebody has connected.
    pub fn connections(&self) -> u64 {
        self.faults.connections.load(Ordering::Relaxed)
    }

    /// Every piece of an answer comes later by `delay`.
    pub fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).expect("a short delay");
        self.faults.delay_ms.store(millis, Ordering::Relaxed);
    }

    /// Connections are reset once they have carried `bytes` of answers.
    pub fn cut_after(&self, bytes: u64) {
        self.faults.cut_after.store(bytes, Ordering::Relaxed);
    }

    /// Connections are no longer reset.
    pub fn mend(&self) {
        self.faults.cut_after.store(UNCUT, Ordering::Relaxed);
    }
}

async fn carry(client: TcpStream, server: SocketAddr, faults: Arc<Faults>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    // Delays are this wire's own and not those of Nagle's algorithm.
    client.set_nodelay(true).expect("an option");
    server.set_nodelay(true).expect("an option");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    // A piece is late, and does not make the next one later.
    let (late, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let shared = Arc::clone(&faults);
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = from_server.read(&mut piece).await.unwrap_or(0);
            piece.truncate(read);
            let delay = Duration::from_millis(shared.delay_ms.load(Ordering::Relaxed));
            if read == 0 || late.send((Instant::now() + delay, piece)).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        let mut carried = 0;
        while let Some((time, piece)) = due.recv().await {
            tokio::time::sleep_until(time).await;
            let room = faults
                .cut_after
                .load(Ordering::Relaxed)
                .saturating_sub(carried);
            let kept = piece.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if to_client.write_all(&piece[..kept]).await.is_err() {
                return;
            }
            carried += kept as u64;
            if kept < piece.len() {
                // Closing with a linger of zero seconds sends a reset in place of an end.
                drop(to_client.as_ref().set_zero_linger());
                return;
            }
        }
    };
    tokio::select! {
        _ = asked => {}
        () = write => {}
        // What has been read is written before the end is passed on.
        never = async { read.await; std::future::pending::<Never>().await } => match never {},
    }
}
