//! Records hold no usernames, only pseudonyms. With the secrets of the deployment the few names that a policy itself speaks
//! about can be turned into pseudonyms too, and found again; nothing else becomes known.

use crate::domain::audit::AuditEvent;
use crate::domain::policy::PolicySet;
use crate::domain::policy::expression::BoolExpr;
use crate::domain::policy::expression::IntExpr;
use crate::domain::policy::expression::Relation;
use crate::domain::policy::expression::TextExpr;
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::policy::uses::Uses;
use crate::domain::policy::vocabulary::TextField;
use crate::domain::target::user_domain;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Domains whose pseudonyms are kept; those of others are made anew.
const DOMAINS_MAX: usize = 1024;

/// What is known of the name of a record's account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Name<'n> {
    /// The request names nobody, and stands for this one.
    Behind(&'n str),
    /// The request names nobody, and whom it stands for cannot be told.
    Hidden,
    /// The request names nobody, and stands for nobody whom the policy names.
    None,
    /// It is this one.
    Is(&'n str),
    /// It is none of those that the policy names.
    Other,
    /// It cannot be told.
    Unknown,
}

/// Every text under which records may hold the user with a canonical name, within a domain ([`user_domain`]).
pub type Resolver = Arc<dyn Fn(&str, &str) -> Vec<String> + Send + Sync>;

/// The names that are looked for.
#[derive(Clone)]
pub struct Names {
    resolver: Option<Resolver>,
    /// Whether "none of those" is all that a condition can ask for.
    plain: bool,
    /// Names for every domain.
    everywhere: BTreeSet<String>,
    /// Names within one domain, which is in lower case.
    within: Vec<(String, String)>,
    by_domain: HashMap<String, HashMap<String, String>>,
}

impl Names {
    /// The names that `policy` speaks about. Without `resolver` nothing can be told.
    pub fn of(policy: &PolicySet, resolver: Option<Resolver>) -> Self {
        let rules = policy.rules().iter().filter(|rule| rule.enabled);
        let conditions: Vec<&BoolExpr> = rules.map(|rule| rule.when.expression()).collect();
        let plain = !conditions.iter().any(|condition| looks_inside(condition));
        let uses = Uses::of(conditions);
        let texts = uses.texts.get(&TextField::UserName);
        let accounts = policy.break_glass().accounts().iter();
        Self {
            resolver,
            plain,
            everywhere: texts.map(|texts| texts.equal.clone()).unwrap_or_default(),
            within: accounts
                .map(|account| (account.tenant.clone(), account.name.clone()))
                .collect(),
            by_domain: HashMap::new(),
        }
    }

    /// The same, looking for `accounts` (domain, name) as well.
    pub fn and(mut self, accounts: impl IntoIterator<Item = (String, String)>) -> Self {
        let accounts = accounts.into_iter();
        let lower = accounts.map(|(domain, name)| (domain.to_ascii_lowercase(), name));
        self.within.extend(lower);
        self
    }

    /// Whether names can be told at all.
    pub fn can_tell(&self) -> bool {
        self.resolver.is_some()
    }

    /// The name of the account of a record.
    pub fn name_of(&mut self, event: &AuditEvent) -> Name<'_> {
        let plain = self.plain;
        match (event.named, self.find(event)) {
            (true, Some(Some(name))) => Name::Is(name),
            (true, Some(None)) if plain => Name::Other,
            (true, Some(None) | None) => Name::Unknown,
            (false, Some(Some(name))) => Name::Behind(name),
            (false, Some(None)) => Name::None,
            (false, None) => Name::Hidden,
        }
    }

    /// The name behind the subject of a record, if it is one that is looked for; `None` where that cannot be told.
    pub fn find(&mut self, event: &AuditEvent) -> Option<Option<&str>> {
        let resolver = self.resolver.as_ref()?;
        let tenant = match event.tenant.as_deref() {
            None | Some("") => SUPER_TENANT,
            Some(tenant) => tenant,
        };
        let domain = user_domain(tenant, event.organization.as_deref());
        let Some(subject) = &event.subject else {
            return Some(None);
        };
        if !self.by_domain.contains_key(domain) {
            let within = self.within.iter();
            let within = within.filter(|(own, _)| own.eq_ignore_ascii_case(domain));
            let names = within.map(|(_, name)| name).chain(&self.everywhere);
            let table = names.flat_map(|name| {
                let subjects = resolver(domain, name).into_iter();
                subjects.map(|subject| (subject, name.clone()))
            });
            let table: HashMap<String, String> = table.collect();
            if self.by_domain.len() >= DOMAINS_MAX {
                self.by_domain.clear();
            }
            self.by_domain.insert(domain.to_owned(), table);
        }
        let table = self.by_domain.get(domain)?;
        Some(table.get(subject).map(String::as_str))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Names({} domains)", self.by_domain.len())
    }
}

/// Whether a condition asks for more of a username than whether it is a certain one.
fn looks_inside(condition: &BoolExpr) -> bool {
    let is_name = |text: &TextExpr| matches!(text, TextExpr::Field(TextField::UserName));
    let measures = |number: &IntExpr| matches!(number, IntExpr::Length(text) if is_name(text));
    match condition {
        BoolExpr::And(a, b) | BoolExpr::Or(a, b) | BoolExpr::Same(a, b) => {
            looks_inside(a) || looks_inside(b)
        }
        BoolExpr::If(a, b, c) => looks_inside(a) || looks_inside(b) || looks_inside(c),
        BoolExpr::EachReason { body, .. } | BoolExpr::Not(body) => looks_inside(body),
        BoolExpr::Int(a, _, b) => measures(a) || measures(b),
        BoolExpr::IntIn(number, _) => measures(number),
        BoolExpr::IsReason(text) | BoolExpr::Matches(text, _) => is_name(text),
        BoolExpr::Text(a, relation, b) => {
            let compares = matches!(relation, Relation::Equal | Relation::NotEqual);
            let literal = |text: &TextExpr| matches!(text, TextExpr::Const(_));
            (is_name(a) && !(compares && literal(b))) || (is_name(b) && !(compares && literal(a)))
        }
        BoolExpr::Const(_)
        | BoolExpr::Field(_)
        | BoolExpr::Has(_)
        | BoolExpr::InCidr(_)
        | BoolExpr::TextIn(..)
        | BoolExpr::Undecided => false,
    }
}
