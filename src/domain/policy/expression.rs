//! A condition after type-checking: what is left to do is comparing values that are at hand. Evaluation is total but for
//! one thing, a field that this request does not have; `&&` and `||` absorb that as CEL's do. No allocation, no recursion
//! deeper than the checker let through.

use crate::domain::policy::vocabulary::BoolField;
use crate::domain::policy::vocabulary::Facts;
use crate::domain::policy::vocabulary::Field;
use crate::domain::policy::vocabulary::IntField;
use crate::domain::policy::vocabulary::TextField;
use crate::domain::policy::vocabulary::Unknown;
use ipnet::IpNet;
use regex::Regex;

/// Something true or false.
#[derive(Clone, Debug)]
pub enum BoolExpr {
    /// `a && b`
    And(Box<BoolExpr>, Box<BoolExpr>),
    /// A literal.
    Const(bool),
    /// Whether some (`any`) or every reason satisfies the condition, which sees it as [`TextExpr::Item`].
    EachReason {
        /// `exists`; otherwise `all`.
        any: bool,
        /// The condition.
        body: Box<BoolExpr>,
    },
    /// A field.
    Field(BoolField),
    /// `has(field)`
    Has(Field),
    /// `condition ? a : b`
    If(Box<BoolExpr>, Box<BoolExpr>, Box<BoolExpr>),
    /// `in_cidr(network.address, ...)`
    InCidr(Vec<IpNet>),
    /// A comparison of numbers.
    Int(IntExpr, Order, IntExpr),
    /// `number in [...]`
    IntIn(IntExpr, Vec<i64>),
    /// `text in risk.reasons`
    IsReason(TextExpr),
    /// `text.matches(pattern)`
    Matches(TextExpr, Regex),
    /// `!a`
    Not(Box<BoolExpr>),
    /// `a || b`
    Or(Box<BoolExpr>, Box<BoolExpr>),
    /// `a == b` of two conditions
    Same(Box<BoolExpr>, Box<BoolExpr>),
    /// A comparison of texts.
    Text(TextExpr, Relation, TextExpr),
    /// `text in [...]`
    TextIn(TextExpr, Vec<String>),
    /// Left open by the lint; no condition is compiled to it.
    Undecided,
}

/// A number.
#[derive(Clone, Debug)]
pub enum IntExpr {
    /// A literal.
    Const(i64),
    /// A field.
    Field(IntField),
    /// `size(text)`, in characters
    Length(TextExpr),
    /// `size(risk.reasons)`
    ReasonCount,
}

/// A text.
#[derive(Clone, Debug)]
pub enum TextExpr {
    /// A literal.
    Const(String),
    /// A field.
    Field(TextField),
    /// The reason at hand within [`BoolExpr::EachReason`].
    Item,
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// `==`
    Equal,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `!=`
    NotEqual,
}

/// How two texts compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relation {
    /// `a.contains(b)`
    Contains,
    /// `a.endsWith(b)`
    EndsWith,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `a.startsWith(b)`
    StartsWith,
}

impl BoolExpr {
    /// Its value for one request.
    pub fn value(&self, facts: &Facts<'_>) -> Result<bool, Unknown> {
        self.eval(facts, "")
    }

    fn eval(&self, facts: &Facts<'_>, item: &str) -> Result<bool, Unknown> {
        Ok(match self {
            Self::And(a, b) => return absorb(false, a.eval(facts, item), || b.eval(facts, item)),
            Self::Const(value) => *value,
            Self::EachReason { any, body } => {
                // As in CEL: an error counts only if no other element settles the answer.
                let mut missing = None;
                for reason in facts.input.risk.reasons() {
                    match body.eval(facts, reason.code()) {
                        Ok(value) if value == *any => return Ok(*any),
                        Ok(_) => {}
                        Err(unknown) => missing = missing.max(Some(unknown)),
                    }
                }
                return missing.map_or(Ok(!any), Err);
            }
            Self::Field(field) => field.of(facts),
            Self::Has(field) => is_present(*field, facts),
            Self::If(condition, then, otherwise) => {
                return if condition.eval(facts, item)? {
                    then.eval(facts, item)
                } else {
                    otherwise.eval(facts, item)
                };
            }
            Self::InCidr(networks) => return facts.is_within(networks),
            Self::Int(a, order, b) => order.holds(a.eval(facts, item)?, b.eval(facts, item)?),
            Self::IntIn(number, list) => list.contains(&number.eval(facts, item)?),
            Self::IsReason(text) => {
                let text = text.eval(facts, item)?;
                facts
                    .input
                    .risk
                    .reasons()
                    .iter()
                    .any(|reason| reason.code() == text)
            }
            Self::Matches(text, pattern) => pattern.is_match(text.eval(facts, item)?),
            Self::Not(a) => !a.eval(facts, item)?,
            Self::Or(a, b) => return absorb(true, a.eval(facts, item), || b.eval(facts, item)),
            Self::Same(a, b) => a.eval(facts, item)? == b.eval(facts, item)?,
            Self::Text(a, relation, b) => {
                relation.holds(a.eval(facts, item)?, b.eval(facts, item)?)
            }
            Self::TextIn(text, list) => {
                let text = text.eval(facts, item)?;
                list.iter().any(|one| one == text)
            }
            Self::Undecided => return Err(Unknown::Undecided),
        })
    }
}

impl IntExpr {
    fn eval(&self, facts: &Facts<'_>, item: &str) -> Result<i64, Unknown> {
        match self {
            Self::Const(value) => Ok(*value),
            Self::Field(field) => field.of(facts),
            Self::Length(text) => {
                Ok(i64::try_from(text.eval(facts, item)?.chars().count()).unwrap_or(i64::MAX))
            }
            Self::ReasonCount => {
                Ok(i64::try_from(facts.input.risk.reasons().len()).unwrap_or(i64::MAX))
            }
        }
    }
}

impl TextExpr {
    fn eval<'e>(&'e self, facts: &'e Facts<'_>, item: &'e str) -> Result<&'e str, Unknown> {
        match self {
            Self::Const(value) => Ok(value),
            Self::Field(field) => field.of(facts),
            Self::Item => Ok(item),
        }
    }
}

impl Order {
    fn holds(self, a: i64, b: i64) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::NotEqual => a != b,
        }
    }
}

impl Relation {
    fn holds(self, a: &str, b: &str) -> bool {
        match self {
            Self::Contains => a.contains(b),
            Self::EndsWith => a.ends_with(b),
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::StartsWith => a.starts_with(b),
        }
    }
}

/// `&&` (`settling` false) or `||` (true): the settling value wins over a missing field on the other side.
fn absorb(
    settling: bool,
    left: Result<bool, Unknown>,
    right: impl FnOnce() -> Result<bool, Unknown>,
) -> Result<bool, Unknown> {
    match left {
        Ok(value) if value == settling => Ok(settling),
        Ok(_) => right(),
        Err(unknown) => match right() {
            Ok(value) if value == settling => Ok(settling),
            Ok(_) => Err(unknown),
            Err(other) => Err(unknown.max(other)),
        },
    }
}

fn is_present(field: Field, facts: &Facts<'_>) -> bool {
    match field {
        Field::Address | Field::Bool(_) => true,
        Field::Int(IntField::NetworkAsn) => facts.input.network.asn.is_some(),
        Field::Int(field) => field.of(facts).is_ok(),
        Field::Reasons => !facts.input.risk.reasons().is_empty(),
        Field::Text(field) => match field.of(facts) {
            Ok(text) => !text.is_empty(),
            // A text that was not recorded was there.
            Err(unknown) => unknown == Unknown::Undecided,
        },
    }
}
