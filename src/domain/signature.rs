//! The signature over the risk headers: it binds them to one request for a short time, so that a copy on another
//! request is worth nothing.
//!
//! Form: `v1;t=<unix seconds>;kid=<key id>;sig=<base64url of HMAC-SHA-256>`. The signed text is, each on a line of its
//! own: `v1`, the time, the key id, the method, the target as forwarded, the client address, and each risk header as
//! `name:value` in the order in which it is sent.

use crate::domain::mac::HmacSha256;
use crate::domain::mac::hmac_sha256;
use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use std::fmt;
use std::net::IpAddr;

/// Seconds for which a verifier should accept a signature.
pub const SIGNATURE_SECONDS: i64 = 30;

/// Signs risk headers with a shared key.
#[derive(Clone)]
pub struct HeaderSigner {
    key_id: String,
    mac: HmacSha256,
}

impl HeaderSigner {
    /// A signer with a shared secret and the id under which verifiers know it.
    pub fn new(key_id: String, key: &[u8]) -> Self {
        Self {
            key_id,
            mac: hmac_sha256(key),
        }
    }

    /// The header value for these headers on this request.
    pub fn sign(
        &self,
        now: Timestamp,
        method: &str,
        target: &str,
        address: IpAddr,
        headers: &[(&'static str, impl AsRef<str>)],
    ) -> String {
        let time = now.seconds();
        let mut mac = self.mac.clone();
        for line in [
            "v1",
            &time.to_string(),
            &self.key_id,
            method,
            target,
            &address.to_string(),
        ] {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        for (name, value) in headers {
            mac.update(name.to_ascii_lowercase().as_bytes());
            mac.update(b":");
            mac.update(value.as_ref().as_bytes());
            mac.update(b"\n");
        }
        format!(
            "v1;t={time};kid={};sig={}",
            self.key_id,
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        )
    }
}

impl fmt::Debug for HeaderSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderSigner({})", self.key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_bound_to_its_request() {
        let signer = HeaderSigner::new("k1".to_owned(), b"secret");
        let address = IpAddr::from([192, 0, 2, 1]);
        let headers = [("x-risk-score", "7")];
        let sign = |now, method, target, address, headers: &[_]| {
            signer.sign(Timestamp(now), method, target, address, headers)
        };
        let reference = sign(1_000, "POST", "/oauth2/token", address, &headers);
        assert!(reference.starts_with("v1;t=1;kid=k1;sig="));
        assert_eq!(
            sign(1_999, "POST", "/oauth2/token", address, &headers),
            reference
        );
        for other in [
            sign(2_000, "POST", "/oauth2/token", address, &headers),
            sign(1_000, "GET", "/oauth2/token", address, &headers),
            sign(1_000, "POST", "/oauth2/authorize", address, &headers),
            sign(
                1_000,
                "POST",
                "/oauth2/token",
                IpAddr::from([192, 0, 2, 2]),
                &headers,
            ),
            sign(
                1_000,
                "POST",
                "/oauth2/token",
                address,
                &[("x-risk-score", "8")],
            ),
        ] {
            assert_ne!(other, reference);
        }
    }
}
