//! Fails every operation: runs a [`Scenario`] again and again, each time with another operation failing in another way.
//!
//! For each operation of a run without failures, for each fault that real systems show for its kind
//! ([`Fault::plausible`]), once and from then on, the [`Sweep`] runs the scenario on a fresh disk, lets it come to its
//! end, withdraws the failure and checks what is left: as the killed process leaves it, and after crashes at moments
//! since the failure.

use std::fmt;
use std::ops::AddAssign;

use crate::crash::{Enumerator, Report};
use crate::rng::{Rng, fold};
use crate::scenario::{Journal, Scenario, guarded};
use crate::sim::{Failure, Fault, Op, OpCounts, SimFs, TracePoint};

/// How to fail operations. The same settings and scenario fail the same ones.
#[derive(Debug, Clone)]
pub struct Sweep {
    seed: u64,
    stride: u64,
    moments: usize,
    samples: u64,
    keep_failures: usize,
}

impl Sweep {
    /// The defaults: every operation; crashes at the end, right after the failure and at two moments between, with
    /// three draws each; stops at the first failure.
    pub fn new(seed: u64) -> Self {
        Sweep { seed, stride: 1, moments: 4, samples: 3, keep_failures: 1 }
    }

    /// Fails every `stride`-th operation only, from one that the seed chooses.
    #[must_use]
    pub fn stride(mut self, stride: u64) -> Self {
        self.stride = stride.max(1);
        self
    }

    /// How many moments since the failure are crashed, with how many random draws each (besides nothing kept, all kept,
    /// and the killed process).
    #[must_use]
    pub fn crashes(mut self, moments: usize, samples: u64) -> Self {
        (self.moments, self.samples) = (moments, samples);
        self
    }

    /// Goes on until it has found this many failures.
    #[must_use]
    pub fn keep_failures(mut self, failures: usize) -> Self {
        self.keep_failures = failures.max(1);
        self
    }

    /// Runs the scenario with each failure in turn.
    pub fn run<S: Scenario>(&self, scenario: &S) -> SweepReport {
        let prepared = SimFs::new(self.seed);
        scenario.prepare(&prepared);
        let mut report = SweepReport::default();
        for op in self.operations(scenario, &prepared) {
            for &fault in Fault::plausible(op.kind) {
                for sticky in [false, true] {
                    self.one(scenario, &prepared, &op, fault, sticky, &mut report);
                    if report.crashes.failures.len() >= self.keep_failures {
                        return report;
                    }
                }
            }
        }
        report
    }

    /// The operations to fail: those of a run in which nothing fails.
    fn operations<S: Scenario>(&self, scenario: &S, prepared: &SimFs) -> Vec<Op> {
        let disk = prepared.duplicate(self.seed);
        disk.record_ops();
        scenario.run(&disk, &Journal::new(&disk));
        let first = Rng::new(self.seed).below(self.stride) as usize;
        disk.ops().into_iter().skip(first).step_by(self.stride as usize).collect()
    }

    fn one<S: Scenario>(
        &self,
        scenario: &S,
        prepared: &SimFs,
        op: &Op,
        fault: Fault,
        sticky: bool,
        report: &mut SweepReport,
    ) {
        let seed = fold(self.seed, op.number);
        let disk = prepared.duplicate(seed);
        let order = Failure::new(fault).from_number(op.number).plausible();
        disk.inject(if sticky { order.sticky() } else { order });
        disk.start_trace();
        let journal = Journal::new(&disk);
        let ran = guarded(|| {
            scenario.run(&disk, &journal);
            Ok(())
        });
        report.runs += 1;
        report.failed.count(op.kind);
        report.failed_calls += disk.fired();
        report.leaked_handles += disk.open_handles() as u64;
        let points = self.choose(disk.end_trace(), op.number, seed);
        let plan = Enumerator::new(seed).exhaustive(0).samples(self.samples).instead(self.samples).nested(1, 1, 0);
        let mut crashes = plan.visit_points(scenario, points, journal.notes());
        if let Err(message) = ran {
            crashes.failures.push(crate::crash::Counterexample {
                seed: self.seed,
                place: "the workload itself".into(),
                image: Vec::new(),
                ops: Vec::new(),
                message,
            });
        }
        for failure in &mut crashes.failures {
            failure.seed = self.seed;
            let often = if sticky { "from then on" } else { "once" };
            failure.place = format!("{op} failed with {fault:?} {often}; {}", failure.place);
        }
        report.crashes += crashes;
    }

    /// Some moments since the failure: the first, the last, others between.
    fn choose(&self, points: Vec<TracePoint>, since: u64, seed: u64) -> Vec<TracePoint> {
        let mut after: Vec<TracePoint> = points.into_iter().filter(|point| point.next_op >= since).collect();
        let mut rng = Rng::new(seed);
        while after.len() > self.moments.max(1) {
            // The last moment stays: it is the one with all promises made.
            let between = if after.len() > 2 { 1 + rng.below(after.len() as u64 - 2) as usize } else { 0 };
            after.remove(between);
        }
        after
    }
}

/// What was failed, and what was found. Reports of several sweeps add up.
#[derive(Debug, Clone, Default)]
pub struct SweepReport {
    /// Runs of the scenario with a failure.
    pub runs: u64,
    /// Runs by the kind of the operation that failed (first).
    pub failed: OpCounts,
    /// Calls that failed, sticky failures counted each time.
    pub failed_calls: u64,
    /// Handles still open after the scenario had returned.
    pub leaked_handles: u64,
    /// The crash states visited after the failures, and the failures found.
    pub crashes: Report,
}

impl SweepReport {
    /// Panics with the counterexamples if there are any.
    pub fn assert_clean(&self) {
        self.crashes.assert_clean();
    }
}

impl AddAssign for SweepReport {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.failed += other.failed;
        self.failed_calls += other.failed_calls;
        self.leaked_handles += other.leaked_handles;
        self.crashes += other.crashes;
    }
}

impl fmt::Display for SweepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} runs with a failure, {} calls failed: {}", self.runs, self.failed_calls, self.failed)?;
        write!(f, "  {} states visited, {} failures", self.crashes.states, self.crashes.failures.len())
    }
}
