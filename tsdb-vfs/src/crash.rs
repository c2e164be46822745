//! Visits crash states: runs a [`Scenario`] once on a simulated disk, then crashes it at every moment in many ways.
//!
//! A moment is every point between two operations at which a crash would differ from one before: after each operation
//! that changed the disk, and before one if a promise was made meanwhile. At each moment the [`Enumerator`] visits
//!
//! * the disk as a killed process leaves it, unsynced changes still pending;
//! * every subset of the unsynced blocks, lengths and names, as long as these are few;
//! * random draws, which also tear blocks at sectors, bring back older versions and stop lengths half way;
//! * for some of them, crashes **inside** the recovery, again at every moment of it, down to the given depth.
//!
//! States that look the same to a reader and of which the same is expected are visited once. See [`Scenario`] for an
//! example.

use std::collections::HashSet;
use std::fmt;
use std::ops::AddAssign;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::rng::{Rng, fold};
use crate::scenario::{Journal, Scenario, examine, guarded};
use crate::sim::{CrashPoint, Kept, Losses, Op, OpCounts, SimFs, TracePoint};

/// Last operations that a counterexample shows.
const SHOWN_OPS: usize = 12;

/// How to visit crash states. The same settings and scenario visit the same states (a scenario with threads has its own
/// order of operations every time; what was recorded is then visited the same way).
#[derive(Debug, Clone)]
pub struct Enumerator {
    seed: u64,
    exhaustive: u32,
    samples: u64,
    /// Draws where not all subsets are visited.
    instead: u64,
    depth: u32,
    nested_every: u64,
    nested_samples: u64,
    threads: usize,
    keep_failures: usize,
}

impl Enumerator {
    /// The defaults: all subsets of up to 10 changes and 32 draws more at each moment, or 1,024 draws where there are more
    /// changes; one state in 50 also crashed inside its recovery (depth 2), one thread, stops at the first failure.
    pub fn new(seed: u64) -> Self {
        Enumerator {
            seed,
            exhaustive: 10,
            samples: 32,
            instead: 1024,
            depth: 2,
            nested_every: 50,
            nested_samples: 3,
            threads: 1,
            keep_failures: 1,
        }
    }

    /// Visits all subsets where at most this many blocks, lengths and names are not durable (at most 20).
    #[must_use]
    pub fn exhaustive(mut self, changes: u32) -> Self {
        self.exhaustive = changes.min(20);
        self
    }

    /// Random draws at each moment, besides all subsets. Where there are too many changes for these, 32 times as many.
    #[must_use]
    pub fn samples(mut self, samples: u64) -> Self {
        (self.samples, self.instead) = (samples, samples.saturating_mul(32));
        self
    }

    /// Random draws at a moment with too many changes for all subsets; after [`samples`](Self::samples).
    #[must_use]
    pub fn instead(mut self, samples: u64) -> Self {
        self.instead = samples;
        self
    }

    /// Crashes inside recovery: 1 none, 2 inside the first recovery, 3 inside the second, and so on; one state in
    /// `every` is examined that way, with `samples` draws at each moment of its recovery.
    #[must_use]
    pub fn nested(mut self, depth: u32, every: u64, samples: u64) -> Self {
        (self.depth, self.nested_every, self.nested_samples) = (depth.max(1), every.max(1), samples);
        self
    }

    /// Visits moments on several threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Goes on until it has found this many failures.
    #[must_use]
    pub fn keep_failures(mut self, failures: usize) -> Self {
        self.keep_failures = failures.max(1);
        self
    }

    /// Runs the scenario and visits its crash states.
    pub fn run<S: Scenario>(&self, scenario: &S) -> Report {
        let prepared = SimFs::new(self.seed);
        scenario.prepare(&prepared);
        let disk = prepared.duplicate(self.seed);
        disk.record_ops();
        disk.start_trace();
        let journal = Journal::new(&disk);
        let ran = guarded(|| {
            scenario.run(&disk, &journal);
            Ok(())
        });
        let visit = Visit {
            plan: self,
            scenario,
            points: disk.end_trace(),
            notes: journal.notes(),
            ops: disk.ops(),
            seen: Mutex::new(HashSet::new()),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        };
        let mut report = visit.all();
        report.ops = disk.counts();
        if let Err(message) = ran {
            report.failures.push(Counterexample {
                seed: self.seed,
                place: "the workload itself".into(),
                image: Vec::new(),
                ops: tail(&visit.ops),
                message,
            });
        }
        report
    }

    /// Visits what a recorded run may have left at one of its moments; for drivers that record runs of their own.
    pub(crate) fn visit_points<S: Scenario>(
        &self,
        scenario: &S,
        points: Vec<TracePoint>,
        notes: Vec<S::Note>,
    ) -> Report {
        let visit = Visit {
            plan: self,
            scenario,
            points,
            notes,
            ops: Vec::new(),
            seen: Mutex::new(HashSet::new()),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        };
        visit.all()
    }
}

