//! wal-segment beside `tsdb/wlog`: the same bytes, each side reads the other's logs, also damaged, healed, repaired and
//! while they grow.

mod others;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, RealFs};
use wal_format::{Batch, Sample, Version};
use wal_segment::parallel::{self, ParallelOptions};
use wal_segment::{
    Compression, FrameFault, Item, Log, LogOptions, LogReader, PAGE_SIZE, ReadError, SalvageReader, TailFrom, TailItem,
    TailReader, layout, repair,
};

use super::wire::{join, split};
use super::{Coverage, Reference, Row, Session};

pub(super) const ROWS: &[Row] = &[
    Row { name: "bytes", about: "the same segments byte by byte (zstd: record by record), read by both", run: bytes },
    Row { name: "heal", about: "torn by a crash, opened by us, appended to: the reference misses nothing", run: heal },
    Row { name: "repair", about: "damaged and repaired: the reference reads every record that is left", run: repaired },
    Row {
        name: "others",
        about: "our log, repaired by the reference, which goes on: no damage to us",
        run: others::others,
    },
    Row { name: "damage", about: "flips and cuts: both stop at the same record, or a rule says why not", run: damage },
    Row { name: "follow", about: "each side's tailing reader follows the other's writer", run: follow },
];

const CODECS: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

fn fs() -> Fs {
    Arc::new(RealFs::new())
}

/// Sizes that meet every way in which a record can lie in pages and segments; contents from noise to repetition.
fn record(rng: &mut StdRng, coverage: &mut Coverage) -> Vec<u8> {
    let (case, len) = match rng.random_range(0..20) {
        0..=2 => ("record empty", 0),
        3..=8 => ("record short", rng.random_range(1..200)),
        9..=14 => ("record within a page", rng.random_range(200..8_000)),
        15..=17 => ("record around a page", PAGE_SIZE - rng.random_range(0..40)),
        18 => ("record of several pages", rng.random_range(PAGE_SIZE..4 * PAGE_SIZE)),
        _ => ("record larger than a segment", rng.random_range(4 * PAGE_SIZE..6 * PAGE_SIZE)),
    };
    coverage.hit(case);
    let alphabet = *[1, 4, 64, 256].choose(rng).unwrap_or(&256);
    (0..len).map(|_| rng.random_range(0..alphabet) as u8).collect()
}

/// Records in the calls that log them; now and then one of exactly the length that leaves 7 bytes, or fewer, in a page.
fn batches(rng: &mut StdRng, coverage: &mut Coverage, calls: usize) -> Vec<Vec<Vec<u8>>> {
    (0..calls).map(|_| (0..rng.random_range(1..5)).map(|_| record(rng, coverage)).collect()).collect()
}

fn options(compression: Compression, pages: u64) -> LogOptions {
    LogOptions { segment_size: pages * PAGE_SIZE as u64, compression, ..LogOptions::default() }
}

fn append(log: &Log, batches: &[Vec<Vec<u8>>]) -> Result<()> {
    for batch in batches {
        log.append(batch.iter().map(Vec::as_slice))?;
    }
    Ok(())
}

fn ours(dir: &Path, compression: Compression, pages: u64, batches: &[Vec<Vec<u8>>]) -> Result<()> {
    let (log, _) = Log::open(fs(), dir, options(compression, pages))?;
    append(&log, batches)?;
    Ok(log.close()?)
}

fn theirs(reference: &mut Reference, dir: &Path, compression: Compression, pages: u64) -> Result<u64> {
    let size = pages * PAGE_SIZE as u64;
    let args = json!({ "dir": dir, "compression": compression.to_string(), "segment_size": size });
    reference.call("segment.open", args, &[])?.u64("handle")
}

fn their_log(reference: &mut Reference, handle: u64, batches: &[Vec<Vec<u8>>]) -> Result<()> {
    let counts: Vec<_> = batches.iter().map(Vec::len).collect();
    reference.call("segment.log", json!({ "handle": handle, "counts": counts }), &join(batches.concat()))?;
    Ok(())
}

/// What the reference's strict reader gives, and whether it met damage.
fn read_by_theirs(reference: &mut Reference, dir: &Path) -> Result<(Vec<Vec<u8>>, bool)> {
    let answer = reference.call("segment.read", json!({ "dir": dir }), &[])?;
    let damaged = answer.fields["damaged"].as_bool().context("no field damaged")?;
    Ok((split(&answer.payload)?.into_iter().map(<[u8]>::to_vec).collect(), damaged))
}

