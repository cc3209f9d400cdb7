//! Login events as CSV: the columns of the public risk-based authentication data set (Wiefling et al.) and further ones
//! of our own, found by name. Reads one record at a time and says line and column of what is wrong; judges nothing.

use crate::domain::printable;
use crate::domain::signals::agent::TlsFingerprint;
use crate::domain::signals::network::Coordinates;
use crate::domain::signals::network::CountryCode;
use crate::domain::signals::network::NetworkFacts;
use crate::domain::signals::network::NetworkKind;
use crate::domain::time::Timestamp;
use csv::StringRecord;
use http::HeaderValue;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::io::Read;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The longest record that is taken, in bytes.
const RECORD_BYTES_MAX: usize = 64 * 1024;
/// The longest record that is read to its end, so that it can be skipped; a longer one ends the reading.
const RECORD_BYTES_READ: u64 = 4 * 1024 * 1024;
/// The tenant of events without one.
const TENANT: &str = "carbon.super";

/// What an event is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EventKind {
    /// Credentials at the login door.
    Login,
    /// An authorize request with a living session and no credentials.
    Sso,
    /// An app redeems the code of a login.
    Code,
    /// An app presents a refresh token.
    Refresh,
    /// A service account asks for a token for itself.
    ClientCredentials,
}

/// One event, as the file says it.
#[derive(Clone, Debug)]
pub struct Event<'r> {
    /// The line on which its record begins, from 1.
    pub line: u64,
    /// The column `index`; empty without it.
    pub index: &'r str,
    /// When it happened.
    pub at: Timestamp,
    /// What it is.
    pub kind: EventKind,
    /// The username.
    pub user: &'r str,
    /// Where it came from.
    pub address: IpAddr,
    /// The User-Agent header; `None` when it is empty.
    pub agent: Option<HeaderValue>,
    /// The Accept-Language header; `None` when it is empty.
    pub language: Option<HeaderValue>,
    /// Whether the identity server accepted what was presented.
    pub is_successful: bool,
    /// The OAuth client; may be empty.
    pub client: &'r str,
    /// Whether that client keeps a secret.
    pub is_confidential: bool,
    /// The tenant domain.
    pub tenant: &'r str,
    /// The scopes asked for, separated by spaces; may be empty.
    pub scopes: &'r str,
    /// Whose cookie jar it is; empty for a browser that keeps no cookies.
    pub device: &'r str,
    /// The TLS handshake, if known.
    pub tls: Option<TlsFingerprint>,
    /// The login, its code, its refreshes and its sessions share this; may be empty.
    pub family: &'r str,
    /// The refresh token presented, by any name; may be empty.
    pub token: &'r str,
    /// What the file says of the network.
    pub network: NetworkFacts,
    /// Whether whoever acts could pass a second factor.
    pub has_second_factor: bool,
    /// The kind of attacker; empty for legitimate events.
    pub attacker: &'r str,
    /// The incident that the event belongs to; may be empty.
    pub campaign: &'r str,
    /// Which groups of users the event belongs to, separated by spaces.
    pub cohort: &'r str,
    /// Whether the account is being taken over.
    pub is_takeover: bool,
    /// Whether the address is known for attacks.
    pub is_attack_address: bool,
}

/// What makes an event an attack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Label {
    /// The column `Attacker Kind` is not empty.
    AttackerKind,
    /// The column `Is Account Takeover`.
    Takeover,
    /// The column `Is Account Takeover` or the column `Is Attack IP`.
    AttackAddress,
}

/// Why a record is no event.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadEvent {
    /// Where its record begins.
    pub line: u64,
    /// What is wrong, with the column.
    pub problem: String,
    /// Whether reading can go on with the next record.
    pub can_skip: bool,
}

macro_rules! columns {
    ($($field:ident => $name:literal),+ $(,)?) => {
        /// Where each column stands.
        #[derive(Clone, Debug, Default)]
        struct Columns { $($field: Option<usize>),+ }

        impl Columns {
            /// The place to fill in for a column of this name.
            fn slot(&mut self, name: &str) -> Option<&mut Option<usize>> {
                match name {
                    $($name => Some(&mut self.$field),)+
                    _ => None,
                }
            }
        }
    };
}

columns! {
    index => "index",
    at => "Login Timestamp",
    user => "User ID",
    address => "IP Address",
    country => "Country",
    city => "City",
    asn => "ASN",
    agent => "User Agent String",
    successful => "Login Successful",
    attack_address => "Is Attack IP",
    takeover => "Is Account Takeover",
    kind => "Event Kind",
    client => "Client ID",
    tenant => "Tenant",
    scopes => "Scopes",
    confidential => "Confidential",
    device => "Device ID",
    tls => "TLS Fingerprint",
    language => "Language",
    family => "Family ID",
    token => "Token ID",
    network => "Network Kind",
    latitude => "Latitude",
    longitude => "Longitude",
    second_factor => "Second Factor",
    attacker => "Attacker Kind",
    campaign => "Campaign",
    cohort => "Cohort",
}

