//! The operators who may sign in to the console: names, roles, hashes of passwords (Argon2id, RFC 9106). Knows the form of
//! their file and no path; salts are arguments.

use crate::domain::hex;
use crate::domain::secret::Secret;
use argon2::Algorithm;
use argon2::Argon2;
use argon2::Params;
use argon2::Version;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;

/// Operators in one file.
pub const OPERATORS_MAX: usize = 200;
/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The shortest password that is taken for a new operator, in characters (NIST SP 800-63B-4 asks for 15 where there is no
/// second factor).
pub const PASSWORD_CHARS_MIN: usize = 15;
/// The longest, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// KiB of memory, passes and lanes: the second recommendation of the OWASP cheat sheet for Argon2id.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// The dearest hash that is computed for a sign-in: KiB and passes.
const COST_MAX: (u32, u32, u32) = (256 * 1024, 10, 4);
/// Bytes of a salt that is made here.
pub const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// What an operator may do, from the least.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Decides about held logins as well.
    Analyst,
    /// Ends sessions of others as well.
    Admin,
}

/// One operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operator {
    name: Arc<str>,
    role: Role,
    password: PasswordHash,
}

/// All of them, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roster(Vec<Operator>);

/// Why a roster, a name or a password cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RosterError {
    /// Not of the form.
    #[error("{0}")]
    Form(String),
    /// A name that is none.
    #[error("a name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.` or `@`")]
    Name,
    /// Two operators of one name.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// Too many.
    #[error("there are more than {OPERATORS_MAX} operators")]
    Many,
    /// The hash of an operator cannot be read.
    #[error(
        "the password of `{0}` is no Argon2id hash that can be checked: expected what `riskgate operator add` writes"
    )]
    Hash(String),
    /// A password that is not taken.
    #[error(
        "a password has at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
    )]
    Password,
}

/// A salted hash with its cost, in the PHC form.
#[derive(Clone, Debug, Eq, PartialEq)]
struct PasswordHash(Secret<Arc<str>>);

struct Parts {
    params: Params,
    salt: Vec<u8>,
    hash: [u8; HASH_BYTES],
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    operator: Vec<Line>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    role: Role,
    password: String,
}

impl Role {
    /// All roles, from the least.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Analyst, Self::Admin];

    /// The role as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Analyst => "analyst",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Operator {
    /// A new operator, whose password is hashed with `salt`.
    ///
    /// # Errors
    /// When name or password are not as they have to be.
    pub fn new(
        name: &str,
        role: Role,
        password: &str,
        salt: &[u8; SALT_BYTES],
    ) -> Result<Self, RosterError> {
        let name = checked_name(name)?;
        let chars = password.chars().count();
        if chars < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
            return Err(RosterError::Password);
        }
        let (memory, passes, lanes) = COST;
        let params = Params::new(memory, passes, lanes, Some(HASH_BYTES))
            .map_err(|error| RosterError::Form(error.to_string()))?;
        let hash =
            hash(&params, salt, password).ok_or_else(|| RosterError::Hash(name.to_string()))?;
        let text = format!(
            "$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}",
            STANDARD_NO_PAD.encode(salt),
            STANDARD_NO_PAD.encode(hash)
        );
        Ok(Self {
            name,
            role,
            password: PasswordHash(Secret::new(text.into())),
        })
    }

    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Tells one password from another, and says nothing of it: the front of a digest of its salted hash.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.password.0.expose().as_bytes());
        hex::encode(digest.get(..16).unwrap_or_default())
    }

    /// Whether this is the same operator with the same password: what a session was opened with still holds.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.password == other.password
    }
}

