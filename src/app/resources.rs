//! From `[[resource]]` to the API routes: what is asked of a token, and where the service is.

use crate::adapters::store;
use crate::app::assemble;
use crate::app::own_certificates;
use crate::app::own_certificates::Named;
use crate::app::own_certificates::OfService;
use crate::app::secret_file;
use crate::app::trust;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::UpstreamSettings as GeneralSettings;
use crate::config::resource::ResourceSettings;
use crate::domain::resource::IntrospectionClient;
use crate::domain::resource::NAMES_MAX;
use crate::domain::resource::RESOURCES_MAX;
use crate::domain::resource::Resource;
use crate::domain::route::RouteTable;
use crate::domain::target::CanonicalTarget;
use crate::proxy::own_certificate::OwnCertificate;
use crate::proxy::own_certificate::PairFiles;
use crate::proxy::upstream::UpstreamSettings;
use std::sync::Arc;
use std::time::Duration;

/// The longest audience, issuer or scope: they go into header fields.
const NAME_BYTES_MAX: usize = 200;

/// The API routes in the order of the configuration, and the routes that lead to them. All problems are found in one go.
pub fn resources(
    config: &Config,
    file: &str,
    routes: RouteTable,
) -> Result<(RouteTable, Vec<Arc<Resource>>), Vec<ConfigError>> {
    if config.resource.len() > RESOURCES_MAX {
        let found = config.resource.len();
        return Err(vec![ConfigError::new(
            file,
            format!("resource: {found} sections, expected at most {RESOURCES_MAX}"),
        )]);
    }
    let mut problems = Vec::new();
    let mut resources = Vec::new();
    for (place, settings) in config.resource.iter().enumerate() {
        match resource(settings, config.step_up.issuer.as_deref()) {
            Ok(resource) => resources.push(Arc::new(resource)),
            Err(found) => problems.extend(
                found
                    .into_iter()
                    .map(|(key, problem)| at(file, place, key, &problem)),
            ),
        }
        problems.extend(peer(settings, place, file, &config.upstream).err());
    }
    let prefixes: Vec<&str> = config
        .resource
        .iter()
        .map(|settings| settings.prefix.as_str())
        .collect();
    match routes.with_resources(&prefixes) {
        Ok(routes) if problems.is_empty() => Ok((routes, resources)),
        Ok(_) => Err(problems),
        Err((place, problem)) => {
            problems.push(at(file, place, "prefix", &problem));
            Err(problems)
        }
    }
}

/// Where the services are, by the names under which the routes know them, and the certificates that they are shown.
#[derive(Debug, Default)]
pub struct Peers {
    /// Name and place of each.
    pub named: Vec<(Arc<str>, UpstreamSettings)>,
    /// The certificates, with their files.
    pub certificates: Vec<OfService>,
}

