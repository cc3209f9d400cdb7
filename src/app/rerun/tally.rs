//! What is counted while decisions are given again. Each thread counts for itself; the counts are added up at the end.

use crate::app::RunError;
use crate::app::model;
use crate::app::model::recorded::Labelled;
use crate::domain::ids::canonical_username;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::recorded::Again;
use crate::domain::recorded::Case;
use crate::domain::recorded::Gap;
use crate::domain::route::Door;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::BuildHasherDefault;
use std::hash::DefaultHasher;
use std::path::Path;

/// Names in one table; further ones are counted together.
pub(super) const NAMES_MAX: usize = 10_000;
/// What stands for names beyond that.
pub(super) const OTHERS: &str = "(others)";
/// What stands for a name that is not there.
pub(super) const NONE: &str = "(none)";
/// People that are told apart.
const PEOPLE_MAX: usize = 4_000_000;
/// Changed decisions that are kept as examples.
const EXAMPLES_MAX: usize = 20;
/// People in the file of groups at most.
const GROUPED_MAX: usize = 1_000_000;
/// The group whose members must not be locked out.
pub(super) const OPERATORS: &str = "operators";

/// Verdicts before and after: `[before][after]`, in the order of [`Verdict::ALL`].
pub(super) type Matrix = [[u64; 4]; 4];

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) broken: u64,
    pub(super) first_broken: Option<String>,
    pub(super) earlier: u64,
    pub(super) left_out: BTreeMap<Gap, u64>,
    pub(super) is_cut: bool,
    /// Decisions of the very policy and scores that are replayed, and those of them that came out another.
    pub(super) same: (u64, u64),
    pub(super) all: Matrix,
    pub(super) tables: [BTreeMap<String, Matrix>; Table::ALL.len()],
    pub(super) matched: BTreeMap<String, (u64, u64)>,
    /// Scores, before and after.
    pub(super) scores: Scores,
    pub(super) hours: BTreeMap<i64, Matrix>,
    pub(super) attacks: Matrix,
    pub(super) legitimate: Matrix,
    pub(super) people: HashMap<u64, Person, BuildHasherDefault<DefaultHasher>>,
    pub(super) people_over: u64,
    /// By time and id, the first ones.
    pub(super) examples: BTreeMap<(String, String), Example>,
}

/// By what decisions are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Table {
    Application,
    Country,
    Door,
    Group,
    Kind,
    Tenant,
}

/// How often each score came.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    pub(super) before: [u64; 101],
    pub(super) after: [u64; 101],
}

/// One user, as far as the records tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    /// As in the records.
    pub(super) subject: String,
    pub(super) break_glass: bool,
    pub(super) operator: bool,
    /// Whether a second factor was seen to be asked for by the identity server, or proved.
    pub(super) has_factor: bool,
    pub(super) requests: u64,
    /// Requests that are stepped up, and those of them where nobody can be asked.
    pub(super) asked: [u64; 2],
    pub(super) unaskable: [u64; 2],
    /// Requests that are held or refused.
    pub(super) refused: [u64; 2],
}

/// A decision that comes out another.
#[derive(Clone, Debug)]
pub(super) struct Example {
    pub(super) application: String,
    pub(super) door: Door,
    pub(super) points: (Option<u8>, Option<u8>),
    pub(super) verdicts: (Verdict, Verdict),
    pub(super) matched: String,
}

/// One decision that was given again.
pub(super) struct Replayed<'r> {
    pub(super) case: &'r Case<'r>,
    /// The score by which it was given again.
    pub(super) points: Option<u8>,
    pub(super) again: &'r Again,
    pub(super) label: Option<&'r Labelled>,
    pub(super) group: Option<&'r str>,
    pub(super) break_glass: bool,
    /// Whether nothing was changed: the same policy, and no other model.
    pub(super) same: bool,
}

/// Who belongs to which group.
#[derive(Clone, Debug, Default)]
pub(super) struct People(HashMap<(String, String), String>);

#[derive(Deserialize)]
struct Member {
    user: String,
    group: String,
    #[serde(default)]
    tenant: String,
}

impl Table {
    pub(super) const ALL: [Self; 6] = [
        Self::Application,
        Self::Country,
        Self::Door,
        Self::Group,
        Self::Kind,
        Self::Tenant,
    ];
}

impl Default for Scores {
    fn default() -> Self {
        Self {
            before: [0; 101],
            after: [0; 101],
        }
    }
}

