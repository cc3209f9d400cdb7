//! The ClientHello: read before the handshake, put back, and turned into a JA4 fingerprint (FoxIO, "JA4: TLS client
//! fingerprinting", BSD 3-Clause part of the JA4+ suite).

use crate::domain::hex;
use crate::domain::signals::agent::TlsFingerprint;
use pingora::Error;
use pingora::ErrorType;
use pingora::http::ResponseHeader;
use pingora::protocols::GetProxyDigest;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use sha2::Digest;
use sha2::Sha256;
use tls_parser::TlsExtension;
use tls_parser::TlsMessage;
use tls_parser::TlsMessageHandshake;
use tokio::io::AsyncReadExt;

/// The longest ClientHello, over all its records: post-quantum key shares take about 1.7 KiB.
const HELLO_BYTES_MAX: usize = 16 * 1024;
const RECORD_HEADER: usize = 5;
const HANDSHAKE_RECORD: u8 = 22;

/// Reads the ClientHello of a connection, fingerprints it and puts it back. The caller bounds the time.
pub async fn read(stream: &mut Stream) -> pingora::Result<()> {
    let Ok((raw, handshake)) = read_hello(stream).await else {
        return Error::e_explain(ErrorType::TLSHandshakeFailure, "no ClientHello");
    };
    stream.rewind(&raw);
    if let Some(print) = fingerprint(&handshake) {
        // Pingora carries it to the request as the user data of a proxy digest.
        let carrier = ResponseHeader::build(200, Some(0))?;
        stream.set_proxy_digest(ProxyDigest::new(Box::new(carrier), Some(Box::new(print))));
    }
    Ok(())
}

/// Reads records until the ClientHello is complete: everything that was read, and the handshake message in it.
async fn read_hello(stream: &mut Stream) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut raw = Vec::with_capacity(1024);
    let mut handshake = Vec::with_capacity(1024);
    loop {
        let mut header = [0; RECORD_HEADER];
        stream.read_exact(&mut header).await?;
        raw.extend_from_slice(&header);
        let [kind, _, _, high, low] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE_RECORD || length == 0 || raw.len() + length > HELLO_BYTES_MAX {
            // Not for us to judge: the handshake itself will refuse it.
            return Ok((raw, Vec::new()));
        }
        let mut fragment = vec![0; length];
        stream.read_exact(&mut fragment).await?;
        raw.extend_from_slice(&fragment);
        handshake.extend_from_slice(&fragment);
        if let [_, a, b, c, ..] = handshake.as_slice() {
            let announced = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if handshake.len() >= announced + 4 {
                return Ok((raw, handshake));
            }
        }
    }
}

/// The JA4 of a ClientHello message; `None` when it is not one.
pub fn fingerprint(handshake: &[u8]) -> Option<TlsFingerprint> {
    let (_, message) = tls_parser::parse_tls_message_handshake(handshake).ok()?;
    let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = message else {
        return None;
    };
    let ids = extension_ids(hello.ext.unwrap_or_default());
    let extensions = hello.ext.map(tls_parser::parse_tls_client_hello_extensions);
    let extensions = extensions
        .and_then(Result::ok)
        .map(|(_, list)| list)
        .unwrap_or_default();

    let ciphers: Vec<u16> = hello.ciphers.iter().map(|cipher| cipher.0).collect();
    let real_ciphers: Vec<u16> = ciphers
        .iter()
        .copied()
        .filter(|id| !is_grease(*id))
        .collect();
    let real_ids: Vec<u16> = ids.iter().copied().filter(|id| !is_grease(*id)).collect();
    let grease = ciphers.iter().chain(&ids).any(|id| is_grease(*id));

    let mut version = hello.version.0;
    let mut server_name = false;
    let mut protocol = None;
    let mut signatures = Vec::new();
    for extension in &extensions {
        match extension {
            TlsExtension::SupportedVersions(offered) => {
                version = offered
                    .iter()
                    .map(|offer| offer.0)
                    .filter(|id| !is_grease(*id))
                    .max()
                    .unwrap_or(version);
            }
            TlsExtension::SNI(_) => server_name = true,
            TlsExtension::ALPN(protocols) => protocol = protocols.first().copied(),
            TlsExtension::SignatureAlgorithms(offered) => signatures.clone_from(offered),
            _ => {}
        }
    }
    let ja4 = format!(
        "t{}{}{:02}{:02}{}_{}_{}",
        version_code(version),
        if server_name { 'd' } else { 'i' },
        real_ciphers.len().min(99),
        real_ids.len().min(99),
        protocol_code(protocol),
        hash_ciphers(real_ciphers),
        hash_extensions(real_ids, &signatures),
    );
    Some(TlsFingerprint { ja4, grease })
}

