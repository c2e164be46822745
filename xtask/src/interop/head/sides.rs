//! The two heads of a program, behind one set of operations.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use head_chunks::Encoding;
use serde_json::json;
use tsdb_head::{AppendError, Appender, FloatEncoding, Head, HeadOptions, RawChunk};
use tsdb_model::SeriesRef;
use tsdb_model::labels::Labels;
use tsdb_vfs::{Fs, RealFs};
use wal_segment::LogOptions;

use crate::interop::entry::{self, Entry, Value};
use crate::interop::wire::WireReader;
use crate::interop::{Coverage, Reference};

/// How both sides open their directories.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) compression: &'static str,
    pub(super) chunk_range: i64,
    pub(super) starts: bool,
    pub(super) xor2: bool,
    pub(super) segment_size: u64,
    pub(super) truncates: bool,
}

/// A series' chunks: encoding byte and bytes of each, oldest first.
pub(super) type Chunks = Vec<(String, Vec<(u8, Vec<u8>)>)>;

/// What a program does to a head. Transactions are named by the program.
pub(super) trait Side {
    fn begin(&mut self, name: u32) -> Result<()>;
    /// Verdicts by name, "" for a sample that was taken.
    fn append(&mut self, name: u32, entries: &[Entry], zero: bool) -> Result<Vec<String>>;
    fn end(&mut self, name: u32, commit: bool) -> Result<()>;
    /// Writes full chunks to their files.
    fn write_chunks(&mut self) -> Result<()>;
    fn truncate(&mut self, mint: i64) -> Result<()>;
    fn dump(&mut self) -> Result<Vec<Entry>>;
    fn chunks(&mut self) -> Result<Chunks>;
    fn bounds(&mut self) -> Result<(i64, i64)>;
    /// Ends the head (`kill`: without a word) and opens the one in `dir`.
    fn reopen(&mut self, kill: bool, dir: &Path) -> Result<()>;
}

pub(super) struct Ours {
    head: Option<Head>,
    open: HashMap<u32, Appender>,
    setup: Setup,
}

impl Ours {
    /// The labels of every series.
    pub(super) fn names(&mut self) -> Result<BTreeMap<SeriesRef, String>> {
        let series = self.head()?.select(&[], i64::MIN, i64::MAX);
        Ok(series.map(|series| (series.series_ref(), series.labels().to_string())).collect())
    }

    pub(super) fn new(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut ours = Self { head: None, open: HashMap::new(), setup: setup.clone() };
        ours.start(dir)?;
        Ok(ours)
    }

    fn start(&mut self, dir: &Path) -> Result<()> {
        let setup = &self.setup;
        let fs: Fs = Arc::new(RealFs::new());
        let options = HeadOptions {
            chunk_range: setup.chunk_range,
            start_timestamps: setup.starts,
            float_encoding: if setup.xor2 || setup.starts { FloatEncoding::Xor2 } else { FloatEncoding::Xor },
            log: LogOptions {
                segment_size: setup.segment_size,
                compression: setup.compression.parse()?,
                ..LogOptions::default()
            },
            // Chunks go to their files when the program says so, on both sides.
            chunk_write_bytes: 0,
            ..HeadOptions::default()
        };
        let (head, report) = Head::open(fs, dir, options).context("ours does not open")?;
        ensure!(report.damage.is_empty(), "ours found damage: {:?}", report.damage);
        ensure!(report.counts.undecodable == 0, "ours could not decode a record");
        self.head = Some(head);
        Ok(())
    }

    pub(super) fn head(&self) -> Result<&Head> {
        self.head.as_ref().context("ours is closed")
    }

    /// Counts why chunks ended where they did, as far as they show it themselves.
    pub(super) fn cuts(&self, coverage: &mut Coverage) -> Result<()> {
        let range = self.setup.chunk_range;
        for series in self.head()?.select(&[], i64::MIN, i64::MAX) {
            for pair in series.raw_chunks()?.windows(2) {
                let [chunk, next] = pair else { continue };
                coverage.hit(&format!("cut: {}", cut(chunk, next, range)));
            }
        }
        Ok(())
    }
}

/// Chunks with fewer bytes than these did not end for their size.
const FULL_XOR: usize = 1000;
const FULL_HISTOGRAM: usize = 512;

