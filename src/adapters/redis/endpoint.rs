//! Where Redis is: the URL forms, and how a connection is made to each. The password of a URL never leaves this file
//! but towards the server.

use crate::adapters::names::Names;
use crate::adapters::redis::RedisSettings;
use crate::adapters::redis::RedisTls;
use crate::adapters::redis::cluster::Cluster;
use crate::adapters::redis::connection::Connection;
use crate::domain::secret::Secret;
use percent_encoding::percent_decode_str;
use redis::AsyncConnectionConfig;
use redis::Client;
use redis::ClientTlsConfig;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::IntoConnectionInfo;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::RedisFuture;
use redis::TlsCertificates;
use redis::TlsMode;
use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::io::tcp::TcpSettings;
use redis::sentinel::SentinelClientBuilder;
use redis::sentinel::SentinelServerType;
use std::fmt;
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The URL forms, for error messages.
pub(crate) const FORMS: &str = "redis://, rediss://, redis+sentinel://, redis+cluster://";
/// Hosts in one URL.
const HOSTS_MAX: usize = 32;
/// How an error begins that a Sentinel has caused.
const NOT_ASKED: &str = "not asked for the master";

/// Why a URL names no Redis. Passwords are never part of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RedisUrlError {
    /// The scheme is none of those known.
    #[error("expected one of {FORMS}")]
    Scheme,
    /// A part of the URL is wrong.
    #[error("{0}")]
    Part(&'static str),
    /// The certificates are of no use.
    #[error("the certificates cannot be used: {0}")]
    Certificates(String),
}

/// What a URL says.
#[derive(Clone)]
pub(super) struct Endpoint {
    form: Form,
    hosts: Vec<(String, u16)>,
    tls: bool,
    username: Option<String>,
    password: Option<Secret<String>>,
    database: i64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Form {
    Cluster,
    Sentinel { service: String },
    Standalone,
}

impl Endpoint {
    /// Reads `scheme://[username][:password]@host[:port][,host[:port]…][/service][/database][?tls=true]`. Username and
    /// password are percent-encoded.
    pub(super) fn parse(url: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let mut path = path.split('/').filter(|part| !part.is_empty());
        let (form, port, mut tls) = match scheme {
            "redis" => (Form::Standalone, 6379, false),
            "rediss" => (Form::Standalone, 6379, true),
            "redis+cluster" => (Form::Cluster, 6379, false),
            "redis+sentinel" => {
                let service = path.next().ok_or(RedisUrlError::Part(
                    "a sentinel URL needs the name of the service: redis+sentinel://host:26379/mymaster",
                ))?;
                (
                    Form::Sentinel {
                        service: service.to_owned(),
                    },
                    26379,
                    false,
                )
            }
            _ => return Err(RedisUrlError::Scheme),
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option {
                "tls=true" => tls = true,
                "tls=false" if scheme != "rediss" => tls = false,
                _ => {
                    return Err(RedisUrlError::Part(
                        "the only option of a redis URL is tls=true or tls=false",
                    ));
                }
            }
        }
        let database = path.next().map_or(Ok(0), |text| {
            let number = text
                .parse()
                .ok()
                .filter(|number| (0..=65_535).contains(number));
            number.ok_or(RedisUrlError::Part(
                "the database must be a number from 0 to 65535",
            ))
        })?;
        if path.next().is_some() {
            return Err(RedisUrlError::Part(
                "the path of a redis URL is the number of the database",
            ));
        }
        if form == Form::Cluster && database != 0 {
            return Err(RedisUrlError::Part("a cluster has no databases"));
        }
        let hosts = hosts
            .split(',')
            .map(|host| host_and_port(host, port))
            .collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > HOSTS_MAX || (form == Form::Standalone && hosts.len() > 1) {
            return Err(RedisUrlError::Part(
                "too many hosts: one for redis:// and rediss://, 32 otherwise",
            ));
        }
        let password = decoded(password)?;
        Ok(Self {
            form,
            hosts,
            tls,
            username: decoded(username)?,
            password: password.map(Secret::new),
            database,
        })
    }

    /// Whether connections are encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Checks what can be checked without a connection: that the certificates can be read.
    pub(super) fn check(&self, settings: &RedisSettings) -> Result<(), RedisUrlError> {
        let error = |error: RedisError| RedisUrlError::Certificates(error.to_string());
        match (self.tls, self.hosts.first()) {
            (true, Some(host)) => self.client(host, settings).map(drop).map_err(error),
            _ => Ok(()),
        }
    }

