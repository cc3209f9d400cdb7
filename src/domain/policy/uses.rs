//! What a set of conditions asks about: the fields, and the literals that each is compared with. From this the lint builds
//! the requests that it tries out, and a version of each condition in which everything is left open that those requests
//! do not settle.

use crate::domain::policy::expression::BoolExpr;
use crate::domain::policy::expression::IntExpr;
use crate::domain::policy::expression::Relation;
use crate::domain::policy::expression::TextExpr;
use crate::domain::policy::reason::Reason;
use crate::domain::policy::vocabulary::BoolField;
use crate::domain::policy::vocabulary::Field;
use crate::domain::policy::vocabulary::IntField;
use crate::domain::policy::vocabulary::TextField;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// How many reasons are tried in every combination.
pub const REASONS_COMBINED_MAX: usize = 8;

/// Fields and literals.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    /// Every field that is asked for.
    pub fields: BTreeSet<Field>,
    /// Per text field, what it is compared with.
    pub texts: BTreeMap<TextField, TextUses>,
    /// Per number, what it is compared with.
    pub ints: BTreeMap<IntField, BTreeSet<i64>>,
    /// The networks that the address is looked for in.
    pub networks: Vec<IpNet>,
    /// The reasons that are looked for by their code.
    pub reasons: BTreeSet<Reason>,
    /// What the number of reasons is compared with.
    pub reason_counts: BTreeSet<i64>,
    /// Whether the reasons are looked through one by one.
    pub each_reason: bool,
}

/// The literals that one text field is compared with.
#[derive(Clone, Debug, Default)]
pub struct TextUses {
    /// `==`, `!=`, `in`
    pub equal: BTreeSet<String>,
    /// `startsWith`
    pub prefixes: BTreeSet<String>,
    /// `endsWith`
    pub suffixes: BTreeSet<String>,
    /// `contains`
    pub inner: BTreeSet<String>,
}

/// The one open text whose values all have the same length.
const FIXED_LENGTH: TextField = TextField::NetworkCountry;

