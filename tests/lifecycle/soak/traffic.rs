//! Clients of the soak: key sets, tokens of services, logins by password (some wrong), and clients that do not wait.

use crate::client::Client;
use crate::client::Failure;
use crate::gateway::basic;
use crate::load::NUMBER;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// Users whose logins are learnt, with their passwords.
pub const USERS: [(&str, &str); 4] = [
    ("niaj", "niaj-pw-1"),
    ("olivia", "olivia-pw-1"),
    ("peggy", "peggy-pw-1"),
    ("dave", "dave-was-here"),
];

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The key set, which is not scored.
    Keys,
    /// A token of a service.
    Service,
    /// A login by password: who, and whether it is the right one.
    Password(usize, bool),
}

/// What the client saw.
#[derive(Clone, Debug)]
pub enum Seen {
    /// An answer of this status.
    Answer(u16),
    /// It did not wait.
    Left,
    /// The connection had been closed while it was idle.
    Idle,
    /// It is lost.
    Failed(String),
}

/// One exchange, from the client's side.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its number.
    pub number: u64,
    /// What it was.
    pub kind: Kind,
    /// What the client saw.
    pub seen: Seen,
    /// From when to when.
    pub time: (SystemTime, SystemTime),
}

impl Kind {
    /// Whether the identity server answers with this status when all is well.
    pub fn expects(self, status: u16) -> bool {
        match self {
            Self::Password(_, false) => matches!(status, 400 | 401),
            Self::Keys | Self::Service | Self::Password(_, true) => status == 200,
        }
    }

    fn draw(draw: &mut StdRng) -> Self {
        match draw.random_range(0..100) {
            0..40 => Self::Keys,
            40..60 => Self::Service,
            share => Self::Password(draw.random_range(0..USERS.len()), share < 92),
        }
    }

    fn request(self, number: u64) -> Vec<u8> {
        let (client, body, home) = match self {
            Self::Keys => {
                return format!(
                    "GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n{NUMBER}: {number}\r\n\r\n"
                )
                .into_bytes();
            }
            Self::Service => (
                "demo-service",
                "grant_type=client_credentials".to_owned(),
                9,
            ),
            Self::Password(who, is_right) => {
                let (name, password) = USERS[who];
                // Somebody whom nobody else wants to be, since too many failures lock an account.
                let (name, password) = match is_right {
                    true => (name, password),
                    false => ("mallory", "wrong"),
                };
                let body = format!("grant_type=password&username={name}&password={password}");
                ("demo-legacy", body, 20 + who)
            }
        };
        format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept-Language: de-CH\r\nAuthorization: {}\r\n{NUMBER}: {number}\r\nX-Forwarded-For: 192.0.2.{home}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            basic(client, &format!("{client}-secret")),
            body.len()
        )
        .into_bytes()
    }
}

/// One client until `done`: all that it sent.
pub async fn work(mut client: Client, seed: u64, place: u64, done: Arc<AtomicBool>) -> Vec<Sent> {
    let mut draw = StdRng::seed_from_u64(seed ^ (place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut all = Vec::new();
    let mut number = place * 1_000_000;
    while !done.load(Ordering::Relaxed) {
        number += 1;
        let kind = Kind::draw(&mut draw);
        let leaves = draw.random_ratio(1, 25);
        let stay = Duration::from_millis(draw.random_range(5..40));
        let pause = Duration::from_millis(draw.random_range(30..150));
        if draw.random_ratio(1, 40) {
            client.hang_up();
        }
        let from = SystemTime::now();
        let seen = match client.connect().await {
            Err(failure) => Seen::Failed(format!("{failure:?}")),
            Ok(()) => {
                let request = kind.request(number);
                let exchange = client.exchange(&request);
                let ended = if leaves {
                    tokio::time::timeout(stay, exchange).await
                } else {
                    Ok(exchange.await)
                };
                match ended {
                    Err(_) => Seen::Left,
                    Ok(Ok(answer)) => Seen::Answer(answer.status),
                    Ok(Err(Failure::Idle)) => Seen::Idle,
                    Ok(Err(failure)) => Seen::Failed(format!("{failure:?}")),
                }
            }
        };
        if matches!(seen, Seen::Left) {
            client.hang_up();
        }
        all.push(Sent {
            number,
            kind,
            seen,
            time: (from, SystemTime::now()),
        });
        tokio::time::sleep(pause).await;
    }
    all
}