impl Roster {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// When it is not of the form, or an operator in it could not sign in.
    pub fn parse(text: &str) -> Result<Self, RosterError> {
        // A parser's own message would quote the line, and with it a hash.
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| {
                1 + text
                    .bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count()
            });
            RosterError::Form(format!(
                "line {line}: expected `[[operator]]` with `name`, `role` (viewer, analyst, admin) and `password`"
            ))
        })?;
        if file.operator.len() > OPERATORS_MAX {
            return Err(RosterError::Many);
        }
        let mut roster = Self::default();
        for line in file.operator {
            let name = checked_name(&line.name)?;
            if roster.find(&name).is_some() {
                return Err(RosterError::Twice(line.name));
            }
            let password = PasswordHash(Secret::new(line.password.into()));
            if password.parts().is_none() {
                return Err(RosterError::Hash(line.name));
            }
            roster.0.push(Operator {
                name,
                role: line.role,
                password,
            });
        }
        Ok(roster)
    }

    /// The text of a file. It holds the hashes.
    pub fn to_text(&self) -> String {
        let file = File {
            operator: self
                .0
                .iter()
                .map(|operator| Line {
                    name: operator.name.to_string(),
                    role: operator.role,
                    password: operator.password.0.expose().to_string(),
                })
                .collect(),
        };
        let head = "# Operators of the console. Written by `riskgate operator`; read again when it changes.\n\n";
        head.to_owned() + &toml::to_string(&file).unwrap_or_default()
    }

    /// Adds an operator, or exchanges the one of that name.
    ///
    /// # Errors
    /// When there are too many.
    pub fn put(&mut self, operator: Operator) -> Result<(), RosterError> {
        let is_full = self.0.len() >= OPERATORS_MAX;
        match self.0.iter_mut().find(|other| other.name == operator.name) {
            Some(place) => *place = operator,
            None if is_full => return Err(RosterError::Many),
            None => self.0.push(operator),
        }
        Ok(())
    }

    /// Takes an operator away; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|operator| &*operator.name != name);
        self.0.len() < before
    }

    /// The operator of that name.
    pub fn find(&self, name: &str) -> Option<&Operator> {
        self.0.iter().find(|operator| &*operator.name == name)
    }

    /// All operators.
    pub fn operators(&self) -> &[Operator] {
        &self.0
    }

    /// The operator whose name and password these are. A name that nobody has costs as much as a wrong password. Takes
    /// some 20 ms and 19 MiB; not for a thread that others wait for.
    pub fn verify(&self, name: &str, password: &str) -> Option<&Operator> {
        if password.len() > PASSWORD_BYTES_MAX {
            return None;
        }
        let operator = self.find(name);
        let parts = match operator {
            Some(operator) => operator.password.parts()?,
            None => nobody()?,
        };
        let computed = hash(&parts.params, &parts.salt, password)?;
        // Every byte counts, wherever they differ.
        let differs = computed
            .iter()
            .zip(&parts.hash)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        operator.filter(|_| differs == 0)
    }
}

impl PasswordHash {
    fn parts(&self) -> Option<Parts> {
        let mut fields = self
            .0
            .expose()
            .strip_prefix("$argon2id$v=19$")?
            .splitn(3, '$');
        let (mut cost, salt, hash) = (fields.next()?.split(','), fields.next()?, fields.next()?);
        let mut number = |name: &str, most: u32| -> Option<u32> {
            let value = cost.next()?.strip_prefix(name)?.parse().ok()?;
            (value <= most).then_some(value)
        };
        let (memory, passes, lanes) = (
            number("m=", COST_MAX.0)?,
            number("t=", COST_MAX.1)?,
            number("p=", COST_MAX.2)?,
        );
        let salt = STANDARD_NO_PAD.decode(salt).ok()?;
        let hash = STANDARD_NO_PAD.decode(hash).ok()?.try_into().ok()?;
        if cost.next().is_some() || !(8..=64).contains(&salt.len()) {
            return None;
        }
        Some(Parts {
            params: Params::new(memory, passes, lanes, Some(HASH_BYTES)).ok()?,
            salt,
            hash,
        })
    }
}

/// What is computed for a name that nobody has. No password gives this hash that anybody could find.
fn nobody() -> Option<Parts> {
    let (memory, passes, lanes) = COST;
    Some(Parts {
        params: Params::new(memory, passes, lanes, Some(HASH_BYTES)).ok()?,
        salt: vec![0; SALT_BYTES],
        hash: [0; HASH_BYTES],
    })
}

