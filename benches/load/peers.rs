//! What others offer for the same job, where it is installed: proxies that only pass on, and proxies that ask a scorer
//! beside them for each request. Each is set up as its manual says it is quick: one worker, kept connections on both
//! sides, no access log. Asked scorers see the head alone; none of the peers keeps a record or remembers anything.

use crate::Gateway;
use crate::Target;
use crate::process;
use crate::process::Child;
use anyhow::Context;
use anyhow::Result;
use axum::Router;
use axum::http::StatusCode;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

/// The folder of the Python environment that `scripts/bench.sh peers` makes.
const ENVIRONMENT: &str = "vendor/bench-venv/bin";
/// The scorers in Python.
const SCORERS: &str = "benches/load/scorers.py";

/// The core of every gateway; what it asks shares it.
const CORE: &str = "0";

/// Where a peer's files go, and what they lead to.
pub(crate) struct Place<'a> {
    /// A folder that lasts as long as the run.
    pub(crate) data: &'a Path,
    /// The folder of the logs.
    pub(crate) logs: &'a Path,
    /// Where requests end.
    pub(crate) upstream: SocketAddr,
}

/// Starts `gateway`; what is missing where it is not installed.
pub(crate) async fn start(
    gateway: Gateway,
    place: &Place<'_>,
) -> Result<std::result::Result<Target, String>> {
    let program = match program(gateway) {
        Ok(program) => program,
        Err(missing) => return Ok(Err(missing)),
    };
    let mut children = Vec::new();
    let scorer = match scorer(gateway) {
        None => None,
        Some(scorer) => {
            let address = process::free_address()?;
            let (path, arguments) = match scorer {
                Scorer::Empty => (
                    std::env::current_exe()?,
                    vec!["scorer".to_owned(), address.to_string()],
                ),
                Scorer::Python(framework) => {
                    let python = root().join(ENVIRONMENT).join("python");
                    if !python.exists() {
                        return Ok(Err(format!(
                            "`{ENVIRONMENT}`: run `scripts/bench.sh peers`"
                        )));
                    }
                    let arguments = [
                        SCORERS.to_owned(),
                        framework.to_owned(),
                        address.to_string(),
                    ];
                    (python, arguments.to_vec())
                }
            };
            let log = place.logs.join(format!("{}-scorer.log", gateway.as_str()));
            children.push(Child::start(&path, &arguments, CORE, &log)?);
            process::reachable(address)
                .await
                .with_context(|| format!("see `{}`", log.display()))?;
            Some(address)
        }
    };
    let address = process::free_address()?;
    let folder = place.data.join(gateway.as_str());
    std::fs::create_dir_all(&folder)?;
    let (file, text) = match gateway {
        Gateway::HaproxyPass => ("haproxy.cfg", haproxy(address, place.upstream)),
        Gateway::EnvoyPass | Gateway::EnvoyEmpty => {
            ("envoy.json", envoy(address, place.upstream, scorer))
        }
        _ => (
            "nginx.conf",
            nginx(&folder, address, place.upstream, scorer),
        ),
    };
    let file = folder.join(file);
    std::fs::write(&file, text)?;
    let file = file.display().to_string();
    let arguments: Vec<String> = match gateway {
        Gateway::HaproxyPass => vec!["-f".to_owned(), file],
        Gateway::EnvoyPass | Gateway::EnvoyEmpty => [
            "--config-path",
            &file,
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
        ]
        .map(str::to_owned)
        .to_vec(),
        _ => ["-c", &file, "-e", "stderr"].map(str::to_owned).to_vec(),
    };
    let log = place.logs.join(format!("{}.log", gateway.as_str()));
    children.push(Child::start(&program, &arguments, CORE, &log)?);
    process::reachable(address)
        .await
        .with_context(|| format!("see `{}`", log.display()))?;
    Ok(Ok(Target {
        address,
        admin: None,
        children,
    }))
}

/// Answers 204 to everything, until it is ended: the least that a scorer can do.
pub(crate) fn run_scorer(listen: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        let router = Router::new().fallback(async || StatusCode::NO_CONTENT);
        Ok(axum::serve(listener, router).await?)
    })
}

