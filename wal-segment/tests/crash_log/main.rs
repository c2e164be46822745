//! The log on a disk that crashes and fails: nothing acknowledged is lost, nothing invented, and what recovery has given
//! out once stays.
//!
//! `HEADWATER_CRASH_STATES` says how many states to visit (all profiles together), `HEADWATER_SEED` where to start,
//! `HEADWATER_PART` and `HEADWATER_REPORT` what of `every_failure_is_survived` to run, see [`coverage`].

mod coverage;
mod model;
mod program;

use std::time::Instant;

use coverage::Coverage;
use program::{Profile, Program, Seen};
use tsdb_vfs::crash::{Enumerator, Report};
use tsdb_vfs::failpoints::{Sweep, SweepReport};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Visits crash states of seeded programs until there are enough.
fn enumerate(profile: Profile, states: u64) -> (Report, Seen) {
    let first = setting("HEADWATER_SEED", 1);
    let (mut report, mut seen) = (Report::default(), Seen::default());
    let start = Instant::now();
    for seed in first.. {
        if report.states >= states || !report.failures.is_empty() {
            break;
        }
        let program = Program::new(profile, seed);
        let plan = Enumerator::new(seed).exhaustive(6).samples(8).instead(60).nested(3, 200, 2);
        report += plan.run(&program);
        seen += program.seen();
    }
    println!("{profile:?}, seeds from {first}, {:.1} s: {report}\n  {seen:?}", start.elapsed().as_secs_f64());
    (report, seen)
}

/// Every profile takes its part of the states.
fn crashes(profile: Profile) -> Seen {
    let states = setting("HEADWATER_CRASH_STATES", 12_000) / Profile::ALL.len() as u64;
    let (report, seen) = enumerate(profile, states);
    report.assert_clean();
    // A case that hardly occurred proves little.
    // Renames: only the ledger's and quarantine's, a few in each run. Names: one for each segment.
    let exempt = ["lost renames", if states < 10_000 { "lost names" } else { "" }];
    for (name, n) in report.states_with.counters().into_iter().filter(|(name, _)| !exempt.contains(name)) {
        assert!(n > states / 4000, "{profile:?}: {n} states with {name}");
    }
    assert!(report.nested >= states / 100 && report.process_only >= states / 100, "{report}");
    seen
}

#[test]
fn appends_survive() {
    let seen = crashes(Profile::Append);
    assert!(seen.healed > 0 && seen.appends > 0, "{seen:?}");
}

#[test]
fn rotations_survive() {
    let seen = crashes(Profile::Rotate);
    assert!(seen.healed > 0 && seen.rotations > 0 && seen.removals > 0, "{seen:?}");
}

#[test]
fn group_commits_survive() {
    let seen = crashes(Profile::Group);
    assert!(seen.healed > 0 && seen.appends > 0, "{seen:?}");
}

#[test]
fn healing_survives() {
    let seen = crashes(Profile::Heal);
    assert!(seen.healed > 0, "{seen:?}");
}

#[test]
fn repairs_survive() {
    let seen = crashes(Profile::Repair);
    assert!(seen.repaired > 0, "{seen:?}");
}

#[test]
fn failures_and_recovery_survive() {
    let seen = crashes(Profile::Failures);
    assert!(seen.recovered > 0 && seen.refused > 0 && seen.full > 0, "{seen:?}");
}

/// Every k-th operation fails, in every way that real systems show, once and from then on. Of a million states and more it
/// is every operation, which takes long: see [`coverage`] for how to do that in pieces.
#[test]
fn every_failure_is_survived() {
    let rounds = setting("HEADWATER_CRASH_STATES", 12_000).div_ceil(12_000);
    let first = setting("HEADWATER_SEED", 1);
    let stride = if rounds > 20 { 1 } else { 7 };
    let profiles = [Profile::Append, Profile::Rotate, Profile::Heal, Profile::Repair];
    let programs: Vec<_> =
        (0..rounds.min(100)).flat_map(|round| profiles.map(|profile| (profile, first + round, stride))).collect();
    let coverage =
        Coverage::from_env(programs.iter().map(|(profile, seed, stride)| format!("{profile:?} {seed} {stride}")));
    let (mut sum, mut seen) = (SweepReport::default(), Seen::default());
    for ((profile, seed, stride), name) in coverage.left(&programs) {
        let program = Program::new(profile, seed);
        let report = Sweep::new(seed).stride(stride).crashes(3, 2).run(&program);
        report.assert_clean();
        assert_eq!(report.leaked_handles, 0);
        seen += program.seen();
        coverage.note(name, &report);
        sum += report;
    }
    println!("{sum}\n  {seen:?}");
    coverage.print();
    // Of a few programs it may be that none had to recover.
    assert!(coverage.is_partial() || seen.recovered > 0 && seen.refused > 0, "{seen:?}");
}