impl Uses {
    /// What `conditions` ask about.
    pub fn of<'e>(conditions: impl IntoIterator<Item = &'e BoolExpr>) -> Self {
        let mut uses = Self::default();
        for condition in conditions {
            uses.collect(condition);
        }
        if uses
            .fields
            .contains(&Field::Bool(BoolField::UserBreakGlass))
        {
            uses.fields.extend([
                Field::Text(TextField::UserName),
                Field::Text(TextField::RequestTenant),
            ]);
        }
        uses
    }

    fn collect(&mut self, expression: &BoolExpr) {
        match expression {
            BoolExpr::And(a, b) | BoolExpr::Or(a, b) | BoolExpr::Same(a, b) => {
                self.collect(a);
                self.collect(b);
            }
            BoolExpr::Const(_) | BoolExpr::Undecided => {}
            BoolExpr::EachReason { body, .. } => {
                self.fields.insert(Field::Reasons);
                self.each_reason = true;
                self.collect(body);
            }
            BoolExpr::Field(field) => {
                self.fields.insert(Field::Bool(*field));
            }
            BoolExpr::Has(field) => {
                self.fields.insert(*field);
            }
            BoolExpr::If(a, b, c) => [a, b, c].into_iter().for_each(|part| self.collect(part)),
            BoolExpr::InCidr(networks) => {
                self.fields.insert(Field::Address);
                self.networks.extend(networks);
            }
            BoolExpr::Int(a, _, b) => {
                self.int(a, b);
                self.int(b, a);
            }
            BoolExpr::IntIn(number, list) => list
                .iter()
                .for_each(|one| self.int(number, &IntExpr::Const(*one))),
            BoolExpr::IsReason(text) => {
                self.fields.insert(Field::Reasons);
                self.text(text);
                if let TextExpr::Const(code) = text {
                    self.reasons.extend(Reason::from_code(code));
                }
            }
            BoolExpr::Matches(text, _) => {
                self.text(text);
            }
            BoolExpr::Not(a) => self.collect(a),
            BoolExpr::Text(a, relation, b) => {
                let literal = |text: &TextExpr| match text {
                    TextExpr::Const(literal) => Some(literal.clone()),
                    TextExpr::Field(_) | TextExpr::Item => None,
                };
                let (left, right) = (literal(a), literal(b));
                if let Some(uses) = self.text(a) {
                    uses.add(*relation, right);
                }
                if let Some(uses) = self.text(b)
                    && matches!(relation, Relation::Equal | Relation::NotEqual)
                {
                    uses.add(*relation, left);
                }
            }
            BoolExpr::TextIn(text, list) => {
                if let Some(uses) = self.text(text) {
                    uses.equal.extend(list.iter().cloned());
                }
            }
        }
    }

    fn text(&mut self, text: &TextExpr) -> Option<&mut TextUses> {
        match text {
            TextExpr::Field(field) => {
                self.fields.insert(Field::Text(*field));
                Some(self.texts.entry(*field).or_default())
            }
            TextExpr::Const(_) | TextExpr::Item => None,
        }
    }

    fn int(&mut self, number: &IntExpr, other: &IntExpr) {
        let literal = match other {
            IntExpr::Const(literal) => Some(*literal),
            IntExpr::Field(_) | IntExpr::Length(_) | IntExpr::ReasonCount => None,
        };
        match number {
            IntExpr::Const(_) => {}
            IntExpr::Field(field) => {
                self.fields.insert(Field::Int(*field));
                self.ints.entry(*field).or_default().extend(literal);
            }
            IntExpr::Length(text) => {
                self.text(text);
            }
            IntExpr::ReasonCount => {
                self.fields.insert(Field::Reasons);
                self.reason_counts.extend(literal);
            }
        }
    }

    /// `expression` with everything left open that the requests made from these uses do not settle: patterns, lengths and
    /// mixed text functions on fields without a closed list of values, comparisons of two fields, and more reasons than
    /// are tried in combination. Where it is not true and not open, the original is not true either.
    pub fn open_up(&self, expression: &BoolExpr) -> BoolExpr {
        let both =
            |a: &BoolExpr, b: &BoolExpr| (Box::new(self.open_up(a)), Box::new(self.open_up(b)));
        match expression {
            BoolExpr::And(a, b) => {
                let (a, b) = both(a, b);
                BoolExpr::And(a, b)
            }
            BoolExpr::Or(a, b) => {
                let (a, b) = both(a, b);
                BoolExpr::Or(a, b)
            }
            BoolExpr::Same(a, b) => {
                let (a, b) = both(a, b);
                BoolExpr::Same(a, b)
            }
            BoolExpr::If(condition, a, b) => {
                let (a, b) = both(a, b);
                BoolExpr::If(Box::new(self.open_up(condition)), a, b)
            }
            BoolExpr::Not(a) => BoolExpr::Not(Box::new(self.open_up(a))),
            BoolExpr::Const(_)
            | BoolExpr::EachReason { .. }
            | BoolExpr::Field(_)
            | BoolExpr::Has(_)
            | BoolExpr::InCidr(_)
            | BoolExpr::Int(..)
            | BoolExpr::IntIn(..)
            | BoolExpr::IsReason(_)
            | BoolExpr::Matches(..)
            | BoolExpr::Text(..)
            | BoolExpr::TextIn(..)
            | BoolExpr::Undecided => {
                if self.settles(expression) {
                    expression.clone()
                } else {
                    BoolExpr::Undecided
                }
            }
        }
    }

    fn settles(&self, atom: &BoolExpr) -> bool {
        match atom {
            BoolExpr::Const(_) | BoolExpr::Field(_) | BoolExpr::Has(_) | BoolExpr::InCidr(_) => {
                true
            }
            BoolExpr::Int(a, _, b) => match (a, b) {
                (IntExpr::Const(_), IntExpr::Const(_) | IntExpr::Field(_))
                | (IntExpr::Field(_), IntExpr::Const(_)) => true,
                (IntExpr::Length(text), IntExpr::Const(_))
                | (IntExpr::Const(_), IntExpr::Length(text)) => is_closed(text),
                _ => false,
            },
            BoolExpr::IntIn(number, _) => matches!(number, IntExpr::Const(_) | IntExpr::Field(_)),
            BoolExpr::IsReason(TextExpr::Const(_)) => {
                !self.each_reason
                    && self.reason_counts.is_empty()
                    && self.reasons.len() <= REASONS_COMBINED_MAX
            }
            BoolExpr::Matches(text, _) => is_closed(text),
            BoolExpr::Text(a, _, b) => match (a, b) {
                (TextExpr::Const(_), TextExpr::Const(_)) => true,
                (text @ TextExpr::Field(field), TextExpr::Const(_))
                | (TextExpr::Const(_), text @ TextExpr::Field(field)) => {
                    is_closed(text)
                        || self
                            .texts
                            .get(field)
                            .is_some_and(|own| own.is_plain(*field))
                }
                (a, b) => is_closed(a) && is_closed(b),
            },
            BoolExpr::TextIn(text, _) => match text {
                TextExpr::Field(field) => {
                    is_closed(text)
                        || self
                            .texts
                            .get(field)
                            .is_some_and(|own| own.is_plain(*field))
                }
                TextExpr::Const(_) => true,
                TextExpr::Item => false,
            },
            BoolExpr::And(..)
            | BoolExpr::EachReason { .. }
            | BoolExpr::If(..)
            | BoolExpr::IsReason(_)
            | BoolExpr::Not(_)
            | BoolExpr::Or(..)
            | BoolExpr::Same(..)
            | BoolExpr::Undecided => false,
        }
    }
}

impl TextUses {
    fn add(&mut self, relation: Relation, literal: Option<String>) {
        match relation {
            Relation::Contains => self.inner.extend(literal),
            Relation::EndsWith => self.suffixes.extend(literal),
            Relation::Equal | Relation::NotEqual => self.equal.extend(literal),
            Relation::StartsWith => self.prefixes.extend(literal),
        }
    }

    /// Whether one text for each literal, and one that continues it, stand for all texts: beginnings nest, and so do
    /// ends, but the two together with parts do not.
    fn is_plain(&self, field: TextField) -> bool {
        let one_end = self.prefixes.is_empty() || self.suffixes.is_empty();
        let no_end = self.prefixes.is_empty() && self.suffixes.is_empty();
        self.inner.is_empty()
            && if field == FIXED_LENGTH {
                no_end
            } else {
                one_end
            }
    }
}

fn is_closed(text: &TextExpr) -> bool {
    match text {
        TextExpr::Field(field) => field.values().is_some(),
        TextExpr::Const(_) => true,
        TextExpr::Item => false,
    }
}
