//! A Pingora proxy that only passes on: the same listener, peer and server settings as riskgate's, no filter, no record.
//! What riskgate costs beyond it is what riskgate does.

use anyhow::Result;
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::HttpPeer;
use pingora::proxy::ProxyHttp;
use pingora::proxy::ProxyServiceBuilder;
use pingora::proxy::Session;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpUpstreamRequestPolicy;
use std::net::SocketAddr;
use std::time::Duration;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        let options = &mut peer.options;
        options.connection_timeout = Some(Duration::from_millis(800));
        options.total_connection_timeout = Some(Duration::from_millis(800));
        options.read_timeout = Some(Duration::from_secs(60));
        options.write_timeout = Some(Duration::from_secs(60));
        options.idle_timeout = Some(Duration::from_secs(15));
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        Ok(Box::new(peer))
    }
}

/// Runs until SIGTERM; over TLS, with HTTP/2 offered, where there are a chain and a key.
pub(crate) fn run(
    listen: SocketAddr,
    upstream: SocketAddr,
    tls: Option<(&str, &str)>,
) -> Result<()> {
    let conf = ServerConf {
        threads: 1,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut options = HttpServerOptions::default();
    options.keepalive_request_limit = Some(10_000);
    let bare = Bare { upstream };
    let mut service = ProxyServiceBuilder::new(&server.configuration, bare)
        .name("bare")
        .server_options(options)
        .build();
    if let Some((chain, key)) = tls {
        let mut settings = TlsSettings::intermediate(chain, key)?;
        settings.enable_h2();
        service.add_tls_with_settings(&listen.to_string(), None, settings);
    } else {
        service.add_tcp(&listen.to_string());
    }
    server.add_service(service);
    server.run_forever()
}
