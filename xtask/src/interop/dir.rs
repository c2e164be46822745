//! Whole data directories: each side makes them, reads the other's, continues the other's, and dies in the middle.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tsdb_model::CounterResetHint;

use super::entry::{self, Entry, Value};
use super::reference::Died;
use super::workload::{COMPRESSIONS, HISTOGRAMS, Scrapes, require};
use super::{Coverage, Reference, Row, Session};

pub(super) const ROWS: &[Row] = &[
    Row { name: "read", about: "what one side wrote, the other reads, sample by sample and line by line", run: read },
    Row {
        name: "continue",
        about: "each side appends to the other's directory, and the other reads it again",
        run: continued,
    },
    Row {
        name: "killed",
        about: "SIGKILL in the middle of a commit, then the other opens: nothing committed is missing",
        run: killed,
    },
];

/// Who writes, who reads.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Theirs,
    Ours,
}

impl Side {
    fn start(self) -> Result<Reference> {
        match self {
            Self::Theirs => Reference::start(),
            Self::Ours => Reference::ourselves(),
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Theirs => Self::Ours,
            Self::Ours => Self::Theirs,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Theirs => "theirs",
            Self::Ours => "ours",
        }
    }
}

/// The writer of a round, and the log's compression: every pair comes up in turn.
fn cast(round: usize) -> (Side, &'static str) {
    let side = if round.is_multiple_of(2) { Side::Theirs } else { Side::Ours };
    (side, COMPRESSIONS[round / 2 % COMPRESSIONS.len()])
}

fn read(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    require(&mut coverage, 50);
    HISTOGRAMS.iter().for_each(|kind| coverage.require(kind, 50));
    for round in session.rounds(120) {
        let mut rng = session.round_rng(round);
        let (writer, compression) = cast(round);
        let scratch = session.scratch()?;
        let dir = scratch.path().join("data");
        let count = rng.random_range(100..500);
        let commits = Scrapes::new(&mut rng).and_histograms(&mut rng).take(&mut rng, count, &mut coverage);
        write(writer, &dir, compression, &commits, &mut rng, &mut coverage)?;
        agree(&dir, &commits.concat())
            .with_context(|| format!("round {round}: {} wrote, {compression}", writer.name()))?;
        coverage.hit(&format!("{} → {}, {compression}", writer.name(), writer.other().name()));
    }
    coverage.finish()
}

fn continued(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    for who in ["theirs continued ours", "ours continued theirs"] {
        coverage.require(who, if session.quick() { 6 } else { 50 });
    }
    HISTOGRAMS.iter().for_each(|kind| coverage.require(kind, 50));
    for round in session.rounds(60) {
        let mut rng = session.round_rng(round);
        let (mut writer, compression) = cast(round);
        let scratch = session.scratch()?;
        let dir = scratch.path().join("data");
        let mut scrapes = Scrapes::new(&mut rng).and_histograms(&mut rng);
        let mut all = Vec::new();
        for generation in 0..4 {
            let count = rng.random_range(1..200);
            let commits = scrapes.take(&mut rng, count, &mut coverage);
            write(writer, &dir, compression, &commits, &mut rng, &mut coverage)?;
            all.extend(commits.concat());
            agree(&dir, &all).with_context(|| {
                format!("round {round}, generation {generation}: {} wrote last, {compression}", writer.name())
            })?;
            writer = writer.other();
            if generation > 0 {
                coverage.hit(&format!("{} continued {}", writer.other().name(), writer.name()));
            }
        }
    }
    coverage.finish()
}

/// One side appends commits to a directory, and ends orderly or by SIGKILL.
fn write(
    side: Side,
    dir: &Path,
    compression: &str,
    commits: &[Vec<Entry>],
    rng: &mut StdRng,
    coverage: &mut Coverage,
) -> Result<()> {
    let mut process = side.start()?;
    let db = open(&mut process, dir, compression)?;
    append(&mut process, db, commits)?;
    if rng.random_ratio(1, 3) {
        coverage.hit("ended by SIGKILL while idle");
        return process.kill();
    }
    coverage.hit("closed");
    process.call("dir.close", json!({ "db": db }), b"")?;
    Ok(())
}