fn cut(chunk: &RawChunk, next: &RawChunk, range: i64) -> &'static str {
    let float = matches!(chunk.encoding, Encoding::Xor | Encoding::Xor2);
    // Of histogram chunks the third byte's upper bits say whether counters were reset before them.
    let reset = !float && next.bytes.get(2).is_some_and(|flags| flags & 0xc0 == 0x80);
    match () {
        () if chunk.encoding != next.encoding => "encoding",
        () if next.mint / range != chunk.mint / range => "chunk range",
        () if float && chunk.bytes.len() >= FULL_XOR => "bytes",
        () if float => "samples",
        () if reset => "counter reset",
        () if chunk.bytes.len() >= FULL_HISTOGRAM => "histogram bytes",
        () => "histogram layout",
    }
}

/// The names that `verdict` in `interop/head.go` gives.
fn verdict(result: Result<tsdb_model::SeriesRef, AppendError>) -> String {
    let name = match result {
        Ok(_) => "",
        Err(AppendError::OutOfOrder) => "out of order",
        Err(AppendError::OutOfBounds { .. }) => "out of bounds",
        Err(AppendError::Duplicate { .. }) => "duplicate",
        Err(AppendError::EmptyLabels | AppendError::DuplicateLabelName { .. }) => "invalid labels",
        Err(AppendError::InvalidHistogram(_)) => "invalid histogram",
        Err(AppendError::StartNotBeforeSample { .. }) => "start not before sample",
        Err(AppendError::OutOfOrderStart) => "start out of order",
        Err(other) => return other.to_string(),
    };
    name.to_owned()
}

impl Side for Ours {
    fn begin(&mut self, name: u32) -> Result<()> {
        let appender = self.head()?.appender();
        self.open.insert(name, appender);
        Ok(())
    }

    fn append(&mut self, name: u32, entries: &[Entry], zero: bool) -> Result<Vec<String>> {
        let appender = self.open.get_mut(&name).context("no such transaction")?;
        let one = |entry: &Entry| {
            let Entry { labels, t, st, value } = entry;
            verdict(match (value, zero) {
                (Value::Float(_), true) => appender.append_start_zero(None, labels, *t, *st),
                (Value::Histogram(h), true) => appender.append_histogram_start_zero(None, labels, *t, *st, h),
                (Value::FloatHistogram(h), true) => {
                    appender.append_float_histogram_start_zero(None, labels, *t, *st, h)
                }
                (Value::Float(v), false) => appender.append_with_start(None, labels, *st, *t, *v),
                (Value::Histogram(h), false) => appender.append_histogram(None, labels, *st, *t, h.clone()),
                (Value::FloatHistogram(h), false) => appender.append_float_histogram(None, labels, *st, *t, h.clone()),
                (Value::Exemplar { .. } | Value::Metadata { .. }, _) => return "not a sample".into(),
            })
        };
        Ok(entries.iter().map(one).collect())
    }

    fn end(&mut self, name: u32, commit: bool) -> Result<()> {
        let appender = self.open.remove(&name).context("no such transaction")?;
        if commit {
            appender.commit()?;
        } else {
            appender.rollback();
        }
        Ok(())
    }

    fn write_chunks(&mut self) -> Result<()> {
        self.head()?.write_chunks()?;
        Ok(())
    }

    fn truncate(&mut self, mint: i64) -> Result<()> {
        self.head()?.truncate(mint)?;
        Ok(())
    }

    fn dump(&mut self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for series in self.head()?.select(&[], i64::MIN, i64::MAX).sorted() {
            for sample in series.samples() {
                let sample = sample?;
                let value = match sample.value {
                    tsdb_head::Value::Float(v) => Value::Float(v),
                    tsdb_head::Value::Histogram(h) => Value::Histogram(*h),
                    tsdb_head::Value::FloatHistogram(h) => Value::FloatHistogram(*h),
                };
                entries.push(Entry { labels: series.labels().clone(), t: sample.t, st: sample.start, value });
            }
        }
        Ok(entries)
    }

    fn chunks(&mut self) -> Result<Chunks> {
        let mut all = Vec::new();
        for series in self.head()?.select(&[], i64::MIN, i64::MAX).sorted() {
            let chunks = series.raw_chunks()?;
            let bytes = chunks.into_iter().map(|chunk| (chunk.encoding.byte(), chunk.bytes.to_vec())).collect();
            all.push((series.labels().to_string(), bytes));
        }
        Ok(all)
    }

    fn bounds(&mut self) -> Result<(i64, i64)> {
        Ok((self.head()?.min_time(), self.head()?.max_time()))
    }

    fn reopen(&mut self, kill: bool, dir: &Path) -> Result<()> {
        self.open.clear();
        let head = self.head.take().context("ours is closed")?;
        if kill {
            drop(head);
        } else {
            head.close()?;
        }
        self.start(dir)
    }
}

