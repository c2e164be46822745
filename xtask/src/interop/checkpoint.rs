//! wal-checkpoint beside `tsdb/wlog/checkpoint.go`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, RealFs};
use wal_checkpoint::{Count, Options, Source, StartTimestamps, Stats, checkpoint, retire};
use wal_segment::Compression;

use super::{Answer, Coverage, Reference, Row, Session};

pub(super) const ROWS: &[Row] = &[Row {
    name: "records",
    about: "random logs of every kind and codec: same records in order, same statistics, same replay",
    run: records,
}];

const CODECS: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

/// Cases that every run must meet often.
const REQUIRED: &[&str] = &[
    "series",
    "repeated_ref",
    "second_ref",
    "samples_v1",
    "samples_v2",
    "histograms_v1_exponential",
    "histograms_v1_custom",
    "histograms_v1_mixed",
    "histograms_v2_exponential",
    "histograms_v2_custom",
    "histograms_v2_mixed",
    "float_histograms_v1_exponential",
    "float_histograms_v1_custom",
    "float_histograms_v1_mixed",
    "float_histograms_v2_exponential",
    "float_histograms_v2_custom",
    "float_histograms_v2_mixed",
    "tombstones",
    "tombstones_full_range",
    "exemplars",
    "metadata",
    "mmap_markers",
    "unknown",
    "no_entries",
    "large",
    "records copied",
    "records rewritten",
    "records dropped",
];

/// Cases that a round meets at most once or twice: of the 60 rounds in CI not often.
const ONCE_A_ROUND: &[&str] = &[
    "codec none",
    "codec snappy",
    "codec zstd",
    "codec changes",
    "previous checkpoint of theirs",
    "previous checkpoint of ours",
    "replayed by the reference",
    "start timestamps kept",
    "start timestamps dropped",
];

fn records(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    for case in REQUIRED {
        coverage.require(case, 50);
    }
    for case in ONCE_A_ROUND {
        coverage.require(case, if session.quick() { 5 } else { 50 });
    }
    let rounds = if session.quick() { session.rounds(600) } else { session.rounds(300) };
    for round in rounds {
        let scratch = session.scratch()?;
        let mut game = Game {
            reference: &mut reference,
            rng: session.round_rng(round),
            coverage: &mut coverage,
            fs: Arc::new(RealFs::new()),
            scratch: scratch.path(),
            orderly: round % 2 == 0,
        };
        game.play().with_context(|| format!("round {round}"))?;
    }
    coverage.finish()
}

/// What both sides are asked to do.
#[derive(Debug, Clone, Copy)]
struct Task {
    from: u64,
    to: u64,
    salt: u64,
    percent: u64,
    mint: i64,
    compression: Compression,
}

impl Task {
    /// The predicate as `checkpointKeep` in `interop/checkpoint.go` computes it.
    fn keep(&self, series: SeriesRef) -> bool {
        let mut x = (series.0 ^ self.salt).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % 100 < self.percent
    }

    fn args(&self, dir: &Path, st: bool) -> Value {
        json!({
            "dir": dir, "from": self.from, "to": self.to, "salt": self.salt, "percent": self.percent,
            "mint": self.mint, "st": st, "compression": self.compression.to_string(),
        })
    }
}

struct Game<'a> {
    reference: &'a mut Reference,
    rng: StdRng,
    coverage: &'a mut Coverage,
    fs: Fs,
    scratch: &'a Path,
    /// Only such logs are replayed: see `checkpointGenerator` in `interop/checkpoint.go`.
    orderly: bool,
}

/// Where a random log stands.
#[derive(Debug, Clone, Copy)]
struct State {
    first: u64,
    last: u64,
    next_ref: u64,
    clock: i64,
    codec: Compression,
}