/// Where the services are. A certificate that is `known` by its files stays as it is: it is read again by itself, when they
/// change.
pub fn peers(config: &Config, file: &str, known: &[OfService]) -> Result<Peers, Vec<ConfigError>> {
    let mut problems = Vec::new();
    let mut peers = Peers::default();
    for (place, settings) in config.resource.iter().enumerate() {
        let made = peer(settings, place, file, &config.upstream).and_then(|(mut peer, files)| {
            if let Some(files) = files {
                let section = section(place);
                let certificate = certificate(&section, &files, file, known)?;
                peer.certificate = Some(Arc::clone(&certificate));
                peers.certificates.push(OfService {
                    section,
                    files,
                    certificate,
                });
            }
            Ok(peer)
        });
        match made {
            Ok(peer) => peers.named.push((upstream_name(settings), peer)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(peers)
    } else {
        Err(problems)
    }
}

fn certificate(
    section: &str,
    files: &PairFiles,
    file: &str,
    known: &[OfService],
) -> Result<Arc<OwnCertificate>, ConfigError> {
    if let Some(known) = known.iter().find(|known| known.files == *files) {
        return Ok(Arc::clone(&known.certificate));
    }
    let pair = own_certificates::read(section, files, file)?;
    Ok(Arc::new(OwnCertificate::new(pair)))
}

fn resource(
    settings: &ResourceSettings,
    issuer: Option<&str>,
) -> Result<Resource, Vec<(&'static str, String)>> {
    let mut problems: Vec<(&'static str, String)> = Vec::new();
    let names = "1 to 200 visible ASCII characters without `\"`, `\\` and space";
    for (key, name) in [
        ("audience", &settings.audience),
        ("issuer", &settings.issuer),
    ] {
        if !is_name(name) {
            problems.push((key, format!("expected {names}")));
        }
    }
    for (key, list) in [
        ("token_audiences", &settings.token_audiences),
        ("scopes", &settings.scopes),
    ] {
        if list.len() > NAMES_MAX {
            let found = list.len();
            problems.push((
                key,
                format!("{found} entries, expected at most {NAMES_MAX}"),
            ));
        }
        if let Some(wrong) = list.iter().find(|name| !is_name(name)) {
            problems.push((key, format!("`{wrong}`: expected {names}")));
        }
    }
    let tenant = tenant_of(&settings.realm);
    if tenant.is_none() {
        let found = &settings.realm;
        problems.push((
            "realm",
            format!(
                "`{found}`: expected the prefix of a tenant or organization as it stands in paths, such as \
                 `/t/example.com`, or nothing for the super tenant"
            ),
        ));
    }
    let introspection = match &settings.introspection {
        None => None,
        Some(_) if settings.scopes.is_empty() => {
            problems.push((
                "introspection",
                "without `scopes` every token of the realm would be let through: what WSO2 says of an opaque token \
                 need not name an audience; list the scopes that a token must have"
                    .to_owned(),
            ));
            None
        }
        Some(client) => {
            let secret = secret_file::read(&client.secret_file, "the client's secret");
            let secret = secret.map_err(|problem| {
                problems.push(("introspection.secret_file", problem));
            });
            secret.ok().map(|secret| IntrospectionClient {
                client_id: client.client_id.clone(),
                secret,
            })
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let token_audiences = if settings.token_audiences.is_empty() {
        vec![settings.audience.clone()]
    } else {
        settings.token_audiences.clone()
    };
    Ok(Resource {
        prefix: settings.prefix.clone(),
        upstream: upstream_name(settings),
        realm: settings.realm.clone(),
        tenant: tenant.unwrap_or_default(),
        token_issuer: issuer.map(|origin| format!("{origin}{}/oauth2/token", settings.realm)),
        audience: settings.audience.clone(),
        issuer: settings.issuer.clone(),
        token_audiences,
        scopes: settings.scopes.clone(),
        max_level: settings.max_level,
        on_unscored: settings.on_unscored,
        introspection,
    })
}

fn peer(
    settings: &ResourceSettings,
    place: usize,
    file: &str,
    general: &GeneralSettings,
) -> Result<(UpstreamSettings, Option<PairFiles>), ConfigError> {
    let wrong = |key: &str, problem: &str| at(file, place, key, problem);
    let origin = assemble::origin(&settings.upstream).map_err(|expected| {
        wrong(
            "upstream",
            &format!(
                "`{}`: {expected}",
                store::without_credentials(&settings.upstream)
            ),
        )
    })?;
    let authorities = trust::of_file(settings.ca_file.as_deref())
        .map_err(|error| wrong("ca_file", &error.to_string()))?;
    let own = Named {
        section: &section(place),
        certificate: settings.client_certificate.as_deref(),
        key: settings.client_key.as_deref(),
    };
    let files = own.files(origin.tls, file)?;
    let settings = UpstreamSettings {
        tls: origin.tls,
        host: origin.host,
        port: origin.port,
        authorities,
        verify: true,
        certificate: None,
        connect_timeout: Duration::from_millis(settings.connect_timeout_ms.max(1)),
        read_timeout: Duration::from_secs(settings.read_timeout_seconds.max(1)),
        idle_timeout: Duration::from_secs(settings.idle_timeout_seconds.max(1)),
        requests_max: general.requests_max,
        reuse_for_posts: general.reuse_for_posts,
    };
    Ok((settings, files))
}

fn section(place: usize) -> String {
    format!("resource[{place}]")
}

fn upstream_name(settings: &ResourceSettings) -> Arc<str> {
    Arc::from(format!("{} {}", settings.prefix, settings.upstream))
}

/// The tenant domain of a realm, if it is one.
fn tenant_of(realm: &str) -> Option<String> {
    let target = CanonicalTarget::parse(format!("{realm}/oauth2/token").as_bytes()).ok()?;
    let is_whole = target.prefix() == realm && target.path() == "/oauth2/token";
    is_whole.then(|| target.tenant_domain().to_owned())
}

fn is_name(text: &str) -> bool {
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(visible)
}

fn at(file: &str, place: usize, key: &str, problem: &str) -> ConfigError {
    ConfigError::new(file, format!("{}.{key}: {problem}", section(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = "prefix = '/orders'\nupstream = 'https://orders.internal:8443'\naudience = 'https://orders'\n";

    fn problems(text: &str) -> Vec<String> {
        let config = Config::parse(text).unwrap();
        match resources(&config, "f.toml", RouteTable::shipped()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    /// `[[resource]]` with one key of the good one exchanged for another text.
    fn with(key: &str, line: &str) -> Vec<String> {
        let kept: String = ORDERS
            .lines()
            .filter(|old| !old.starts_with(&format!("{key} =")))
            .map(|old| format!("{old}\n"))
            .collect();
        problems(&format!("[[resource]]\n{kept}{line}\n"))
    }

    #[test]
    fn a_route_is_read_with_its_defaults() {
        let config = Config::parse(&format!("[[resource]]\n{ORDERS}")).unwrap();
        let (_, found) = resources(&config, "f", RouteTable::shipped()).unwrap();
        let [orders] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(orders.token_audiences, ["https://orders"]);
        assert_eq!(orders.tenant, "carbon.super");
        let peers = peers(&config, "f", &[]).unwrap().named;
        assert_eq!(peers[0].0, orders.upstream);
        assert!(peers[0].1.tls && peers[0].1.verify && peers[0].1.port == 8443);
    }

    #[test]
    fn each_mistake_is_named_with_file_key_and_remedy() {
        for (key, line, expected) in [
            (
                "prefix",
                "prefix = '/'",
                "resource[0].prefix: `/`: expected a path in canonical form",
            ),
            (
                "prefix",
                "prefix = 'orders'",
                "resource[0].prefix: `orders`: expected a path",
            ),
            (
                "prefix",
                "prefix = '/orders/'",
                "resource[0].prefix: `/orders/`: expected a path",
            ),
            (
                "prefix",
                "prefix = '/a//b'",
                "resource[0].prefix: `/a//b`: expected a path",
            ),
            (
                "prefix",
                "prefix = '/orders*'",
                "resource[0].prefix: `/orders*`: expected a path",
            ),
            ("prefix", "prefix = '/t/a.com/orders'", "without tenant"),
            (
                "prefix",
                "prefix = '/oauth2'",
                "overlaps `/oauth2/authorize` of the identity server",
            ),
            (
                "prefix",
                "prefix = '/oauth2/token/x'",
                "overlaps `/oauth2/token` of the identity server",
            ),
            (
                "prefix",
                "prefix = '/scim2'",
                "of the identity server; choose another path",
            ),
            ("prefix", "prefix = '/commonauth'", "of the identity server"),
            ("prefix", "prefix = '/services'", "of the identity server"),
            (
                "prefix",
                "prefix = '/riskgate/orders'",
                "which the gateway serves itself",
            ),
            (
                "upstream",
                "upstream = 'orders:8443'",
                "resource[0].upstream: `orders:8443`: expected https://host:port",
            ),
            (
                "upstream",
                "upstream = 'ftp://orders'",
                "expected https://host:port or http://host:port",
            ),
            (
                "upstream",
                "upstream = 'https://orders/v1'",
                "expected no path",
            ),
            (
                "upstream",
                "upstream = 'https://u:p@orders'",
                "expected no credentials",
            ),
            (
                "audience",
                "audience = ''",
                "resource[0].audience: expected 1 to 200 visible",
            ),
            (
                "audience",
                "audience = 'a\"b'",
                "resource[0].audience: expected",
            ),
            (
                "scopes",
                "scopes = ['a b']",
                "resource[0].scopes: `a b`: expected",
            ),
            (
                "realm",
                "realm = 'example.com'",
                "resource[0].realm: `example.com`: expected the prefix of a tenant",
            ),
            ("realm", "realm = '/t/example.com/'", "resource[0].realm"),
            (
                "client_key",
                "client_key = 'own.key'",
                "resource[0].client_certificate: missing, expected the certificate of resource[0].client_key",
            ),
            (
                "client_certificate",
                "client_certificate = 'own.crt'",
                "resource[0].client_key: missing, expected the key of resource[0].client_certificate",
            ),
            (
                "upstream",
                "upstream = 'http://orders'\nclient_certificate = 'own.crt'\nclient_key = 'own.key'",
                "resource[0].client_certificate: nobody would see it over http://",
            ),
            (
                "ca_file",
                "ca_file = '/nowhere/ca.pem'",
                "resource[0].ca_file",
            ),
            (
                "introspection",
                "introspection = { client_id = 'c', secret_file = '/nowhere' }",
                "resource[0].introspection: without `scopes` every token",
            ),
            (
                "introspection",
                "scopes = ['s']\nintrospection = { client_id = 'c', secret_file = '/nowhere' }",
                "resource[0].introspection.secret_file: `/nowhere` cannot be read",
            ),
        ] {
            let found = with(key, line);
            assert!(
                found.len() == 1 && found[0].starts_with("f.toml: ") && found[0].contains(expected),
                "{line}: {found:?}"
            );
        }
    }

    #[test]
    fn prefixes_that_overlap_are_named() {
        for (one, other) in [
            ("/orders", "/orders"),
            ("/orders", "/orders/v2"),
            ("/a/b", "/a"),
        ] {
            let section = |prefix: &str| {
                format!(
                    "[[resource]]\n{}",
                    ORDERS.replace("'/orders'", &format!("'{prefix}'"))
                )
            };
            let found = problems(&format!("{}{}", section(one), section(other)));
            assert!(
                found.len() == 1
                    && found[0].contains("resource[1].prefix")
                    && found[0].contains(&format!("overlaps the resource `{one}`")),
                "{found:?}"
            );
        }
        assert!(with("prefix", "prefix = '/ordersx'").is_empty());
    }

    #[test]
    fn what_routes_say_of_the_same_path_is_named() {
        let both = |routes: &str| {
            let config = Config::parse(&format!("{routes}\n[[resource]]\n{ORDERS}")).unwrap();
            let table = RouteTable::with_settings(&config.routes).unwrap();
            resources(&config, "f", table)
                .err()
                .map(|problems| problems[0].to_string())
        };
        let passed = both("[routes]\npass = ['/orders/public']").unwrap();
        assert!(
            passed.contains("`/orders/public` is listed under `routes.pass`"),
            "{passed}"
        );
        let blocked = both("[routes]\nblock = ['/orders']").unwrap();
        assert!(
            blocked.contains("is listed under `routes.block`"),
            "{blocked}"
        );
        assert_eq!(
            both("[routes]\npass = ['/']\nblock = ['/orders/admin']"),
            None
        );
    }

    #[test]
    fn tenants_have_their_realms() {
        assert_eq!(tenant_of("").as_deref(), Some("carbon.super"));
        assert_eq!(tenant_of("/t/example.com").as_deref(), Some("example.com"));
        for wrong in [
            "/",
            "/t",
            "/t/",
            "/t/a.com/o",
            "/x",
            "t/a.com",
            "/t/A.com",
            "/t/a.com?x",
        ] {
            assert_eq!(tenant_of(wrong), None, "{wrong}");
        }
    }
}