/// What the reference has after it started on the log, and whether it had to repair it.
fn started_by_theirs(reference: &mut Reference, dir: &Path) -> Result<(Vec<Vec<u8>>, bool)> {
    let args = json!({ "dir": dir, "compression": "snappy", "segment_size": 128 << 20 });
    let answer = reference.call("segment.start", args, &[])?;
    let damaged = answer.fields["damaged"].as_bool().context("no field damaged")?;
    Ok((split(&answer.payload)?.into_iter().map(<[u8]>::to_vec).collect(), damaged))
}

fn read_by_ours(dir: &Path) -> Result<(Vec<Vec<u8>>, Option<FrameFault>)> {
    let mut reader = LogReader::open(fs(), dir)?;
    let mut records = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(record)) => records.push(record.bytes.to_vec()),
            Ok(None) => return Ok((records, None)),
            Err(ReadError::Damage(damage)) => return Ok((records, Some(damage.fault))),
            Err(e) => return Err(e.into()),
        }
    }
}

fn read_in_parallel(dir: &Path, threads: usize, pages: u64) -> Result<(Vec<Vec<u8>>, Option<FrameFault>)> {
    let segments = layout::segments(&fs(), dir)?;
    let mut records = Vec::new();
    let options = ParallelOptions { threads, block_size: pages * PAGE_SIZE as u64 };
    let map = |block: &mut parallel::Block<'_>| {
        let mut records = Vec::new();
        while let Some(record) = block.next() {
            records.push(record.bytes.to_vec());
        }
        records
    };
    let outcome = parallel::read(&fs(), &segments, &options, map, |block| {
        records.extend(block);
        Ok::<_, ReadError>(())
    });
    match outcome {
        Ok(()) => Ok((records, None)),
        Err(ReadError::Damage(damage)) => Ok((records, Some(damage.fault))),
        Err(e) => Err(e.into()),
    }
}

fn bytes(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    let cases = ["record empty", "record short", "record within a page", "record around a page"];
    cases.into_iter().for_each(|case| coverage.require(case, 30));
    for case in ["record of several pages", "record larger than a segment", "several segments", "rotated by hand"] {
        coverage.require(case, 10);
    }
    for round in session.rounds(300) {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        let (left, right) = (scratch.path().join("ours"), scratch.path().join("theirs"));
        let codec = CODECS[round % 3];
        let pages = rng.random_range(1..5);
        let handle = theirs(&mut reference, &right, codec, pages)?;
        let (log, _) = Log::open(fs(), &left, options(codec, pages))?;
        let mut written = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let calls = rng.random_range(1..12);
            let batch = batches(&mut rng, &mut coverage, calls);
            append(&log, &batch)?;
            their_log(&mut reference, handle, &batch)?;
            written.extend(batch.concat());
            if rng.random_bool(0.3) {
                log.next_segment()?;
                reference.call("segment.rotate", json!({ "handle": handle }), &[])?;
                coverage.hit("rotated by hand");
            }
        }
        log.close()?;
        reference.call("segment.close", json!({ "handle": handle }), &[])?;
        compare_segments(&left, &right, codec, &mut coverage).with_context(|| format!("round {round}, {codec}"))?;
        for (whose, dir) in [("ours", &left), ("theirs", &right)] {
            let (found, damaged) = read_by_theirs(&mut reference, dir)?;
            ensure!(!damaged && found == written, "round {round}, {codec}: the reference reads {whose} differently");
            ensure!(
                read_by_ours(dir)? == (written.clone(), None),
                "round {round}, {codec}: we read {whose} differently"
            );
            let threads = rng.random_range(2..4);
            let parallel = read_in_parallel(dir, threads, rng.random_range(1..6))?;
            ensure!(parallel == (written.clone(), None), "round {round}, {codec}: read in parallel, {whose} differs");
        }
        coverage.add("records", written.len() as u64);
    }
    coverage.finish()
}

