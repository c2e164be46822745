//! A sweep that takes long, in pieces: which programs are a run's, and a file of those that are done.
//!
//! `HEADWATER_PART=2/8` runs the second eighth of the programs, every eighth of them. `HEADWATER_REPORT=FILE` appends a line
//! to the file for each program that is done, and passes over those that have one: a run that was stopped goes on where it
//! was, and several parts can write to one file at once. A line counts for the binary that wrote it only, since what another
//! one survived says nothing about this one.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what has been covered is noted on the real disk, not on the one that crashes"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use tsdb_vfs::failpoints::SweepReport;

/// Runs with a failure, calls that failed, states visited.
type Counts = [u64; 3];

pub(crate) struct Coverage {
    /// All programs of the sweep, whoever runs them.
    programs: Vec<String>,
    part: usize,
    parts: usize,
    report: Option<PathBuf>,
    /// Checksum of this binary.
    code: u32,
}

impl Coverage {
    pub(crate) fn from_env(programs: impl IntoIterator<Item = String>) -> Self {
        let (part, parts) = match std::env::var("HEADWATER_PART") {
            Ok(part) => parse_part(&part).expect("HEADWATER_PART is i/n, 1 <= i <= n"),
            Err(_) => (1, 1),
        };
        let binary = std::env::current_exe().and_then(fs::read).expect("this binary can be read");
        Self {
            programs: programs.into_iter().collect(),
            part,
            parts,
            report: std::env::var_os("HEADWATER_REPORT").map(PathBuf::from),
            code: crc32fast::hash(&binary),
        }
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.parts > 1 || self.report.is_some()
    }

    /// What of `of`, one for each program, this run has to do, with the program's name.
    pub(crate) fn left<'a, T: Copy>(&'a self, of: &'a [T]) -> impl Iterator<Item = (T, &'a str)> {
        let mine = of.iter().zip(&self.programs).skip(self.part - 1).step_by(self.parts);
        let done = self.done();
        mine.filter(move |(_, name)| !done.contains_key(*name)).map(|(&of, name)| (of, name.as_str()))
    }

    /// Says that a program is done, without a failure.
    pub(crate) fn note(&self, name: &str, report: &SweepReport) {
        let SweepReport { runs, failed_calls, crashes, .. } = report;
        let Some(path) = &self.report else { return };
        let line = format!("{name}: {runs} {failed_calls} {} code {:08x}\n", crashes.states, self.code);
        // One call, so that lines of several processes do not mix.
        let mut file = fs::File::options().append(true).create(true).open(path).expect("the report can be opened");
        file.write_all(line.as_bytes()).expect("the report can be written");
    }

    fn done(&self) -> BTreeMap<String, Counts> {
        let text = self.report.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        text.lines().filter_map(|line| parse_line(line, self.code)).collect()
    }

    /// What the file covers of the whole sweep, by this run and others.
    pub(crate) fn print(&self) {
        let mut done = self.done();
        done.retain(|name, _| self.programs.contains(name));
        let sum = |i: usize| done.values().map(|counts| counts[i]).sum::<u64>();
        println!(
            "covered: {} of {} programs, {} runs with a failure, {} calls failed, {} states, 0 failures",
            done.len(),
            self.programs.len(),
            sum(0),
            sum(1),
            sum(2)
        );
    }
}

fn parse_part(text: &str) -> Option<(usize, usize)> {
    let (part, parts) = text.split_once('/')?;
    let (part, parts) = (part.parse().ok()?, parts.parse().ok()?);
    (1..=parts).contains(&part).then_some((part, parts))
}

/// A line that was torn, or is another binary's, is none.
fn parse_line(line: &str, code: u32) -> Option<(String, Counts)> {
    let line = line.strip_suffix(&format!(" code {code:08x}"))?;
    let (name, counts) = line.split_once(": ")?;
    let counts: Vec<u64> = counts.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    Some((name.to_owned(), counts.try_into().ok()?))
}

#[test]
fn parts_are_all_of_it_and_a_line_counts_for_its_binary() {
    let names = || (0..10).map(|i| format!("program {i}"));
    let all: Vec<usize> = (0..10).collect();
    let of = |part, parts| Coverage { programs: names().collect(), part, parts, report: None, code: 7 };
    let mut covered: Vec<usize> =
        (1..=3).flat_map(|part| of(part, 3).left(&all).map(|(i, _)| i).collect::<Vec<_>>()).collect();
    covered.sort_unstable();
    assert_eq!(covered, all);
    assert_eq!(
        [parse_part("3/3"), parse_part("4/3"), parse_part("0/3"), parse_part("3")],
        [Some((3, 3)), None, None, None]
    );

    let scratch = tempfile::tempdir().expect("a directory");
    let mut coverage = Coverage { report: Some(scratch.path().join("report")), ..of(1, 2) };
    coverage.note("program 2", &SweepReport { runs: 5, failed_calls: 6, ..SweepReport::default() });
    assert_eq!(coverage.left(&all).map(|(i, _)| i).collect::<Vec<_>>(), [0, 4, 6, 8]);
    assert_eq!(coverage.done(), [("program 2".to_owned(), [5, 6, 0])].into());
    coverage.code += 1;
    assert_eq!(coverage.left(&all).count(), 5);
    assert_eq!(parse_line("program 2: 5 6 0 code 00000", 7), None);
}
