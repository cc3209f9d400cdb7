//! A condition in CEL, the Common Expression Language, compiled once at load. The parser is that of the `cel` crate; the
//! checker turns its tree into an expression of our own, because a decision must not fail, allocate or run a pattern
//! through a compiler, and because the lint evaluates each condition many thousand times. Measured with `benches/decide.rs`
//! on a busy two-core machine: 2.6 µs for a decision over twenty rules, against 50 µs for the interpreter's context and
//! 62 µs for its twenty evaluations. A test holds the two evaluators to the same answers.
//!
//! The subset: the fields of the vocabulary; `&& || ! ?: == != < <= > >= in`; `has size startsWith endsWith contains
//! matches in_cidr`; `exists` and `all` over `risk.reasons` or a list of texts. Literals are whole numbers, texts, truth
//! values and lists of them. No arithmetic, no maps.

use crate::domain::policy::checker;
use crate::domain::policy::checker::Mistake;
use crate::domain::policy::expression::BoolExpr;
use crate::domain::policy::vocabulary::Facts;
use crate::domain::policy::vocabulary::Unknown;
use cel::common::ast::SourceInfo;
use cel::parser::Parser;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::sync::mpsc::Sender;

/// How long a condition may be in bytes.
pub const CONDITION_BYTES_MAX: usize = 4096;

/// How deeply brackets may nest.
pub const DEPTH_MAX: usize = 24;

/// How many signs of operators and member accesses a condition may have outside texts, `&` and `|` not counted. Bounds
/// the depth of the tree that the parser builds for a chain such as `a.b.c` or `a < b < c`.
pub const SIGNS_MAX: usize = 256;

/// The stack for the parser: four times what the deepest condition within the bounds was seen to take.
const STACK_BYTES: usize = 16 << 20;

/// What is to be compiled, and who waits for it.
type Job = (String, Sender<Result<Condition, Vec<ConditionError>>>);

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Condition {
    source: String,
    expression: BoolExpr,
}

/// One thing that is wrong with a condition.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}; {remedy}", self.located_problem())]
pub struct ConditionError {
    /// Line and column, from 1, where known.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl Condition {
    /// Compiles and type-checks `source`; on failure every mistake that was found.
    ///
    /// This happens on a thread of its own, since the generated parser takes over 100 KiB of stack per bracket when it is
    /// not optimized, and so that a fault in it is an error message. At load only, never on the request path.
    pub fn compile(source: &str) -> Result<Self, Vec<ConditionError>> {
        check_bounds(source).map_err(|error| vec![error])?;
        let failed = |problem: &str| {
            let remedy = "simplify it, or report it as a fault of this program".to_owned();
            vec![ConditionError {
                at: None,
                problem: problem.to_owned(),
                remedy,
            }]
        };
        let (answer, wait) = mpsc::channel();
        let sent = compiler().is_some_and(|jobs| jobs.send((source.to_owned(), answer)).is_ok());
        if !sent {
            return Err(failed("the parser could not be started"));
        }
        wait.recv()
            .unwrap_or_else(|_| Err(failed("the parser gave up on this condition")))
    }

    /// Whether the condition holds. An error means that it asks for a field that this request does not have.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, Unknown> {
        self.expression.value(facts)
    }

    /// The condition as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What is evaluated.
    pub fn expression(&self) -> &BoolExpr {
        &self.expression
    }
}

/// The thread that compiles, one for the life of the process: an allocator keeps what a thread has used for a while, and of
/// a new thread for each condition that would add up.
fn compiler() -> Option<&'static Sender<Job>> {
    static COMPILER: OnceLock<Sender<Job>> = OnceLock::new();
    if let Some(jobs) = COMPILER.get() {
        return Some(jobs);
    }
    let (jobs, queue) = mpsc::channel::<Job>();
    let work = move || {
        for (source, answer) in queue {
            // A fault of the parser leaves nothing behind that another condition could meet. Who asked hears of it by
            // the end of its channel.
            if let Ok(compiled) = catch_unwind(|| compile(&source)) {
                // Whoever asked waits for it.
                drop(answer.send(compiled));
            }
        }
    };
    let builder = std::thread::Builder::new()
        .name("compile-condition".to_owned())
        .stack_size(STACK_BYTES);
    builder.spawn(work).ok()?;
    // Of two that began at once the second is dropped here, and its thread ends.
    Some(COMPILER.get_or_init(|| jobs))
}

