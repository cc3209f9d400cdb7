//! Sets of methods.

use http::Method;
use std::fmt;

/// A set of methods of RFC 9110 and RFC 5789, without CONNECT and TRACE, which nothing accepts.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Methods(u8);

impl Methods {
    /// GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS.
    pub const ANY: Self = Self(0b111_1111);
    /// GET and POST.
    pub const GET_POST: Self = Self(Self::GET_BIT | Self::POST_BIT);
    /// GET and HEAD.
    pub const GET_HEAD: Self = Self(Self::GET_BIT | Self::HEAD_BIT);
    /// GET, HEAD and POST.
    pub const GET_HEAD_POST: Self = Self(Self::GET_HEAD.0 | Self::POST_BIT);
    /// GET, HEAD, POST and the preflight.
    pub const GET_POST_CORS: Self = Self(Self::READ.0 | Self::POST_BIT);
    /// What pages need.
    pub const PAGES: Self = Self::GET_POST_CORS;
    /// POST only.
    pub const POST: Self = Self(Self::POST_BIT);
    /// POST and the preflight.
    pub const POST_CORS: Self = Self(Self::POST_BIT | Self::OPTIONS_BIT);
    /// GET, HEAD and the preflight.
    pub const READ: Self = Self(Self::GET_BIT | Self::HEAD_BIT | Self::OPTIONS_BIT);

    const GET_BIT: u8 = 1;
    const HEAD_BIT: u8 = 1 << 1;
    const POST_BIT: u8 = 1 << 2;
    const OPTIONS_BIT: u8 = 1 << 6;

    /// The names in the order of the bits.
    const NAMES: [&'static str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

    /// Whether `method` is in the set. Methods are case-sensitive: `get` is not in any set.
    pub fn contains(self, method: &Method) -> bool {
        self.names().any(|name| name == method.as_str())
    }

    /// The value of an `Allow` header (RFC 9110, section 10.2.1).
    pub fn allow_header(self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name)
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.allow_header())
    }
}
