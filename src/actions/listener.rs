//! The listener that WSO2 calls.

use crate::actions::ActionsState;
use crate::actions::router;
use crate::listening;
use crate::listening::Listening;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Connections at a time. WSO2 keeps a pool of 20 for each node.
const CONNECTIONS_MAX: usize = 512;

/// Serves until `stop` says so. With `tls` every connection begins with a handshake, by the settings of that moment.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    state: ActionsState,
    stop: watch::Receiver<bool>,
) {
    let listening = Listening {
        name: "actions",
        connections_max: CONNECTIONS_MAX,
        tls,
    };
    listening::serve(listener, listening, router(state), stop).await;
}