/// Both sides read a directory and find exactly these samples; their texts are the same, line by line.
fn agree(dir: &Path, expected: &[Entry]) -> Result<()> {
    let expected = sorted(expected.to_vec());
    let mut texts = Vec::new();
    let mut dumps = Vec::new();
    for side in [Side::Theirs, Side::Ours] {
        let mut process = side.start()?;
        let dumped = dump(&mut process, dir)?;
        dumps.push(dumped.clone());
        compare(&expected, &without_hints(dumped), "appended", side.name())?;
        texts.push(process.call("dir.dump", json!({ "dir": dir, "text": true }), b"")?.payload);
    }
    compare(&dumps[0], &dumps[1], "theirs", "ours")?;
    let lines = |text: &[u8]| String::from_utf8_lossy(text).lines().map(str::to_owned).collect::<Vec<_>>();
    for (theirs, ours) in lines(&texts[0]).iter().zip(&lines(&texts[1])) {
        ensure!(theirs == ours, "the dumps differ\n      theirs: {theirs}\n      ours:   {ours}");
    }
    ensure!(texts[0] == texts[1], "one dump is longer");
    Ok(())
}

/// Hints of histograms say how they lie in their chunks, which who appended them does not know.
fn without_hints(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        match &mut entry.value {
            Value::Histogram(h) => h.counter_reset_hint = CounterResetHint::Unknown,
            Value::FloatHistogram(h) => h.counter_reset_hint = CounterResetHint::Unknown,
            _ => {}
        }
    }
    entries
}

/// A process that kills itself at a random moment of committing. What it had acknowledged must be there for both sides,
/// and nothing that it was not given; the commit under way may be there or not.
fn killed(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    let least = if session.quick() { 3 } else { 50 };
    for side in ["theirs", "ours"] {
        coverage.require(&format!("{side} died with a commit under way"), least);
    }
    // On a busy machine the killer is often late, and the commit acknowledged: then more rounds are needed.
    let rounds = session.rounds(300);
    let most = if rounds.len() == 1 { rounds.end } else { rounds.end.max(300) };
    for round in rounds.start..most {
        let died = |side: &str| coverage.count(&format!("{side} died with a commit under way"));
        if round >= rounds.end && died("theirs") >= least && died("ours") >= least {
            break;
        }
        let mut rng = session.round_rng(round);
        let (writer, compression) = cast(round);
        let scratch = session.scratch()?;
        let dir = scratch.path().join("data");
        // Commits large enough that most of the time is spent within one.
        let mut scrapes = Scrapes::with_series(&mut rng, 10_000);
        let mut process = writer.start()?;
        let db = open(&mut process, &dir, compression)?;
        let count = rng.random_range(1..4);
        let before = scrapes.take(&mut rng, count, &mut coverage);
        append(&mut process, db, &before)?;
        let mut acknowledged = before.concat();
        let mut under_way = scrapes.take(&mut rng, 1, &mut coverage).concat();
        // About as long as such a commit takes each side.
        let longest = if writer == Side::Theirs { 3_000 } else { 400 };
        let args = json!({ "db": db, "kill_micros": rng.random_range(0..longest) });
        match process.call("dir.append", args, &entry::encode(&under_way)) {
            Ok(_) => {
                acknowledged.append(&mut under_way);
                coverage.hit("died after its last commit was acknowledged");
            }
            Err(error) if error.downcast_ref::<Died>().is_some() => {
                coverage.hit(&format!("{} died with a commit under way", writer.name()));
            }
            Err(error) => return Err(error),
        }
        process.kill()?;
        survived(&dir, writer, &acknowledged, &under_way, &mut coverage)
            .with_context(|| format!("round {round}: {} died, {compression}", writer.name()))?;
    }
    coverage.finish()
}

