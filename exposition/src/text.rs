//! The Prometheus text format.
//!
//! ```text
//! line    = blanks [ "#" comment | metric ] "\n"
//! comment = blanks ("HELP" | "TYPE") blanks name text | anything
//! metric  = name [labels] value [ms]  |  "{" quoted-name … "}" value [ms]      blanks between any two of them
//! labels  = "{" [ name "=" quoted [","] ]… "}"                                  the reference wants no comma between labels
//! ```

use std::borrow::Cow;

use crate::cursor::{Cursor, LineCount, Quoted};
use crate::entry::{Entry, MetricType, Sample};
use crate::error::{Error, Expected};
use crate::escape::{unescape, unescape_help};
use crate::number;
use crate::series::SeriesText;

const NAME: Quoted = Quoted { line_feed: true, nul: false };
const VALUE: Quoted = Quoted { line_feed: true, nul: true };

/// Parser of a page in the text format: an iterator that ends after the first error.
#[derive(Debug, Clone)]
pub struct Text<'a> {
    cursor: Cursor<'a>,
    kind: MetricType,
    entry_at: usize,
    lines: LineCount,
    failed: bool,
}

impl<'a> Iterator for Text<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.entry().transpose()?;
        self.failed = entry.is_err();
        Some(entry)
    }
}

impl<'a> Text<'a> {
    pub(crate) fn new(page: &'a [u8]) -> Self {
        let cursor = Cursor { page, at: 0 };
        Self { cursor, kind: MetricType::Unknown, entry_at: 0, lines: LineCount::new(), failed: false }
    }

    /// The line, from 1, where the last entry returned began.
    pub fn line(&mut self) -> usize {
        self.lines.line(self.cursor.page, self.entry_at)
    }

    fn entry(&mut self) -> Result<Option<Entry<'a>>, Error> {
        loop {
            self.cursor.skip_blanks();
            self.entry_at = self.cursor.at;
            match self.cursor.peek() {
                None => return Ok(None),
                Some(b'\n') => self.cursor.at += 1,
                Some(b'#') => return self.comment().map(Some),
                Some(_) => return self.sample().map(|sample| Some(Entry::Sample(sample))),
            }
        }
    }

    fn comment(&mut self) -> Result<Entry<'a>, Error> {
        let start = self.cursor;
        self.cursor.at += 1;
        let spaced = self.is_at_blank();
        self.cursor.skip_blanks();
        let help = spaced && self.cursor.eat_word(b"HELP");
        let known = help || spaced && self.cursor.eat_word(b"TYPE");
        if !(known && self.is_at_blank()) {
            self.cursor = start;
            return Ok(Entry::Comment(self.cursor.take_line()));
        }
        self.cursor.skip_blanks();
        let name = match self.cursor.take_metric_name() {
            Some(name) => Cow::Borrowed(name),
            None => {
                self.cursor.take_quoted(NAME).map(unescape).ok_or_else(|| self.cursor.error(Expected::MetadataName))?
            }
        };
        if self.cursor.peek() == Some(0) {
            return Err(self.cursor.error(Expected::MetadataText));
        }
        let text = self.cursor;
        let line = self.cursor.take_line();
        // One byte separates the name from the text, and the reference does not look which.
        let meant = if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | 0)) { &[] } else { &line[1..] };
        if help {
            return match std::str::from_utf8(meant) {
                Ok(_) => Ok(Entry::Help { name, text: unescape_help(meant) }),
                Err(_) => Err(text.error(Expected::Utf8Help)),
            };
        }
        self.kind = MetricType::from_text(meant).ok_or_else(|| text.error(Expected::MetricType))?;
        Ok(Entry::Type { name, kind: self.kind })
    }

    fn is_at_blank(&self) -> bool {
        matches!(self.cursor.peek(), Some(b' ' | b'\t'))
    }

    fn sample(&mut self) -> Result<Sample<'a>, Error> {
        let start = self.cursor.at;
        let mut named = self.cursor.take_metric_name().is_some();
        let mut end = self.cursor.at;
        self.cursor.skip_blanks();
        if self.cursor.eat(b'{') {
            self.labels(&mut named)?;
            end = self.cursor.at;
        } else if !named {
            return Err(self.cursor.error(Expected::StartOfLine));
        }
        if !named {
            return Err(self.cursor.error(Expected::MetricName));
        }
        let series = SeriesText { text: &self.cursor.page[start..end], kind: self.kind };
        let value = self.value()?;
        let timestamp = self.timestamp()?;
        Ok(Sample { series, value, timestamp, start_timestamp: None, exemplar: None })
    }

    /// What stands behind `{`, and the `}`.
    fn labels(&mut self, named: &mut bool) -> Result<(), Error> {
        loop {
            self.cursor.skip_blanks();
            if self.cursor.eat(b'}') {
                return Ok(());
            }
            let name_at = self.cursor;
            let quoted = self.cursor.take_label_name().is_none();
            if quoted && self.cursor.take_quoted(NAME).is_none() {
                return Err(self.cursor.error(Expected::LabelName));
            }
            self.cursor.skip_blanks();
            if quoted && matches!(self.cursor.peek(), Some(b',' | b'}')) {
                if std::mem::replace(named, true) {
                    return Err(name_at.error(Expected::OneMetricName));
                }
                self.cursor.eat(b',');
                continue;
            }
            if !self.cursor.eat(b'=') {
                return Err(self.cursor.error(Expected::Equal));
            }
            self.cursor.skip_blanks();
            let value_at = self.cursor;
            let value = self.cursor.take_quoted(VALUE).ok_or_else(|| value_at.error(Expected::LabelValue))?;
            if std::str::from_utf8(value).is_err() {
                return Err(value_at.error(Expected::Utf8Value));
            }
            self.cursor.skip_blanks();
            self.cursor.eat(b',');
        }
    }

    fn value(&mut self) -> Result<f64, Error> {
        self.cursor.skip_blanks();
        let at = self.cursor;
        let text = self.cursor.take_while(|byte| !matches!(byte, b'{' | b' ' | b'\t' | b'\n' | 0));
        if text.is_empty() {
            return Err(at.error(Expected::Value));
        }
        number::parse_value(text).ok_or_else(|| at.error(Expected::Float))
    }

    /// The timestamp, if there is one, and the end of the line.
    fn timestamp(&mut self) -> Result<Option<i64>, Error> {
        self.cursor.skip_blanks();
        if self.ends_line() {
            return Ok(None);
        }
        let at = self.cursor;
        let digits = self.cursor.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return Err(at.error(Expected::TimestampOrEnd));
        }
        let ms = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        let ms = ms.ok_or_else(|| at.error(Expected::Milliseconds))?;
        self.cursor.skip_blanks();
        if self.ends_line() { Ok(Some(ms)) } else { Err(self.cursor.error(Expected::EndOfLine)) }
    }

    /// Moves behind the end of the line; the last line needs no line feed.
    fn ends_line(&mut self) -> bool {
        self.cursor.eat(b'\n') || self.cursor.peek().is_none()
    }
}
