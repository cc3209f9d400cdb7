//! Which door a request knocks at. Every path is in exactly one class: scored, passed, own, blocked; what is in none is
//! unknown and gets 404. The inventory is the whole truth about what passes the gateway as shipped.
//!
//! Nothing here looks at bodies or credentials: that a passed path carries Basic credentials, or an authorization
//! request `response_mode=direct`, is for the caller to see.

use crate::domain::target::CanonicalTarget;
use http::Method;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// The doors and the kinds of passed paths.
mod door;

/// A line per path.
mod inventory;

/// Sets of methods.
mod methods;

pub use door::Door;
pub use door::PassedKind;
use inventory::Entry;
use inventory::INVENTORY;
use inventory::Reach;
pub use methods::Methods;

/// How many entries each list of [`RouteSettings`] may have.
pub const ROUTE_ENTRIES_MAX: usize = 256;

/// The front of the paths that the gateway serves itself on its public listener.
pub const OWN_PREFIX: &str = "/riskgate";

/// Where the metadata of the transmitter of shared signals is (SSF 1.0 section 7.2).
pub const SIGNALS_PATH: &str = "/.well-known/ssf-configuration";

/// Where receivers of shared signals fetch what they are told (RFC 8936).
pub const POLL_PATH: &str = "/riskgate/ssf/poll";

/// The path of the keys with which the gateway signs.
pub const KEYS_PATH: &str = "/riskgate/jwks.json";

/// What happens to a request, as far as its path and method tell.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RouteClass {
    /// Scored before it is forwarded.
    Scored(Door),
    /// Forwarded as it comes.
    Passed(PassedKind),
    /// Led to a service of the operator's own, by its place in the configuration.
    Resource(u16),
    /// Served by the gateway.
    Own,
    /// Not to be reached from outside: 404.
    Blocked,
    /// In no list: 404.
    Unknown,
}

/// The answer of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteMatch {
    /// What happens to the request.
    pub class: RouteClass,
    /// The entry that matched: a label from a bounded set, fit for metrics.
    pub pattern: Arc<str>,
    /// The methods that the path takes.
    pub methods: Methods,
    /// Whether the method of the request is among them. If not, the answer is 405 with an `Allow` header.
    pub method_is_allowed: bool,
}

/// Changes to the shipped inventory. Each entry is a path that stands for itself and everything beneath it, without a
/// tenant prefix and without a slash at its end.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RouteSettings {
    /// Further paths that are passed. A scored door stays a scored door, and nothing beneath it is passed.
    pub pass: Vec<String>,
    /// Paths that are answered with 404, scored doors and APIs included.
    pub block: Vec<String>,
    /// Paths that are blocked as shipped and shall be passed.
    pub unblock: Vec<String>,
}

/// An entry of [`RouteSettings`] that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RouteError {
    /// More than [`ROUTE_ENTRIES_MAX`] entries.
    #[error("routes.{list}: expected at most {ROUTE_ENTRIES_MAX} entries, found {found}")]
    TooMany {
        /// The name of the list.
        list: &'static str,
        /// How many there are.
        found: usize,
    },
    /// One entry is wrong.
    #[error("routes.{list}: entry `{entry}`: expected {expected}")]
    Entry {
        /// The name of the list.
        list: &'static str,
        /// The entry as written.
        entry: String,
        /// What would have been right.
        expected: &'static str,
    },
}

/// Whether the identity server answers a request with success only to a user whom it has authenticated. Much beneath its
/// APIs is for everybody (schemas, branding, recovery), and what is for everybody is answered whatever password comes along:
/// such an answer says nothing about whose it was. What is not known for sure is not in here; creating is left out, as users
/// may be allowed to register themselves.
pub fn authenticates(method: &str, target: &CanonicalTarget) -> bool {
    const FRONTS: [&str; 6] = [
        "/scim2/Groups",
        "/scim2/Me",
        "/scim2/Roles",
        "/scim2/Users",
        "/scim2/v2/Roles",
        "/scim2/v3/Roles",
    ];
    ["DELETE", "GET", "PATCH", "PUT"].contains(&method)
        && FRONTS.iter().any(|front| is_within(target.path(), front))
}