    /// Makes a connection. The caller sets the time allowed.
    pub(super) async fn connect(&self, settings: &RedisSettings) -> Result<Connection, RedisError> {
        match &self.form {
            Form::Standalone => {
                let host = self
                    .hosts
                    .first()
                    .ok_or((redis::ErrorKind::InvalidClientConfig, "no host"))?;
                Ok(Connection::Single(self.node(host, settings).await?))
            }
            Form::Sentinel { service } => {
                let addresses = self.hosts.iter().map(|host| self.address(host));
                let mut builder =
                    SentinelClientBuilder::new(addresses, service, SentinelServerType::Master)?
                        .set_client_to_redis_db(self.database)
                        .set_client_to_redis_tcp_settings(tcp())
                        .set_client_to_sentinel_tcp_settings(tcp());
                if let Some(username) = &self.username {
                    builder = builder.set_client_to_redis_username(username);
                }
                if let Some(password) = &self.password {
                    builder = builder.set_client_to_redis_password(password.expose());
                }
                if let Some(username) = &settings.sentinel_username {
                    builder = builder.set_client_to_sentinel_username(username);
                }
                if let Some(password) = &settings.sentinel_password {
                    builder = builder.set_client_to_sentinel_password(password.expose());
                }
                if self.tls {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates(&settings.tls))
                        .set_client_to_sentinel_certificates(certificates(&settings.tls));
                }
                let mut client = builder.build()?;
                let config = config(settings);
                match client.get_async_connection_with_config(&config).await {
                    Ok(connection) => Ok(Connection::Single(connection)),
                    Err(error) if is_refusal(&error) => {
                        Err(self.refused_by_sentinels(settings).await.unwrap_or(error))
                    }
                    Err(error) => Err(error),
                }
            }
            Form::Cluster => Ok(Connection::Cluster(Cluster::connect(self, settings).await?)),
        }
    }

    /// A connection to one server. The caller sets the time allowed.
    pub(super) async fn node(
        &self,
        host: &(String, u16),
        settings: &RedisSettings,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.client(host, settings)?
            .get_multiplexed_async_connection_with_config(&config(settings))
            .await
    }

    /// Whether it is a Sentinel that refuses, and not the server that they name: the library's error is the same.
    async fn refused_by_sentinels(&self, settings: &RedisSettings) -> Option<RedisError> {
        let mut credentials = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = &settings.sentinel_username {
            credentials = credentials.set_username(username);
        }
        if let Some(password) = &settings.sentinel_password {
            credentials = credentials.set_password(password.expose());
        }
        for host in &self.hosts {
            let asked = async {
                let info = self.address(host).into_connection_info()?;
                let info = info
                    .set_redis_settings(credentials.clone())
                    .set_tcp_settings(tcp());
                let mut sentinel = self
                    .open(info, settings)?
                    .get_multiplexed_async_connection_with_config(&config(settings))
                    .await?;
                // What the library asks first.
                redis::cmd("ROLE").exec_async(&mut sentinel).await
            };
            let Err(error) = asked.await else { continue };
            if is_refusal(&error) {
                let (host, port) = host;
                let what = if settings.sentinel_password.is_some() {
                    "refuses what state.sentinel_password_file and state.sentinel_username say"
                } else {
                    "wants a password, expected in state.sentinel_password_file"
                };
                let detail = format!("the Sentinel {host}:{port} {what}");
                return Some((redis::ErrorKind::AuthenticationFailed, NOT_ASKED, detail).into());
            }
        }
        None
    }

    /// Whether one of the hosts answers a command that comes without TLS. It is told nothing else.
    pub(super) async fn is_without_tls(&self, settings: &RedisSettings) -> bool {
        for (host, port) in &self.hosts {
            let asked = async {
                let found = settings.names.lookup(host, *port).await?;
                let mut stream = TcpStream::connect(found.as_slice()).await?;
                stream.write_all(b"PING\r\n").await?;
                // The beginning of an answer or of an error; a TLS server sends an alert, whose first byte is another.
                Ok::<bool, std::io::Error>(matches!(stream.read_u8().await?, b'+' | b'-'))
            };
            if matches!(asked.await, Ok(true)) {
                return true;
            }
        }
        false
    }

    /// The hosts that the URL names.
    pub(super) fn hosts(&self) -> &[(String, u16)] {
        &self.hosts
    }

    fn client(&self, host: &(String, u16), settings: &RedisSettings) -> Result<Client, RedisError> {
        self.open(self.info(host)?, settings)
    }

    fn open(&self, info: ConnectionInfo, settings: &RedisSettings) -> Result<Client, RedisError> {
        if self.tls {
            Client::build_with_tls(info, certificates(&settings.tls))
        } else {
            Client::open(info)
        }
    }