fn compile(source: &str) -> Result<Condition, Vec<ConditionError>> {
    let (tree, info) = Parser::new()
        .parse_with_source_info(source)
        .map_err(|errors| {
            errors
                .errors
                .iter()
                .map(|error| syntax_error(error.pos, &error.msg))
                .collect::<Vec<_>>()
        })?;
    match checker::check(&tree) {
        Ok(expression) => Ok(Condition {
            source: source.to_owned(),
            expression,
        }),
        Err(mistakes) => Err(mistakes
            .into_iter()
            .map(|mistake| located(mistake, source, &info))
            .collect()),
    }
}

impl ConditionError {
    /// Where and what, without the remedy.
    pub fn located_problem(&self) -> String {
        match self.at {
            Some((1, column)) => format!("column {column}: {}", self.problem),
            Some((line, column)) => format!("line {line}, column {column}: {}", self.problem),
            None => self.problem.clone(),
        }
    }
}

/// What must hold before the parser sees the text, since it recurses.
fn check_bounds(source: &str) -> Result<(), ConditionError> {
    let error = |problem: String, remedy: &str| {
        Err(ConditionError {
            at: None,
            problem,
            remedy: remedy.to_owned(),
        })
    };
    if source.trim().is_empty() {
        return error(
            "the condition is empty".to_owned(),
            "write `true` to match every request",
        );
    }
    if source.len() > CONDITION_BYTES_MAX {
        let problem = format!(
            "the condition has {} bytes, expected at most {CONDITION_BYTES_MAX}",
            source.len()
        );
        return error(problem, "split it into several rules");
    }
    if source.contains("\"\"\"") || source.contains("'''") {
        return error(
            "texts in triple quotation marks are not supported".to_owned(),
            "use single ones",
        );
    }
    let (mut depth, mut signs) = (0usize, 0usize);
    for byte in outside_of_texts(source) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'.' | b'<' | b'>' | b'=' | b'!' | b'?' | b':' | b'+' | b'-' | b'*' | b'/' | b'%' => {
                signs += 1
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            return error(
                format!("brackets nest more than {DEPTH_MAX} deep"),
                "split it into several rules",
            );
        }
    }
    if signs > SIGNS_MAX {
        let problem =
            format!("the condition has {signs} operators and dots, expected at most {SIGNS_MAX}");
        return error(problem, "split it into several rules");
    }
    Ok(())
}

/// The bytes that are neither within quotation marks nor in a comment. Triple quotation marks must have been ruled out.
fn outside_of_texts(source: &str) -> impl Iterator<Item = u8> {
    enum Place {
        Code,
        Comment,
        Text { quote: u8, raw: bool, escaped: bool },
    }
    let (mut place, mut before) = (Place::Code, b' ');
    source.bytes().filter(move |&byte| {
        let is_code = matches!(place, Place::Code);
        match &mut place {
            Place::Code => match byte {
                b'"' | b'\'' => {
                    place = Place::Text {
                        quote: byte,
                        raw: matches!(before, b'r' | b'R'),
                        escaped: false,
                    }
                }
                b'/' if before == b'/' => place = Place::Comment,
                _ => {}
            },
            Place::Comment if byte == b'\n' => place = Place::Code,
            Place::Comment => {}
            Place::Text { quote, escaped, .. } if byte == *quote && !*escaped => {
                place = Place::Code
            }
            Place::Text { raw, escaped, .. } => *escaped = byte == b'\\' && !*escaped && !*raw,
        }
        before = byte;
        is_code
    })
}

fn syntax_error((line, column): (isize, isize), message: &str) -> ConditionError {
    let at = usize::try_from(line)
        .ok()
        .zip(usize::try_from(column).ok())
        .filter(|(line, _)| *line > 0);
    // The parser's messages name its own tokens; the first line says what it stumbled over.
    let problem = message
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("Syntax error: ")
        .replace('\'', "`");
    ConditionError {
        at,
        problem,
        remedy: "the language is CEL".to_owned(),
    }
}

fn located(mistake: Mistake, source: &str, info: &SourceInfo) -> ConditionError {
    let at = info.offset_for(mistake.node).map(|(start, _)| {
        let before: String = source
            .chars()
            .take(usize::try_from(start).unwrap_or(usize::MAX))
            .collect();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |rest| rest.chars().count())
            + 1;
        (line, column)
    });
    ConditionError {
        at,
        problem: mistake.problem,
        remedy: mistake.remedy,
    }
}

#[cfg(test)]
mod tests;