impl People {
    /// Reads `user,group` and, if there, `tenant`: the domain of a tenant, or the id of an organization.
    pub(super) fn read(path: &Path) -> Result<Self, RunError> {
        let bad = |error: csv::Error| model::wrong(path, error.to_string());
        let mut csv = csv::Reader::from_path(path).map_err(bad)?;
        let mut people = HashMap::new();
        for member in csv.deserialize() {
            let member: Member = member.map_err(bad)?;
            if people.len() >= GROUPED_MAX {
                return Err(model::wrong(
                    path,
                    format!("more than {GROUPED_MAX} people"),
                ));
            }
            let tenant = tenant_or_super(&member.tenant).to_ascii_lowercase();
            let name = canonical_username(&tenant, &member.user);
            people.insert((tenant, name), member.group);
        }
        Ok(Self(people))
    }

    /// The accounts: domain and name.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (String, String)> {
        self.0.keys().cloned()
    }

    /// The group of an account of a domain.
    pub(super) fn group(&self, domain: &str, name: &str) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let domain = tenant_or_super(domain).to_ascii_lowercase();
        self.0.get(&(domain, name.to_owned())).map(String::as_str)
    }
}

fn tenant_or_super(tenant: &str) -> &str {
    if tenant.is_empty() {
        SUPER_TENANT
    } else {
        tenant
    }
}

impl Tally {
    /// A record that is not replayed.
    pub(super) fn leave_out(&mut self, gap: Gap) {
        *self.left_out.entry(gap).or_default() += 1;
    }

    /// A line that is no record.
    pub(super) fn break_at(&mut self, file: &Path, line: u64, problem: String) {
        self.broken += 1;
        let place = || format!("{}: line {line}: {problem}", file.display());
        self.first_broken.get_or_insert_with(place);
    }

    /// A decision that was given again.
    pub(super) fn add(&mut self, one: &Replayed<'_>) {
        let case = one.case;
        let event = case.event;
        let (before, after) = (case.verdict, one.again.verdict);
        let place = (before, after);
        count(&mut self.all, place);
        if one.same {
            self.same.0 += 1;
            self.same.1 += u64::from(before != after);
        }
        let text = |text: &Option<String>| match text.as_deref() {
            None | Some("") => NONE.to_owned(),
            Some(text) => text.to_owned(),
        };
        let group = match (one.group, one.label) {
            (Some(group), _) => group.to_owned(),
            (None, Some(label)) if !label.cohort.is_empty() => label.cohort.to_string(),
            _ => standing_of(event.subject.is_some(), event.logins).to_owned(),
        };
        let keys = [
            text(&event.client_id),
            text(&event.country),
            case.door.as_str().to_owned(),
            group,
            case.kind.as_str().to_owned(),
            text(&event.tenant),
        ];
        for (table, key) in self.tables.iter_mut().zip(keys) {
            count(within(table, key), place);
        }
        let matched = text(&event.matched);
        let now = one.again.decision.matched.label().to_owned();
        within(&mut self.matched, matched).0 += 1;
        within(&mut self.matched, now.clone()).1 += 1;
        self.scores.add(case.risk.points(), one.points);
        let hour = case.at.seconds().div_euclid(3600);
        count(self.hours.entry(hour).or_default(), place);
        if let Some(label) = one.label {
            let matrix = match label.attacker {
                Some(_) => &mut self.attacks,
                None => &mut self.legitimate,
            };
            count(matrix, place);
        }
        self.person(one);
        if before != after {
            let example = Example {
                application: text(&event.client_id),
                door: case.door,
                points: (case.risk.points(), one.points),
                verdicts: place,
                matched: now,
            };
            self.keep((event.time.clone(), event.id.clone()), example);
        }
    }

    /// Keeps the first examples, in whatever order the threads come to them.
    fn keep(&mut self, key: (String, String), example: Example) {
        self.examples.insert(key, example);
        if self.examples.len() > EXAMPLES_MAX {
            self.examples.pop_last();
        }
    }

    fn person(&mut self, one: &Replayed<'_>) {
        let case = one.case;
        let Some(subject) = &case.event.subject else {
            return;
        };
        let key = BuildHasherDefault::<DefaultHasher>::default().hash_one(subject);
        if self.people.len() >= PEOPLE_MAX && !self.people.contains_key(&key) {
            self.people_over += 1;
            return;
        }
        let person = self.people.entry(key).or_default();
        if person.subject.is_empty() {
            person.subject.clone_from(subject);
        }
        person.requests += 1;
        person.break_glass |= one.break_glass;
        person.operator |= one.group == Some(OPERATORS);
        person.has_factor |=
            case.event.proof.as_deref() == Some("proven") || case.event.outcome == "next_factor";
        let verdicts = [case.verdict, one.again.verdict];
        for (place, verdict) in verdicts.into_iter().enumerate() {
            let slots = match verdict {
                Verdict::Allow => continue,
                Verdict::StepUp if can_ask(case) => [Some(&mut person.asked), None],
                Verdict::StepUp => [Some(&mut person.asked), Some(&mut person.unaskable)],
                Verdict::Review | Verdict::Block => [Some(&mut person.refused), None],
            };
            for slot in slots.into_iter().flatten() {
                if let Some(count) = slot.get_mut(place) {
                    *count += 1;
                }
            }
        }
    }

