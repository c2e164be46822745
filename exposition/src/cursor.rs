//! A place in a page, and the lexical bits both formats share.

use crate::error::{Error, Expected, Found};

/// A place in a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) page: &'a [u8],
    pub(crate) at: usize,
}

/// Which bytes a string in double quotes may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    /// A line feed that is not escaped.
    pub(crate) line_feed: bool,
    /// NUL.
    pub(crate) nul: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn peek(&self) -> Option<u8> {
        self.page.get(self.at).copied()
    }

    /// Moves behind `byte` if it is next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Moves behind `word` if it is next.
    pub(crate) fn eat_word(&mut self, word: &[u8]) -> bool {
        let found = self.page[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Moves behind blanks and tabs.
    pub(crate) fn skip_blanks(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Takes bytes as long as `wanted` holds.
    pub(crate) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.page[self.at..];
        let len = rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Takes the rest of the line and moves behind its line feed, which may be missing at the end of the page.
    pub(crate) fn take_line(&mut self) -> &'a [u8] {
        let line = self.take_while(|byte| byte != b'\n');
        self.eat(b'\n');
        line
    }

    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`, or nothing.
    pub(crate) fn take_metric_name(&mut self) -> Option<&'a [u8]> {
        let starts = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
        self.peek().filter(|byte| starts(*byte))?;
        Some(self.take_while(|byte| starts(byte) || byte.is_ascii_digit()))
    }

    /// `[a-zA-Z_][a-zA-Z0-9_]*`, or nothing.
    pub(crate) fn take_label_name(&mut self) -> Option<&'a [u8]> {
        self.peek().filter(|byte| byte.is_ascii_alphabetic() || *byte == b'_')?;
        Some(self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
    }

    /// A string in double quotes, returned without them and with its escapes; nothing, and no move, if it does not begin
    /// or does not end here. A backslash takes the next byte with it, which may not be a line feed.
    pub(crate) fn take_quoted(&mut self, may_hold: Quoted) -> Option<&'a [u8]> {
        let rest = &self.page[self.at..];
        let mut len = 1;
        if rest.first() != Some(&b'"') {
            return None;
        }
        loop {
            match rest.get(len)? {
                b'"' => break,
                b'\\' => {
                    len += 1;
                    while may_hold.nul && rest.get(len) == Some(&0) {
                        len += 1;
                    }
                    if matches!(rest.get(len)?, b'\n' | 0) {
                        return None;
                    }
                }
                b'\n' if !may_hold.line_feed => return None,
                0 if !may_hold.nul => return None,
                _ => {}
            }
            len += 1;
        }
        self.at += len + 1;
        Some(&rest[1..len])
    }

    /// An error at this place.
    pub(crate) fn error(&self, expected: Expected) -> Error {
        let before = &self.page[..self.at];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |feed| feed + 1);
        Error {
            line: count_lines(before) + 1,
            column: self.at - line_start + 1,
            expected,
            found: Found::at(self.page, self.at),
        }
    }
}

/// Line feeds in `bytes`.
pub(crate) fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Line numbers of places asked for in ascending order, without counting from the start each time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineCount {
    at: usize,
    line: usize,
}

impl LineCount {
    pub(crate) fn new() -> Self {
        Self { at: 0, line: 1 }
    }

    /// The line of `offset`, from 1; `offset` may not be smaller than the last one asked for.
    pub(crate) fn line(&mut self, page: &[u8], offset: usize) -> usize {
        self.line += count_lines(&page[self.at..offset]);
        self.at = offset;
        self.line
    }
}