pub(super) struct Theirs {
    reference: Option<Reference>,
    db: u64,
    open: HashMap<u32, u64>,
    setup: Setup,
}

impl Theirs {
    pub(super) fn new(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut theirs =
            Self { reference: Some(Reference::start()?), db: 0, open: HashMap::new(), setup: setup.clone() };
        theirs.start(dir)?;
        Ok(theirs)
    }

    fn reference(&mut self) -> Result<&mut Reference> {
        self.reference.as_mut().context("no reference")
    }

    fn start(&mut self, dir: &Path) -> Result<()> {
        let setup = self.setup.clone();
        let args = json!({
            "dir": PathBuf::from(dir), "compression": setup.compression, "segment_size": setup.segment_size,
            "block_duration": setup.chunk_range, "start_timestamps": setup.starts, "xor2": setup.xor2,
        });
        let answer = self.reference()?.call("dir.open", args, b"")?;
        for corruption in ["wal_corruptions", "mmap_corruptions"] {
            ensure!(answer.f64(corruption)? == 0.0, "the reference found {corruption}: {}", answer.str("log")?);
        }
        self.db = answer.u64("db")?;
        Ok(())
    }

    fn transaction(&self, name: u32) -> Result<u64> {
        self.open.get(&name).copied().context("no such transaction")
    }
}

impl Side for Theirs {
    fn begin(&mut self, name: u32) -> Result<()> {
        let (db, second) = (self.db, self.setup.starts);
        let answer = self.reference()?.call("head.begin", json!({ "db": db, "appender_v2": second }), b"")?;
        self.open.insert(name, answer.u64("transaction")?);
        Ok(())
    }

    fn append(&mut self, name: u32, entries: &[Entry], zero: bool) -> Result<Vec<String>> {
        let transaction = self.transaction(name)?;
        let args = json!({ "transaction": transaction, "zero": zero });
        let answer = self.reference()?.call("head.append", args, &entry::encode(entries))?;
        let verdicts = answer.fields.get("verdicts").and_then(|verdicts| verdicts.as_array()).context("no verdicts")?;
        Ok(verdicts.iter().map(|verdict| verdict.as_str().unwrap_or_default().to_owned()).collect())
    }

    fn end(&mut self, name: u32, commit: bool) -> Result<()> {
        let transaction = self.transaction(name)?;
        self.open.remove(&name);
        let op = if commit { "head.commit" } else { "head.rollback" };
        self.reference()?.call(op, json!({ "transaction": transaction }), b"")?;
        Ok(())
    }

    fn write_chunks(&mut self) -> Result<()> {
        let db = self.db;
        self.reference()?.call("dir.mmap", json!({ "db": db }), b"")?;
        Ok(())
    }

    fn truncate(&mut self, mint: i64) -> Result<()> {
        let db = self.db;
        self.reference()?.call("dir.truncate", json!({ "db": db, "mint": mint }), b"")?;
        Ok(())
    }

    fn dump(&mut self) -> Result<Vec<Entry>> {
        let db = self.db;
        entry::decode(&self.reference()?.call("dir.dump_open", json!({ "db": db }), b"")?.payload)
    }

    fn chunks(&mut self) -> Result<Chunks> {
        let db = self.db;
        let answer = self.reference()?.call("head.chunks", json!({ "db": db }), b"")?;
        let mut reader = WireReader(&answer.payload);
        let mut all = Vec::new();
        while reader.more() {
            let labels: Labels = reader.labels()?;
            let chunks: Vec<(u8, Vec<u8>)> =
                (0..reader.u32()?).map(|_| Ok((reader.u8()?, reader.item()?.to_vec()))).collect::<Result<_>>()?;
            if !chunks.is_empty() {
                all.push((labels.to_string(), chunks));
            }
        }
        Ok(all)
    }

    fn bounds(&mut self) -> Result<(i64, i64)> {
        let db = self.db;
        let answer = self.reference()?.call("head.bounds", json!({ "db": db }), b"")?;
        Ok((answer.str("min_time")?.parse()?, answer.str("max_time")?.parse()?))
    }

    fn reopen(&mut self, kill: bool, dir: &Path) -> Result<()> {
        if kill {
            self.open.clear();
            self.reference.take().context("no reference")?.kill()?;
            self.reference = Some(Reference::start()?);
        } else {
            for name in self.open.keys().copied().collect::<Vec<_>>() {
                self.end(name, false)?;
            }
            let db = self.db;
            self.reference()?.call("dir.close", json!({ "db": db }), b"")?;
        }
        self.start(dir)
    }
}
