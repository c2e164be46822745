//! Chunk files: the same chunks in the same order make the same bytes, and each side reads the other's directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, ChunkRef, FilesError, NewChunk, Options, heal};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, RealFs};

use super::{append_all, steps};
use crate::interop::wire::{WireReader, WireWriter};
use crate::interop::{Coverage, Reference, Session};

/// A chunk with all that its record says.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    series: u64,
    mint: i64,
    maxt: i64,
    encoding: Encoding,
    out_of_order: bool,
    data: Vec<u8>,
}

pub(super) fn run(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    for encoding in Encoding::ALL {
        coverage.require(encoding.name(), 50);
    }
    for case in ["out of order", "file cut", "larger than the write buffer", "with a write queue", "opened again"] {
        coverage.require(case, 10);
    }
    for round in if session.quick() { session.rounds(200) } else { session.rounds(100) } {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
        let mut game = Game { reference: &mut reference, coverage: &mut coverage, written: Vec::new() };
        for opened in 0..rng.random_range(1..4) {
            if opened > 0 {
                game.coverage.hit("opened again");
            }
            game.turn(&mut rng, &ours, &theirs).with_context(|| format!("--round {round}"))?;
        }
    }
    coverage.finish()
}

struct Game<'a> {
    reference: &'a mut Reference,
    coverage: &'a mut Coverage,
    written: Vec<(u64, Stored)>,
}

impl Game<'_> {
    /// Both write the same chunks into their directories, and read both.
    fn turn(&mut self, rng: &mut StdRng, ours: &Path, theirs: &Path) -> Result<()> {
        let chunks: Vec<_> = (0..rng.random_range(1..60)).map(|_| self.chunk(rng)).collect();
        let cut: Vec<usize> = (0..chunks.len()).filter(|_| rng.random_bool(0.03)).collect();
        self.coverage.add("file cut", cut.len() as u64);
        let queue = if rng.random() { 0 } else { rng.random_range(1..20) };
        if queue > 0 {
            self.coverage.hit("with a write queue");
        }
        let mut payload = WireWriter::default();
        chunks.iter().for_each(|chunk| put_chunk(&mut payload, chunk));
        let args = json!({ "dir": theirs, "cut": cut, "queue": queue });
        let answer = self.reference.call("chunks.files.write", args, &payload.0)?;
        let mut refs = WireReader(&answer.payload);
        let files = open(ours)?;
        for (n, chunk) in chunks.into_iter().enumerate() {
            if cut.contains(&n) {
                files.cut_new_file();
            }
            let placed = files.write(&NewChunk {
                series: SeriesRef(chunk.series),
                mint: chunk.mint,
                maxt: chunk.maxt,
                encoding: chunk.encoding,
                data: &chunk.data,
                out_of_order: chunk.out_of_order,
            })?;
            let theirs = ChunkRef::from_u64(refs.u64()?);
            ensure!(placed == theirs, "chunk {n} is at {placed} here, at {theirs} there");
            ensure!(files.read(placed)?.data == chunk.data, "chunk {n} reads differently before it is flushed");
            self.written.push((placed.to_u64(), chunk));
        }
        files.close()?;
        ensure!(contents(ours)? == contents(theirs)?, "the files differ");
        let read = self.reference.call("chunks.files.read", json!({ "dir": ours }), b"")?;
        ensure!(get_chunks(&read.payload)? == self.written, "the reference reads our files differently");
        ensure!(read_ours(theirs)? == self.written, "we read the reference's files differently");
        Ok(())
    }

    fn chunk(&mut self, rng: &mut StdRng) -> Stored {
        let encoding = Encoding::ALL[rng.random_range(0..6)];
        let run = steps(rng, encoding, &mut Coverage::new(false));
        let mut data = append_all(encoding, &run).expect("a run that fits").1.swap_remove(0);
        if rng.random_bool(0.02) {
            // No real chunk is so large; the record's length field does not mind.
            data.resize(rng.random_range(4 << 20..5 << 20), 0);
            self.coverage.hit("larger than the write buffer");
        }
        let out_of_order = rng.random_bool(0.1);
        self.coverage.hit(encoding.name());
        if out_of_order {
            self.coverage.hit("out of order");
        }
        let (mint, maxt) = (rng.random(), rng.random());
        Stored { series: rng.random_range(1..1 << 40), mint, maxt, encoding, out_of_order, data }
    }
}

/// The reference's directory, damaged, then healed by us: it opens it, and finds what we found around the damage.
pub(super) fn healed(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    for case in ["refused before", "overwritten", "hole", "header broken", "file removed", "cut"] {
        coverage.require(case, 10);
    }
    coverage.require("chunks kept", 1_000);
    for round in if session.quick() { session.rounds(2_000) } else { session.rounds(1_000) } {
        let mut rng = session.round_rng(round);
        let scratch = session.scratch()?;
        heal_once(&mut reference, &mut rng, scratch.path(), &mut coverage)
            .with_context(|| format!("--round {round}"))?;
    }
    coverage.finish()
}

