//! From the syntax tree of a condition to an [`expression`](crate::domain::policy::expression), with every mistake found
//! on the way. What passes here cannot fail later but by a missing score, and cannot be slow: no loop is longer than the
//! list of reasons, and patterns and networks are compiled once.

use crate::domain::policy::expression::BoolExpr;
use crate::domain::policy::expression::IntExpr;
use crate::domain::policy::expression::Order;
use crate::domain::policy::expression::Relation;
use crate::domain::policy::expression::TextExpr;
use crate::domain::policy::reason::Reason;
use crate::domain::policy::spelling::listed;
use crate::domain::policy::spelling::suggestion;
use crate::domain::policy::vocabulary;
use crate::domain::policy::vocabulary::Field;
use cel::common::ast::CallExpr;
use cel::common::ast::ComprehensionExpr;
use cel::common::ast::Expr;
use cel::common::ast::LiteralValue;
use cel::common::ast::SelectExpr;
use cel::common::ast::operators;
use cel::parser::Expression;
use ipnet::IpNet;
use regex::Regex;
use regex::RegexBuilder;
use std::net::IpAddr;

/// How many elements a list literal may have.
pub const LIST_MAX: usize = 512;

/// How many nodes a condition may have once `exists` and `all` over list literals are unrolled.
pub const NODES_MAX: usize = 4096;

/// How large a compiled pattern may be in bytes; the crate's own default is ten times that.
const PATTERN_BYTES_MAX: usize = 1 << 20;

const FUNCTIONS: [&str; 9] = [
    "all",
    "contains",
    "endsWith",
    "exists",
    "has",
    "in_cidr",
    "matches",
    "size",
    "startsWith",
];

/// One mistake in a condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// The node of the syntax tree; 0 when unknown.
    pub node: u64,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

/// Checks `tree` and turns it into an expression, or tells everything that is wrong with it.
pub fn check(tree: &Expression) -> Result<BoolExpr, Vec<Mistake>> {
    let mut checker = Checker::default();
    let condition = checker.bool(tree, "the condition");
    match condition {
        Some(condition) if checker.mistakes.is_empty() => Ok(condition),
        _ => Err(checker.mistakes),
    }
}

#[derive(Default)]
struct Checker {
    mistakes: Vec<Mistake>,
    nodes: usize,
    item: Option<Item>,
}

/// What the variable of an `exists` or `all` stands for.
#[derive(Clone)]
struct Item {
    variable: String,
    value: TextExpr,
}

/// A checked node.
enum Typed {
    Address,
    Bool(BoolExpr),
    Int(IntExpr),
    Ints(Vec<i64>),
    Nothing,
    Reasons,
    Text(TextExpr),
    Texts(Vec<String>),
}

impl Typed {
    fn kind(&self) -> &'static str {
        match self {
            Self::Address => "an address",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a number",
            Self::Ints(_) => "a list of numbers",
            Self::Nothing => "an empty list",
            Self::Reasons | Self::Texts(_) => "a list of texts",
            Self::Text(_) => "a text",
        }
    }
}

impl Checker {
    /// Notes a mistake, once.
    fn wrong<T>(
        &mut self,
        node: u64,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        let mistake = Mistake {
            node,
            problem: problem.into(),
            remedy: remedy.into(),
        };
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
        None
    }

    fn bool(&mut self, node: &Expression, what: &str) -> Option<BoolExpr> {
        match self.typed(node)? {
            Typed::Bool(expression) => Some(expression),
            other => {
                let problem = format!("{what} is {}, expected a truth value", other.kind());
                self.wrong(
                    node.id,
                    problem,
                    "compare it with something, such as `risk.score > 70`",
                )
            }
        }
    }

    fn text(&mut self, node: &Expression, what: &str) -> Option<TextExpr> {
        match self.typed(node)? {
            Typed::Text(expression) => Some(expression),
            Typed::Address => self.wrong(
                node.id,
                "`network.address` is not a text",
                "use `in_cidr(network.address, \"10.0.0.0/8\")`",
            ),
            other => {
                let problem = format!("{what} is {}, expected a text", other.kind());
                self.wrong(node.id, problem, "put texts in quotation marks")
            }
        }
    }

