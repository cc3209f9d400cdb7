//! Connections of our own listeners, those of operators and of WSO2. Handshakes, heads and bodies have a deadline,
//! connections a bound, so that whoever can reach a port without credentials cannot use it up for long.

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use futures_util::StreamExt;
use futures_util::stream;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;

/// For the TLS handshake, and for the head of each request; an idle connection ends after it as well.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For the body of a request, as a whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// For each piece of an answer that a client takes, of this length or up to the end.
const TAKE_TIMEOUT: Duration = Duration::from_secs(30);
const TAKE_BYTES: usize = 64 * 1024;
/// After a failed accept, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two lines of the log that say that all places are taken.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What there is to know of a listener.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Its name in the log.
    pub name: &'static str,
    /// Connections at a time; those beyond wait in the system's queue.
    pub connections_max: usize,
    /// What every connection begins with, by the settings of that moment; none without TLS.
    pub tls: Option<Arc<ArcSwap<ServerConfig>>>,
}

/// Serves until `stop` says so; requests under way may end.
pub async fn serve(
    listener: TcpListener,
    listening: Listening,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places {
        free: Arc::new(Semaphore::new(listening.connections_max)),
        name: listening.name,
        told: Arc::default(),
    };
    let stopped = stop.clone();
    let accepting = async move {
        while let Some(place) = places.next().await {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, listener = listening.name, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let tls = listening.tls.as_ref().map(|tls| tls.load_full());
            let (router, stopped) = (router.clone(), stopped.clone());
            tokio::spawn(async move {
                if let Err(why) = connection(stream, peer, tls, router, stopped).await {
                    tracing::debug!(listener = listening.name, "a connection broke: {why}");
                }
                drop(place);
            });
        }
    };
    // A sender that is gone means the same as its word.
    let stop = async move { drop(stop.wait_for(|stopped| *stopped).await) };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
}

/// The places of a listener.
struct Places {
    free: Arc<Semaphore>,
    name: &'static str,
    /// That it was said within the last minute that there are none.
    told: Arc<AtomicBool>,
}

impl Places {
    /// Waits for a place; says so now and then where there is none. `None` never comes: nobody closes them.
    async fn next(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                listener = self.name,
                "all connections of the listener are taken: others wait"
            );
            let told = Arc::clone(&self.told);
            tokio::spawn(async move {
                tokio::time::sleep(TOLD_EVERY).await;
                told.store(false, Ordering::Relaxed);
            });
        }
        Arc::clone(&self.free).acquire_owned().await.ok()
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let Some(tls) = tls else {
        return requests(stream, peer, router, stopped).await;
    };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(HEAD_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => requests(stream, peer, router, stopped).await,
        Ok(Err(error)) => Err(format!("TLS handshake: {error}")),
        Err(_) => Err("the TLS handshake took too long".to_owned()),
    }
}

async fn requests<Stream>(
    stream: Stream,
    peer: SocketAddr,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), String>
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(in_time);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Taken::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let stop = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(|error| error.to_string())
}

/// A stream whose other side has to take what it is sent: one that does not ends it.
struct Taken<Stream> {
    stream: Stream,
    /// Until when the piece that it is at is to be taken; none while it keeps up.
    end: Option<Pin<Box<Sleep>>>,
    /// How much of that piece it has taken.
    taken: usize,
}

impl<Stream> Taken<Stream> {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            end: None,
            taken: 0,
        }
    }

    /// So much was taken.
    fn took(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken >= TAKE_BYTES {
            self.kept_up();
        }
    }

    fn kept_up(&mut self) {
        self.end = None;
        self.taken = 0;
    }

    /// It is waited for, but not for ever.
    fn waits<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let end = self
            .end
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKE_TIMEOUT)));
        end.as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.took(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.waits(context),
        }
    }
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Taken<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Taken<Stream> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_pending() {
            return self.waits(context);
        }
        // What there was to say is said.
        self.kept_up();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        if ended.is_pending() {
            return self.waits(context);
        }
        ended
    }
}

/// A body that breaks off where it does not come in time.
fn in_time(body: Incoming) -> Body {
    let pieces = Body::new(body).into_data_stream();
    let end = Box::pin(tokio::time::sleep(BODY_TIMEOUT));
    let pieces = stream::unfold(Some((pieces, end)), |state| async move {
        let (mut pieces, mut end) = state?;
        tokio::select! {
            piece = pieces.next() => Some((piece?, Some((pieces, end)))),
            () = end.as_mut() => {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                Some((Err(axum::Error::new(late)), None))
            }
        }
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use axum::routing::get;
    use axum::routing::post;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    /// A listener with so many places, its address and its end.
    async fn listening(connections_max: usize) -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, stop) = watch::channel(false);
        let router = Router::new()
            .route("/", post(|body: Bytes| async move { body }))
            .route("/much", get(|| async { vec![b'a'; 64 << 20] }))
            .route(
                "/who",
                get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }),
            );
        let listening = Listening {
            name: "test",
            connections_max,
            tls: None,
        };
        tokio::spawn(serve(listener, listening, router, stop));
        (address, sender)
    }

    /// What is answered until the connection is closed, and when that is.
    async fn said(address: SocketAddr, text: &str) -> (String, Duration) {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_in_the_middle_is_given_up() {
        let (address, _going) = listening(8).await;
        let posts = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n";
        for (text, longest) in [
            ("", HEAD_TIMEOUT),
            ("GET /who HT", HEAD_TIMEOUT),
            (posts, HEAD_TIMEOUT),
            (&format!("{posts}\r\nhalf"), BODY_TIMEOUT),
        ] {
            let (answer, took) = said(address, text).await;
            assert!(took <= longest + HEAD_TIMEOUT, "{text}: {took:?}");
            assert!(took >= HEAD_TIMEOUT, "{text}: {took:?}");
            assert!(!answer.contains(" 200 "), "{answer}");
        }
        // The body came.
        let (answer, _) = said(
            address,
            &format!("{posts}Connection: close\r\n\r\nwholebody"),
        )
        .await;
        assert!(answer.ends_with("wholebody"), "{answer}");
        let asks = "GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (answer, _) = said(address, asks).await;
        assert!(answer.contains("127.0.0.1:"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up() {
        let (address, _going) = listening(1).await;
        let asks = "GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for takes in [0, 1_000] {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(asks.as_bytes()).await.unwrap();
            let drips = async {
                let mut piece = vec![0; takes];
                loop {
                    tokio::time::sleep(Duration::from_secs(9)).await;
                    stream.read_exact(&mut piece).await.unwrap();
                }
            };
            // The only place is free again, by and by.
            let other = said(
                address,
                "GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            );
            let (answer, _) = tokio::select! {
                () = drips => unreachable!(),
                answer = other => answer,
                () = tokio::time::sleep(9 * TAKE_TIMEOUT) => panic!("it is kept with {takes}"),
            };
            assert!(answer.contains(" 200 "), "{answer}");
            let took = begun.elapsed();
            assert!(took >= TAKE_TIMEOUT && took < 3 * TAKE_TIMEOUT, "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_beyond_the_bound_wait_for_a_place() {
        let (address, _going) = listening(2).await;
        let mut idle = Vec::new();
        for _ in 0..2 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let asks = "GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (answer, took) = said(address, asks).await;
        assert!(answer.contains(" 200 "), "{answer}");
        assert!(took >= HEAD_TIMEOUT && took <= 2 * HEAD_TIMEOUT, "{took:?}");
        drop(idle);
    }
}
