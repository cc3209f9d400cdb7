//! Connections of the actions listener. Handshakes and heads have a deadline, connections a bound, so that whoever can
//! reach the port without credentials cannot use it up for long.

use crate::actions::ActionsState;
use crate::actions::router;
use arc_swap::ArcSwap;
use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Connections at a time. WSO2 keeps a pool of 20 for each node.
const CONNECTIONS_MAX: usize = 512;
/// For the TLS handshake, and for the head of each request; an idle connection ends after it as well.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves until `stop` says so. With `tls` every connection begins with a handshake, by the settings of that moment.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    state: ActionsState,
    mut stop: watch::Receiver<bool>,
) {
    let router = router(state);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stopped = stop.clone();
    let accepting = async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(error = %error, "a connection of the actions listener was not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let tls = tls.as_ref().map(|tls| tls.load_full());
            let (router, stopped) = (router.clone(), stopped.clone());
            tokio::spawn(async move {
                connection(stream, tls, router, stopped).await;
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

async fn connection(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stopped: watch::Receiver<bool>,
) {
    let Some(tls) = tls else {
        return requests(stream, router, stopped).await;
    };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(HEAD_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => requests(stream, router, stopped).await,
        Ok(Err(error)) => {
            tracing::debug!(error = %error, "a TLS handshake of the actions listener failed");
        }
        Err(_) => tracing::debug!("a TLS handshake of the actions listener took too long"),
    }
}

async fn requests<Stream>(stream: Stream, router: Router, mut stopped: watch::Receiver<bool>)
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let stop = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection of the actions listener broke");
    }
}