/// Columns of the data set and of the generator that say nothing to the gateway.
const UNUSED: [&str; 6] = [
    "Round-Trip Time [ms]",
    "Region",
    "Browser Name and Version",
    "OS Name and Version",
    "Device Type",
    "Variant",
];

/// Reads events.
pub struct Events<R> {
    csv: csv::Reader<Bounded<R>>,
    taken: Rc<Cell<u64>>,
    columns: Columns,
    record: StringRecord,
    latest: Timestamp,
    ignored: Vec<String>,
}

/// Counts the bytes that one record takes and ends a record without an end.
struct Bounded<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl EventKind {
    /// The kind as the column `Event Kind` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Sso => "sso",
            Self::Code => "code",
            Self::Refresh => "refresh",
            Self::ClientCredentials => "client_credentials",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "login" => Some(Self::Login),
            "sso" => Some(Self::Sso),
            "code" => Some(Self::Code),
            "refresh" => Some(Self::Refresh),
            "client_credentials" => Some(Self::ClientCredentials),
            _ => None,
        }
    }
}

impl Event<'_> {
    /// The kind of attacker by `label`; `None` when the event is legitimate.
    pub fn attack(&self, label: Label) -> Option<&str> {
        match label {
            Label::AttackerKind => (!self.attacker.is_empty()).then_some(self.attacker),
            Label::Takeover | Label::AttackAddress if self.is_takeover => Some("account_takeover"),
            Label::AttackAddress if self.is_attack_address => Some("attack_ip"),
            Label::Takeover | Label::AttackAddress => None,
        }
    }

    /// Whom it is about, as the file names them: the user, or the client that asks for itself.
    pub fn whom(&self) -> &str {
        if self.kind == EventKind::ClientCredentials && !self.client.is_empty() {
            self.client
        } else {
            self.user
        }
    }
}

impl<R: Read> Events<R> {
    /// Reads the header line of `input`.
    ///
    /// # Errors
    ///
    /// If there is none, or one of the columns that every event needs is missing or there twice.
    pub fn open(input: R) -> Result<Self, BadEvent> {
        let taken = Rc::new(Cell::new(0));
        let bounded = Bounded {
            inner: input,
            taken: Rc::clone(&taken),
        };
        let mut csv = csv::ReaderBuilder::new()
            .buffer_capacity(64 * 1024)
            .from_reader(bounded);
        let names = csv.headers().map_err(|error| bad_csv(&error, false))?;
        let of_header = |problem: String| BadEvent {
            line: 1,
            problem,
            can_skip: false,
        };
        if names.is_empty() {
            return Err(of_header("no header line".to_owned()));
        }
        let mut columns = Columns::default();
        let mut ignored = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let name = name.trim_start_matches('\u{feff}').trim();
            match columns.slot(name) {
                Some(Some(_)) => {
                    return Err(of_header(format!("the column `{name}` is there twice")));
                }
                Some(slot) => *slot = Some(place),
                None if UNUSED.contains(&name) => {}
                None => ignored.push(shown(name)),
            }
        }
        let missing: Vec<_> = [
            (columns.at, "Login Timestamp"),
            (columns.user, "User ID"),
            (columns.address, "IP Address"),
            (columns.agent, "User Agent String"),
            (columns.successful, "Login Successful"),
        ]
        .into_iter()
        .filter(|(place, _)| place.is_none())
        .map(|(_, name)| format!("`{name}`"))
        .collect();
        if !missing.is_empty() {
            return Err(of_header(format!("no column {}", missing.join(", "))));
        }
        Ok(Self {
            csv,
            taken,
            columns,
            record: StringRecord::new(),
            latest: Timestamp(i64::MIN),
            ignored,
        })
    }

    /// The columns that are not known.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// What makes an event of this file an attack, as far as its columns say.
    pub fn label(&self) -> Option<Label> {
        match (self.columns.attacker, self.columns.takeover) {
            (Some(_), _) => Some(Label::AttackerKind),
            (None, Some(_)) => Some(Label::Takeover),
            (None, None) => None,
        }
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the next record is no event. The one after it can be asked for when the error says so.
    pub fn read(&mut self) -> Result<Option<Event<'_>>, BadEvent> {
        self.taken.set(0);
        let more = self
            .csv
            .read_record(&mut self.record)
            .map_err(|error| bad_csv(&error, true))?;
        if !more {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let event = Fields {
            record: &self.record,
            columns: &self.columns,
        }
        .event(line, self.latest)
        .map_err(|problem| BadEvent {
            line,
            problem,
            can_skip: true,
        })?;
        self.latest = event.at;
        Ok(Some(event))
    }
}

