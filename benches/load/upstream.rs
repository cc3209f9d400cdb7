//! A fixed upstream in place of the identity server: it answers at once, with what WSO2 would say to a request that goes
//! well and a body of 1 KiB or little more, so that the time measured is the gateway's. It checks nothing.
//!
//! Keys and tokens differ from answer to answer, so that a gateway has something new to remember each time.

use crate::driver::Head;
use crate::driver::read_head;
use crate::tokens::ISSUED;
use crate::tokens::ISSUER;
use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Bytes of a JSON body, at least.
const BODY_BYTES: usize = 1_024;

/// Serves on a free port of loopback, on the runtime of the caller, until that ends.
pub(crate) async fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let issued = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let issued = Arc::clone(&issued);
            tokio::spawn(async move {
                // A connection that breaks is the client's to report.
                drop(serve(stream, &issued).await);
            });
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream, issued: &AtomicU64) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8_192);
    let mut answer = Vec::with_capacity(2_048);
    while let Some(head) = read_head(&mut stream, &mut buffer).await? {
        let Head {
            bytes,
            content_length,
            ..
        } = head;
        while buffer.len() < bytes + content_length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        answer.clear();
        write_answer(&buffer, issued.fetch_add(1, Ordering::Relaxed), &mut answer);
        buffer.drain(..bytes + content_length);
        stream.write_all(&answer).await?;
    }
    Ok(())
}

fn write_answer(request: &[u8], number: u64, answer: &mut Vec<u8>) {
    let text = if let Some(user) = issues(request) {
        json(&format!(
            r#"{{"access_token":"{}","scope":"orders:read","token_type":"Bearer","expires_in":3600"#,
            ISSUED.of(user)
        ))
    } else if request.starts_with(b"GET /oauth2/token/.well-known/") {
        json(&format!(r#"{{"issuer":"{ISSUER}""#))
    } else if request.starts_with(b"POST /oauth2/token") {
        json(&format!(
            r#"{{"access_token":"0b8f6c1e-{number:016x}","refresh_token":"5f2d9a77-{number:016x}","scope":"openid profile","id_token":"{}","token_type":"Bearer","expires_in":3600"#,
            ISSUED.of(named(request).unwrap_or_default())
        ))
    } else if request.starts_with(b"POST /commonauth") {
        redirect(
            &format!("/oauth2/authorize?sessionDataKey=3bd1f207-{number:016x}"),
            &format!(
                "Set-Cookie: commonAuthId=9c41d7aa-{number:016x}; Path=/; Secure; HttpOnly; SameSite=None\r\n"
            ),
        )
    } else if request.starts_with(b"GET /oauth2/authorize") {
        redirect(
            &format!(
                "/authenticationendpoint/login.do?client_id=a&sessionDataKey=7e10c4b2-{number:016x}&relyingParty=a&tenantDomain=carbon.super"
            ),
            "",
        )
    } else {
        json(&ISSUED.key_set)
    };
    answer.extend_from_slice(text.as_bytes());
}

/// The user whose name is in a password grant.
fn named(request: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(request).ok()?;
    let (_, name) = text.rsplit_once("username=user")?;
    name.split('&').next()?.parse().ok()
}

/// The user to whom a token request is about to be given a JWT.
fn issues(request: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(request).ok()?;
    let form = text.strip_prefix("POST /oauth2/token")?;
    form.rsplit_once("&user=")?.1.parse().ok()
}

fn json(open_object: &str) -> String {
    const CLOSE: &str = r#","pad":""}"#;
    let length = BODY_BYTES.max(open_object.len() + CLOSE.len());
    let pad = length - open_object.len() - CLOSE.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: {length}\r\n\r\n{open_object},\"pad\":\"{}\"}}",
        "x".repeat(pad)
    )
}

fn redirect(location: &str, more: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: https://login.example.com{location}\r\n{more}Content-Length: 0\r\n\r\n"
    )
}
