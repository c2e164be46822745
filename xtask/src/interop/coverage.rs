//! What a random run met, and what it had to meet.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Counts cases by name. [`finish`](Self::finish) prints the table and fails when a required case was too rare: a random
/// test that hardly produced a case has not tested it.
pub(crate) struct Coverage {
    counts: BTreeMap<String, u64>,
    required: BTreeMap<String, u64>,
    rules: BTreeMap<String, (u64, &'static str)>,
    enforced: bool,
}

impl Coverage {
    /// `enforced`: whether rarity is a failure (not when a single round is repeated).
    pub(crate) fn new(enforced: bool) -> Self {
        Self { counts: BTreeMap::new(), required: BTreeMap::new(), rules: BTreeMap::new(), enforced }
    }

    /// Counts one occurrence of a case.
    pub(crate) fn hit(&mut self, case: &str) {
        self.add(case, 1);
    }

    /// Counts `n` occurrences.
    pub(crate) fn add(&mut self, case: &str, n: u64) {
        match self.counts.get_mut(case) {
            Some(count) => *count += n,
            None => {
                self.counts.insert(case.to_owned(), n);
            }
        }
    }

    /// Counts a difference that a named rule allows, and why it does.
    pub(crate) fn allowed(&mut self, rule: &'static str, reason: &'static str) {
        self.rules.entry(rule.to_owned()).or_insert((0, reason)).0 += 1;
    }

    /// Demands that a case occurs at least so often by the end of the run.
    pub(crate) fn require(&mut self, case: &str, at_least: u64) {
        self.required.insert(case.to_owned(), at_least);
        self.add(case, 0);
    }

    /// The occurrences of a case so far.
    pub(crate) fn count(&self, case: &str) -> u64 {
        self.counts.get(case).copied().unwrap_or(0)
    }

    /// Prints the table; an error names the required cases that were too rare.
    pub(crate) fn finish(self) -> Result<()> {
        let mut rare = Vec::new();
        for (case, count) in &self.counts {
            let wanted = self.required.get(case).copied();
            let note = match wanted {
                Some(wanted) if *count < wanted => {
                    rare.push(format!("{case} ({count} of {wanted})"));
                    format!("too rare: at least {wanted}")
                }
                Some(wanted) => format!("at least {wanted}"),
                None => String::new(),
            };
            println!("    {case:<48} {count:>12}  {note}");
        }
        for (rule, (count, reason)) in &self.rules {
            println!("    rule {rule:<43} {count:>12}  {reason}");
        }
        if self.enforced && !rare.is_empty() {
            bail!("cases that hardly occurred: {}", rare.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_case_fails_the_run() {
        let mut coverage = Coverage::new(true);
        coverage.require("tag 1", 2);
        coverage.hit("tag 1");
        let error = coverage.finish().expect_err("one of two");
        assert!(error.to_string().contains("tag 1 (1 of 2)"), "{error}");
    }

    #[test]
    fn a_case_that_never_occurred_is_rare_too() {
        let mut coverage = Coverage::new(true);
        coverage.require("split", 1);
        coverage.finish().expect_err("none of one");
    }

    #[test]
    fn a_single_round_requires_nothing() {
        let mut coverage = Coverage::new(false);
        coverage.require("split", 1);
        coverage.finish().expect("not enforced");
    }
}
