//! Tokens by which programs are known to a listener of the gateway (RFC 6750): those of operators, and of receivers that
//! fetch what they are told.

use crate::domain::hex;
use crate::domain::mac::HmacSha256;
use crate::domain::mac::hmac_sha256;
use crate::domain::secret::Secret;
use hmac::Mac;

/// The shortest token, in characters.
pub const TOKEN_CHARS_MIN: usize = 32;
/// The longest.
pub const TOKEN_CHARS_MAX: usize = 256;

/// Knows one token.
#[derive(Clone, Debug)]
pub struct BearerToken(Secret<String>);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} letters, digits, `-`, `_` or `.`")]
pub struct TokenError;

impl BearerToken {
    /// A token from the text of its file.
    ///
    /// # Errors
    /// When it is too short, too long, or could not be sent in a header.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let token = text.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len());
        if fits && token.bytes().all(plain) {
            Ok(Self(Secret::new(token.to_owned())))
        } else {
            Err(TokenError)
        }
    }

    /// A token of 256 random bits.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(Secret::new(hex::encode(bytes)))
    }

    /// The token itself, to be sent or written to its file.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether the value of an Authorization header (`Bearer TOKEN`, RFC 6750) is this token. Takes as long for a wrong one
    /// as for the right one of the same length.
    pub fn admits(&self, authorization: &str) -> bool {
        let presented = authorization
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim());
        if presented.len() > TOKEN_CHARS_MAX {
            return false;
        }
        // Comparing what a keyed hash makes of both tells nothing about where they differ.
        let tag = Self::mac(presented).finalize().into_bytes();
        Self::mac(self.expose()).verify(&tag).is_ok()
    }

    fn mac(token: &str) -> HmacSha256 {
        hmac_sha256(token.as_bytes()).chain_update(b"riskgate bearer token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_admitted() {
        let token = BearerToken::parse(&format!("{}\n", "a1".repeat(16))).unwrap();
        assert!(token.admits(&format!("Bearer {}", "a1".repeat(16))));
        assert!(token.admits(&format!("bearer {}", "a1".repeat(16))));
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            "a1".repeat(16),
            format!("Basic {}", "a1".repeat(16)),
            format!("Bearer {}", "a1".repeat(15)),
            format!("Bearer {}2", "a1".repeat(16)),
            format!("Bearer {}", "a2".repeat(16)),
            format!("Bearer {}", "x".repeat(100_000)),
        ] {
            assert!(!token.admits(&wrong), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("a1"));
    }

    #[test]
    fn a_token_is_long_and_plain() {
        for bad in [
            "",
            "short",
            &"ä".repeat(40),
            &"a b".repeat(20),
            &"a".repeat(257),
        ] {
            assert_eq!(BearerToken::parse(bad).unwrap_err(), TokenError, "{bad}");
        }
        let made = BearerToken::from_random(&[0xAB; 32]);
        assert_eq!(made.expose().len(), 64);
        assert!(BearerToken::parse(made.expose()).is_ok());
    }
}