/// Zstd's encoders differ, so only where segments end may differ there.
fn compare_segments(left: &Path, right: &Path, codec: Compression, coverage: &mut Coverage) -> Result<()> {
    if codec == Compression::Zstd {
        return Ok(());
    }
    let (a, b) = (layout::segments(&fs(), left)?, layout::segments(&fs(), right)?);
    ensure!(a.len() == b.len(), "{} segments of ours, {} of theirs", a.len(), b.len());
    if a.len() > 1 {
        coverage.hit("several segments");
    }
    for (a, b) in a.iter().zip(&b) {
        let (ours, theirs) = (std::fs::read(&a.path)?, std::fs::read(&b.path)?);
        let differs = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        ensure!(ours == theirs, "segment {} differs at {differs:?} of {} and {}", a.index, ours.len(), theirs.len());
        coverage.add("bytes compared", ours.len() as u64);
    }
    Ok(())
}

fn last_segment(dir: &Path) -> Result<PathBuf> {
    let segments = layout::segments(&fs(), dir)?;
    let last = segments.iter().rev().find(|segment| segment.len > 0).context("no segment holds anything")?;
    Ok(last.path.clone())
}

/// Leaves a log's end as a crash of the machine may: cut anywhere, or cut and followed by zeros.
fn tear(dir: &Path, rng: &mut StdRng, coverage: &mut Coverage) -> Result<()> {
    let path = last_segment(dir)?;
    let bytes = std::fs::read(&path)?;
    let cut = rng.random_range(0..bytes.len());
    let mut torn = bytes[..cut].to_vec();
    match rng.random_range(0..3) {
        0 => coverage.hit("torn: cut"),
        1 => {
            coverage.hit("torn: zeros for the rest");
            torn.resize(bytes.len(), 0);
        }
        _ => {
            coverage.hit("torn: zeros to the page's end");
            torn.resize(cut.div_ceil(PAGE_SIZE) * PAGE_SIZE, 0);
        }
    }
    Ok(std::fs::write(path, torn)?)
}

fn heal(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    for case in ["torn: cut", "torn: zeros for the rest", "torn: zeros to the page's end", "healed", "written by them"]
    {
        coverage.require(case, 8);
    }
    for round in session.rounds(400) {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        let dir = scratch.path().join("wal");
        let codec = CODECS[round % 3];
        let batch = batches(&mut rng, &mut coverage, 8);
        if rng.random_bool(0.5) {
            coverage.hit("written by them");
            let handle = theirs(&mut reference, &dir, codec, 4)?;
            their_log(&mut reference, handle, &batch)?;
            reference.call("segment.close", json!({ "handle": handle }), &[])?;
        } else {
            coverage.hit("written by us");
            let (log, _) = Log::open(fs(), &dir, options(codec, 4))?;
            append(&log, &batch)?;
        }
        tear(&dir, &mut rng, &mut coverage)?;
        // What is there before anybody changes it. A ledger that says more was durable would be right to complain.
        std::fs::remove_file(dir.join(layout::LEDGER_NAME)).or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })?;
        let (mut expected, _) = read_by_ours(&dir)?;
        let (log, report) = Log::open(fs(), &dir, options(codec, 4)).with_context(|| format!("round {round}"))?;
        coverage.hit(if report.healed.is_some() { "healed" } else { "nothing to heal" });
        let more = batches(&mut rng, &mut coverage, 3);
        append(&log, &more)?;
        if rng.random_bool(0.5) {
            log.close()?;
        } else {
            coverage.hit("not closed");
            drop(log);
        }
        expected.extend(more.concat());
        let (found, repaired) = started_by_theirs(&mut reference, &dir)?;
        ensure!(!repaired, "round {round}: the reference repaired what we had healed");
        ensure!(found == expected, "round {round}: {} records, expected {}", found.len(), expected.len());
    }
    coverage.finish()
}

/// Damages a file in one of the ways disks do, and says which.
fn harm(path: &Path, rng: &mut StdRng) -> Result<&'static str> {
    let mut bytes = std::fs::read(path)?;
    let at = rng.random_range(0..bytes.len());
    let block = at / 4096 * 4096;
    let end = (block + 4096).min(bytes.len());
    let kind = match rng.random_range(0..4) {
        0 | 1 => {
            bytes[at] ^= 1 << rng.random_range(0..8);
            "a flipped bit"
        }
        2 => {
            bytes[block..end].fill(0);
            "a block of zeros"
        }
        _ => {
            bytes.truncate(at);
            "a cut"
        }
    };
    std::fs::write(path, bytes)?;
    Ok(kind)
}

