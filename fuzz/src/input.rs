//! Takes an input apart: a byte that chooses, lines, and the rest. Every input has a meaning, so that none is wasted, and
//! seeds stay readable.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One of `choices`, by the first byte; the digits of the seeds count from the first.
    pub(crate) fn choice<T: Clone>(&mut self, choices: &[T]) -> Option<T> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        let number = usize::from(first.wrapping_sub(b'0'));
        choices.get(number % choices.len()).cloned()
    }

    /// Up to the next line feed, without it; everything where there is none.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let at = self.0.iter().position(|byte| *byte == b'\n');
        let (line, rest) = self.0.split_at(at.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    /// All lines that are left, at most 16.
    pub(crate) fn lines(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| *byte == b'\n').take(16)
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The same as text, if it is.
    pub(crate) fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }
}