/// The inventory, ready for look-ups.
#[derive(Clone, Debug)]
pub struct RouteTable {
    exact: HashMap<&'static str, Route>,
    templates: Vec<(&'static str, Route)>,
    subtrees: HashMap<String, Route>,
    blocked: HashMap<String, Route>,
    unknown: Arc<str>,
}

#[derive(Clone, Debug)]
struct Route {
    class: RouteClass,
    methods: Methods,
    reach: Reach,
    pattern: Arc<str>,
}

impl RouteClass {
    /// The name in records and metrics: that of the door, of the kind, or of the class.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scored(door) => door.as_str(),
            Self::Passed(kind) => kind.as_str(),
            Self::Resource(_) => "resource",
            Self::Own => "own",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }

    /// The door, where the request is scored.
    pub fn door(self) -> Option<Door> {
        match self {
            Self::Scored(door) => Some(door),
            Self::Passed(_) | Self::Resource(_) | Self::Own | Self::Blocked | Self::Unknown => None,
        }
    }
}

impl RouteTable {
    /// The inventory as shipped.
    pub fn shipped() -> Self {
        let mut table = Self {
            exact: HashMap::new(),
            templates: Vec::new(),
            subtrees: HashMap::new(),
            blocked: HashMap::new(),
            unknown: Arc::from("unknown"),
        };
        for Entry {
            pattern,
            class,
            methods,
            reach,
        } in INVENTORY
        {
            let route = Route {
                class: *class,
                methods: *methods,
                reach: *reach,
                pattern: Arc::from(*pattern),
            };
            match pattern.strip_suffix("/*") {
                Some(front) if *class == RouteClass::Blocked => {
                    table.blocked.insert(front.to_owned(), route);
                }
                Some(front) => {
                    table.subtrees.insert(front.to_owned(), route);
                }
                None if pattern.contains("{}") => table.templates.push((*pattern, route)),
                None => {
                    table.exact.insert(pattern, route);
                }
            }
        }
        table
    }

    /// The shipped inventory with the changes of a configuration.
    ///
    /// # Errors
    /// Names the list and the entry that cannot be used.
    pub fn with_settings(settings: &RouteSettings) -> Result<Self, RouteError> {
        let mut table = Self::shipped();
        let configured = |class: RouteClass, list: &str, entry: &str| Route {
            class,
            methods: Methods::ANY,
            reach: Reach::Everywhere,
            pattern: Arc::from(format!("{list}:{entry}")),
        };
        for entry in checked("unblock", &settings.unblock)? {
            let mut shipped = INVENTORY
                .iter()
                .filter(|line| line.class == RouteClass::Blocked);
            let opens = |line: &Entry| match line.pattern.strip_suffix("/*") {
                Some(front) => is_within(entry, front),
                None => matches_template(line.pattern, entry),
            };
            if !shipped.any(opens) {
                return Err(wrong("unblock", entry, "a path that is blocked as shipped"));
            }
            let class = RouteClass::Passed(PassedKind::Configured);
            table
                .blocked
                .insert(entry.clone(), configured(class, "unblock", entry));
        }
        for entry in checked("pass", &settings.pass)? {
            if table.is_beneath_door(entry)
                || table
                    .exact
                    .get(entry.as_str())
                    .is_some_and(Route::is_scored)
            {
                return Err(wrong(
                    "pass",
                    entry,
                    "a path that is neither a scored door nor beneath one",
                ));
            }
            if nearest(&table.blocked, entry).is_some_and(Route::is_blocked) {
                return Err(wrong(
                    "pass",
                    entry,
                    "a path that is not blocked as shipped (list it under `unblock`)",
                ));
            }
            if is_within(entry, OWN_PREFIX) {
                return Err(wrong(
                    "pass",
                    entry,
                    "a path that the gateway does not serve itself",
                ));
            }
            // What the inventory says about a subtree stands; only what it does not know is added.
            let key = if entry == "/" {
                String::new()
            } else {
                entry.clone()
            };
            let class = RouteClass::Passed(PassedKind::Configured);
            table
                .subtrees
                .entry(key)
                .or_insert_with(|| configured(class, "pass", entry));
        }
        for entry in checked("block", &settings.block)? {
            if entry == "/" || is_within(entry, OWN_PREFIX) {
                return Err(wrong(
                    "block",
                    entry,
                    "a path other than `/` and those that the gateway serves itself",
                ));
            }
            if settings.unblock.iter().any(|open| open == entry) {
                return Err(wrong(
                    "block",
                    entry,
                    "a path that is not listed under `unblock` as well",
                ));
            }
            table.blocked.insert(
                entry.clone(),
                configured(RouteClass::Blocked, "block", entry),
            );
        }
        Ok(table)
    }

