//! Series selectors on the command line: `up`, `{job="api"}`, `up{job!="api"}`, `{job=~"api|web", env!~"test.*"}`.

use std::collections::HashSet;

use anyhow::{Context as _, Result, bail};
use regex::bytes::{Regex, RegexBuilder};
use tsdb_model::SeriesRef;

/// A label and what its value has to be; a label that is absent has the empty value.
#[derive(Debug, Clone)]
pub(crate) struct Matcher {
    /// Label name.
    pub(crate) name: Vec<u8>,
    /// What the value has to be.
    pub(crate) test: Test,
}

/// What a value has to be.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// `=`
    Equal(Vec<u8>),
    /// `!=`
    NotEqual(Vec<u8>),
    /// `=~`, the whole value
    Matches(Regex),
    /// `!~`
    MatchesNot(Regex),
}

impl Test {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Equal(wanted) => value == wanted,
            Self::NotEqual(unwanted) => value != unwanted,
            Self::Matches(regex) => regex.is_match(value),
            Self::MatchesNot(regex) => !regex.is_match(value),
        }
    }
}

/// A regular expression for whole values, in which a dot is any character, as Prometheus takes it.
fn whole(pattern: &[u8]) -> Result<Regex> {
    let pattern = str::from_utf8(pattern).context("a regular expression that is not UTF-8")?;
    let anchored = RegexBuilder::new(&format!("^(?:{pattern})$")).dot_matches_new_line(true).build();
    anchored.with_context(|| format!("a regular expression: `{pattern}`"))
}

/// Matchers that all have to hold.
#[derive(Debug, Clone)]
pub(crate) struct Selector(pub(crate) Vec<Matcher>);

impl Selector {
    /// True if a series with these labels is selected.
    pub(crate) fn matches<'a>(&self, labels: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> bool {
        self.0.iter().all(|matcher| {
            let value = labels.clone().find(|(name, _)| *name == matcher.name).map_or(&b""[..], |(_, value)| value);
            matcher.test.holds(value)
        })
    }
}

impl std::str::FromStr for Selector {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let name_len = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(name_len);
        let mut matchers = Vec::new();
        if !name.is_empty() {
            matchers.push(Matcher { name: b"__name__".into(), test: Test::Equal(name.into()) });
        }
        rest = rest.trim();
        if !rest.is_empty() {
            let Some(inner) = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
                bail!("expected a selector such as up{{job=\"api\"}}, found `{text}`");
            };
            parse_matchers(inner, &mut matchers)?;
        }
        if matchers.is_empty() {
            bail!("an empty selector: expected for example up or {{job=\"api\"}}");
        }
        Ok(Self(matchers))
    }
}

fn parse_matchers(mut rest: &str, matchers: &mut Vec<Matcher>) -> Result<()> {
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(());
        }
        let (name, after) = if rest.starts_with('"') {
            take_string(rest)?
        } else {
            let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            (rest.as_bytes()[..len].to_vec(), &rest[len..])
        };
        let after = after.trim_start();
        if name.is_empty() {
            bail!("expected a label name, found `{rest}`");
        }
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| after.starts_with(operator));
        let Some(operator) = operator else { bail!("expected =, !=, =~ or !~ after a label name, found `{after}`") };
        let (value, after) = take_string(after[operator.len()..].trim_start())?;
        let test = match operator {
            "=~" => Test::Matches(whole(&value)?),
            "!~" => Test::MatchesNot(whole(&value)?),
            "!=" => Test::NotEqual(value),
            _ => Test::Equal(value),
        };
        matchers.push(Matcher { name, test });
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => {}
            None => bail!("expected a comma between matchers, found `{rest}`"),
        }
    }
}

/// A string in double quotes with `\\`, `\"` and `\n`, and what stands behind it.
fn take_string(text: &str) -> Result<(Vec<u8>, &str)> {
    let Some(inner) = text.strip_prefix('"') else { bail!("expected a value in double quotes, found `{text}`") };
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value.into_bytes(), &inner[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                _ => bail!("expected \\\\, \\\" or \\n in `{text}`"),
            },
            c => value.push(c),
        }
    }
    bail!("the quotes of `{text}` do not end")
}

/// Which refs belong to the series a user asked for, learned from series records on the way.
#[derive(Debug)]
pub(crate) struct RefFilter {
    refs: HashSet<SeriesRef>,
    selectors: Vec<Selector>,
    everything: bool,
}

impl RefFilter {
    /// Selects the series in `refs` and those that match one of `selectors`; all, if both are empty.
    pub(crate) fn new(refs: &[u64], selectors: &[Selector]) -> Self {
        Self {
            refs: refs.iter().copied().map(SeriesRef).collect(),
            selectors: selectors.to_vec(),
            everything: refs.is_empty() && selectors.is_empty(),
        }
    }

    /// True if nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.everything
    }

    /// Takes note of a series record's entry.
    pub(crate) fn learn<'a>(&mut self, series: SeriesRef, labels: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) {
        if self.selectors.iter().any(|selector| selector.matches(labels.clone())) {
            self.refs.insert(series);
        }
    }

    /// True if entries of this series are wanted.
    pub(crate) fn wants(&self, series: SeriesRef) -> bool {
        self.everything || self.refs.contains(&series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector: Selector = selector.parse().unwrap();
        selector.matches(labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    #[test]
    fn selectors_select() {
        let up = [("__name__", "up"), ("job", "a\"b")];
        assert!(matches("up", &up) && !matches("down", &up));
        assert!(matches("up{job=\"a\\\"b\",}", &up) && !matches("up{job!=\"a\\\"b\"}", &up));
        assert!(matches("{instance=\"\"}", &up) && matches("{ \"job\" != \"x\" , __name__=\"up\" }", &up));
        assert!(matches("{job=~\"a.b|c\"}", &up) && !matches("{job=~\"a\"}", &up), "the whole value");
        assert!(matches("up{job!~\"a\"}", &up) && !matches("up{job!~\"(?i)A.*\"}", &up));
        assert!(matches("{instance=~\".*\"}", &up) && !matches("{instance=~\".+\"}", &up), "absent is empty");
        assert!(matches("{x=~\"a.b\"}", &[("x", "a\nb")]));
        for text in ["", "{}", "{job}", "{job=a}", "{job=~\"(\"}", "{job=\"a\" x=\"b\"}", "up{", "{job=\"a}"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
