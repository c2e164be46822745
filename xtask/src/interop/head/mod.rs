//! The head: random programs on the reference's and on ours, in step.

mod flushed;
mod late;
mod samples;
mod sides;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use tsdb_model::CounterResetHint;
use tsdb_model::staleness::is_stale;
use tsdb_vfs::RealFs;
use wal_segment::{Item, SalvageReader};

use super::dir::compare;
use super::entry::{Entry, Value};
use super::workload::COMPRESSIONS;
use super::{Coverage, Row, Session};
use flushed::Flushed;
use late::Late;
use samples::Samples;
use sides::{Ours, Setup, Side, Theirs};

pub(super) const ROWS: &[Row] = &[Row {
    name: "programs",
    about: "same verdict for every sample, same answers and chunks, each opens what the other wrote and goes on",
    run: programs,
}];

const STEPS: usize = 220;

const FLUSHED: &str =
    "of more than 4 MiB of chunks a killed process leaves those written first, and threads write them as they come";

const MARKER: &str = "a staleness marker has the type of the sample before it, which only one log still has";

const REQUIRED: [&str; 41] = [
    "accepted",
    "out of order",
    "out of bounds",
    "duplicate",
    "invalid labels",
    "invalid histogram",
    "start not before sample",
    "start out of order",
    "commit",
    "rollback",
    "truncate",
    "write chunks",
    "close and reopen",
    "kill and reopen",
    "close and swap",
    "kill and swap",
    "none",
    "snappy",
    "zstd",
    "chunk XOR",
    "chunk histogram",
    "chunk floathistogram",
    "chunk XOR2",
    "chunk histogramST",
    "chunk floathistogramST",
    // Kinds of records that a reopen reads from either log.
    "tag 1",
    "tag 2",
    "tag 7",
    "tag 8",
    "tag 9",
    "tag 10",
    "tag 11",
    "tag 12",
    "tag 13",
    // Why chunks ended.
    "cut: samples",
    "cut: bytes",
    "cut: chunk range",
    "cut: encoding",
    "cut: counter reset",
    "cut: histogram bytes",
    "cut: histogram layout",
];

fn programs(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    // A tenth of the rounds has a tenth of the cases.
    let least = if session.quick() { 5 } else { 50 };
    REQUIRED.iter().for_each(|case| coverage.require(case, least));
    for round in session.rounds(200) {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        let setup = Setup {
            compression: COMPRESSIONS[round % 3],
            chunk_range: rng.random_range(20_000..400_000) * 2,
            starts: round % 4 == 1,
            xor2: round % 4 == 2,
            segment_size: 32 * 1024 * rng.random_range(1..4),
            truncates: rng.random(),
        };
        coverage.hit(setup.compression);
        let dirs = [scratch.path().join("ours"), scratch.path().join("theirs")];
        Program::new(&mut rng, &dirs[0], &dirs[1], &setup)?
            .run(&mut rng, &mut coverage)
            .with_context(|| format!("round {round}, {setup:?}"))?;
    }
    coverage.finish()
}

struct Program<'a> {
    ours: Ours,
    theirs: Theirs,
    setup: &'a Setup,
    /// Directories of ours and theirs; they are exchanged.
    dirs: [&'a Path; 2],
    samples: Samples,
    /// Transactions under way.
    open: Vec<u32>,
    next: u32,
    /// What lies before this time may be there or not: how much of it a log still holds depends on its segments' ends.
    truncated: Option<i64>,
    late: Late,
    flushed: Flushed,
}

impl<'a> Program<'a> {
    fn new(rng: &mut StdRng, ours: &'a Path, theirs: &'a Path, setup: &'a Setup) -> Result<Self> {
        Ok(Self {
            ours: Ours::new(ours, setup)?,
            theirs: Theirs::new(theirs, setup)?,
            setup,
            dirs: [ours, theirs],
            samples: Samples::new(rng, setup.chunk_range, setup.starts),
            open: Vec::new(),
            next: 0,
            truncated: None,
            late: Late::default(),
            flushed: Flushed::default(),
        })
    }