fn hash(params: &Params, salt: &[u8], password: &str) -> Option<[u8; HASH_BYTES]> {
    let mut out = [0; HASH_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .ok()?;
    Some(out)
}

fn checked_name(name: &str) -> Result<Arc<str>, RosterError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
    fits.then(|| name.into()).ok_or(RosterError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "correct horse battery";

    #[test]
    fn what_is_written_is_read_and_admits_the_password_alone() {
        let mut roster = Roster::default();
        for (name, role) in [("ann", Role::Analyst), ("bo@example.com", Role::Viewer)] {
            roster
                .put(Operator::new(name, role, GOOD, &[name.len() as u8; 16]).unwrap())
                .unwrap();
        }
        let text = roster.to_text();
        assert!(!text.contains(GOOD) && text.contains("$argon2id$v=19$m=19456,t=2,p=1$"));
        let roster = Roster::parse(&text).unwrap();
        assert_eq!(roster.operators().len(), 2);
        let ann = roster.verify("ann", GOOD).unwrap();
        assert_eq!((&**ann.name(), ann.role()), ("ann", Role::Analyst));
        for (name, password) in [
            ("ann", "correct horse batterz"),
            ("ann", ""),
            ("Ann", GOOD),
            ("nobody", GOOD),
            ("", ""),
            ("ann", "x".repeat(2_000).as_str()),
        ] {
            assert!(roster.verify(name, password).is_none(), "{name}");
        }
        assert!(!format!("{roster:?}").contains("argon2id"));
        // Another password is another operator to a session.
        let other = Operator::new("ann", Role::Analyst, "another good password", &[9; 16]).unwrap();
        assert!(!ann.is_same(&other) && ann.is_same(&ann.clone()));
    }

    #[test]
    fn an_operator_is_exchanged_or_taken_away() {
        let mut roster = Roster::default();
        let ann = |role| Operator::new("ann", role, GOOD, &[1; 16]).unwrap();
        roster.put(ann(Role::Viewer)).unwrap();
        roster.put(ann(Role::Admin)).unwrap();
        assert_eq!(roster.operators().len(), 1);
        assert_eq!(roster.find("ann").map(Operator::role), Some(Role::Admin));
        assert!(roster.remove("ann") && !roster.remove("ann"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_its_content() {
        for (name, password, error) in [
            ("", GOOD, RosterError::Name),
            ("a b", GOOD, RosterError::Name),
            ("<script>", GOOD, RosterError::Name),
            ("ann", "too short", RosterError::Password),
        ] {
            assert_eq!(
                Operator::new(name, Role::Viewer, password, &[0; 16]),
                Err(error)
            );
        }
        let line =
            |hash: &str| format!("[[operator]]\nname='ann'\nrole='admin'\npassword='{hash}'\n");
        let good = Operator::new("ann", Role::Admin, GOOD, &[0; 16]).unwrap();
        let good = good.password.0.expose().to_string();
        assert!(Roster::parse(&line(&good)).is_ok());
        for bad in [
            "canary".to_owned(),
            good.replace("argon2id", "argon2i"),
            good.replace("m=19456", "m=99999999"),
            good.replace("t=2", "t=1000"),
            good.replace("p=1", "p=1,keyid=x"),
            format!("{good}canary"),
        ] {
            let error = Roster::parse(&line(&bad)).unwrap_err().to_string();
            assert!(
                error.contains("`ann`") && !error.contains("canary"),
                "{error}"
            );
        }
        let twice = Roster::parse(&line(&good).repeat(2)).unwrap_err();
        assert_eq!(twice, RosterError::Twice("ann".to_owned()));
        let error = Roster::parse("[[operator]]\nname='ann'\nrole='root'\npassword='canary'\n");
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("line ") && !error.contains("canary"),
            "{error}"
        );
    }
}