    /// Leads `prefixes`, each with everything beneath it, to the services of the operator's own, in their order.
    ///
    /// # Errors
    /// Names the place of the prefix that cannot be used, and why: it is no canonical path, or it collides with another
    /// one, with the identity server's paths or with the gateway's.
    pub fn with_resources(mut self, prefixes: &[&str]) -> Result<Self, (usize, String)> {
        for (place, prefix) in prefixes.iter().enumerate() {
            let refused = |why: String| Err((place, format!("`{prefix}`: {why}")));
            if !is_canonical(prefix) || *prefix == "/" || prefix.contains('*') {
                return refused(
                    "expected a path in canonical form such as `/orders`, without tenant, query, `*` and slash at its \
                     end, and not `/`"
                        .to_owned(),
                );
            }
            if overlap(prefix, OWN_PREFIX) {
                return refused(format!(
                    "overlaps `{OWN_PREFIX}`, which the gateway serves itself; choose another path"
                ));
            }
            let known = INVENTORY.iter().map(|line| line.pattern);
            if let Some(pattern) = known.clone().find(|pattern| is_taken(prefix, pattern)) {
                return refused(format!(
                    "overlaps `{pattern}` of the identity server; choose another path"
                ));
            }
            let earlier = prefixes.iter().take(place);
            if let Some(other) = earlier.into_iter().find(|other| overlap(prefix, other)) {
                return refused(format!(
                    "overlaps the resource `{other}`; let each have a path of its own"
                ));
            }
            let mut passed = self.subtrees.keys();
            if let Some(other) = passed.find(|other| is_within(other, prefix)) {
                return refused(format!(
                    "`{other}` is listed under `routes.pass`; take it away there, or choose another path"
                ));
            }
            if nearest(&self.blocked, prefix).is_some_and(Route::is_blocked) {
                return refused("is listed under `routes.block`; take it away there".to_owned());
            }
            let index = u16::try_from(place).unwrap_or(u16::MAX);
            self.subtrees.insert(
                (*prefix).to_owned(),
                Route {
                    class: RouteClass::Resource(index),
                    methods: Methods::ANY,
                    reach: Reach::Root,
                    pattern: Arc::from(format!("resource:{prefix}")),
                },
            );
        }
        Ok(self)
    }

    /// The class of a request. Comparison is by whole segments and case-sensitive, as in the identity server.
    pub fn classify(&self, method: &Method, target: &CanonicalTarget) -> RouteMatch {
        let path = target.path();
        // A slash at the end changes nothing for the identity server, except at the root.
        let trimmed = path
            .strip_suffix('/')
            .filter(|trimmed| !trimmed.is_empty())
            .unwrap_or(path);
        let route = self
            .find(trimmed)
            .filter(|route| route.reach == Reach::Everywhere || !target.has_prefix());
        let Some(route) = route else {
            return RouteMatch {
                class: RouteClass::Unknown,
                pattern: Arc::clone(&self.unknown),
                methods: Methods::ANY,
                method_is_allowed: true,
            };
        };
        let is_preflight =
            *method == Method::OPTIONS && route.class.door().is_some_and(Door::takes_preflight);
        RouteMatch {
            class: if is_preflight {
                RouteClass::Passed(PassedKind::Preflight)
            } else {
                route.class
            },
            pattern: Arc::clone(&route.pattern),
            methods: route.methods,
            method_is_allowed: is_preflight || route.methods.contains(method),
        }
    }