impl Game<'_> {
    fn play(&mut self) -> Result<()> {
        let dir = self.scratch.join("log");
        let mut state = self.write(&dir, None)?;
        if self.rng.random_bool(0.7) {
            let task = self.task(&state, state.clock / 2);
            if self.rng.random() {
                self.coverage.hit("previous checkpoint of theirs");
                let st = self.rng.random();
                match self.reference.ask("checkpoint.run", task.args(&dir, st), b"")? {
                    Ok(_) => {
                        self.reference.call("checkpoint.truncate", json!({ "dir": dir, "below": task.to + 1 }), b"")?
                    }
                    // Its panic is a difference that the comparison below names; here it only means: no checkpoint yet.
                    Err(refusal) if refusal.panic => {
                        self.coverage.allowed("batch-reset", BATCH_RESET);
                        Answer { fields: serde_json::Map::new(), payload: Vec::new() }
                    }
                    Err(refusal) => return Err(refusal.into()),
                };
            } else {
                self.coverage.hit("previous checkpoint of ours");
                let stats = self.ours(&dir, &task, StartTimestamps::Keep)?;
                retire(&self.fs, &dir, &stats)?;
            }
            state = self.write(&dir, Some(state))?;
        }
        let task = self.task(&state, state.clock);
        let previous = wal_segment::layout::last_checkpoint(&self.fs, &dir)?;
        if previous.is_some_and(|checkpoint| checkpoint.index >= task.to) {
            // The reference would make the same checkpoint once more and replace it; ours says that there is none to make.
            ensure!(self.ours(&dir, &task, StartTimestamps::Keep)?.no_op(), "{task:?}");
            self.coverage.hit("nothing to do");
            return Ok(());
        }
        self.compare(&dir, &task)
    }

    /// Lets the reference append random records to the log.
    fn write(&mut self, dir: &Path, before: Option<State>) -> Result<State> {
        let codec = *CODECS.choose(&mut self.rng).context("no codecs")?;
        self.coverage.hit(&format!("codec {codec}"));
        if before.is_some_and(|state| state.codec != codec) {
            self.coverage.hit("codec changes");
        }
        let segment_size = [32 << 10, 64 << 10, 256 << 10].choose(&mut self.rng);
        let answer = self.reference.call(
            "checkpoint.make",
            json!({
                "dir": dir, "seed": self.rng.random::<u32>(), "compression": codec.to_string(),
                "segment_size": segment_size, "orderly": self.orderly,
                "records": self.rng.random_range(20..250),
                "next_ref": before.map_or(1, |state| state.next_ref), "clock": before.map_or(1_000_000, |state| state.clock),
            }),
            b"",
        )?;
        for (case, n) in answer.fields["coverage"].as_object().context("no coverage")? {
            self.coverage.add(case, n.as_u64().unwrap_or(0));
        }
        Ok(State {
            first: answer.u64("first")?,
            last: answer.u64("last")?,
            next_ref: answer.u64("next_ref")?,
            clock: answer.i64("clock")?,
            codec,
        })
    }

    /// A task over all segments but the last.
    fn task(&mut self, state: &State, clock: i64) -> Task {
        Task {
            from: state.first,
            to: (state.last.max(state.first + 1) - 1).max(state.first),
            salt: self.rng.random(),
            percent: *[0, 30, 70, 100].choose(&mut self.rng).unwrap_or(&50),
            mint: match self.rng.random_range(0..12) {
                0 => i64::MIN,
                1 => i64::MAX,
                _ => self.rng.random_range(900_000..=clock.max(900_001)),
            },
            compression: *CODECS.choose(&mut self.rng).unwrap_or(&Compression::None),
        }
    }

    fn ours(&self, dir: &Path, task: &Task, start_timestamps: StartTimestamps) -> Result<Stats> {
        let options = Options { compression: task.compression, start_timestamps, ..Options::default() };
        let source = Source::segments(&self.fs, dir);
        Ok(checkpoint(&source, task.from, task.to, |series| task.keep(series), task.mint, &options)?)
    }

    fn compare(&mut self, dir: &Path, task: &Task) -> Result<()> {
        let copy = |name: &str| -> Result<_> {
            let to = self.scratch.join(name);
            copy_dir(dir, &to)?;
            Ok(to)
        };
        let (theirs, ours, theirs_v1, ours_v1) = (copy("theirs")?, copy("ours")?, copy("theirs-v1")?, copy("ours-v1")?);
        let answer = self.reference.call("checkpoint.run", task.args(&theirs, true), b"")?;
        let stats = self.ours(&ours, task, StartTimestamps::Keep)?;
        ensure!(!stats.no_op(), "nothing to do? {task:?}");
        same_statistics(&answer.fields["stats"], &stats)?;
        self.coverage.add("records copied", stats.records.copied);
        self.coverage.add("records rewritten", stats.records.rewritten);
        self.coverage.add("records dropped", stats.records.dropped);
        self.coverage.hit("start timestamps kept");
        let (their_dump, our_dump) = (self.dump(&theirs, task.to)?, self.dump(&ours, task.to)?);
        self.same_records("with start timestamps", &their_dump, &our_dump)?;

        self.same_without_start_timestamps(task, &theirs_v1, &ours_v1, &our_dump)?;

        self.reference.call("checkpoint.truncate", json!({ "dir": theirs, "below": task.to + 1 }), b"")?;
        retire(&self.fs, &ours, &stats)?;
        if !self.orderly {
            return Ok(());
        }
        let (a, b) = (self.replay(&theirs, "chunks-theirs")?, self.replay(&ours, "chunks-ours")?);
        first_difference("the reference's replay", &a, &b)
    }

    fn same_without_start_timestamps(
        &mut self,
        task: &Task,
        theirs: &Path,
        ours: &Path,
        kept: &[String],
    ) -> Result<()> {
        self.coverage.hit("start timestamps dropped");
        let stats = self.ours(ours, task, StartTimestamps::Drop)?;
        let our_dump = self.dump(ours, task.to)?;
        // Whatever the reference does: ours holds the same entries as with start timestamps, with 0 for each of them.
        first_difference("entries without start timestamps", &sorted(without_st(kept)), &sorted(our_dump.clone()))?;
        let found = match self.reference.ask("checkpoint.run", task.args(theirs, false), b"")? {
            Err(refusal) if refusal.panic => Err(refusal.error),
            Err(refusal) => return Err(refusal.into()),
            Ok(answer) => {
                same_statistics(&answer.fields["stats"], &stats)?;
                match self.reference.ask("checkpoint.dump", json!({ "dir": checkpoint_dir(theirs, task.to) }), b"")? {
                    Ok(answer) => Ok(lines(&answer)?),
                    // It overwrote a batch, and what stands there now need not be a record.
                    Err(refusal) => Err(refusal.error),
                }
            }
        };
        let difference = match found {
            Ok(their_dump) => self.same_records("without start timestamps", &their_dump, &our_dump),
            Err(error) => Err(anyhow::anyhow!(error)),
        };
        match difference {
            Ok(()) => Ok(()),
            // Only where a record of version 2 holds nothing but custom buckets can the defect show.
            Err(_) if custom_only(kept) => {
                self.coverage.allowed("batch-reset", BATCH_RESET);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Equal entries in equal order; metadata, which ends every checkpoint, in any.
    fn same_records(&mut self, what: &str, theirs: &[String], ours: &[String]) -> Result<()> {
        if theirs == ours {
            return Ok(());
        }
        let is_metadata = |line: &String| line.starts_with("metadata ");
        let split = |dump: &[String]| -> (Vec<String>, Vec<String>) { dump.iter().cloned().partition(is_metadata) };
        let ((their_metadata, their_rest), (our_metadata, our_rest)) = (split(theirs), split(ours));
        first_difference(what, &their_rest, &our_rest)?;
        first_difference(what, &sorted(their_metadata), &sorted(our_metadata))?;
        self.coverage.allowed("metadata-order", "the reference writes the last metadata in the order of a Go map");
        Ok(())
    }

    fn dump(&mut self, dir: &Path, to: u64) -> Result<Vec<String>> {
        lines(&self.reference.call("checkpoint.dump", json!({ "dir": checkpoint_dir(dir, to) }), b"")?)
    }

    fn replay(&mut self, dir: &Path, scratch: &str) -> Result<Vec<String>> {
        let scratch = self.scratch.join(scratch);
        match self.reference.ask("checkpoint.replay", json!({ "dir": dir, "scratch": scratch }), b"")? {
            Ok(answer) => {
                self.coverage.hit("replayed by the reference");
                lines(&answer)
            }
            Err(refusal) if refusal.panic => {
                self.coverage.allowed("replay-panic", "the reference's own query panics on some sets of tombstones");
                Ok(vec![refusal.error])
            }
            Err(refusal) => Err(refusal.into()),
        }
    }
}

const BATCH_RESET: &str =
    "the reference loses a batch or panics when version 2 histograms, all custom, become version 1";

fn checkpoint_dir(dir: &Path, to: u64) -> std::path::PathBuf {
    dir.join(wal_segment::layout::checkpoint_name(to))
}

fn lines(answer: &Answer) -> Result<Vec<String>> {
    Ok(String::from_utf8(answer.payload.clone())?.lines().map(str::to_owned).collect())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

/// Samples of every kind with 0 for the start timestamp, their third field.
fn without_st(lines: &[String]) -> Vec<String> {
    let strip = |line: &String| {
        let mut fields: Vec<_> = line.splitn(4, ' ').collect();
        if matches!(fields[0], "sample" | "histogram" | "float_histogram") {
            fields[2] = "0";
        }
        fields.join(" ")
    };
    lines.iter().map(strip).collect()
}

/// Whether any histogram with custom buckets is left: its schema is the sixth field.
fn custom_only(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains("histogram ") && line.split(' ').nth(5) == Some("-53"))
}

fn first_difference(what: &str, theirs: &[String], ours: &[String]) -> Result<()> {
    for (n, (a, b)) in theirs.iter().zip(ours).enumerate() {
        if a != b {
            bail!("{what}: line {n} differs\n  theirs: {a}\n  ours:   {b}");
        }
    }
    ensure!(theirs.len() == ours.len(), "{what}: {} lines of theirs, {} of ours", theirs.len(), ours.len());
    Ok(())
}

fn same_statistics(theirs: &Value, ours: &Stats) -> Result<()> {
    let counts = &ours.counts;
    for (kind, ours) in [
        ("series", counts.series),
        ("samples", counts.all_samples()),
        ("tombstones", counts.tombstones),
        ("exemplars", counts.exemplars),
        ("metadata", counts.metadata),
    ] {
        let field = |n: usize| theirs[kind][n].as_u64().with_context(|| format!("no statistics of {kind}"));
        let theirs = Count { total: field(0)?, dropped: field(1)? };
        ensure!(theirs == ours, "statistics of {kind}: theirs {theirs:?}, ours {ours:?}");
    }
    Ok(())
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
