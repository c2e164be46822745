//! Our head behind the protocol of `interop/`: the same `dir.*` operations with the same arguments and answers, so that a
//! row asks both sides the same questions and each of them can be killed.
//!
//! Not for people: `cargo xtask interop` starts it.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tsdb_head::{AppendError, DamagePolicy, FloatEncoding, Head, HeadOptions, ReplayReport};
use tsdb_vfs::{Fs, RealFs};
use wal_segment::{Compression, Durability};

use crate::interop::entry::{self, Entry};

mod bench;
mod memory;

/// Answers requests until the end of its input. A panic is an answer.
pub(crate) fn run() -> Result<()> {
    let mut server = Server::default();
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let args: Value = serde_json::from_slice(&line).context("header is not JSON")?;
        let mut payload = vec![0; usize::try_from(args["payload"].as_u64().unwrap_or(0))?];
        input.read_exact(&mut payload)?;
        let answered = std::panic::catch_unwind(AssertUnwindSafe(|| server.answer(&args, &payload)));
        let (mut fields, payload) = match answered {
            Ok(Ok((fields, payload))) => {
                let Value::Object(mut fields) = fields else { bail!("an answer is a JSON object") };
                fields.insert("ok".into(), json!(true));
                (fields, payload)
            }
            Ok(Err(error)) => (failure(&format!("{error:#}"), false), Vec::new()),
            Err(panic) => (failure(&panic_text(&*panic), true), Vec::new()),
        };
        fields.insert("payload".into(), json!(payload.len()));
        serde_json::to_writer(&mut output, &fields)?;
        output.write_all(b"\n")?;
        output.write_all(&payload)?;
        output.flush()?;
    }
}

fn failure(error: &str, panic: bool) -> Map<String, Value> {
    Map::from_iter([("ok".into(), json!(false)), ("error".into(), json!(error)), ("panic".into(), json!(panic))])
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// How a directory is opened: the arguments of dir.open and dir.dump.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Args {
    dir: PathBuf,
    compression: String,
    segment_size: u64,
    block_duration: i64,
    start_timestamps: bool,
    xor2: bool,
    /// "always" or (as the reference) "rotate".
    durability: String,
    db: u64,
    per_commit: usize,
    text: bool,
    st: bool,
    mint: i64,
    kill_micros: Option<u64>,
}

impl Args {
    fn options(&self) -> Result<HeadOptions> {
        let mut options = HeadOptions { damage: DamagePolicy::Salvage, ..HeadOptions::default() };
        options.log.compression = compression(&self.compression)?;
        options.log.durability = match self.durability.as_str() {
            "always" => Durability::Always,
            "" | "rotate" => Durability::Rotate,
            other => bail!("no such durability: {other}"),
        };
        if self.segment_size > 0 {
            options.log.segment_size = self.segment_size;
        }
        if self.block_duration > 0 {
            options.chunk_range = self.block_duration;
        }
        if self.start_timestamps || self.xor2 {
            options.float_encoding = FloatEncoding::Xor2;
        }
        options.start_timestamps = self.start_timestamps;
        Ok(options)
    }
}

/// A compression by its name; none when there is no name.
fn compression(name: &str) -> Result<Compression> {
    Ok(match name {
        "" | "none" => Compression::None,
        "snappy" => Compression::Snappy,
        "zstd" => Compression::Zstd,
        other => bail!("no such compression: {other}"),
    })
}

#[derive(Default)]
struct Server {
    open: BTreeMap<u64, Head>,
    last: u64,
}

type Answered = Result<(Value, Vec<u8>)>;

impl Server {
    fn answer(&mut self, header: &Value, payload: &[u8]) -> Answered {
        match header["op"].as_str().unwrap_or_default() {
            "bench.ingest" => return bench::ingest(header),
            "bench.replay" => return bench::replay(header),
            _ => {}
        }
        let args = Args::deserialize(header)?;
        let fs: Fs = Arc::new(RealFs::new());
        match header["op"].as_str().unwrap_or_default() {
            "dir.open" => {
                let (head, report) = Head::open(fs, &args.dir, args.options()?)?;
                self.last += 1;
                let mut fields = describe(&head, &report);
                fields["db"] = json!(self.last);
                self.open.insert(self.last, head);
                Ok((fields, Vec::new()))
            }
            "dir.append" => append(self.head(args.db)?, payload, args.per_commit, args.kill_micros),
            "dir.dump_open" => dump(self.head(args.db)?, args.text, args.st),
            "dir.mmap" => Ok((json!({ "chunks": self.head(args.db)?.write_chunks()? }), Vec::new())),
            "dir.truncate" => {
                self.head(args.db)?.truncate(args.mint)?;
                Ok((json!({}), Vec::new()))
            }
            "dir.close" => {
                self.open.remove(&args.db).with_context(|| format!("no open directory {}", args.db))?.close()?;
                Ok((json!({}), Vec::new()))
            }
            "dir.dump" => {
                let options = HeadOptions { damage: DamagePolicy::Strict, ..args.options()? };
                let (head, _) = Head::open_read_only(fs, &args.dir, options)?;
                dump(&head, args.text, args.st)
            }
            other => bail!("unknown operation {other:?}"),
        }
    }