fn repaired(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    ["a flipped bit", "a block of zeros", "a cut", "rewritten"].into_iter().for_each(|case| coverage.require(case, 8));
    for round in session.rounds(1_500) {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        let dir = scratch.path().join("wal");
        let batch = batches(&mut rng, &mut coverage, 12);
        ours(&dir, CODECS[round % 3], 2, &batch)?;
        let segments = layout::segments(&fs(), &dir)?;
        for _ in 0..rng.random_range(1..4) {
            let full: Vec<_> =
                segments.iter().filter(|s| std::fs::metadata(&s.path).is_ok_and(|m| m.len() > 0)).collect();
            let Some(target) = full.choose(&mut rng) else { continue };
            coverage.hit(harm(&target.path, &mut rng)?);
        }
        let mut reader = SalvageReader::open(fs(), &dir)?;
        let mut expected = Vec::new();
        while let Some(item) = reader.next()? {
            if let Item::Record(record) = item {
                expected.push(record.bytes.to_vec());
            }
        }
        let written = batch.concat();
        ensure!(expected.iter().all(|record| written.contains(record)), "round {round}: salvage invented a record");
        let report = repair::apply(&fs(), repair::plan(&fs(), &dir)?)?;
        for action in &report.actions {
            coverage.hit(if matches!(action, repair::Action::Rewrite { .. }) { "rewritten" } else { "other steps" });
        }
        let (found, damaged) = started_by_theirs(&mut reference, &dir)?;
        ensure!(!damaged, "round {round}: the reference repaired what we had repaired");
        ensure!(found == expected, "round {round}: {} records, expected {}", found.len(), expected.len());
        coverage.add("records kept", expected.len() as u64);
        coverage.add("records lost", (written.len() - expected.len()) as u64);
    }
    coverage.finish()
}

fn damage(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    for case in ["a flipped bit", "a block of zeros", "a cut", "both stop at the same record", "both read to the end"] {
        coverage.require(case, 8);
    }
    for round in session.rounds(1_500) {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        let dir = scratch.path().join("wal");
        let batch = batches(&mut rng, &mut coverage, 12);
        ours(&dir, CODECS[round % 3], 2, &batch)?;
        let target = layout::segments(&fs(), &dir)?.choose(&mut rng).context("no segment")?.clone();
        if std::fs::metadata(&target.path)?.len() == 0 {
            continue;
        }
        coverage.hit(harm(&target.path, &mut rng)?);
        let (we, fault) = read_by_ours(&dir)?;
        let (they, damaged) = read_by_theirs(&mut reference, &dir)?;
        ensure!(read_in_parallel(&dir, 2, 1)?.0 == we, "round {round}: in parallel we stop elsewhere");
        match fault {
            None => {
                ensure!(!damaged && we == they, "round {round}: we read to the end what the reference does not");
                coverage.hit("both read to the end");
            }
            Some(_) if damaged && we == they => coverage.hit("both stop at the same record"),
            Some(fault) => {
                let (rule, reason) = rule(&fault).with_context(|| format!("round {round}: {fault}"))?;
                ensure!(they.starts_with(&we), "round {round}: before the damage we read other records");
                coverage.allowed(rule, reason);
            }
        }
    }
    coverage.finish()
}

/// Where we stop and the reference does not, or later.
fn rule(fault: &FrameFault) -> Option<(&'static str, &'static str)> {
    Some(match fault {
        FrameFault::Type { .. } => {
            ("reserved bits", "it ignores bits that no writer sets: a flip there changes the codec")
        }
        FrameFault::ZeroPage { .. } => ("zero page", "no writer leaves one in the middle: records were lost there"),
        FrameFault::PaddingInsideRecord => ("padding in a record", "it joins pieces of two records across lost pages"),
        FrameFault::MixedCompression { .. } => ("mixed codecs", "it believes the last fragment's flag"),
        FrameFault::Torn { .. } => ("torn end", "it reads zeros behind a file's end, and an empty record in them"),
        FrameFault::Order { .. } => ("order", "it goes on with the next fragment's record"),
        _ => return None,
    })
}