/// The types of all extensions in order, also of those whose content nobody understands.
fn extension_ids(mut bytes: &[u8]) -> Vec<u16> {
    let mut ids = Vec::new();
    while let [a, b, high, low, rest @ ..] = bytes {
        ids.push(u16::from_be_bytes([*a, *b]));
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).unwrap_or_default();
    }
    ids
}

/// RFC 8701: 0x0a0a, 0x1a1a, ... 0xfafa.
fn is_grease(id: u16) -> bool {
    let [a, b] = id.to_be_bytes();
    a == b && a & 0x0f == 0x0a
}

fn version_code(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        _ => "00",
    }
}

/// First and last character of the first ALPN value; in hexadecimal when they are not alphanumeric.
fn protocol_code(protocol: Option<&[u8]>) -> String {
    let Some((first, last)) = protocol.and_then(|value| Some((*value.first()?, *value.last()?)))
    else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        format!("{}{}", char::from(first), char::from(last))
    } else {
        format!("{:x}{:x}", first >> 4, last & 0x0f)
    }
}

fn hash_ciphers(mut ciphers: Vec<u16>) -> String {
    ciphers.sort_unstable();
    if ciphers.is_empty() {
        "0".repeat(12)
    } else {
        short_hash(&hex_list(&ciphers))
    }
}

fn hash_extensions(mut ids: Vec<u16>, signatures: &[u16]) -> String {
    const SERVER_NAME: u16 = 0x0000;
    const ALPN: u16 = 0x0010;
    if ids.is_empty() {
        return "0".repeat(12);
    }
    ids.retain(|id| *id != SERVER_NAME && *id != ALPN);
    ids.sort_unstable();
    let real: Vec<u16> = signatures
        .iter()
        .copied()
        .filter(|id| !is_grease(*id))
        .collect();
    let mut text = hex_list(&ids);
    if !real.is_empty() {
        text.push('_');
        text.push_str(&hex_list(&real));
    }
    short_hash(&text)
}

fn hex_list(ids: &[u16]) -> String {
    ids.iter()
        .map(|id| format!("{id:04x}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn short_hash(text: &str) -> String {
    hex::encode(Sha256::digest(text).get(..6).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_of_the_published_example() {
        let ciphers = vec![
            0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
            0x009c, 0x009d, 0x002f, 0x0035,
        ];
        assert_eq!(hash_ciphers(ciphers), "8daaf6152771");
        let ids = vec![
            0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012,
            0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
        ];
        let signatures = [
            0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
        ];
        assert_eq!(hash_extensions(ids, &signatures), "e5627efa2ab1");
    }

    /// A ClientHello with a name, h2, TLS 1.3 and GREASE.
    fn hello() -> Vec<u8> {
        let extension = |id: u16, data: &[u8]| {
            [
                &id.to_be_bytes()[..],
                &(data.len() as u16).to_be_bytes(),
                data,
            ]
            .concat()
        };
        let extensions = [
            extension(0x1a1a, &[]),
            extension(
                0x0000,
                &[
                    0, 12, 0, 0, 9, b'l', b'o', b'c', b'a', b'l', b'h', b'o', b's', b't',
                ],
            ),
            extension(0x0010, &[0, 3, 2, b'h', b'2']),
            extension(0x002b, &[4, 0x2a, 0x2a, 3, 4]),
            extension(0x000d, &[0, 4, 4, 3, 8, 4]),
        ]
        .concat();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 6, 0x0a, 0x0a, 0x13, 1, 0x13, 2, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn a_hello_is_read() {
        let print = fingerprint(&hello()).unwrap();
        assert!(print.grease);
        assert!(print.ja4.starts_with("t13d0204h2_"), "{}", print.ja4);
        assert!(
            print
                .ja4
                .starts_with(&format!("t13d0204h2_{}_", short_hash("1301,1302")))
        );
        assert!(print.ja4.ends_with(&short_hash("000d,002b_0403,0804")));
    }

    #[test]
    fn cut_and_garbled_hellos_never_panic() {
        let whole = hello();
        for length in 0..whole.len() {
            assert!(fingerprint(&whole[..length]).is_none());
        }
        for index in 0..whole.len() {
            for value in [0, 0xff] {
                let mut bytes = whole.clone();
                bytes[index] = value;
                let _ = fingerprint(&bytes);
            }
        }
    }
}