fn tail(ops: &[Op]) -> Vec<String> {
    ops[ops.len().saturating_sub(SHOWN_OPS)..].iter().map(Op::to_string).collect()
}

/// One run of an enumerator.
struct Visit<'a, S: Scenario> {
    plan: &'a Enumerator,
    scenario: &'a S,
    points: Vec<TracePoint>,
    notes: Vec<S::Note>,
    ops: Vec<Op>,
    /// Fingerprints of visited disks with what was expected of them.
    seen: Mutex<HashSet<u64>>,
    next: AtomicUsize,
    stop: AtomicBool,
}

/// Where in a run a state was drawn.
#[derive(Clone, Copy)]
struct Place<'a> {
    point: usize,
    notes: usize,
    depth: u32,
    /// The state whose recovery this is a crash in.
    outer: Option<&'a Outer<'a>>,
}

/// A state whose recovery is crashed in turn.
struct Outer<'a> {
    crash: &'a CrashPoint,
    kept: Kept,
    place: Place<'a>,
    /// The operations of its recovery.
    ops: Vec<Op>,
}

impl<S: Scenario> Visit<'_, S> {
    fn all(&self) -> Report {
        let mut report = Report { runs: 1, points: self.points.len() as u64, ..Report::default() };
        if self.plan.threads == 1 {
            self.work(&mut report);
        } else {
            let parts = std::thread::scope(|scope| {
                let worker = || {
                    let mut part = Report::default();
                    self.work(&mut part);
                    part
                };
                let workers: Vec<_> = (0..self.plan.threads).map(|_| scope.spawn(worker)).collect();
                workers.into_iter().map(|w| w.join().expect("panics of a scenario are caught")).collect::<Vec<_>>()
            });
            parts.into_iter().for_each(|part| report += part);
        }
        report
    }

    fn work(&self, report: &mut Report) {
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = self.points.get(i) else { return };
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let place = Place { point: i, notes: point.notes, depth: 1, outer: None };
            let crash = CrashPoint::new(point.disk.clone());
            self.moment(&crash, place, Rng::stream(self.plan.seed, i as u64), report);
        }
    }

    /// Visits what a crash at this moment may leave.
    fn moment(&self, crash: &CrashPoint, place: Place<'_>, mut rng: Rng, report: &mut Report) {
        let changes = crash.changes() as u64;
        report.most_changes = report.most_changes.max(changes);
        let (exhaustive, besides, instead) = match place.depth {
            1 => (u64::from(self.plan.exhaustive), self.plan.samples, self.plan.instead),
            _ => (1, self.plan.nested_samples, self.plan.nested_samples),
        };
        if changes > 0 {
            self.state(crash, Kept::ProcessOnly, place, &mut rng, report);
        }
        if changes <= exhaustive {
            report.exhaustive_points += 1;
            for bits in 0..1u64 << changes {
                self.state(crash, Kept::Subset(bits), place, &mut rng, report);
            }
        } else {
            self.state(crash, Kept::Nothing, place, &mut rng, report);
            self.state(crash, Kept::Everything, place, &mut rng, report);
        }
        // No more draws than twice the states that are left to be drawn.
        let left = crash.outcomes().saturating_sub(1 << changes.min(63)).saturating_mul(2);
        for _ in 0..if changes <= exhaustive { besides } else { instead }.min(left) {
            let draw = rng.next();
            self.state(crash, Kept::Random(draw), place, &mut rng, report);
        }
    }

    fn state(&self, crash: &CrashPoint, kept: Kept, place: Place<'_>, rng: &mut Rng, report: &mut Report) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let (image, losses) = crash.draw(kept);
        let mut identity = fold(image.fingerprint(), place.notes as u64);
        if kept == Kept::ProcessOnly {
            // Looks like one in which everything was kept, but what is not durable can still be lost.
            identity = fold(identity, place.point as u64 + 1);
        }
        if !self.seen.lock().expect("nothing panics holding it").insert(identity) {
            report.repeated += 1;
            return;
        }
        let nested = place.depth < self.plan.depth && rng.below(self.plan.nested_every) == 0;
        let disk = image.start(self.plan.seed);
        if nested {
            disk.record_ops();
        }
        let examined = examine(self.scenario, &disk, &self.notes[..place.notes], nested);
        report.count(kept, losses, place.depth);
        match examined.outcome {
            Err(message) => self.fail(crash, kept, place, message, report),
            Ok(()) => {
                let Some(first) = examined.trace.first() else { return };
                let ran_before = first.next_op;
                let outer = Outer { crash, kept, place, ops: disk.ops() };
                for point in &examined.trace {
                    let at = (point.next_op - ran_before) as usize;
                    let inner = Place { point: at, depth: place.depth + 1, outer: Some(&outer), ..place };
                    self.moment(&CrashPoint::new(point.disk.clone()), inner, Rng::new(rng.next()), report);
                }
            }
        }
    }

    fn fail(&self, crash: &CrashPoint, kept: Kept, place: Place<'_>, message: String, report: &mut Report) {
        let mut image = crash.describe(kept);
        let mut words = format!("crash with {kept:?} kept");
        let mut at = place;
        let mut ops = Vec::new();
        while let Some(outer) = at.outer {
            words += &format!(", {} operations into the recovery of a crash with {:?} kept", at.point, outer.kept);
            image.push("inside the recovery of:".into());
            image.extend(outer.crash.describe(outer.kept));
            let mut recovery = tail(&outer.ops[..at.point.min(outer.ops.len())]);
            recovery.insert(0, "recovery:".into());
            ops.splice(0..0, recovery);
            at = outer.place;
        }
        let next_op = self.points.get(at.point).map_or(0, |point| point.next_op);
        let before = self.ops.iter().position(|op| op.number >= next_op).unwrap_or(self.ops.len());
        words += &format!(" before operation {next_op}, {} notes made", place.notes);
        ops.splice(0..0, tail(&self.ops[..before]));
        report.failures.push(Counterexample { seed: self.plan.seed, place: words, image, ops, message });
        if report.failures.len() >= self.plan.keep_failures {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// A state in which the check failed.
#[derive(Debug, Clone)]
pub struct Counterexample {
    /// The seed that visits it again.
    pub seed: u64,
    /// Where the crash came.
    pub place: String,
    /// What was kept and what lost.
    pub image: Vec<String>,
    /// The last operations before it.
    pub ops: Vec<String>,
    /// What the check said.
    pub message: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n  seed {}: {}", self.message, self.seed, self.place)?;
        self.ops.iter().try_for_each(|op| writeln!(f, "    {op}"))?;
        self.image.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// What was visited, and what was found. Reports of several runs add up.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Scenarios run.
    pub runs: u64,
    /// Operations of the scenarios.
    pub ops: OpCounts,
    /// Moments at which they were crashed.
    pub points: u64,
    /// Moments, nested ones too, at which every subset of changes was visited.
    pub exhaustive_points: u64,
    /// Distinct states visited: disk and expectation.
    pub states: u64,
    /// States among them in which only the process died.
    pub process_only: u64,
    /// States among them that came from a crash inside recovery.
    pub nested: u64,
    /// Draws that looked like a state visited before.
    pub repeated: u64,
    /// Most changes that were not durable at once.
    pub most_changes: u64,
    /// States with at least one of each loss.
    pub states_with: Losses,
    /// What was found.
    pub failures: Vec<Counterexample>,
}

impl Report {
    fn count(&mut self, kept: Kept, losses: Losses, depth: u32) {
        self.states += 1;
        self.process_only += u64::from(kept == Kept::ProcessOnly);
        self.nested += u64::from(depth > 1);
        self.states_with += losses.at_most_one();
    }

    /// Panics with the counterexamples if there are any.
    pub fn assert_clean(&self) {
        let found: Vec<String> = self.failures.iter().map(Counterexample::to_string).collect();
        assert!(found.is_empty(), "{}\n{self}", found.join("\n"));
    }

    /// Panics if a kind of loss occurred in fewer than `states` states: such a run proves little about it.
    pub fn assert_covers(&self, states: u64) {
        for (name, n) in self.states_with.counters() {
            assert!(n >= states, "only {n} states with {name}, wanted {states}\n{self}");
        }
        assert!(self.nested >= states, "only {} states from crashes inside recovery\n{self}", self.nested);
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.ops += other.ops;
        self.points += other.points;
        self.exhaustive_points += other.exhaustive_points;
        self.states += other.states;
        self.process_only += other.process_only;
        self.nested += other.nested;
        self.repeated += other.repeated;
        self.most_changes = self.most_changes.max(other.most_changes);
        self.states_with += other.states_with;
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} states ({} draws repeated one), {} failures", self.states, self.repeated, self.failures.len())?;
        writeln!(f, "  {} runs with {} operations: {}", self.runs, self.ops.total(), self.ops)?;
        let Report { points, exhaustive_points, most_changes, .. } = self;
        writeln!(
            f,
            "  {points} moments, all subsets at {exhaustive_points}, up to {most_changes} changes not durable"
        )?;
        write!(f, "  killed processes {}, crashes inside recovery {}", self.process_only, self.nested)?;
        self.states_with.counters().iter().try_for_each(|(name, n)| write!(f, ", {name} {n}"))
    }
}
