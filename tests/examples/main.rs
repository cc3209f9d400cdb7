//! The examples of the documentation are tried: settings are checked by the program.

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

mod settings;

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
