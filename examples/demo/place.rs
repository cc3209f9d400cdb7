//! Where the demo happens: its folder, ports, certificate and the configuration of riskgate.

use crate::cast::Cast;
use crate::cast::Geo;
use crate::chapters::Chapter;
use crate::screen::Screen;
use anyhow::Context as _;
use anyhow::bail;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::app::keys::Keys;
use riskgate::config::Config;
use riskgate::domain::ids::NameSpace;
use riskgate::domain::ids::Pseudonymizer;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;

/// Which chapter an address belongs to, by the pseudonym under which riskgate records it.
pub(crate) type Faces = HashMap<String, Chapter>;

/// Folder, ports and files of one run.
#[derive(Debug)]
pub(crate) struct Place {
    /// The repository: programs are started in it, as the paths of the shipped configuration are relative to it.
    pub(crate) root: PathBuf,
    dir: PathBuf,
    ports: Ports,
    // Removes the folder when the run ends, however it ends.
    _temporary: Option<TempDir>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    gateway: u16,
    wso2: u16,
    admin: u16,
    actions: u16,
    app: u16,
}

impl Place {
    /// Makes folder and certificate and finds ports.
    pub(crate) fn prepare(
        dir: Option<&Path>,
        takes_free_ports: bool,
        screen: &Screen,
    ) -> anyhow::Result<Self> {
        let root = std::env::current_dir().context("there is no working folder")?;
        if !root.join("conf/policy.toml").is_file() {
            bail!(
                "`{}` has no conf/policy.toml: start the demo in the repository",
                root.display()
            );
        }
        let (dir, temporary) = match dir {
            Some(dir) => (std::path::absolute(dir)?, None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("riskgate-demo-")
                    .tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        if dir.join("data").exists() {
            bail!(
                "`{}` holds an earlier run: name another folder",
                dir.display()
            );
        }
        std::fs::create_dir_all(dir.join("data"))
            .with_context(|| format!("cannot make `{}`", dir.display()))?;
        let ports = Ports::find(takes_free_ports, screen)?;
        let place = Self {
            root,
            dir,
            ports,
            _temporary: temporary,
        };
        place.make_certificate()?;
        Ok(place)
    }

    /// The folder of the run.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// riskgate's configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.join("riskgate.toml")
    }

    /// riskgate's audit file.
    pub(crate) fn audit_file(&self) -> PathBuf {
        self.dir.join("data/audit.jsonl")
    }

    /// The certificate of riskgate's public listener.
    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.dir.join("gateway.crt")
    }

    /// The authority of the simulated WSO2.
    pub(crate) fn wso2_ca_file(&self) -> PathBuf {
        self.dir.join("wso2-ca.pem")
    }

    /// Where browsers reach riskgate.
    pub(crate) fn gateway_url(&self) -> String {
        format!("https://localhost:{}", self.ports.gateway)
    }

    /// Where the simulated WSO2 listens.
    pub(crate) fn wso2_address(&self) -> SocketAddr {
        loopback(self.ports.wso2)
    }

