//! The requests: two thousand users, each with an address and a browser of their own, who sign in again and again. One
//! request in twenty comes from somebody else's address, so that scores differ.
//!
//! Everything is built before a round begins.

use crate::tokens::ISSUED;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Users.
pub(crate) const USERS: usize = 2_000;
/// One user in this many is on the road.
const AWAY_EVERY: usize = 20;

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
];

/// First bytes of the addresses: large European access networks.
const NETWORKS: [u8; 6] = [78, 81, 84, 88, 91, 151];

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Traffic {
    /// The keys of the identity server: a route that is not scored.
    Passed,
    /// A token for a password: body read, answer read, profile and links learnt.
    Token,
    /// The login form: body read, profile and links learnt from the head of the answer.
    Login,
    /// The beginning of a login, in which nobody is named yet.
    Authorize,
    /// The access token of a user as JWT: only to warm up for the next.
    Issue,
    /// A service behind the gateway, with that token.
    Resource,
}

/// Requests, ready to be sent.
pub(crate) struct Requests(Vec<Vec<u8>>);

impl Traffic {
    /// As it is written in the report.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Token => "token",
            Self::Login => "login",
            Self::Authorize => "authorize",
            Self::Issue => "issue",
            Self::Resource => "resource",
        }
    }
}

impl Requests {
    /// The requests of every user.
    pub(crate) fn of(traffic: Traffic) -> Self {
        Self(
            (0..USERS)
                .map(|user| request(traffic, user).into_bytes())
                .collect(),
        )
    }

    /// One of them.
    pub(crate) fn pick(&self, random: u64) -> &[u8] {
        let index = usize::try_from(random % self.0.len() as u64).unwrap_or_default();
        self.0.get(index).map_or(&[], Vec::as_slice)
    }
}

fn request(traffic: Traffic, user: usize) -> String {
    let home = if user.is_multiple_of(AWAY_EVERY) {
        user + 1
    } else {
        user
    };
    let agent = AGENTS.get(user % AGENTS.len()).copied().unwrap_or_default();
    let network = NETWORKS
        .get(home % NETWORKS.len())
        .copied()
        .unwrap_or_default();
    let common = format!(
        "Host: login.example.com\r\nUser-Agent: {agent}\r\nAccept: */*\r\nAccept-Language: nb-NO,nb;q=0.9,en;q=0.8\r\nX-Forwarded-For: {network}.{}.{}.{}\r\nX-Forwarded-Proto: https\r\n",
        home / 40 % 200,
        home % 250,
        home % 200 + 10,
    );
    let form = |path: &str, more: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\n{common}{more}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    match traffic {
        Traffic::Passed => format!("GET /oauth2/jwks HTTP/1.1\r\n{common}\r\n"),
        Traffic::Token => form(
            "/oauth2/token",
            &format!(
                "Authorization: Basic {}\r\n",
                STANDARD.encode("loadBenchClient:not-a-secret")
            ),
            &format!(
                "grant_type=password&username=user{user:05}&password=not-a-secret&scope=openid%20profile"
            ),
        ),
        Traffic::Login => form(
            "/commonauth",
            "Origin: https://login.example.com\r\nReferer: https://login.example.com/authenticationendpoint/login.do\r\n",
            &format!(
                "usernameUserInput=user{user:05}&username=user{user:05}&password=not-a-secret&sessionDataKey=3bd1f207-e5b5-4b45-8a91-{user:012}"
            ),
        ),
        Traffic::Issue => form(
            "/oauth2/token",
            &format!(
                "Authorization: Basic {}\r\n",
                STANDARD.encode("loadBenchClient:not-a-secret")
            ),
            // A login of their own: one client that asks from two thousand places would rightly be blocked.
            &format!(
                "grant_type=password&username=user{user:05}&password=not-a-secret&scope=orders%3Aread&user={user:05}"
            ),
        ),
        Traffic::Resource => format!(
            "GET /orders/{user} HTTP/1.1\r\n{common}Authorization: Bearer {}\r\n\r\n",
            ISSUED.of(user)
        ),
        Traffic::Authorize => format!(
            "GET /oauth2/authorize?response_type=code&client_id=loadBenchClient&scope=openid%20profile&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback&state=8f1c{user:08x}&nonce=52d1{user:08x}&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256 HTTP/1.1\r\n{common}\r\n"
        ),
    }
}