    fn head(&self, number: u64) -> Result<&Head> {
        self.open.get(&number).with_context(|| format!("no open directory {number}"))
    }
}

/// What opening found, in the reference's terms.
fn describe(head: &Head, report: &ReplayReport) -> Value {
    let damage: Vec<String> = report.damage.iter().map(|damage| format!("{damage:?}")).collect();
    let log = report.damage.iter().filter(|damage| damage.at.is_some() && !damage.torn_end).count();
    let chunks = report.damage.iter().filter(|damage| damage.at.is_none()).count();
    json!({
        "series": head.series_count(), "min_time": head.min_time(), "max_time": head.max_time(),
        "wal_corruptions": log, "mmap_corruptions": chunks, "log": damage.join("\n"),
    })
}

/// Ends this process by SIGKILL after some time: nobody gets a chance to tidy up, which is the point.
fn kill_after(micros: u64) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_micros(micros));
        // It can only fail for a process that is not there.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
    });
}

fn append(head: &Head, payload: &[u8], per_commit: usize, kill_micros: Option<u64>) -> Answered {
    let entries = entry::decode(payload)?;
    let per_commit = if per_commit == 0 { entries.len().max(1) } else { per_commit };
    let mut refused = Map::new();
    for (n, commit) in entries.chunks(per_commit).enumerate() {
        let mut appender = head.appender();
        for (i, entry) in commit.iter().enumerate() {
            if let Err(error) = append_one(&mut appender, entry) {
                refused.insert((n * per_commit + i).to_string(), json!(refusal_name(&error)));
            }
        }
        kill_micros.into_iter().for_each(kill_after);
        appender.commit()?;
    }
    Ok((json!({ "committed": entries.len(), "refused": refused }), Vec::new()))
}

fn append_one(appender: &mut tsdb_head::Appender, entry: &Entry) -> Result<(), AppendError> {
    let Entry { labels, t, st, value } = entry;
    let taken = match value {
        entry::Value::Float(v) => appender.append_with_start(None, labels, *st, *t, *v),
        entry::Value::Histogram(h) => appender.append_histogram(None, labels, *st, *t, h.clone()),
        entry::Value::FloatHistogram(h) => appender.append_float_histogram(None, labels, *st, *t, h.clone()),
        other @ (entry::Value::Exemplar { .. } | entry::Value::Metadata { .. }) => {
            panic!("the head does not take {other:?} yet")
        }
    };
    taken.map(drop)
}

/// The reason by the name that `interop/dir.go` has for it.
fn refusal_name(error: &AppendError) -> String {
    match error {
        AppendError::OutOfOrder => "out of order".into(),
        AppendError::OutOfBounds { .. } => "out of bounds".into(),
        AppendError::Duplicate { .. } => "duplicate".into(),
        other => other.to_string(),
    }
}

fn dump(head: &Head, text: bool, st: bool) -> Answered {
    let mut out = crate::interop::wire::WireWriter::default();
    let mut samples = 0_u64;
    for series in head.select(&[], i64::MIN, i64::MAX).sorted() {
        for sample in series.samples() {
            let sample = sample?;
            samples += 1;
            let value = match sample.value {
                tsdb_head::Value::Float(v) => entry::Value::Float(v),
                tsdb_head::Value::Histogram(h) => entry::Value::Histogram(*h),
                tsdb_head::Value::FloatHistogram(h) => entry::Value::FloatHistogram(*h),
            };
            let entry = Entry { labels: series.labels().clone(), t: sample.t, st: sample.start, value };
            if text { out.0.extend(line(&entry, st).bytes()) } else { out.entry(&entry) }
        }
    }
    Ok((json!({ "samples": samples }), out.0))
}

/// A sample as `headwater dump` prints it.
fn line(entry: &Entry, st: bool) -> String {
    let value = match &entry.value {
        entry::Value::Float(v) if tsdb_model::staleness::is_stale(*v) => "stale".to_owned(),
        entry::Value::Float(v) => tsdb_model::gotext::format_float_g(*v).to_string(),
        entry::Value::Histogram(h) => h.to_string(),
        entry::Value::FloatHistogram(h) => h.to_string(),
        other => format!("{other:?}"),
    };
    let start = if st && entry.st != 0 { format!(" {}", entry.st) } else { String::new() };
    format!("{} {value} {}{start}\n", entry.labels, entry.t)
}