fn heal_once(reference: &mut Reference, rng: &mut StdRng, dir: &Path, coverage: &mut Coverage) -> Result<()> {
    let (chunks, _) = stored_chunks(rng, 60);
    reference.call("chunks.files.write", json!({ "dir": dir, "cut": [20, 40], "queue": 0 }), &chunks)?;
    for _ in 0..rng.random_range(1..4) {
        damage(rng, dir, coverage)?;
    }
    let kept = read_around(dir)?;
    if reference.ask("chunks.files.read", json!({ "dir": copied(dir)? }), b"")?.is_err() {
        coverage.hit("refused before");
    }
    let (files, opened) = ChunkFiles::open(Arc::new(RealFs::new()), dir, Options::default())?;
    let damages = files.iterate::<FilesError>(|_| Ok(()))?.damages;
    files.close()?;
    let report = heal(&RealFs::new(), dir, &damages, &opened.gaps)?;
    ensure!(report.left.is_empty(), "left: {:?}", report.left);
    let read = reference.call("chunks.files.read", json!({ "dir": dir }), b"").context("after healing")?;
    // Fillers are chunks to the reference, of series that nobody has.
    let theirs: Vec<_> = get_chunks(&read.payload)?.into_iter().filter(|(_, chunk)| chunk.series >> 63 == 0).collect();
    ensure!(theirs == kept, "the reference finds {} chunks, we found {}", theirs.len(), kept.len());
    coverage.add("chunks kept", kept.len() as u64);
    Ok(())
}

/// Breaks something in one of the files.
fn damage(rng: &mut StdRng, dir: &Path, coverage: &mut Coverage) -> Result<()> {
    let path = dir.join(head_chunks::files::file_name(rng.random_range(1..4)));
    let Ok(mut bytes) = fs::read(&path) else { return Ok(()) };
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let at = rng.random_range(8.min(used)..=used);
    let len = rng.random_range(1..600).min(bytes.len() - at);
    match rng.random_range(0..20) {
        0..9 => {
            coverage.hit("overwritten");
            rng.fill(&mut bytes[at..at + len]);
        }
        9..13 => {
            coverage.hit("hole");
            bytes[at..at + len].fill(0);
        }
        13..16 => {
            coverage.hit("header broken");
            rng.fill(&mut bytes[..5]);
        }
        16..18 => {
            coverage.hit("cut");
            bytes.truncate(at);
        }
        _ => {
            // The first and the last leave no gap.
            coverage.hit("file removed");
            return Ok(fs::remove_file(path)?);
        }
    }
    Ok(fs::write(path, bytes)?)
}

/// A copy for the reference to open, since it repairs by deleting.
fn copied(dir: &Path) -> Result<std::path::PathBuf> {
    let copy = dir.join("copy");
    fs::create_dir(&copy)?;
    for (name, bytes) in contents_of_files(dir)? {
        fs::write(copy.join(name), bytes)?;
    }
    Ok(copy)
}

fn contents_of_files(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let files = fs::read_dir(dir)?.filter_map(|entry| entry.ok().filter(|entry| entry.path().is_file()));
    files.map(|entry| Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))).collect()
}

/// Random chunks as the reference is asked to store them, and how many they are, for goldens.
pub(crate) fn stored_chunks(rng: &mut StdRng, count: usize) -> (Vec<u8>, usize) {
    let mut payload = WireWriter::default();
    for n in 0..count {
        let encoding = Encoding::ALL[n % 6];
        let run = steps(rng, encoding, &mut Coverage::new(false));
        let data = append_all(encoding, &run).expect("a run that fits").1.swap_remove(0);
        let (mint, maxt) = (n as i64 * 1_000, n as i64 * 1_000 + 999);
        let chunk = Stored { series: n as u64 / 4 + 1, mint, maxt, encoding, out_of_order: n % 10 == 9, data };
        put_chunk(&mut payload, &chunk);
    }
    (payload.0, count)
}

fn open(dir: &Path) -> Result<ChunkFiles> {
    let fs: Fs = Arc::new(RealFs::new());
    let (files, report) = ChunkFiles::open(fs, dir, Options::default())?;
    ensure!(report.is_sound(), "{report:?}");
    Ok(files)
}

fn read_ours(dir: &Path) -> Result<Vec<(u64, Stored)>> {
    let (all, damages) = read_with_damage(dir)?;
    ensure!(damages == 0, "{damages} damages");
    Ok(all)
}

fn read_around(dir: &Path) -> Result<Vec<(u64, Stored)>> {
    Ok(read_with_damage(dir)?.0)
}

/// The sound chunks, and how many stretches are not.
fn read_with_damage(dir: &Path) -> Result<(Vec<(u64, Stored)>, usize)> {
    let (files, _) = ChunkFiles::open_read_only(Arc::new(RealFs::new()), dir)?;
    let mut all = Vec::new();
    let report = files.for_each::<FilesError>(|meta, data| {
        all.push((
            meta.chunk_ref.to_u64(),
            Stored {
                series: meta.series.0,
                mint: meta.mint,
                maxt: meta.maxt,
                encoding: meta.encoding,
                out_of_order: meta.out_of_order,
                data: data.to_vec(),
            },
        ));
        Ok(())
    })?;
    Ok((all, report.damages.len()))
}

fn contents(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    fs::read_dir(dir)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))
        })
        .collect()
}

fn put_chunk(out: &mut WireWriter, chunk: &Stored) {
    out.u64(chunk.series);
    out.i64(chunk.mint);
    out.i64(chunk.maxt);
    out.u8(chunk.encoding.byte());
    out.u8(chunk.out_of_order.into());
    out.item(&chunk.data);
}

fn get_chunks(payload: &[u8]) -> Result<Vec<(u64, Stored)>> {
    let mut reader = WireReader(payload);
    let mut all = Vec::new();
    while reader.more() {
        let placed = reader.u64()?;
        let (series, mint, maxt) = (reader.u64()?, reader.i64()?, reader.i64()?);
        let encoding = Encoding::try_from(reader.u8()?)?;
        let out_of_order = reader.u8()? != 0;
        all.push((placed, Stored { series, mint, maxt, encoding, out_of_order, data: reader.item()?.to_vec() }));
    }
    Ok(all)
}
