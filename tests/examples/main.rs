//! Every example of the documentation is tried. A fenced block is one of: settings, which the program checks
//! (`settings.rs`); a session at a terminal, or commands, which are run (`commands.rs`, `busy.rs`, in a `place.rs`); a message,
//! which is compared with what the gateway really sends (`busy.rs`, `messages.rs`); or one that cannot be run, with the reason
//! (`untried.rs`). A block that is none of them fails `each_example_has_its_place`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

#[path = "../tidy/files.rs"]
#[allow(dead_code, reason = "shared with tests/tidy.rs, which uses more of it")]
mod files;

#[path = "../support/gateway.rs"]
mod gateway;
#[path = "../gateway/receiver.rs"]
#[allow(dead_code, reason = "shared with tests/gateway, which uses more of it")]
mod receiver;

mod busy;
mod commands;
mod messages;
mod place;
mod settings;
mod simulator;
mod untried;

use crate::files::nothing;
use crate::files::sources;
use std::sync::LazyLock;

/// A fenced example.
pub(crate) struct Block {
    /// The page, from the root.
    pub(crate) page: String,
    /// The line of its first fence.
    pub(crate) line: usize,
    /// What stands behind the fence.
    pub(crate) language: String,
    /// What is within, without the indent of the fence.
    pub(crate) text: String,
}

/// The one block of a page that has this text in it.
pub(crate) type Which = (&'static str, &'static str);

impl Block {
    /// Whether it is this one.
    pub(crate) fn is(&self, (page, text): Which) -> bool {
        self.page == page && self.text.contains(text)
    }

    /// Page and line.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// All of them.
pub(crate) static BLOCKS: LazyLock<Vec<Block>> = LazyLock::new(|| {
    let mut found = Vec::new();
    for page in sources("", &[".md"]) {
        let mut open: Option<(Block, usize)> = None;
        for (line, number) in page.text.lines().zip(1..) {
            let indent = line.len() - line.trim_start().len();
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (Some(_), Some("")) => found.extend(open.take().map(|(block, _)| block)),
                (Some((block, indent)), _) => {
                    block.text += line.get(*indent..).unwrap_or_default();
                    block.text.push('\n');
                }
                (None, Some(language)) => {
                    let block = Block {
                        page: page.path.clone(),
                        line: number,
                        language: language.to_owned(),
                        text: String::new(),
                    };
                    open = Some((block, indent));
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: an example does not end", page.path);
    }
    found
});

/// The block of that name; there must be exactly one.
pub(crate) fn block(which: Which) -> &'static Block {
    let mut found = BLOCKS.iter().filter(|block| block.is(which));
    let (first, second) = (found.next(), found.next());
    match (first, second) {
        (Some(block), None) => block,
        (None, _) => panic!("no example of {} has `{}` in it", which.0, which.1),
        (Some(_), Some(_)) => panic!("several examples of {} have `{}`", which.0, which.1),
    }
}

/// The tables: each names what its tests try.
fn named() -> Vec<Which> {
    let steps = [
        commands::CERTIFICATES,
        commands::NEWCOMER,
        commands::FLEET,
        commands::ROLLOUT,
        busy::ANALYST,
    ];
    let mut named: Vec<Which> = steps.concat().iter().map(|(which, _)| *which).collect();
    named.push(commands::ACL);
    named.extend(busy::MESSAGES);
    named.extend(untried::UNTRIED.iter().map(|(which, ..)| *which));
    named
}

#[test]
fn each_example_has_its_place() {
    let named: Vec<&Block> = named().into_iter().map(block).collect();
    let mut findings = Vec::new();
    for found in BLOCKS.iter() {
        let tables = named.iter().filter(|named| std::ptr::eq(**named, found));
        let places = if matches!(found.language.as_str(), "toml" | "console") {
            // All of them are tried.
            tables.count() + 1
        } else {
            tables.count()
        };
        if places != 1 {
            let (place, text) = (found.place(), &found.text);
            findings.push(format!("{place} is tried {places} times:\n{text}"));
        }
    }
    nothing(
        "examples that no test tries: name each in the table of the test that shall run it, or in tests/examples/untried.rs",
        findings,
    );
}