impl<R> fmt::Debug for Events<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({:?})", self.columns)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken.get() > RECORD_BYTES_READ {
            return Err(io::Error::other("a record without an end"));
        }
        let count = self.inner.read(buffer)?;
        self.taken
            .set(self.taken.get().saturating_add(count as u64));
        Ok(count)
    }
}

/// The fields of one record by column.
struct Fields<'r> {
    record: &'r StringRecord,
    columns: &'r Columns,
}

impl<'r> Fields<'r> {
    fn text(&self, place: Option<usize>) -> &'r str {
        place.and_then(|place| self.record.get(place)).unwrap_or("")
    }

    fn event(&self, line: u64, latest: Timestamp) -> Result<Event<'r>, String> {
        let columns = self.columns;
        if self.record.as_slice().len() > RECORD_BYTES_MAX {
            return Err(format!("a record of more than {RECORD_BYTES_MAX} bytes"));
        }
        let at = self.text(columns.at);
        let at =
            moment(at).ok_or_else(|| wrong("Login Timestamp", at, "YYYY-MM-DD HH:MM:SS.mmm"))?;
        if at < latest {
            return Err(format!(
                "`Login Timestamp`: {} is before the event above ({})",
                at.to_rfc3339(),
                latest.to_rfc3339()
            ));
        }
        let address = self.text(columns.address);
        let kind = self.text(columns.kind);
        let kind = EventKind::parse(kind).ok_or_else(|| {
            wrong(
                "Event Kind",
                kind,
                "login, sso, code, refresh or client_credentials",
            )
        })?;
        let user = self.text(columns.user);
        let client = self.text(columns.client);
        if kind == EventKind::Login && user.is_empty() {
            return Err("`User ID`: empty".to_owned());
        }
        if kind == EventKind::ClientCredentials && client.is_empty() && user.is_empty() {
            return Err("`Client ID`: empty".to_owned());
        }
        let tenant = match self.text(columns.tenant) {
            "" => TENANT,
            tenant if is_plain(tenant) => tenant,
            tenant => return Err(wrong("Tenant", tenant, "a tenant domain")),
        };
        let attacker = self.text(columns.attacker);
        Ok(Event {
            line,
            index: self.text(columns.index),
            at,
            kind,
            user,
            address: address
                .parse()
                .map_err(|_| wrong("IP Address", address, "an IPv4 or IPv6 address"))?,
            agent: self.header("User Agent String", columns.agent)?,
            language: self.header("Language", columns.language)?,
            is_successful: self
                .flag("Login Successful", columns.successful)?
                .ok_or_else(|| wrong("Login Successful", "", "True or False"))?,
            client,
            is_confidential: self
                .flag("Confidential", columns.confidential)?
                .unwrap_or(false),
            tenant,
            scopes: self.text(columns.scopes),
            device: self.text(columns.device),
            tls: self.tls()?,
            family: self.text(columns.family),
            token: self.text(columns.token),
            network: self.network()?,
            has_second_factor: self
                .flag("Second Factor", columns.second_factor)?
                .unwrap_or(attacker.is_empty()),
            attacker,
            campaign: self.text(columns.campaign),
            cohort: self.text(columns.cohort),
            is_takeover: self
                .flag("Is Account Takeover", columns.takeover)?
                .unwrap_or(false),
            is_attack_address: self
                .flag("Is Attack IP", columns.attack_address)?
                .unwrap_or(false),
        })
    }

    fn flag(&self, name: &str, place: Option<usize>) -> Result<Option<bool>, String> {
        match self.text(place) {
            "" => Ok(None),
            "True" | "true" | "1" => Ok(Some(true)),
            "False" | "false" | "0" => Ok(Some(false)),
            other => Err(wrong(name, other, "True or False")),
        }
    }

    fn header(&self, name: &str, place: Option<usize>) -> Result<Option<HeaderValue>, String> {
        match self.text(place) {
            "" => Ok(None),
            text => HeaderValue::from_bytes(text.as_bytes())
                .map(Some)
                .map_err(|_| wrong(name, text, "text without control characters")),
        }
    }

    /// GREASE (RFC 8701) is no part of a JA4 text. Chromium, the one family of which it is expected, offers 15 cipher
    /// suites beside it.
    fn tls(&self) -> Result<Option<TlsFingerprint>, String> {
        const JA4_BYTES_MAX: usize = 64;
        match self.text(self.columns.tls) {
            "" => Ok(None),
            ja4 if ja4.len() <= JA4_BYTES_MAX && ja4.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Some(TlsFingerprint {
                    ja4: ja4.to_owned(),
                    grease: ja4.get(4..6) == Some("15"),
                }))
            }
            other => Err(wrong("TLS Fingerprint", other, "a JA4 text")),
        }
    }

    fn network(&self) -> Result<NetworkFacts, String> {
        let columns = self.columns;
        let asn = self.text(columns.asn);
        let city = self.text(columns.city);
        Ok(NetworkFacts {
            // Data frames write whole numbers with missing ones among them as `29695.0`.
            asn: match asn.strip_suffix(".0").unwrap_or(asn) {
                "" | "-" => None,
                number => Some(
                    number
                        .parse()
                        .map_err(|_| wrong("ASN", asn, "the number of an autonomous system"))?,
                ),
            },
            as_org: None,
            country: CountryCode::parse(self.text(columns.country)),
            city: (!city.is_empty() && city != "-").then(|| Arc::from(city)),
            coordinates: match (
                self.degrees("Latitude", columns.latitude)?,
                self.degrees("Longitude", columns.longitude)?,
            ) {
                (Some(latitude), Some(longitude)) => Some(
                    Coordinates::new(latitude, longitude)
                        .ok_or("`Latitude`, `Longitude`: out of range")?,
                ),
                _ => None,
            },
            kind: match self.text(columns.network) {
                "" => None,
                "residential" | "mobile" => Some(NetworkKind::Residential),
                "vpn" => Some(NetworkKind::Vpn),
                "hosting" => Some(NetworkKind::Hosting),
                "tor" => Some(NetworkKind::Tor),
                other => {
                    return Err(wrong(
                        "Network Kind",
                        other,
                        "residential, mobile, vpn, hosting or tor",
                    ));
                }
            },
        })
    }

    fn degrees(&self, name: &str, place: Option<usize>) -> Result<Option<f32>, String> {
        match self.text(place) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| wrong(name, text, "degrees")),
        }
    }
}

