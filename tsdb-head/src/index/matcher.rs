//! Selecting series by labels.

use super::LabelIndex;

/// How a [`Matcher`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// The label has this value; an absent label has the empty one.
    Equal,
    /// The label has another value.
    NotEqual,
}

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Matcher {
    /// The label's name.
    pub name: Vec<u8>,
    /// How its value is compared.
    pub op: MatchOp,
    /// What it is compared with. An absent label counts as one with the empty value.
    pub value: Vec<u8>,
}

impl Matcher {
    /// `name="value"`.
    #[must_use]
    pub fn equal(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into() }
    }

    /// `name!="value"`.
    #[must_use]
    pub fn not_equal(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), op: MatchOp::NotEqual, value: value.into() }
    }

    /// Whether a label with this value (empty for an absent one) satisfies the condition.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        (value == self.value) == (self.op == MatchOp::Equal)
    }

    /// Whether a series without the label can satisfy the condition.
    fn matches_absent(&self) -> bool {
        self.matches(b"")
    }
}

impl LabelIndex {
    /// The refs that satisfy all matchers, ascending.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<u64> {
        // What must be present narrows first; what may be absent then only takes away.
        let (may_be_absent, present): (Vec<_>, Vec<_>) = matchers.iter().partition(|matcher| matcher.matches_absent());
        let mut lists: Vec<Vec<u64>> = present.iter().map(|matcher| self.with_value(matcher, true)).collect();
        lists.sort_by_key(Vec::len);
        let mut lists = lists.into_iter();
        let first = lists.next().unwrap_or_else(|| self.all());
        let selected = lists.fold(first, |some, other| intersect(&some, &other));
        may_be_absent.iter().fold(selected, |some, matcher| subtract(&some, &self.with_value(matcher, false)))
    }

    /// The series that have the matcher's label with a value that satisfies it (or with one that does not).
    fn with_value(&self, matcher: &Matcher, satisfied: bool) -> Vec<u64> {
        let mut refs = Vec::new();
        let Some(name) = self.names.find(&matcher.name) else { return refs };
        let values = &self.values[name as usize];
        let mut collect = |id| values.for_each_series(id, |series| refs.push(series));
        if (matcher.op == MatchOp::Equal) == satisfied {
            if let Some(id) = values.find(&matcher.value) {
                collect(id);
            }
        } else {
            values.ids().filter(|&id| values.get(id) != matcher.value).for_each(collect);
            refs.sort_unstable();
            refs.dedup();
        }
        refs
    }
}

/// Both ascending; the shorter list leads and the longer one is searched in growing steps.
fn intersect(a: &[u64], b: &[u64]) -> Vec<u64> {
    let (few, mut many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = Vec::with_capacity(few.len());
    for &series in few {
        many = &many[gallop(many, series)..];
        if many.first() == Some(&series) {
            out.push(series);
        }
    }
    out
}

fn subtract(from: &[u64], what: &[u64]) -> Vec<u64> {
    let mut what = what;
    let keep = |&series: &u64| {
        what = &what[gallop(what, series)..];
        what.first() != Some(&series)
    };
    let mut keep = keep;
    from.iter().copied().filter(|series| keep(series)).collect()
}

/// Position of the first element not below `series`.
fn gallop(list: &[u64], series: u64) -> usize {
    let mut step = 1;
    while step < list.len() && list[step] < series {
        step *= 2;
    }
    let from = step / 2;
    from + list[from..list.len().min(step + 1)].partition_point(|&other| other < series)
}