    fn run(mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Result<()> {
        for step in 0..STEPS {
            if self.step(rng, coverage).with_context(|| format!("step {step}"))?.is_break() {
                return Ok(());
            }
        }
        if self.reopen(rng, coverage)?.is_break() {
            return Ok(());
        }
        self.compare_all(coverage)
    }

    /// Whether the program is at its end: see [`Late`].
    fn step(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Result<ControlFlow<()>> {
        let done = match rng.random_range(0..100) {
            0..30 => self.scrapes(rng, coverage),
            30..40 if self.open.len() < 3 => self.begin(),
            40..65 if !self.open.is_empty() => self.odd(rng, coverage),
            65..78 if !self.open.is_empty() => self.end(rng, coverage),
            78..82 => {
                coverage.hit("write chunks");
                self.ours.write_chunks()?;
                self.theirs.write_chunks()
            }
            82..88 => self.compare_all(coverage),
            // Chunk bytes are compared until then, so half of the programs do without.
            88..92 if self.setup.truncates => self.truncate(rng, coverage),
            92..95 => return self.reopen(rng, coverage),
            _ => self.scrapes(rng, coverage),
        };
        done.map(ControlFlow::Continue)
    }

    fn begin(&mut self) -> Result<()> {
        self.next += 1;
        self.ours.begin(self.next)?;
        self.theirs.begin(self.next)?;
        self.open.push(self.next);
        Ok(())
    }

    fn both(&mut self, name: u32, entries: &[Entry], zero: bool, coverage: &mut Coverage) -> Result<()> {
        let ours = self.ours.append(name, entries, zero)?;
        let theirs = self.theirs.append(name, entries, zero)?;
        for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            if theirs != "out of bounds" {
                self.late.appended(name, &entries[i], theirs.is_empty());
            }
            if ours == "out of bounds" && theirs == "invalid histogram" && self.setup.starts {
                coverage
                    .allowed("fault-named-first", "of two faults in one sample the reference's interfaces name either");
                continue;
            }
            ensure!(
                ours == theirs,
                "verdicts differ: ours {ours:?}, theirs {theirs:?} on {:?}, zero {zero}",
                entries[i]
            );
            coverage.hit(if ours.is_empty() { "accepted" } else { ours });
        }
        Ok(())
    }

    /// A few scrapes, or enough to fill chunks, a commit each.
    fn scrapes(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Result<()> {
        let count = if rng.random_ratio(1, 6) { rng.random_range(50..200) } else { rng.random_range(1..10) };
        for _ in 0..count {
            let scrape = self.samples.scrape(rng);
            self.next += 1;
            self.ours.begin(self.next)?;
            self.theirs.begin(self.next)?;
            self.both(self.next, &scrape, false, coverage)?;
            self.ours.end(self.next, true)?;
            self.theirs.end(self.next, true)?;
            self.late.ended(self.next, true);
        }
        coverage.add("commit", count);
        Ok(())
    }

    fn odd(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Result<()> {
        let name = self.open[rng.random_range(0..self.open.len())];
        let mut entries = self.samples.odd(rng, self.setup.chunk_range);
        let zero = !self.setup.starts && rng.random_ratio(1, 4);
        if zero {
            for entry in &mut entries {
                let before = if rng.random_ratio(1, 6) { -1 } else { rng.random_range(0..self.setup.chunk_range / 20) };
                entry.st = entry.t - before;
            }
        }
        self.both(name, &entries, zero, coverage)
    }

    fn end(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Result<()> {
        let name = self.open.swap_remove(rng.random_range(0..self.open.len()));
        let commit = rng.random_ratio(3, 4);
        coverage.hit(if commit { "commit" } else { "rollback" });
        self.late.ended(name, commit);
        self.ours.end(name, commit)?;
        self.theirs.end(name, commit)
    }

    fn truncate(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Result<()> {
        // Ours waits for appenders that hold something older; the reference lets its caller wait.
        while !self.open.is_empty() {
            self.end(rng, coverage)?;
        }
        let mint = self.samples.truncation(rng, self.setup.chunk_range);
        if mint <= 0 {
            return Ok(());
        }
        coverage.hit("truncate");
        self.ours.truncate(mint)?;
        self.theirs.truncate(mint)?;
        self.truncated = self.truncated.max(Some(mint));
        self.late.truncated(&self.ours.dump()?);
        self.compare_all(coverage)
    }

    fn reopen(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Result<ControlFlow<()>> {
        let (kill, swap) = (rng.random(), rng.random());
        coverage.hit(match (kill, swap) {
            (false, false) => "close and reopen",
            (true, false) => "kill and reopen",
            (false, true) => "close and swap",
            (true, true) => "kill and swap",
        });
        self.dirs.iter().try_for_each(|dir| count_tags(&dir.join("wal"), coverage))?;
        let before = if self.late.any() { self.ours.dump()? } else { Vec::new() };
        self.open.drain(..).for_each(|name| self.late.ended(name, false));
        // Behind a truncation chunks are not compared any more.
        if kill && self.truncated.is_none() {
            self.flushed.killed(self.dirs, &self.ours.names()?)?;
        }
        if swap {
            self.exchange(kill)?;
        } else {
            self.ours.reopen(kill, self.dirs[0])?;
            self.theirs.reopen(kill, self.dirs[1])?;
        }
        let done =
            if self.late.any() { self.compare_late(before, swap, coverage) } else { self.compare_dumps(coverage) };
        done.with_context(|| format!("after a reopen, kill {kill}, swap {swap}"))?;
        // What the reference has lost it goes on without: the two heads are no longer the same.
        Ok(if self.late.any() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Our log has every sample; the reference's all but those that stand before their series' record.
    fn compare_late(&mut self, before: Vec<Entry>, swap: bool, coverage: &mut Coverage) -> Result<()> {
        let before = self.visible(before);
        let mut found = [self.ours.dump()?, self.theirs.dump()?];
        if swap {
            found.reverse();
        }
        let [by_our_log, by_theirs] = found.map(|found| self.visible(found));
        let split = |entries: Vec<Entry>| -> (Vec<Entry>, Vec<Entry>) {
            entries.into_iter().partition(|entry| !self.late.concerns(entry))
        };
        let ((_, before), (mut ours, ours_late), (theirs, theirs_late)) =
            (split(before), split(by_our_log), split(by_theirs));
        self.excuse_markers(&mut ours, &theirs, coverage);
        compare(&ours, &theirs, "by our log", "by theirs")?;
        let (before, ours, theirs) = (keys(&before), keys(&ours_late), keys(&theirs_late));
        if let Some(lost) = before.difference(&ours).next() {
            bail!("our log has lost {lost:?}");
        }
        if theirs != ours {
            coverage
                .allowed("series-logged-late", "samples before their series' record are lost in the reference's log");
        }
        Ok(())
    }

    /// Each side ends in its own directory and goes on in the other's.
    fn exchange(&mut self, kill: bool) -> Result<()> {
        let between = self.dirs[0].with_file_name("between");
        // Both have to be closed before a directory can move: each opens an empty one meanwhile.
        let parked = [self.dirs[0].with_file_name("parked-ours"), self.dirs[0].with_file_name("parked-theirs")];
        self.ours.reopen(kill, &parked[0])?;
        self.theirs.reopen(kill, &parked[1])?;
        for (from, to) in [(self.dirs[0], &*between), (self.dirs[1], self.dirs[0]), (&*between, self.dirs[1])] {
            std::fs::rename(from, to)?;
        }
        self.ours.reopen(kill, self.dirs[0])?;
        self.theirs.reopen(kill, self.dirs[1])?;
        parked.iter().try_for_each(|dir| Ok(std::fs::remove_dir_all(dir)?))
    }

    fn compare_all(&mut self, coverage: &mut Coverage) -> Result<()> {
        self.compare_dumps(coverage)?;
        if self.truncated.is_some() {
            return Ok(());
        }
        let (ours, theirs) = (self.ours.bounds()?, self.theirs.bounds()?);
        ensure!(ours == theirs, "time bounds differ: ours {ours:?}, theirs {theirs:?}");
        let (ours, theirs) = (self.ours.chunks()?, self.theirs.chunks()?);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            ensure!(ours.0 == theirs.0, "series differ: ours {}, theirs {}", ours.0, theirs.0);
            for (n, (a, b)) in ours.1.iter().zip(&theirs.1).enumerate() {
                let excused = a != b && self.flushed.excuses(&ours.0, a, b);
                if excused {
                    coverage.allowed("flushed-otherwise", FLUSHED);
                }
                ensure!(excused || a == b, "chunk {n} of {} differs\n      ours: {a:?}\n      theirs: {b:?}", ours.0);
                if let Some(encoding) = head_chunks::Encoding::from_byte(a.0) {
                    coverage.hit(&format!("chunk {encoding}"));
                }
            }
            let counts = (ours.1.len(), theirs.1.len());
            ensure!(counts.0 == counts.1, "{}: ours has {} chunks, theirs {}", ours.0, counts.0, counts.1);
        }
        ensure!(ours.len() == theirs.len(), "ours has {} series, theirs {}", ours.len(), theirs.len());
        self.ours.cuts(coverage)
    }

    fn compare_dumps(&mut self, coverage: &mut Coverage) -> Result<()> {
        let ours = self.ours.dump()?;
        let mut ours = self.visible(ours);
        let theirs = self.theirs.dump()?;
        let theirs = self.visible(theirs);
        self.excuse_markers(&mut ours, &theirs, coverage);
        compare(&ours, &theirs, "ours", "theirs")
    }

    /// The log has a staleness marker as a float, whatever its series is; a start gives it the type of the sample before. Where
    /// that one was truncated, one log may still have it and the other one not.
    fn excuse_markers(&self, ours: &mut [Entry], theirs: &[Entry], coverage: &mut Coverage) {
        if self.truncated.is_none() {
            return;
        }
        let mut begun = BTreeSet::new();
        for (a, b) in ours.iter_mut().zip(theirs) {
            if (&a.labels, a.t) != (&b.labels, b.t) || begun.contains(&a.labels) {
                continue;
            }
            if !is_marker(&a.value) || !is_marker(&b.value) {
                begun.insert(a.labels.clone());
            } else if a != b {
                a.value = b.value.clone();
                coverage.allowed("marker-behind-a-truncation", MARKER);
            }
        }
    }

    fn visible(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        if let Some(mint) = self.truncated {
            entries.retain(|entry| entry.t >= mint);
        }
        // A hint says how a sample lies in its chunk, and where chunks begin depends on what is left of older ones.
        let unsure = |entry: &&mut Entry| self.truncated.is_some() || self.flushed.concerns(&entry.labels);
        for entry in entries.iter_mut().filter(unsure) {
            match &mut entry.value {
                Value::Histogram(h) => h.counter_reset_hint = CounterResetHint::Unknown,
                Value::FloatHistogram(h) => h.counter_reset_hint = CounterResetHint::Unknown,
                _ => {}
            }
        }
        entries
    }
}

fn is_marker(value: &Value) -> bool {
    match value {
        Value::Float(v) => is_stale(*v),
        Value::Histogram(h) => is_stale(h.sum),
        Value::FloatHistogram(h) => is_stale(h.sum),
        Value::Exemplar { .. } | Value::Metadata { .. } => false,
    }
}

fn keys(entries: &[Entry]) -> BTreeSet<(String, i64)> {
    entries.iter().map(|entry| (entry.labels.to_string(), entry.t)).collect()
}

/// The kinds of records in a log. Both sides have written what they were given: nothing is on its way.
fn count_tags(wal: &Path, coverage: &mut Coverage) -> Result<()> {
    let mut reader = SalvageReader::open(Arc::new(RealFs::new()), wal)?;
    while let Some(item) = reader.next()? {
        if let Item::Record(record) = item
            && let Some(tag) = record.bytes.first()
        {
            coverage.hit(&format!("tag {tag}"));
        }
    }
    Ok(())
}
