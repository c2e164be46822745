//! Series whose record the reference logs late.
//!
//! The reference logs a series with the transaction that made it. When another one commits samples of the series before,
//! they stand in its log before the record, and no start finds whose they are. Ours logs the record with the first samples.

use std::collections::{HashMap, HashSet};

use crate::interop::entry::Entry;

#[derive(Debug, Default)]
pub(super) struct Late {
    /// Series that are in the log, or about to be, and the transaction under way that made them.
    known: HashMap<String, Option<u32>>,
    /// What each transaction under way has samples of.
    held: HashMap<u32, HashSet<String>>,
    late: HashSet<String>,
}

impl Late {
    /// A transaction was given this entry, and did not refuse it for its time.
    pub(super) fn appended(&mut self, transaction: u32, entry: &Entry, taken: bool) {
        let labels = entry.labels.to_string();
        self.known.entry(labels.clone()).or_insert(Some(transaction));
        if taken {
            self.held.entry(transaction).or_default().insert(labels);
        }
    }

    pub(super) fn ended(&mut self, transaction: u32, commit: bool) {
        for labels in self.held.remove(&transaction).unwrap_or_default() {
            let maker = self.known.get(&labels).copied().flatten();
            if commit && maker.is_some_and(|maker| maker != transaction) {
                self.late.insert(labels);
            }
        }
        self.known.values_mut().filter(|maker| **maker == Some(transaction)).for_each(|maker| *maker = None);
    }

    /// A truncation may have collected any series that no transaction has: it is made anew then.
    pub(super) fn truncated(&mut self, left: &[Entry]) {
        let left: HashSet<String> = left.iter().map(|entry| entry.labels.to_string()).collect();
        self.known.retain(|labels, maker| maker.is_some() || left.contains(labels));
    }

    /// Whether a restart of the reference may have lost samples of this series.
    pub(super) fn concerns(&self, entry: &Entry) -> bool {
        !self.late.is_empty() && self.late.contains(&entry.labels.to_string())
    }

    pub(super) fn any(&self) -> bool {
        !self.late.is_empty()
    }
}