fn follow(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    coverage.require("records they followed", 500);
    coverage.require("records we followed", 500);
    coverage.require("samples they watched", 500);
    for round in session.rounds(100) {
        let mut rng = session.round_rng(round);
        they_follow(session, &mut reference, &mut rng, &mut coverage, round)?;
        we_follow(session, &mut reference, &mut rng, &mut coverage, round)?;
    }
    for round in session.rounds(20) {
        they_watch(session, &mut reference, &mut coverage).with_context(|| format!("round {round}"))?;
    }
    coverage.finish()
}

fn they_follow(
    session: &Session,
    reference: &mut Reference,
    rng: &mut StdRng,
    coverage: &mut Coverage,
    round: usize,
) -> Result<()> {
    let scratch = session.scratch()?;
    let (log, _) = Log::open(fs(), scratch.path(), options(CODECS[round % 3], 4))?;
    let follower = reference.call("segment.follow", json!({ "dir": scratch.path() }), &[])?.u64("handle")?;
    for _ in 0..rng.random_range(5..15) {
        let batch = batches(rng, coverage, 3);
        append(&log, &batch)?;
        let answer = reference.call("segment.more", json!({ "handle": follower }), &[])?;
        let found = split(&answer.payload)?;
        let expected = batch.concat();
        ensure!(found == expected, "round {round}: its live reader saw {} of {} records", found.len(), expected.len());
        coverage.add("records they followed", found.len() as u64);
    }
    Ok(())
}

fn we_follow(
    session: &Session,
    reference: &mut Reference,
    rng: &mut StdRng,
    coverage: &mut Coverage,
    round: usize,
) -> Result<()> {
    let scratch = session.scratch()?;
    let handle = theirs(reference, scratch.path(), CODECS[round % 3], 4)?;
    let mut tail = TailReader::open(fs(), scratch.path(), TailFrom::Start)?;
    for _ in 0..rng.random_range(5..15) {
        let batch = batches(rng, coverage, 3);
        their_log(reference, handle, &batch)?;
        let mut found = Vec::new();
        while let Some(item) = tail.next()? {
            match item {
                TailItem::Record(record) => found.push(record.bytes.to_vec()),
                other => anyhow::bail!("round {round}: {other:?}"),
            }
        }
        let expected = batch.concat();
        ensure!(found == expected, "round {round}: our tail saw {} of {} records", found.len(), expected.len());
        coverage.add("records we followed", found.len() as u64);
    }
    reference.call("segment.close", json!({ "handle": handle }), &[])?;
    Ok(())
}

/// The reference's watcher, which feeds its remote write, on a log that we write.
fn they_watch(session: &Session, reference: &mut Reference, coverage: &mut Coverage) -> Result<()> {
    let scratch = session.scratch()?;
    let dir = scratch.path().join("wal");
    let (log, _) = Log::open(fs(), &dir, options(Compression::Snappy, 4))?;
    let watcher = reference.call("segment.watch", json!({ "dir": dir }), &[])?.u64("handle")?;
    let mut expected = Vec::new();
    // It sends only what is younger than itself.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let later = i64::try_from(now.as_millis())? + 3_600_000;
    for scrape in 0..20 {
        let samples: Vec<_> = (0..200_u32)
            .map(|i| Sample {
                series: SeriesRef(u64::from(i) + 1),
                t: later + scrape * 15_000,
                v: f64::from(i) + scrape as f64 / 100.0,
                st: 0,
            })
            .collect();
        let mut batch = Batch::new(Version::V1);
        batch.samples(samples.iter().copied());
        log.append(batch.records())?;
        expected.extend(samples.iter().map(|sample| sample.v.to_bits()));
        if scrape == 0 {
            // Of segments that were complete when it started it sends no samples: let it begin to follow the first.
            reference.call("segment.seen", json!({ "handle": watcher, "wait": expected.len() }), &[])?;
        }
        if scrape % 7 == 6 {
            log.next_segment()?;
        }
    }
    let answer = reference.call("segment.seen", json!({ "handle": watcher, "wait": expected.len() }), &[])?;
    let found: Vec<_> =
        answer.payload.chunks_exact(8).filter_map(|b| b.try_into().ok().map(u64::from_le_bytes)).collect();
    ensure!(found == expected, "its watcher sent {} of {} samples", found.len(), expected.len());
    coverage.add("samples they watched", found.len() as u64);
    reference.call("segment.unwatch", json!({ "handle": watcher }), &[])?;
    Ok(())
}
