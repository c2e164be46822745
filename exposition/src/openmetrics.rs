//! OpenMetrics.
//!
//! ```text
//! page     = line… "# EOF" ["\n"]
//! line     = "# " ("HELP" | "TYPE" | "UNIT") " " name " " text "\n"  |  metric "\n"      exactly one blank each time
//! metric   = name [labels] " " value [" " seconds] [exemplar]  |  "{" quoted-name … "}" …
//! exemplar = " # " labels " " value [" " seconds]
//! labels   = "{" [ name "=" quoted ("," | before "}") ]… "}"
//! ```

use crate::created::Created;
use crate::cursor::{Cursor, LineCount, Quoted};
use crate::entry::{Entry, Exemplar, MetricType, Sample};
use crate::error::{Error, Expected};
use crate::escape::unescape;
use crate::number;
use crate::series::SeriesText;

const NAME: Quoted = Quoted { line_feed: true, nul: false };
const VALUE: Quoted = Quoted { line_feed: false, nul: true };
const IN_EXEMPLAR: Quoted = Quoted { line_feed: false, nul: false };

/// Parser of a page in OpenMetrics: an iterator that ends after the first error. A page without `# EOF` is an error.
#[derive(Debug, Clone)]
pub struct OpenMetrics<'a> {
    cursor: Cursor<'a>,
    kind: MetricType,
    family_len: usize,
    entry_at: usize,
    lines: LineCount,
    ended: bool,
    created: Option<Created>,
}

impl<'a> Iterator for OpenMetrics<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let entry = self.entry().transpose();
            self.ended = !matches!(entry, Some(Ok(_)));
            match entry {
                Some(Ok(Entry::Sample(mut sample))) if self.created.is_some() => {
                    if !self.find_start(&mut sample) {
                        return Some(Ok(Entry::Sample(sample)));
                    }
                }
                other => return other,
            }
        }
        None
    }
}

impl<'a> OpenMetrics<'a> {
    pub(crate) fn new(page: &'a [u8]) -> Self {
        Self {
            cursor: Cursor { page, at: 0 },
            kind: MetricType::Unknown,
            family_len: 0,
            entry_at: 0,
            lines: LineCount::new(),
            ended: false,
            created: None,
        }
    }

    /// Gives counters, histograms and summaries the start timestamp of their `_created` line
    /// ([`Sample::start_timestamp`]) and keeps those lines to itself. Without it they are samples like others.
    #[must_use]
    pub fn with_start_timestamps(mut self) -> Self {
        self.created = Some(Created::new(self.cursor.page));
        self
    }

    /// The line, from 1, where the last entry returned began.
    pub fn line(&mut self) -> usize {
        self.lines.line(self.cursor.page, self.entry_at)
    }

    /// Sets the sample's start timestamp; true if it is a `_created` line itself.
    fn find_start(&mut self, sample: &mut Sample<'a>) -> bool {
        if !self.kind.has_start() {
            return false;
        }
        let Some(mut created) = self.created.take() else { return false };
        let is_created = Created::is_created_line(&sample.series);
        if !is_created {
            // The family's other lines are read by a copy of this parser that has no lines to find.
            created.look_ahead(self.entry_at, self.cursor.at, || self.clone());
            sample.start_timestamp = created.start_of(&sample.series, self.family_len);
        }
        self.created = Some(created);
        is_created
    }

    /// Where the next line begins.
    pub(crate) fn offset(&self) -> usize {
        self.cursor.at
    }