    fn literal(&mut self, node: &Expression, what: &str) -> Option<String> {
        match self.text(node, what)? {
            TextExpr::Const(text) => Some(text),
            TextExpr::Field(_) | TextExpr::Item => self.wrong(
                node.id,
                format!("{what} is not a literal"),
                "write it out, so that it can be checked at load",
            ),
        }
    }

    fn typed(&mut self, node: &Expression) -> Option<Typed> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return self.wrong(
                0,
                format!("the condition has more than {NODES_MAX} parts"),
                "split it into several rules",
            );
        }
        match &node.expr {
            Expr::Literal(literal) => self.constant(node.id, literal),
            Expr::Ident(name) => self.name(node.id, name),
            Expr::Select(select) => self.select(node.id, select),
            Expr::Call(call) => self.call(node.id, call),
            Expr::List(list) => self.list(node.id, &list.elements),
            Expr::Comprehension(comprehension) => {
                self.comprehension(node.id, comprehension).map(Typed::Bool)
            }
            Expr::Map(_) => self.wrong(
                node.id,
                "maps are not supported in conditions",
                "use a list, as in `x in [...]`",
            ),
            Expr::Struct(_) => self.wrong(
                node.id,
                "messages are not supported in conditions",
                "use the declared fields",
            ),
            Expr::Unspecified => {
                self.wrong(node.id, "a part of the condition is empty", "complete it")
            }
        }
    }

    fn constant(&mut self, node: u64, literal: &LiteralValue) -> Option<Typed> {
        match literal {
            LiteralValue::Boolean(value) => Some(Typed::Bool(BoolExpr::Const(*value.inner()))),
            LiteralValue::Int(value) => Some(Typed::Int(IntExpr::Const(*value.inner()))),
            LiteralValue::String(value) => {
                Some(Typed::Text(TextExpr::Const(value.inner().to_owned())))
            }
            LiteralValue::Double(value) => self.wrong(
                node,
                format!("`{}` is not a whole number", value.inner()),
                "scores are whole numbers of 0 to 100",
            ),
            LiteralValue::UInt(value) => self.wrong(
                node,
                format!("`{}u` is an unsigned number", value.inner()),
                "leave out the `u`",
            ),
            LiteralValue::Null => self.wrong(node, "nothing is ever null", "use `has(...)`"),
            LiteralValue::Bytes(_) => self.wrong(
                node,
                "bytes are not supported in conditions",
                "leave out the `b`",
            ),
        }
    }

    fn name(&mut self, node: u64, name: &str) -> Option<Typed> {
        if let Some(item) = self.item.as_ref().filter(|item| item.variable == name) {
            return Some(Typed::Text(item.value.clone()));
        }
        if vocabulary::roots().contains(&name) {
            return self.wrong(
                node,
                format!("`{name}` alone has no value"),
                format!("name one of its fields: {}", fields_of(name)),
            );
        }
        let remedy = suggestion(name, vocabulary::roots())
            .unwrap_or_else(|| format!("expected {}", listed(vocabulary::roots())));
        self.wrong(node, format!("unknown variable `{name}`"), remedy)
    }

    fn field(&mut self, node: u64, select: &SelectExpr) -> Option<Field> {
        let Expr::Ident(root) = &select.operand.expr else {
            return self.wrong(
                node,
                format!("`.{}` is not a field of that", select.field),
                "fields have the form `risk.score`",
            );
        };
        if let Some(field) = Field::find(root, &select.field) {
            return Some(field);
        }
        let full = format!("{root}.{}", select.field);
        if vocabulary::roots().contains(&root.as_str()) {
            let names = vocabulary::names();
            let own = names
                .iter()
                .map(String::as_str)
                .filter(|name| name.split_once('.').is_some_and(|(r, _)| r == root));
            let remedy =
                suggestion(&full, own).unwrap_or_else(|| format!("expected {}", fields_of(root)));
            return self.wrong(node, format!("unknown field `{full}`"), remedy);
        }
        let names = vocabulary::names();
        let remedy = suggestion(&full, names.iter().map(String::as_str))
            .unwrap_or_else(|| format!("expected a field of {}", listed(vocabulary::roots())));
        self.wrong(node, format!("unknown variable `{root}`"), remedy)
    }

    fn select(&mut self, node: u64, select: &SelectExpr) -> Option<Typed> {
        let field = self.field(node, select)?;
        if select.test {
            if !field.can_be_missing() {
                let problem = format!(
                    "`{}` is never missing, so that `has` says nothing",
                    field.name()
                );
                return self.wrong(node, problem, "use the field itself");
            }
            return Some(Typed::Bool(BoolExpr::Has(field)));
        }
        Some(match field {
            Field::Address => Typed::Address,
            Field::Bool(field) => Typed::Bool(BoolExpr::Field(field)),
            Field::Int(field) => Typed::Int(IntExpr::Field(field)),
            Field::Reasons => Typed::Reasons,
            Field::Text(field) => Typed::Text(TextExpr::Field(field)),
        })
    }

    fn list(&mut self, node: u64, elements: &[Expression]) -> Option<Typed> {
        if elements.len() > LIST_MAX {
            let problem = format!(
                "a list has {} elements, expected at most {LIST_MAX}",
                elements.len()
            );
            return self.wrong(node, problem, "split the rule");
        }
        let (mut numbers, mut texts, mut sound) = (Vec::new(), Vec::new(), true);
        for element in elements {
            match self.typed(element) {
                Some(Typed::Int(IntExpr::Const(number))) => numbers.push(number),
                Some(Typed::Text(TextExpr::Const(text))) => texts.push(text),
                Some(_) => {
                    sound = false;
                    self.wrong::<()>(
                        element.id,
                        "an element of a list is not a literal",
                        "list texts or whole numbers only",
                    );
                }
                None => sound = false,
            }
        }
        match (numbers.is_empty(), texts.is_empty()) {
            _ if !sound => None,
            (false, false) => self.wrong(
                node,
                "a list mixes numbers and texts",
                "keep to one of the two",
            ),
            (false, true) => Some(Typed::Ints(numbers)),
            (true, false) => Some(Typed::Texts(texts)),
            (true, true) => Some(Typed::Nothing),
        }
    }

    fn call(&mut self, node: u64, call: &CallExpr) -> Option<Typed> {
        let name = call.func_name.as_str();
        // CEL allows `size(x)` and `x.size()` alike.
        let operands: Vec<&Expression> = call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .collect();
        let is_method = call.target.is_some();
        match (name, operands.as_slice()) {
            (operators::LOGICAL_AND, [a, b]) => self.junction(a, b, "`&&`", BoolExpr::And),
            (operators::LOGICAL_OR, [a, b]) => self.junction(a, b, "`||`", BoolExpr::Or),
            (operators::LOGICAL_NOT, [a]) => Some(Typed::Bool(BoolExpr::Not(Box::new(
                self.bool(a, "the operand of `!`")?,
            )))),
            (operators::CONDITIONAL, [condition, then, otherwise]) => {
                let condition = self.bool(condition, "the condition of `?:`");
                let then = self.bool(then, "a branch of `?:`");
                let otherwise = self.bool(otherwise, "a branch of `?:`");
                Some(Typed::Bool(BoolExpr::If(
                    Box::new(condition?),
                    Box::new(then?),
                    Box::new(otherwise?),
                )))
            }
            (operators::NEGATE, [a]) => match self.typed(a)? {
                Typed::Int(IntExpr::Const(number)) => {
                    Some(Typed::Int(IntExpr::Const(number.saturating_neg())))
                }
                _ => self.wrong(
                    node,
                    "only a number that is written out can be negative",
                    "move it to the other side",
                ),
            },
            (operators::IN, [a, b]) => self.membership(node, a, b),
            (
                operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO,
                _,
            ) => self.wrong(
                node,
                "arithmetic is not supported in conditions",
                "write out the result",
            ),
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, _) => self.wrong(
                node,
                "indexing is not supported in conditions",
                "fields have the form `risk.score`",
            ),
            (_, [a, b]) if order(name).is_some() => self.comparison(node, name, a, b),
            ("size", [a]) => match self.typed(a)? {
                Typed::Reasons => Some(Typed::Int(IntExpr::ReasonCount)),
                Typed::Text(text) => Some(Typed::Int(IntExpr::Length(text))),
                other => self.wrong(
                    node,
                    format!("`size` of {}", other.kind()),
                    "it takes a text or `risk.reasons`",
                ),
            },
            ("startsWith", [a, b]) if is_method => self.relation(node, a, Relation::StartsWith, b),
            ("endsWith", [a, b]) if is_method => self.relation(node, a, Relation::EndsWith, b),
            ("contains", [a, b]) if is_method => self.relation(node, a, Relation::Contains, b),
            ("matches", [a, b]) => {
                let text = self.text(a, "what `matches` is applied to");
                let pattern = self
                    .literal(b, "a pattern")
                    .and_then(|pattern| self.pattern(b.id, &pattern));
                Some(Typed::Bool(BoolExpr::Matches(text?, pattern?)))
            }
            ("in_cidr", [a, b]) => self.in_cidr(a, b),
            ("map" | "filter" | "exists_one" | "existsOne", _) => self.wrong(
                node,
                format!("`{name}` is not supported in conditions"),
                "use `exists` or `all`",
            ),
            _ if FUNCTIONS.contains(&name) => {
                self.wrong(node, format!("`{name}` is used wrongly"), usage(name))
            }
            _ => {
                let remedy = suggestion(name, FUNCTIONS)
                    .unwrap_or_else(|| format!("expected {}", listed(FUNCTIONS)));
                self.wrong(node, format!("unknown function `{name}`"), remedy)
            }
        }
    }

    fn junction(
        &mut self,
        a: &Expression,
        b: &Expression,
        operator: &str,
        join: fn(Box<BoolExpr>, Box<BoolExpr>) -> BoolExpr,
    ) -> Option<Typed> {
        let what = format!("an operand of {operator}");
        let (a, b) = (self.bool(a, &what), self.bool(b, &what));
        Some(Typed::Bool(join(Box::new(a?), Box::new(b?))))
    }

    fn relation(
        &mut self,
        node: u64,
        a: &Expression,
        relation: Relation,
        b: &Expression,
    ) -> Option<Typed> {
        let what = "an operand of a text function";
        let (a, b) = (self.text(a, what), self.text(b, what));
        let (a, b) = (a?, b?);
        if relation != Relation::Equal && matches!(&b, TextExpr::Const(text) if text.is_empty()) {
            return self.wrong(
                node,
                "every text contains the empty text",
                "name what is looked for",
            );
        }
        Some(Typed::Bool(BoolExpr::Text(a, relation, b)))
    }

    fn comparison(
        &mut self,
        node: u64,
        operator: &str,
        a: &Expression,
        b: &Expression,
    ) -> Option<Typed> {
        let (left, right) = (self.typed(a), self.typed(b));
        let (left, right) = (left?, right?);
        let order = order(operator)?;
        let negated = |expression| {
            if order == Order::NotEqual {
                BoolExpr::Not(Box::new(expression))
            } else {
                expression
            }
        };
        let is_equality = matches!(order, Order::Equal | Order::NotEqual);
        Some(Typed::Bool(match (left, right) {
            (Typed::Int(left), Typed::Int(right)) => BoolExpr::Int(left, order, right),
            (Typed::Bool(left), Typed::Bool(right)) if is_equality => {
                negated(BoolExpr::Same(Box::new(left), Box::new(right)))
            }
            (Typed::Text(left), Typed::Text(right)) if is_equality => {
                self.comparable(node, &left, &right)?;
                let relation = if order == Order::Equal {
                    Relation::Equal
                } else {
                    Relation::NotEqual
                };
                BoolExpr::Text(left, relation, right)
            }
            (Typed::Address, Typed::Text(TextExpr::Const(text)))
            | (Typed::Text(TextExpr::Const(text)), Typed::Address)
                if is_equality =>
            {
                negated(BoolExpr::InCidr(vec![self.network(node, &text)?]))
            }
            (Typed::Text(_), Typed::Text(_)) => {
                let remedy =
                    "texts are only equal or not; for the level compare `risk.score` with a number";
                return self.wrong(node, "texts have no order", remedy);
            }
            (left, right) => {
                let problem = format!("{} is compared with {}", left.kind(), right.kind());
                return self.wrong(
                    node,
                    problem,
                    "compare things of one kind; texts are put in quotation marks",
                );
            }
        }))
    }

    fn membership(&mut self, node: u64, a: &Expression, b: &Expression) -> Option<Typed> {
        let (left, right) = (self.typed(a), self.typed(b));
        Some(Typed::Bool(match (left?, right?) {
            (Typed::Text(text), Typed::Texts(list)) => {
                for one in &list {
                    self.comparable(node, &text, &TextExpr::Const(one.clone()));
                }
                BoolExpr::TextIn(text, list)
            }
            (Typed::Int(number), Typed::Ints(list)) => BoolExpr::IntIn(number, list),
            (Typed::Text(text), Typed::Reasons) => {
                if let TextExpr::Const(code) = &text {
                    self.reason(node, code);
                }
                BoolExpr::IsReason(text)
            }
            (Typed::Address, Typed::Texts(list)) => self.networks(node, &list)?,
            (_, Typed::Nothing) => {
                return self.wrong(
                    node,
                    "nothing is in an empty list",
                    "list something, or leave it out",
                );
            }
            (left, right @ (Typed::Ints(_) | Typed::Texts(_) | Typed::Reasons)) => {
                let problem = format!("{} is looked for in {}", left.kind(), right.kind());
                return self.wrong(
                    node,
                    problem,
                    "list things of the same kind; texts are put in quotation marks",
                );
            }
            (_, right) => {
                let problem = format!("`in` is applied to {}", right.kind());
                return self.wrong(
                    node,
                    problem,
                    "it takes a list such as `[\"a\", \"b\"]`, or `risk.reasons`",
                );
            }
        }))
    }

    /// Whether the two could ever be equal.
    fn comparable(&mut self, node: u64, left: &TextExpr, right: &TextExpr) -> Option<()> {
        let (field, literal) = match (left, right) {
            (TextExpr::Field(field), TextExpr::Const(literal))
            | (TextExpr::Const(literal), TextExpr::Field(field)) => (*field, literal),
            (TextExpr::Item, TextExpr::Const(code)) | (TextExpr::Const(code), TextExpr::Item) => {
                return self.reason(node, code);
            }
            _ => return Some(()),
        };
        match field.never_equals(literal) {
            Some(remedy) => self.wrong(
                node,
                format!("`{}` is never `{literal}`", Field::Text(field).name()),
                remedy,
            ),
            None => Some(()),
        }
    }

    fn reason(&mut self, node: u64, code: &str) -> Option<()> {
        if Reason::from_code(code).is_some() {
            return Some(());
        }
        let remedy = suggestion(code, Reason::ALL.iter().map(|reason| reason.code()))
            .unwrap_or_else(|| "the codes are listed in the reference of reasons".to_owned());
        self.wrong(node, format!("unknown reason `{code}`"), remedy)
    }

    fn pattern(&mut self, node: u64, pattern: &str) -> Option<Regex> {
        match RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
        {
            Ok(pattern) => Some(pattern),
            Err(regex::Error::CompiledTooBig(_)) => self.wrong(
                node,
                format!("the pattern `{pattern}` is too large"),
                "bound its repetitions more tightly",
            ),
            Err(error) => {
                let text = error.to_string();
                let cause = text
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                let problem = format!("the pattern `{pattern}` is not valid: {cause}");
                self.wrong(
                    node,
                    problem,
                    "the syntax is that of RE2, without look-around and back references",
                )
            }
        }
    }

    fn in_cidr(&mut self, a: &Expression, b: &Expression) -> Option<Typed> {
        let (address, networks) = (self.typed(a), self.typed(b));
        let (address, networks) = (address?, networks?);
        if !matches!(address, Typed::Address) {
            return self.wrong(
                a.id,
                format!("`in_cidr` of {}", address.kind()),
                usage("in_cidr"),
            );
        }
        let list = match networks {
            Typed::Text(TextExpr::Const(one)) => vec![one],
            Typed::Texts(list) => list,
            _ => {
                return self.wrong(
                    b.id,
                    "the networks of `in_cidr` are not literals",
                    usage("in_cidr"),
                );
            }
        };
        self.networks(b.id, &list).map(Typed::Bool)
    }

    fn networks(&mut self, node: u64, list: &[String]) -> Option<BoolExpr> {
        let networks: Vec<Option<IpNet>> =
            list.iter().map(|text| self.network(node, text)).collect();
        networks
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(BoolExpr::InCidr)
    }

    fn network(&mut self, node: u64, text: &str) -> Option<IpNet> {
        let parsed = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let Some(network) = parsed else {
            return self.wrong(
                node,
                format!("`{text}` is not an address or network"),
                "expected the form `10.0.0.0/8`",
            );
        };
        if network != network.trunc() {
            let remedy = format!("write `{}`", network.trunc());
            return self.wrong(node, format!("`{text}` has bits beyond its prefix"), remedy);
        }
        if network.addr() != network.addr().to_canonical() {
            let problem =
                format!("`{text}` is never met, IPv4 addresses are seen in their own form");
            return self.wrong(node, problem, "write the IPv4 network");
        }
        Some(network)
    }

    fn comprehension(&mut self, node: u64, comprehension: &ComprehensionExpr) -> Option<BoolExpr> {
        let (any, body) = match (&comprehension.accu_init.expr, &comprehension.loop_step.expr) {
            (Expr::Literal(LiteralValue::Boolean(init)), Expr::Call(step)) => {
                match (step.func_name.as_str(), &*step.args) {
                    (operators::LOGICAL_OR, [_, body]) if !*init.inner() => (true, body),
                    (operators::LOGICAL_AND, [_, body]) if *init.inner() => (false, body),
                    _ => {
                        return self.wrong(
                            node,
                            "that kind of loop is not supported",
                            "use `exists` or `all`",
                        );
                    }
                }
            }
            _ => {
                return self.wrong(
                    node,
                    "`map`, `filter` and `exists_one` are not supported",
                    "use `exists` or `all`",
                );
            }
        };
        if self.item.is_some() {
            return self.wrong(node, "loops do not nest", "split the rule");
        }
        let variable = comprehension.iter_var.clone();
        if vocabulary::roots().contains(&variable.as_str()) {
            return self.wrong(
                node,
                format!("`{variable}` already means something else"),
                "choose another name",
            );
        }
        match self.typed(&comprehension.iter_range)? {
            Typed::Reasons => {
                let body = self.body(variable, TextExpr::Item, body)?;
                Some(BoolExpr::EachReason {
                    any,
                    body: Box::new(body),
                })
            }
            Typed::Texts(list) => {
                let join: fn(Box<BoolExpr>, Box<BoolExpr>) -> BoolExpr =
                    if any { BoolExpr::Or } else { BoolExpr::And };
                let mut unrolled = None;
                for text in list {
                    let next = self.body(variable.clone(), TextExpr::Const(text), body)?;
                    unrolled = Some(match unrolled {
                        Some(before) => join(Box::new(before), Box::new(next)),
                        None => next,
                    });
                }
                unrolled
            }
            other => {
                let problem = format!("a loop over {}", other.kind());
                self.wrong(
                    node,
                    problem,
                    "`exists` and `all` take `risk.reasons` or a list of texts",
                )
            }
        }
    }

    fn body(&mut self, variable: String, value: TextExpr, body: &Expression) -> Option<BoolExpr> {
        self.item = Some(Item { variable, value });
        let checked = self.bool(body, "the condition of a loop");
        self.item = None;
        checked
    }
}

fn order(operator: &str) -> Option<Order> {
    Some(match operator {
        operators::EQUALS => Order::Equal,
        operators::NOT_EQUALS => Order::NotEqual,
        operators::GREATER => Order::Greater,
        operators::GREATER_EQUALS => Order::GreaterOrEqual,
        operators::LESS => Order::Less,
        operators::LESS_EQUALS => Order::LessOrEqual,
        _ => return None,
    })
}

fn fields_of(root: &str) -> String {
    let names = vocabulary::names();
    listed(
        names
            .iter()
            .map(String::as_str)
            .filter(|name| name.split_once('.').is_some_and(|(r, _)| r == root)),
    )
}

fn usage(function: &str) -> &'static str {
    match function {
        "has" => "use it as in `has(risk.score)`",
        "in_cidr" => "use it as in `in_cidr(network.address, [\"10.0.0.0/8\", \"192.0.2.1\"])`",
        "size" => "use it as in `size(risk.reasons) > 2`",
        "all" | "exists" => "use it as in `risk.reasons.exists(r, r.startsWith(\"ip_\"))`",
        "matches" => "use it as in `request.path.matches(\"^/oauth2/\")`",
        _ => "use it as in `request.path.startsWith(\"/oauth2/\")`",
    }
}