    fn info(&self, host: &(String, u16)) -> Result<ConnectionInfo, RedisError> {
        // Without the library's name the user of the gateway needs one permission less.
        let mut redis = RedisConnectionInfo::default()
            .set_db(self.database)
            .set_skip_set_lib_name();
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password.expose());
        }
        Ok(self
            .address(host)
            .into_connection_info()?
            .set_redis_settings(redis)
            .set_tcp_settings(tcp()))
    }

    fn address(&self, (host, port): &(String, u16)) -> ConnectionAddr {
        if self.tls {
            ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        }
    }
}

/// Whether the other side does not want us, for want of a right password or of permission.
fn is_refusal(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "NOPERM" | "WRONGPASS"))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        f.write_str(&hosts.join(","))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

fn config(settings: &RedisSettings) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_response_timeout(Some(settings.write_timeout.max(settings.response_timeout)))
        .set_connection_timeout(Some(settings.connection_timeout))
        .set_pipeline_buffer_size(settings.in_flight_max)
        .set_dns_resolver(settings.names.clone())
}

impl AsyncDNSResolver for Names {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found = self.lookup(host, port).await?;
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send + 'a>)
        })
    }
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn certificates(tls: &RedisTls) -> TlsCertificates {
    TlsCertificates {
        client_tls: tls
            .client
            .as_ref()
            .map(|(certificate, key)| ClientTlsConfig {
                client_cert: certificate.clone(),
                client_key: key.expose().clone(),
            }),
        root_cert: tls.authorities.pem(),
    }
}

fn host_and_port(text: &str, default_port: u16) -> Result<(String, u16), RedisUrlError> {
    let wrong = RedisUrlError::Part("a host must be a name or an address, optionally with a port");
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or(wrong.clone())?;
            (
                host,
                rest.strip_prefix(':')
                    .or(rest.is_empty().then_some(""))
                    .ok_or(wrong.clone())?,
            )
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if host.is_empty()
        || !host.chars().all(allowed)
        || (!text.starts_with('[') && port.contains(':'))
    {
        return Err(wrong);
    }
    let port = if port.is_empty() {
        default_port
    } else {
        port.parse().map_err(|_| wrong)?
    };
    Ok((host.to_owned(), port))
}

fn decoded(text: &str) -> Result<Option<String>, RedisUrlError> {
    let wrong = |_| RedisUrlError::Part("username and password must be percent-encoded UTF-8");
    let text = percent_decode_str(text).decode_utf8().map_err(wrong)?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let plain = Endpoint::parse("redis://127.0.0.1:6380/3").unwrap();
        assert_eq!(
            (plain.form.clone(), plain.tls, plain.database),
            (Form::Standalone, false, 3)
        );
        assert_eq!(plain.to_string(), "127.0.0.1:6380");
        let tls = Endpoint::parse("rediss://user:p%40ss@redis.example").unwrap();
        assert_eq!((tls.tls, tls.username.as_deref()), (true, Some("user")));
        assert_eq!(tls.password.clone().unwrap().expose(), "p@ss");
        assert_eq!(tls.to_string(), "redis.example:6379");
        let sentinel =
            Endpoint::parse("redis+sentinel://:secret@a,b:26380/mymaster/2?tls=true").unwrap();
        assert_eq!(
            sentinel.form,
            Form::Sentinel {
                service: "mymaster".to_owned()
            }
        );
        assert_eq!(
            (
                sentinel.to_string().as_str(),
                sentinel.tls,
                sentinel.database
            ),
            ("a:26379,b:26380", true, 2)
        );
        let cluster = Endpoint::parse("redis+cluster://a:7000,[::1]:7001,c").unwrap();
        assert_eq!(
            (cluster.form.clone(), cluster.to_string().as_str()),
            (Form::Cluster, "a:7000,::1:7001,c:6379")
        );
    }

    #[test]
    fn wrong_urls_say_what_was_expected_and_no_password() {
        for url in [
            "mysql://canary:canary@x",
            "redis://canary:canary@",
            "redis://canary:canary@a,b",
            "redis://canary:canary@a/x",
            "redis://canary:canary@a/1/2",
            "redis://canary:canary@a:port",
            "redis://canary:canary@a?insecure=true",
            "rediss://canary:canary@a?tls=false",
            "redis+cluster://canary:canary@a/1",
            "redis+sentinel://canary:canary@a",
            "redis://canary:%ff@a",
            "redis",
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
            assert!(error.len() > 20, "{error}");
        }
    }

    #[test]
    fn debug_never_prints_the_password() {
        let endpoint = Endpoint::parse("redis://user:canary@host").unwrap();
        assert!(!format!("{endpoint:?} {endpoint}").contains("canary"));
    }
}
