//! The configuration of the gateway under test: free ports, the test databases, wide budgets.

use super::Options;
use super::redis::RedisServer;
use super::redis::free_port_from;
use std::path::Path;
use std::path::PathBuf;
use toml::Table;
use toml::Value;
use wso2_sim::Sim;

/// The ports that gateways listen on begin here.
const FIRST_PORT: u16 = 12_000;

/// A port below those that the system gives to outgoing connections, so that none of them takes it between this moment and
/// the gateway's start, or while a gateway restarts.
pub fn listening_port() -> u16 {
    free_port_from(FIRST_PORT)
}

/// The whole configuration of a world, further keys included.
pub fn of(
    options: &Options,
    folder: &Path,
    sim: &Sim,
    redis: Option<&RedisServer>,
    port: u16,
    admin_port: u16,
) -> Table {
    let geo = root().join("tests/data/geo");
    let text = |path: PathBuf| path.display().to_string();
    let trusted = if options.is_peer_trusted {
        "127.0.0.0/8"
    } else {
        "10.9.8.7"
    };
    let authority = if options.tls {
        write(&folder.join("identity-server-ca.pem"), sim.ca_pem());
        format!(
            "ca_file = '{}'",
            text(folder.join("identity-server-ca.pem"))
        )
    } else {
        String::new()
    };
    // The budgets are wide: a busy machine must not turn a test of behaviour into a test of speed.
    let base = format!(
        r#"
[server]
listen = "127.0.0.1:{port}"
threads = 2
trusted_proxies = ["{trusted}"]
drain_seconds = 0
grace_seconds = 0
[upstream]
url = "{upstream}"
connect_timeout_ms = 5000
{authority}
[admin]
listen = "127.0.0.1:{admin_port}"
[mode]
default = "{mode}"
[policy]
file = '{policy}'
[model]
dir = '{model}'
library = '{library}'
[score]
budget_ms = 10000
[state]
url = "{store}"
data_dir = '{data}'
response_timeout_ms = 5000
connect_timeout_ms = 5000
[geo]
country = '{country}'
city = ['{city_v4}', '{city_v6}']
asn = '{asn}'
kinds = '{kinds}'
"#,
        upstream = sim.url,
        mode = options.mode,
        policy = text(folder.join("policy.toml")),
        // Its weights are set by hand, so that tests know what it says of what they do.
        model = text(root().join("tests/data/models/starter")),
        library = text(root().join("vendor/onnxruntime/libonnxruntime.so")),
        store = redis.map_or_else(|| "embedded:".to_owned(), RedisServer::url),
        data = text(folder.join("data")),
        country = text(geo.join("country.mmdb")),
        city_v4 = text(geo.join("city-ipv4.mmdb")),
        city_v6 = text(geo.join("city-ipv6.mmdb")),
        asn = text(geo.join("asn.csv")),
        kinds = text(geo.join("network-kinds.csv")),
    );
    let mut table: Table = base.parse().expect("the configuration is TOML");
    merge(
        &mut table,
        options
            .config
            .parse()
            .expect("further configuration is TOML"),
    );
    table
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(more)) => merge(known, more),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// A certificate for the public listener, put into the configuration: the certificate itself, PEM.
pub fn certify(folder: &Path, config: &mut Table) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .expect("a certificate");
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    write(&certificate, &made.cert.pem());
    write(&key, &made.signing_key.serialize_pem());
    let tls = format!(
        "[server.tls]\ncertificate = '{}'\nkey = '{}'\n",
        certificate.display(),
        key.display()
    );
    merge(config, tls.parse().expect("TOML"));
    made.cert.pem()
}

/// Writes a file.
pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Replaces a file as a whole: who looks at it meanwhile sees no half of it.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    write(&new, text);
    std::fs::rename(new, path).expect("a file that can be replaced");
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
