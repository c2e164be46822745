//! The model: lists of samples, and the rules by which one more is taken.

use std::collections::BTreeMap;

use tsdb_model::staleness::is_stale;

use crate::values::{Kept, Plain};

/// All that is visible, by series.
pub(crate) type Samples = BTreeMap<usize, Vec<Kept>>;

/// Why a sample is not taken, or that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Taken,
    OutOfOrder,
    OutOfBounds,
    Duplicate,
}

/// A transaction under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transaction {
    /// What is older is refused; unknown before the first sample of a head without time.
    pub(crate) bound: Option<i64>,
    /// The oldest time that it was asked for and that its bound allows: a truncation waits for it, whatever became of it.
    pub(crate) oldest: Option<i64>,
    pub(crate) pending: Vec<(usize, Kept)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) chunk_range: i64,
    /// What is visible.
    pub(crate) samples: Samples,
    /// The newest sample a series was given since the head was opened.
    fresh: BTreeMap<usize, i64>,
    pub(crate) max: Option<i64>,
    pub(crate) min_valid: i64,
    /// Everything that was ever committed.
    pub(crate) ever: Samples,
    /// What commits left out, because something newer was there; it is in the log. Where the newer sample has gone from
    /// the log with a truncation, it can come back.
    left_out: Samples,
    /// What a power cut must leave.
    pub(crate) durable: Samples,
    /// The last truncation: what is older may be gone.
    pub(crate) truncated: i64,
}

impl Model {
    pub(crate) fn new(chunk_range: i64) -> Self {
        Self {
            chunk_range,
            samples: Samples::new(),
            fresh: BTreeMap::new(),
            max: None,
            min_valid: i64::MIN,
            ever: Samples::new(),
            left_out: Samples::new(),
            durable: Samples::new(),
            truncated: i64::MIN,
        }
    }

    pub(crate) fn begin(&self) -> Transaction {
        Transaction { bound: self.max.map(|max| self.bound(max)), ..Transaction::default() }
    }

    fn bound(&self, max: i64) -> i64 {
        (max - self.chunk_range / 2).max(self.min_valid)
    }

    /// Whether the time is one that the transaction takes.
    pub(crate) fn check_time(&mut self, transaction: &mut Transaction, t: i64) -> Verdict {
        self.open_at(transaction, t);
        if transaction.bound.is_none_or(|bound| t < bound) {
            return Verdict::OutOfBounds;
        }
        transaction.oldest = Some(transaction.oldest.map_or(t, |oldest| oldest.min(t)));
        if t >= self.min_valid { Verdict::Taken } else { Verdict::OutOfBounds }
    }

    /// The first sample gives a head its time, whatever becomes of it.
    pub(crate) fn open_at(&mut self, transaction: &mut Transaction, t: i64) {
        if transaction.bound.is_none() {
            let max = *self.max.get_or_insert(t);
            transaction.bound = Some(self.bound(max));
        }
    }

    /// What may be said about a sample whose time is fine. Of a newest sample that was there before the head was opened
    /// nobody knows whether it lies in an open chunk, where it can be compared, or on disk.
    pub(crate) fn verdicts(&self, series: usize, t: i64, value: &Plain) -> Vec<Verdict> {
        let Some(newest) = self.samples.get(&series).and_then(|samples| samples.last()) else {
            return vec![Verdict::Taken];
        };
        if t != newest.t {
            return vec![if t > newest.t { Verdict::Taken } else { Verdict::OutOfOrder }];
        }
        let by_value = if newest.value == *value { Verdict::Taken } else { Verdict::Duplicate };
        match self.fresh.get(&series) {
            // The marker of a histogram series is a histogram; as a float it is another value.
            _ if newest.value == Plain::Stale => vec![Verdict::Taken, Verdict::Duplicate, Verdict::OutOfOrder],
            Some(&fresh) if fresh == t => vec![by_value],
            _ => vec![by_value, Verdict::OutOfOrder],
        }
    }

    /// Returns how many samples were appended and how many left out.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> (u64, u64) {
        let (mut appended, mut left_out) = (0, 0);
        for (series, sample) in transaction.pending {
            let list = self.samples.entry(series).or_default();
            if list.last().is_some_and(|newest| newest.t >= sample.t) {
                left_out += 1;
                self.left_out.entry(series).or_default().push(sample);
                continue;
            }
            appended += 1;
            self.max = self.max.max(Some(sample.t));
            self.fresh.insert(series, sample.t);
            self.ever.entry(series).or_default().push(sample.clone());
            list.push(sample);
        }
        (appended, left_out)
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.ever.clone();
    }

    /// Memory behind a truncation.
    pub(crate) fn truncate(&mut self, mint: i64) {
        self.truncated = self.truncated.max(mint);
        self.min_valid = self.min_valid.max(mint);
        self.max = self.max.max(Some(mint));
        self.drop_before(mint);
    }

    fn drop_before(&mut self, mint: i64) {
        for list in self.samples.values_mut() {
            list.retain(|sample| sample.t >= mint);
        }
        self.samples.retain(|_, list| !list.is_empty());
    }

    pub(crate) fn oldest(&self) -> Option<i64> {
        self.samples.values().filter_map(|list| Some(list.first()?.t)).min()
    }

    /// After a start that knows, by a block, up to where the head was truncated.
    pub(crate) fn restarted(&mut self, min_valid: Option<i64>) {
        self.fresh.clear();
        self.min_valid = min_valid.unwrap_or(i64::MIN);
        self.drop_before(self.min_valid);
        self.max = self.newest();
    }

    fn newest(&self) -> Option<i64> {
        self.samples.values().filter_map(|list| Some(list.last()?.t)).max()
    }

    /// Takes over what a start found where more than one outcome is right: everything that had to be there (`must`)
    /// is, and nothing that never was committed.
    /// `holes`: what was not durable may be gone in pieces, so that a commit's record is there and an earlier one's, for
    /// which it left samples out, is not.
    pub(crate) fn adopt(&mut self, found: &Samples, must: &Samples, holes: bool) -> Result<(), String> {
        for (series, list) in must {
            let here = found.get(series).map_or(&[][..], Vec::as_slice);
            if let Some(lost) = list.iter().filter(|sample| sample.t >= self.truncated).find(|s| !here.contains(s)) {
                return Err(format!("series {series} has lost {lost:?}"));
            }
        }
        for (series, list) in found {
            let ever = self.ever.get(series).map_or(&[][..], Vec::as_slice);
            let left_out = self.left_out.get(series).map_or(&[][..], Vec::as_slice);
            let explained = |sample: &Kept| {
                ever.contains(sample) || (holes || sample.t < self.truncated) && left_out.contains(sample)
            };
            if let Some(invented) = list.iter().find(|sample| !explained(sample)) {
                return Err(format!("series {series} has {invented:?}, which was never committed"));
            }
            if !list.is_sorted_by(|a, b| a.t < b.t) {
                return Err(format!("series {series} is out of order"));
            }
        }
        self.samples = found.clone();
        // What is gone now may be appended again, with another value; but what was truncated may be there unseen.
        for list in self.ever.values_mut() {
            list.retain(|sample| sample.t < self.truncated);
        }
        for (series, list) in found {
            let ever = self.ever.entry(*series).or_default();
            let fresh: Vec<_> = list.iter().filter(|sample| !ever.contains(sample)).cloned().collect();
            ever.extend(fresh);
        }
        self.durable = found.clone();
        self.max = self.newest();
        Ok(())
    }
}

pub(crate) fn is_marker(value: &tsdb_head::Value) -> bool {
    matches!(value, tsdb_head::Value::Float(v) if is_stale(*v))
}