    fn find(&self, path: &str) -> Option<&Route> {
        if let Some(route) = nearest(&self.blocked, path).filter(|route| route.is_blocked()) {
            return Some(route);
        }
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        if let Some((_, route)) = self
            .templates
            .iter()
            .find(|(template, _)| matches_template(template, path))
        {
            // A path that is blocked as shipped and listed under `unblock`.
            let opened = self.blocked.get(path).filter(|_| route.is_blocked());
            return Some(opened.unwrap_or(route));
        }
        // The servlet behind a door also answers to paths beneath it, so that these must not slip through as passed.
        if self.is_beneath_door(path) {
            return None;
        }
        nearest(&self.blocked, path).or_else(|| nearest(&self.subtrees, path))
    }

    fn is_beneath_door(&self, path: &str) -> bool {
        ancestors(path)
            .skip(1)
            .any(|front| self.exact.get(front).is_some_and(Route::is_scored))
    }
}

impl Route {
    fn is_scored(&self) -> bool {
        self.class.door().is_some()
    }

    fn is_blocked(&self) -> bool {
        self.class == RouteClass::Blocked
    }
}

/// The entry of the longest front of `path`.
fn nearest<'a>(routes: &'a HashMap<String, Route>, path: &str) -> Option<&'a Route> {
    ancestors(path).find_map(|front| routes.get(front))
}

/// The path itself, then every shorter front of whole segments, down to the empty one.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |front| {
        front.rfind('/').and_then(|at| front.get(..at))
    })
}

fn is_within(path: &str, front: &str) -> bool {
    path.strip_prefix(front)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether one of two paths is the other one or beneath it.
fn overlap(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

/// Whether `prefix` and what is beneath it would take something of a line of the inventory, or the other way round.
fn is_taken(prefix: &str, pattern: &str) -> bool {
    let front = pattern.strip_suffix("/*").unwrap_or(pattern);
    if front.is_empty() || front == "/" {
        return false;
    }
    let both = prefix.split('/').zip(front.split('/'));
    both.into_iter()
        .all(|(segment, other)| segment == other || other == "{}")
}

fn matches_template(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let all_match = template.split('/').all(|expected| {
        segments
            .next()
            .is_some_and(|segment| segment == expected || (expected == "{}" && !segment.is_empty()))
    });
    all_match && segments.next().is_none()
}

/// The entries of a list, once each is known to be a canonical path.
fn checked<'a>(list: &'static str, entries: &'a [String]) -> Result<&'a [String], RouteError> {
    if entries.len() > ROUTE_ENTRIES_MAX {
        return Err(RouteError::TooMany {
            list,
            found: entries.len(),
        });
    }
    for entry in entries {
        if !is_canonical(entry) {
            return Err(wrong(
                list,
                entry,
                "a path in canonical form, without tenant, query and slash at its end",
            ));
        }
        if entry.contains('*') {
            return Err(wrong(
                list,
                entry,
                "a path without `*`: everything beneath it is meant anyway",
            ));
        }
    }
    Ok(entries)
}

/// Whether a path is written as it is compared: without tenant, query and slash at its end.
fn is_canonical(path: &str) -> bool {
    let target = CanonicalTarget::parse(path.as_bytes());
    let is_plain = target.is_ok_and(|target| {
        !target.has_prefix()
            && target.query().is_none()
            && target.authority().is_none()
            && target.path() == path
    });
    is_plain && (path == "/" || !path.ends_with('/'))
}

fn wrong(list: &'static str, entry: &str, expected: &'static str) -> RouteError {
    RouteError::Entry {
        list,
        entry: entry.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests;