enum Scorer {
    Empty,
    /// One of `SCORERS`.
    Python(&'static str),
}

fn scorer(gateway: Gateway) -> Option<Scorer> {
    match gateway {
        Gateway::NginxEmpty | Gateway::EnvoyEmpty => Some(Scorer::Empty),
        Gateway::NginxAsgi => Some(Scorer::Python("asgi")),
        Gateway::NginxFastapi => Some(Scorer::Python("fastapi")),
        _ => None,
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program of a peer, or what is missing.
fn program(gateway: Gateway) -> std::result::Result<PathBuf, String> {
    let name = match gateway {
        Gateway::HaproxyPass => "haproxy",
        Gateway::EnvoyPass | Gateway::EnvoyEmpty => {
            // The wheel brings the program in a package of its own, and a script that would be one process more.
            let libraries = root().join(ENVIRONMENT).join("../lib");
            let folders = std::fs::read_dir(libraries).into_iter().flatten().flatten();
            return folders
                .map(|folder| folder.path().join("site-packages/envoy/_bin/envoy"))
                .find(|path| path.exists())
                .ok_or_else(|| "envoy: run `scripts/bench.sh peers`".to_owned());
        }
        _ => "nginx",
    };
    // Debian keeps them where only root's shell looks.
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .ok_or_else(|| format!("{name}: Debian has it in a package of this name"))
}

/// One worker, connections kept on both sides; with `auth_request` when there is a scorer.
fn nginx(
    folder: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
    scorer: Option<SocketAddr>,
) -> String {
    let folder = folder.display();
    let (scorers, ask, asked) = scorer.map_or_else(Default::default, |scorer| {
        (
            format!("upstream scorer {{ server {scorer}; keepalive 64; keepalive_requests 100000; }}"),
            "auth_request /ask;",
            "location = /ask { internal; proxy_pass http://scorer/score; proxy_pass_request_body off; \
             proxy_set_header Content-Length \"\"; proxy_set_header X-Original-URI $request_uri; }",
        )
    });
    format!(
        r#"
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    upstream wso2 {{ server {upstream}; keepalive 64; keepalive_requests 100000; }}
    {scorers}
    server {{
        listen {listen};
        location / {{ {ask} proxy_pass http://wso2; }}
        {asked}
    }}
}}
"#
    )
}

fn haproxy(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "global\n    nbthread 1\n    maxconn 4096\ndefaults\n    mode http\n    timeout client 60s\n    timeout server 60s\n    \
         timeout connect 1s\n    timeout http-keep-alive 60s\n    http-reuse always\nfrontend edge\n    bind {listen}\n    \
         default_backend wso2\nbackend wso2\n    server wso2 {upstream} pool-max-conn 64\n"
    )
}

/// JSON, which Envoy reads as well as YAML.
fn envoy(listen: SocketAddr, upstream: SocketAddr, scorer: Option<SocketAddr>) -> String {
    let cluster = |name: &str, address: SocketAddr| {
        serde_json::json!({
            "name": name, "connect_timeout": "1s", "type": "STATIC",
            "load_assignment": { "cluster_name": name, "endpoints": [ { "lb_endpoints": [ { "endpoint": {
                "address": socket(address) } } ] } ] }
        })
    };
    let mut filters = Vec::new();
    let mut clusters = vec![cluster("wso2", upstream)];
    if let Some(scorer) = scorer {
        clusters.push(cluster("scorer", scorer));
        filters.push(serde_json::json!({
            "name": "envoy.filters.http.ext_authz",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
                "transport_api_version": "V3",
                "http_service": { "server_uri": {
                    "uri": format!("http://{scorer}"), "cluster": "scorer", "timeout": "1s" } }
            }
        }));
    }
    filters.push(serde_json::json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" }
    }));
    serde_json::json!({ "static_resources": {
        "listeners": [ { "name": "edge", "address": socket(listen), "filter_chains": [ { "filters": [ {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "edge",
                "route_config": { "name": "all", "virtual_hosts": [ { "name": "all", "domains": ["*"], "routes": [
                    { "match": { "prefix": "/" }, "route": { "cluster": "wso2" } } ] } ] },
                "http_filters": filters
            } } ] } ] } ],
        "clusters": clusters
    } })
    .to_string()
}

fn socket(address: SocketAddr) -> serde_json::Value {
    serde_json::json!({ "socket_address": {
        "address": address.ip().to_string(), "port_value": address.port() } })
}