    fn entry(&mut self) -> Result<Option<Entry<'a>>, Error> {
        self.entry_at = self.cursor.at;
        match self.cursor.peek() {
            None => Err(self.cursor.error(Expected::EofLine)),
            Some(b'#') => self.metadata(),
            Some(_) => self.sample().map(|sample| Some(Entry::Sample(sample))),
        }
    }

    /// A line that begins with `#`; `None` for `# EOF`.
    fn metadata(&mut self) -> Result<Option<Entry<'a>>, Error> {
        let line = self.cursor;
        if self.cursor.eat_word(b"# EOF") {
            self.cursor.eat(b'\n');
            return match self.cursor.peek() {
                None => Ok(None),
                Some(_) => Err(self.cursor.error(Expected::NothingAfterEof)),
            };
        }
        let keyword = [&b"# HELP "[..], b"# TYPE ", b"# UNIT "].into_iter().find(|word| self.cursor.eat_word(word));
        let keyword = keyword.ok_or_else(|| line.error(Expected::MetadataKeyword))?;
        let raw_name = match self.cursor.take_metric_name() {
            Some(name) => name,
            None => self.cursor.take_quoted(NAME).ok_or_else(|| self.cursor.error(Expected::MetadataName))?,
        };
        self.family_len = raw_name.len();
        let name = unescape(raw_name);
        let text_at = self.cursor;
        let text = self.metadata_text()?;
        Ok(Some(match keyword[2] {
            b'T' => {
                self.kind = MetricType::from_openmetrics(text).ok_or_else(|| text_at.error(Expected::MetricType))?;
                Entry::Type { name, kind: self.kind }
            }
            b'H' if std::str::from_utf8(text).is_err() => return Err(text_at.error(Expected::Utf8Help)),
            b'H' => Entry::Help { name, text: unescape(text) },
            _ if !ends_with_unit(raw_name, text) => return Err(text_at.error(Expected::UnitSuffix)),
            _ => Entry::Unit { name, unit: text },
        }))
    }

    /// A blank, the text, the line feed.
    fn metadata_text(&mut self) -> Result<&'a [u8], Error> {
        let at = self.cursor;
        if !self.cursor.eat(b' ') {
            return Err(at.error(Expected::MetadataText));
        }
        let text = self.cursor.take_while(|byte| byte != b'\n');
        if self.cursor.eat(b'\n') { Ok(text) } else { Err(self.cursor.error(Expected::EofLine)) }
    }

    fn sample(&mut self) -> Result<Sample<'a>, Error> {
        let start = self.cursor.at;
        let mut named = self.cursor.take_metric_name().is_some();
        if self.cursor.eat(b'{') {
            self.labels(Some(&mut named), VALUE)?;
        } else if !named {
            return Err(self.cursor.error(Expected::StartOfLine));
        }
        if !named {
            return Err(self.cursor.error(Expected::MetricName));
        }
        let series = SeriesText { text: &self.cursor.page[start..self.cursor.at], kind: self.kind };
        let value = self.value()?;
        let timestamp = if self.is_at_exemplar() || self.is_at_end_of_line() { None } else { Some(self.seconds()?) };
        let exemplar = if self.is_at_exemplar() { Some(self.exemplar()?) } else { None };
        if !self.cursor.eat(b'\n') {
            let expected = match self.cursor.peek() {
                None => Expected::EofLine,
                Some(_) if exemplar.is_some() => Expected::EndOfLine,
                Some(_) => Expected::ExemplarOrEnd,
            };
            return Err(self.cursor.error(expected));
        }
        Ok(Sample { series, value, timestamp, start_timestamp: None, exemplar })
    }

    /// What stands behind `{`, and the `}`. In an exemplar (`named` is `None`) there is no metric name.
    fn labels(&mut self, mut named: Option<&mut bool>, value_may_hold: Quoted) -> Result<(), Error> {
        let name_may_hold = if named.is_some() { NAME } else { IN_EXEMPLAR };
        loop {
            if self.cursor.eat(b'}') {
                return Ok(());
            }
            let name_at = self.cursor;
            let quoted = self.cursor.take_label_name().is_none();
            if quoted && self.cursor.take_quoted(name_may_hold).is_none() {
                return Err(self.cursor.error(Expected::LabelName));
            }
            if quoted && matches!(self.cursor.peek(), Some(b',' | b'}')) {
                match &mut named {
                    None => return Err(self.cursor.error(Expected::Equal)),
                    Some(true) => return Err(name_at.error(Expected::OneMetricName)),
                    Some(named) => **named = true,
                }
                self.cursor.eat(b',');
                continue;
            }
            if !self.cursor.eat(b'=') {
                return Err(self.cursor.error(Expected::Equal));
            }
            let value_at = self.cursor;
            let value = self.cursor.take_quoted(value_may_hold).ok_or_else(|| value_at.error(Expected::LabelValue))?;
            if std::str::from_utf8(value).is_err() {
                return Err(value_at.error(Expected::Utf8Value));
            }
            if !self.cursor.eat(b',') && self.cursor.peek() != Some(b'}') {
                return Err(self.cursor.error(Expected::CommaOrBrace));
            }
        }
    }

    fn exemplar(&mut self) -> Result<Exemplar<'a>, Error> {
        self.cursor.at += b" # ".len();
        let start = self.cursor.at;
        if !self.cursor.eat(b'{') {
            return Err(self.cursor.error(Expected::TimestampExemplarOrEnd));
        }
        self.labels(None, IN_EXEMPLAR)?;
        let labels = SeriesText { text: &self.cursor.page[start..self.cursor.at], kind: MetricType::Unknown };
        let value = self.value()?;
        let timestamp = if self.is_at_end_of_line() { None } else { Some(self.seconds()?) };
        Ok(Exemplar { labels, value, timestamp })
    }

    /// A blank and a number.
    fn value(&mut self) -> Result<f64, Error> {
        let at = self.cursor;
        let text = self.spaced_token().ok_or_else(|| at.error(Expected::Value))?;
        number::parse_value(text).ok_or_else(|| at.error(Expected::Float))
    }

    /// A blank and a time.
    fn seconds(&mut self) -> Result<i64, Error> {
        let at = self.cursor;
        let text = self.spaced_token().ok_or_else(|| at.error(Expected::TimestampExemplarOrEnd))?;
        number::parse_seconds(text).ok_or_else(|| at.error(Expected::Seconds))
    }

    /// A blank and what stands up to the next blank, line feed or NUL: at least one byte.
    fn spaced_token(&mut self) -> Option<&'a [u8]> {
        if !self.cursor.eat(b' ') {
            return None;
        }
        let token = self.cursor.take_while(|byte| !matches!(byte, b' ' | b'\n' | 0));
        (!token.is_empty()).then_some(token)
    }

    fn is_at_end_of_line(&self) -> bool {
        self.cursor.peek() == Some(b'\n')
    }

    fn is_at_exemplar(&self) -> bool {
        self.cursor.page[self.cursor.at..].starts_with(b" # ")
    }
}

fn ends_with_unit(name: &[u8], unit: &[u8]) -> bool {
    unit.is_empty() || name.strip_suffix(unit).is_some_and(|before| before.ends_with(b"_"))
}