fn wrong(column: &str, found: &str, expected: &str) -> String {
    format!("`{column}`: `{}`; expected {expected}", shown(found))
}

/// A text of the file, cut and without anything that a terminal could act on.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let plain = |c: char| if printable::acts(c) { '\u{fffd}' } else { c };
    text.chars().take(CHARS_MAX).map(plain).collect()
}

fn is_plain(tenant: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    tenant.len() <= 255 && tenant.bytes().all(known)
}

/// `has_header` says that the header line was read already, so that a record can be skipped.
fn bad_csv(error: &csv::Error, has_header: bool) -> BadEvent {
    let line = error.position().map_or(1, csv::Position::line);
    let (problem, can_skip) = match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => (
            format!("field {} is not UTF-8", err.field().saturating_add(1)),
            has_header,
        ),
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => (
            format!("{len} fields; expected {expected_len} as in the header line"),
            true,
        ),
        csv::ErrorKind::Io(error) => (format!("cannot be read: {error}"), false),
        _ => (shown(&error.to_string()), false),
    };
    BadEvent {
        line,
        problem,
        can_skip,
    }
}

/// The moment of a record of the audit log (RFC 3339 in UTC with milliseconds); the epoch when it is none.
pub fn moment_of_record(text: &str) -> Timestamp {
    let plain = text.replacen('T', " ", 1);
    moment(plain.trim_end_matches('Z')).unwrap_or_default()
}

/// `YYYY-MM-DD HH:MM:SS.mmm` in UTC; the milliseconds may be missing.
pub fn moment(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0_i64, |value, byte| {
            byte.is_ascii_digit()
                .then(|| value * 10 + i64::from(byte - b'0'))
        })
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    let as_written = separators
        .iter()
        .all(|(place, expected)| bytes.get(*place) == Some(expected));
    let millis = match bytes.len() {
        19 => 0,
        23 if bytes.get(19) == Some(&b'.') => number(20, 23)?,
        _ => return None,
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    let fits = as_written
        && (1970..=9999).contains(&year)
        && (1..=days).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !fits {
        return None;
    }
    // Days since the epoch in the proleptic Gregorian calendar; a year begins in March here.
    let (years, months) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_year = (153 * months + 2) / 5 + day - 1;
    let days = years * 365 + years / 4 - years / 100 + years / 400 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(seconds * 1_000 + millis))
}

#[cfg(test)]
mod tests;
