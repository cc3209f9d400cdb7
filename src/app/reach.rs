//! Whether the identity server answers as configured: name, port and, for `https`, a handshake that is checked in the
//! same way as the gateway's own.

use crate::proxy::upstream::UpstreamSettings;
use crate::telemetry::remedy;
use crate::telemetry::remedy::Side;
use rustls::AlertDescription;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::sync::Arc;

/// Contacts the identity server, or a service. The error says what was wrong and what mends it.
pub fn upstream(settings: &UpstreamSettings, side: Side) -> Result<(), String> {
    let UpstreamSettings { host, port, .. } = settings;
    let addresses = (host.as_str(), *port)
        .to_socket_addrs()
        .map_err(|error| format!("`{host}` does not resolve: {error}"))?;
    let mut last = format!("`{host}` has no address");
    for address in addresses {
        match contact(settings, side, address) {
            Ok(()) => return Ok(()),
            Err(problem) => last = problem,
        }
    }
    Err(last)
}

fn contact(settings: &UpstreamSettings, side: Side, address: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect_timeout(&address, settings.connect_timeout)
        .map_err(|error| format!("{address} does not answer: {error}"))?;
    if !settings.tls || !settings.verify {
        return Ok(());
    }
    let timeouts = stream
        .set_read_timeout(Some(settings.connect_timeout))
        .and_then(|()| stream.set_write_timeout(Some(settings.connect_timeout)));
    timeouts.map_err(|error| format!("{address}: {error}"))?;
    let name = ServerName::try_from(settings.host.clone()).map_err(|_| {
        format!(
            "`{}` is not a name that a certificate can have",
            settings.host
        )
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(settings)?);
    let config = match &settings.certificate {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = (own.present().chain(), own.present().key());
            PrivateKeyDer::try_from(key.expose().clone())
                .map_err(str::to_owned)
                .and_then(|key| {
                    let config = builder.with_client_auth_cert(chain, key);
                    config.map_err(|error| error.to_string())
                })
                .map_err(|error| format!("the client certificate cannot be used: {error}"))?
        }
    };
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|error| refused(settings, side, address, &error))?;
    }
    // With TLS 1.3 the other side looks at our certificate after our own last word. What it says then, a session ticket or
    // an alert, comes at once or not at all.
    match connection.complete_io(&mut stream) {
        Err(error) if alert(&error).is_some() => Err(refused(settings, side, address, &error)),
        _ => Ok(()),
    }
}

/// What the other side says when it ends a handshake.
fn alert(error: &std::io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn refused(
    settings: &UpstreamSettings,
    side: Side,
    address: SocketAddr,
    error: &std::io::Error,
) -> String {
    let Some(alert) = alert(error) else {
        return unaccepted(side, address, error);
    };
    let remedy = remedy::of_alert(side, settings.certificate.is_some());
    let said = format!("{address} ends the handshake with `{alert:?}`");
    with_remedy(said, remedy)
}

/// Why this side ends a handshake.
fn unaccepted(side: Side, address: SocketAddr, error: &std::io::Error) -> String {
    let cause = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    let (said, remedy) = match cause {
        Some(rustls::Error::InvalidMessage(_)) => (
            format!("{address} does not speak TLS: {error}"),
            Some(remedy::without_tls(side)),
        ),
        Some(_) => (
            format!("the certificate of {address} is not accepted: {error}"),
            remedy::of_tls(&error.to_string(), side),
        ),
        None => (format!("{address} ends the handshake: {error}"), None),
    };
    with_remedy(said, remedy)
}

fn with_remedy(said: String, remedy: Option<String>) -> String {
    match remedy {
        Some(remedy) => format!("{said}; {remedy}"),
        None => said,
    }
}

fn roots(settings: &UpstreamSettings) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if settings.authorities.is_empty() {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // What the system holds beside usable authorities is no concern of ours.
            drop(roots.add(certificate));
        }
    } else {
        for der in &settings.authorities {
            roots
                .add(CertificateDer::from(der.clone()))
                .map_err(|error| format!("upstream.ca_file: {error}"))?;
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::assemble;
    use crate::config::Config;
    use rustls::CertificateError;
    use std::io::Write;
    use std::net::TcpListener;

    fn upstream_at(url: &str) -> UpstreamSettings {
        let config = Config::parse(&format!("upstream.url = '{url}'")).unwrap();
        assemble::upstream(&config, "f").unwrap()
    }

    #[test]
    fn a_server_without_tls_is_told_from_one_with_a_wrong_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        });
        let settings = upstream_at(&format!("https://127.0.0.1:{port}"));
        let found = upstream(&settings, Side::IdentityServer).unwrap_err();
        assert!(
            found.contains("does not speak TLS") && found.contains("http:// in upstream.url"),
            "{found}"
        );
        server.join().unwrap();
    }

    #[test]
    fn an_unknown_authority_leads_to_the_key() {
        let address = "127.0.0.1:9443".parse().unwrap();
        let error = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = std::io::Error::other(error);
        for (side, key) in [
            (Side::IdentityServer, "upstream.ca_file"),
            (Side::Service, "resource.ca_file"),
        ] {
            let found = unaccepted(side, address, &error);
            assert!(
                found.contains("UnknownIssuer; name the authority") && found.ends_with(key),
                "{found}"
            );
        }
    }
}