    /// Where metrics and health are.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        loopback(self.ports.admin)
    }

    /// Where the demo's own application listens.
    pub(crate) fn app_address(&self) -> SocketAddr {
        loopback(self.ports.app)
    }

    /// Start of the URLs of the demo's own application.
    pub(crate) fn app_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.app)
    }

    /// Writes riskgate's configuration: the shipped one but for what the demo needs.
    pub(crate) fn write_config(&self, geo: &Geo, budget_ms: u64) -> anyhow::Result<()> {
        let path = |path: PathBuf| quoted(&path.display().to_string());
        let geo_file = |name: &str| path(self.root.join(geo.dir).join(name));
        let text = format!(
            "# Written by the demo. Everything that is not here is as shipped.\n\
             [server]\n\
             listen = \"{listen}\"\n\
             # The driver plays the load balancer: it names the addresses of its users.\n\
             trusted_proxies = [\"127.0.0.1/32\", \"::1/128\"]\n\
             drain_seconds = 0\n\
             grace_seconds = 1\n\n\
             [server.tls]\n\
             certificate = {certificate}\n\
             key = {key}\n\n\
             [upstream]\n\
             url = \"https://localhost:{wso2}\"\n\
             ca_file = {ca}\n\n\
             [admin]\n\
             listen = \"{admin}\"\n\n\
             [actions]\n\
             listen = \"{actions}\"\n\n\
             [mode]\n\
             default = \"enforce\"\n\n\
             [score]\n\
             budget_ms = {budget_ms}\n\n\
             [state]\n\
             url = \"embedded:\"\n\
             data_dir = {data}\n\n\
             [geo]\n\
             country = {country}\n\
             city = [{city4}, {city6}]\n\
             asn = {asn}\n\
             kinds = {kinds}\n",
            listen = loopback(self.ports.gateway),
            certificate = path(self.certificate_file()),
            key = path(self.key_file()),
            wso2 = self.ports.wso2,
            ca = path(self.wso2_ca_file()),
            admin = self.admin_address(),
            actions = loopback(self.ports.actions),
            data = path(self.dir.join("data")),
            country = geo_file("country.mmdb"),
            city4 = geo_file("city-ipv4.mmdb"),
            city6 = geo_file("city-ipv6.mmdb"),
            asn = path(self.root.join(geo.asn)),
            kinds = geo_file("network-kinds.csv"),
        );
        std::fs::write(self.config_file(), text).context("cannot write riskgate.toml")
    }

    /// The pseudonyms of the driver's addresses. riskgate must have started: it makes the secret.
    pub(crate) fn faces(&self, cast: &Cast) -> anyhow::Result<Faces> {
        let config = Config::load(&self.config_file())?;
        let keys = Keys::load(&config, &OsEntropy)?;
        let people = Pseudonymizer::new(keys.pseudonyms.expose());
        let face = |address: std::net::IpAddr| {
            let text = address.to_string();
            people
                .pseudonym(NameSpace::Address, &[text.as_bytes()])
                .to_string()
        };
        let of_cast = cast
            .addresses()
            .into_iter()
            .map(|(address, chapter)| (face(address), chapter));
        Ok(of_cast
            .chain([(face(Ipv4Addr::LOCALHOST.into()), Chapter::Visitor)])
            .collect())
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join("gateway.key")
    }

    /// A certificate for this machine alone, trusted by the driver alone.
    fn make_certificate(&self) -> anyhow::Result<()> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let made =
            rcgen::generate_simple_self_signed(names).context("the certificate cannot be made")?;
        std::fs::write(self.certificate_file(), made.cert.pem())
            .context("cannot write the certificate")?;
        write_private(&self.key_file(), &made.signing_key.serialize_pem())
            .context("cannot write the key")
    }
}

impl Ports {
    fn find(takes_free: bool, screen: &Screen) -> anyhow::Result<Self> {
        // Each port is held until all are chosen, so that none is chosen twice.
        let mut held = Vec::new();
        let mut choose = |wanted: u16, usage: &str| -> anyhow::Result<u16> {
            if !takes_free {
                match hold(wanted) {
                    Ok(listeners) => {
                        held.extend(listeners);
                        return Ok(wanted);
                    }
                    Err(error) => screen.line(&format!(
                        "    port {wanted} ({usage}) cannot be had: {error}; a free one is taken instead"
                    )),
                }
            }
            let listener = TcpListener::bind(loopback(0)).context("there is no free port")?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok(port)
        };
        Ok(Self {
            gateway: choose(8443, "riskgate")?,
            wso2: choose(9443, "the simulated WSO2")?,
            admin: choose(9090, "metrics and health")?,
            actions: choose(9091, "WSO2's actions")?,
            app: choose(8444, "the demo application")?,
        })
    }
}

/// Holds a port on both loopback addresses: browsers take either for `localhost`.
fn hold(port: u16) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = vec![TcpListener::bind(loopback(port))?];
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
        Ok(listener) => listeners.push(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
        // A machine without IPv6.
        Err(_) => {}
    }
    Ok(listeners)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}