/// The other side opens what a killed process left (as it would to go on), and so does the side that died.
fn survived(
    dir: &Path,
    died: Side,
    acknowledged: &[Entry],
    under_way: &[Entry],
    coverage: &mut Coverage,
) -> Result<()> {
    // In the order of a dump, each with whether it must be there.
    let acknowledged = acknowledged.iter().map(|entry| (entry, true));
    let mut possible: Vec<_> = acknowledged.chain(under_way.iter().map(|entry| (entry, false))).collect();
    possible.sort_by(|(a, _), (b, _)| a.labels.cmp(&b.labels).then(a.t.cmp(&b.t)));
    let least = possible.iter().filter(|(_, must)| *must).count();
    for side in [died.other(), died] {
        let mut process = side.start()?;
        let answer = process.call("dir.open", json!({ "dir": dir }), b"")?;
        let db = answer.u64("db")?;
        let found = entry::decode(&process.call("dir.dump_open", json!({ "db": db }), b"")?.payload)?;
        process.call("dir.close", json!({ "db": db }), b"")?;
        let mut rest = found.iter().peekable();
        for (entry, must) in &possible {
            let here = rest.next_if(|next| next == entry).is_some();
            ensure!(
                here || !must,
                "{} misses {entry:?}, which was acknowledged; next is {:?}",
                side.name(),
                rest.peek()
            );
        }
        ensure!(rest.peek().is_none(), "{} invented {:?}", side.name(), rest.peek());
        let state = match found.len() {
            n if n == least => "is not there",
            n if n == possible.len() => "is there",
            _ => "is there in part",
        };
        if !under_way.is_empty() {
            coverage.hit(&format!("the commit under way {state}"));
        }
    }
    Ok(())
}

/// Opens a directory for writing, which must succeed without anything to complain about.
pub(crate) fn open(process: &mut Reference, dir: &Path, compression: &str) -> Result<u64> {
    let answer = process.call("dir.open", json!({ "dir": dir, "compression": compression }), b"")?;
    ensure!(answer.f64("wal_corruptions")? == 0.0, "corruption found: {}", answer.str("log")?);
    ensure!(answer.f64("mmap_corruptions")? == 0.0, "chunk corruption found: {}", answer.str("log")?);
    answer.u64("db")
}

/// Appends commit by commit; nothing may be refused.
pub(crate) fn append(process: &mut Reference, db: u64, commits: &[Vec<Entry>]) -> Result<()> {
    commits.iter().try_for_each(|commit| append_with(process, json!({ "db": db }), commit))
}

/// Appends entries with arguments of one's own; nothing may be refused.
pub(crate) fn append_with(process: &mut Reference, args: serde_json::Value, entries: &[Entry]) -> Result<()> {
    let answer = process.call("dir.append", args, &entry::encode(entries))?;
    let refused = answer.fields["refused"].as_object().is_none_or(|refused| !refused.is_empty());
    ensure!(!refused, "refused: {}", answer.fields["refused"]);
    Ok(())
}

/// The read-only view of a directory.
pub(crate) fn dump(process: &mut Reference, dir: &Path) -> Result<Vec<Entry>> {
    entry::decode(&process.call("dir.dump", json!({ "dir": dir }), b"")?.payload)
}

/// Entries in the order of a dump: by labels, then time.
pub(crate) fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| a.labels.cmp(&b.labels).then(a.t.cmp(&b.t)));
    entries
}

/// Bit for bit the same, or an error that shows the first difference.
pub(crate) fn compare(left: &[Entry], right: &[Entry], left_name: &str, right_name: &str) -> Result<()> {
    for n in 0..left.len().max(right.len()) {
        let (a, b) = (left.get(n), right.get(n));
        if a != b {
            bail!(
                "sample {n} differs ({} against {} in all)\n      {left_name}: {a:?}\n      {right_name}: {b:?}",
                left.len(),
                right.len()
            );
        }
    }
    Ok(())
}