    /// Adds what another thread has counted.
    pub(super) fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.broken += other.broken;
        self.earlier += other.earlier;
        self.is_cut |= other.is_cut;
        if self.first_broken.is_none() {
            self.first_broken = other.first_broken;
        }
        for (gap, count) in other.left_out {
            *self.left_out.entry(gap).or_default() += count;
        }
        self.same.0 += other.same.0;
        self.same.1 += other.same.1;
        add(&mut self.all, &other.all);
        add(&mut self.attacks, &other.attacks);
        add(&mut self.legitimate, &other.legitimate);
        for (table, more) in self.tables.iter_mut().zip(other.tables) {
            for (key, matrix) in more {
                add(within(table, key), &matrix);
            }
        }
        for (key, (before, after)) in other.matched {
            let slot = within(&mut self.matched, key);
            slot.0 += before;
            slot.1 += after;
        }
        self.scores.merge(&other.scores);
        for (hour, matrix) in other.hours {
            add(self.hours.entry(hour).or_default(), &matrix);
        }
        self.people_over += other.people_over;
        for (key, person) in other.people {
            if self.people.len() >= PEOPLE_MAX && !self.people.contains_key(&key) {
                self.people_over += person.requests;
                continue;
            }
            self.people.entry(key).or_default().merge(person);
        }
        for (key, example) in other.examples {
            self.keep(key, example);
        }
    }
}

impl Scores {
    fn add(&mut self, before: Option<u8>, after: Option<u8>) {
        let places = [(&mut self.before, before), (&mut self.after, after)];
        for (scores, points) in places {
            if let Some(count) = points.and_then(|points| scores.get_mut(usize::from(points))) {
                *count += 1;
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        let both = [
            (&mut self.before, &other.before),
            (&mut self.after, &other.after),
        ];
        for (mine, theirs) in both {
            for (count, more) in mine.iter_mut().zip(theirs) {
                *count += more;
            }
        }
    }
}

impl Person {
    fn merge(&mut self, other: Self) {
        if self.subject.is_empty() {
            self.subject = other.subject;
        }
        self.break_glass |= other.break_glass;
        self.operator |= other.operator;
        self.has_factor |= other.has_factor;
        self.requests += other.requests;
        let both = [
            (&mut self.asked, other.asked),
            (&mut self.unaskable, other.unaskable),
            (&mut self.refused, other.refused),
        ];
        for (mine, theirs) in both {
            for (count, more) in mine.iter_mut().zip(theirs) {
                *count += more;
            }
        }
    }
}

/// Whether a second factor can be asked for: somebody is there in a browser or an app, or can be sent to one.
fn can_ask(case: &Case<'_>) -> bool {
    match case.door {
        Door::Authorize
        | Door::Login
        | Door::Authn
        | Door::Flow
        | Door::Device
        | Door::CibaAuthorize
        | Door::Saml
        | Door::WsFed
        | Door::Par
        | Door::DeviceAuthorize
        | Door::Ciba
        | Door::Pdp => true,
        Door::Basic => false,
        // A client that is refused a code or a refresh token begins a login; one with a password or for itself does not.
        Door::Token => !matches!(
            case.event.grant_type.as_deref(),
            Some("password" | "client_credentials")
        ),
    }
}

/// The group of somebody of whom no other is known.
fn standing_of(is_known: bool, logins: u32) -> &'static str {
    match logins {
        _ if !is_known => "nobody named",
        0 => "no login remembered",
        1..=9 => "1 to 9 logins",
        _ => "10 logins or more",
    }
}

/// The count of a name; those beyond what a table holds are counted together.
fn within<T: Default>(table: &mut BTreeMap<String, T>, key: String) -> &mut T {
    let key = if table.len() >= NAMES_MAX && !table.contains_key(&key) {
        OTHERS.to_owned()
    } else {
        key
    };
    table.entry(key).or_default()
}

fn count(matrix: &mut Matrix, (before, after): (Verdict, Verdict)) {
    let row = matrix.get_mut(before as usize);
    if let Some(count) = row.and_then(|row| row.get_mut(after as usize)) {
        *count += 1;
    }
}

fn add(matrix: &mut Matrix, more: &Matrix) {
    let cells = matrix.iter_mut().flatten().zip(more.iter().flatten());
    for (count, more) in cells {
        *count += more;
    }
}
