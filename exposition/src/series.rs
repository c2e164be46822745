//! The text of a series on a page, read again when its labels are wanted.

use std::borrow::Cow;

use crate::cursor::{Cursor, Quoted};
use crate::entry::MetricType;
use crate::escape::unescape;
use crate::number;

/// `name{a="b"}`, `{"name",a="b"}` or, in an exemplar, `{a="b"}`: checked by a parser before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeriesText<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) kind: MetricType,
}

impl<'a> SeriesText<'a> {
    pub(crate) fn pairs(&self) -> Pairs<'a> {
        Pairs { raw: self.raw_pairs(), kind: self.kind }
    }

    /// The pairs with their escapes; the metric's name has no label name.
    pub(crate) fn raw_pairs(&self) -> RawPairs<'a> {
        RawPairs { cursor: Cursor { page: self.text, at: 0 } }
    }

    /// The metric's name with its escapes.
    pub(crate) fn raw_name(&self) -> Option<&'a [u8]> {
        self.raw_pairs().find_map(|pair| pair.name.is_none().then_some(pair.value))
    }
}

/// A label as it stands on the page, or the metric's name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawPair<'a> {
    /// `None` for the metric's name.
    pub(crate) name: Option<&'a [u8]>,
    pub(crate) value: &'a [u8],
}

#[derive(Debug, Clone)]
pub(crate) struct RawPairs<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for RawPairs<'a> {
    type Item = RawPair<'a>;

    fn next(&mut self) -> Option<RawPair<'a>> {
        // Both formats are read by the looser rules of both: a parser has checked the text.
        const ANY: Quoted = Quoted { line_feed: true, nul: true };
        let cursor = &mut self.cursor;
        if cursor.at == 0
            && let Some(value) = cursor.take_metric_name()
        {
            return Some(RawPair { name: None, value });
        }
        cursor.take_while(|byte| matches!(byte, b' ' | b'\t' | b'{' | b','));
        let name = match cursor.take_label_name() {
            Some(name) => name,
            None => cursor.take_quoted(ANY)?,
        };
        cursor.skip_blanks();
        if !cursor.eat(b'=') {
            return Some(RawPair { name: None, value: name });
        }
        cursor.skip_blanks();
        let value = cursor.take_quoted(ANY)?;
        Some(RawPair { name: Some(name), value })
    }
}

/// Label names and values in the order of the page; the metric's name is the label `__name__`.
#[derive(Debug, Clone)]
pub struct Pairs<'a> {
    raw: RawPairs<'a>,
    kind: MetricType,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Cow<'a, [u8]>, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.raw.next()?;
        let value = unescape(pair.value);
        let Some(name) = pair.name else {
            return Some((Cow::Borrowed(b"__name__"), value));
        };
        let name = unescape(name);
        let bound = matches!((self.kind, &*name), (MetricType::Histogram, b"le") | (MetricType::Summary, b"quantile"));
        match number::parse_go_float(&value).filter(|_| bound) {
            Some(number) => Some((name, Cow::Owned(number::openmetrics_form(number).into_bytes()))),
            None => Some((name, value)),
        }
    }
}
