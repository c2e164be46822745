//! Iterating in pieces on many threads finds what one thread finds, also where a chunk's bytes are made to look like
//! records, and where the files are damaged.

use std::path::Path;
use std::sync::Arc;

use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, ChunkMeta, FilesError, NewChunk, Options, ScanReport};
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, RealFs};

/// What one thread hands to the others at once.
const PIECE: u64 = 256 << 10;

fn fs() -> Fs {
    Arc::new(RealFs::new())
}

/// A record, as it would stand in a file.
fn record(rng: &mut SmallRng, len: usize) -> Vec<u8> {
    let mut record = Vec::new();
    record.extend(rng.random_range(1..1000_u64).to_be_bytes());
    record.extend(5_i64.to_be_bytes());
    record.extend(9_i64.to_be_bytes());
    record.push(Encoding::Xor.byte());
    tsdb_model::varint::put_uvarint(&mut record, len as u64);
    let start = record.len();
    record.resize(start + len, 0);
    rng.fill_bytes(&mut record[start..]);
    record.extend(crc32c::crc32c(&record).to_be_bytes());
    record
}

/// Bytes of a chunk: random ones, or a row of sound records that are none.
fn data(rng: &mut SmallRng, nested: bool) -> Vec<u8> {
    let len = match rng.random_range(0..200) {
        0 => rng.random_range(20_000..300_000),
        1..20 => rng.random_range(1_000..4_000),
        _ => rng.random_range(2..500),
    };
    let mut data = vec![0, 1];
    while nested && data.len() < len {
        let len = rng.random_range(2..300);
        data.extend(record(rng, len));
    }
    let start = data.len().min(len);
    data.resize(len.max(data.len()), 0);
    if !nested {
        rng.fill_bytes(&mut data[start..]);
    }
    data
}

fn damage(rng: &mut SmallRng, dir: &Path) -> std::io::Result<()> {
    for number in 1..=2 {
        let file = fs().open_write(&dir.join(format!("{number:06}")))?;
        let len = file.len()?;
        match rng.random_range(0..4) {
            0 => {
                // Around a place where two pieces meet.
                let at = rng.random_range(1..=len / PIECE) * PIECE + rng.random_range(0..400) - 200;
                file.write_all_at(&[rng.random()], at.min(len - 1))?;
            }
            1 => file.write_all_at(&vec![0; 4096], rng.random_range(0..len - 4096))?,
            2 => file.set_len(rng.random_range(len / 2..len))?,
            _ => {}
        }
    }
    Ok(())
}

fn one_thread(files: &ChunkFiles) -> Result<(Vec<ChunkMeta>, ScanReport), FilesError> {
    let mut metas = Vec::new();
    let report = files.for_each::<FilesError>(|meta, _| {
        metas.push(*meta);
        Ok(())
    })?;
    Ok((metas, report))
}

fn many_threads(files: &ChunkFiles) -> Result<(Vec<ChunkMeta>, ScanReport), FilesError> {
    let mut metas = Vec::new();
    let report = files.iterate::<FilesError>(|meta| {
        metas.push(*meta);
        Ok(())
    })?;
    Ok((metas, report))
}

#[test]
fn many_threads_find_what_one_finds() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::var("HEADWATER_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let (mut chunks, mut damages, mut nested_files) = (0, 0, 0);
    for round in 0..24 {
        let mut rng = SmallRng::seed_from_u64(seed + round);
        let scratch = tempfile::tempdir()?;
        let dir = scratch.path().join("chunks_head");
        let options = Options { max_file_len: 2 << 20, ..Options::default() };
        let (files, _) = ChunkFiles::open(fs(), &dir, options)?;
        let nested = round % 2 == 1;
        let mut written = 0;
        while written < 5 << 20 {
            let nested = nested && rng.random_range(0..3) > 0;
            let data = data(&mut rng, nested);
            nested_files += u64::from(nested);
            let series = SeriesRef(rng.random_range(1..1 << 40));
            files.write(&NewChunk {
                series,
                mint: 1,
                maxt: 2,
                encoding: Encoding::Xor,
                data: &data,
                out_of_order: false,
            })?;
            written += data.len();
        }
        files.close()?;
        if round >= 4 {
            damage(&mut rng, &dir)?;
        }
        let (files, _) = ChunkFiles::open_read_only(fs(), &dir)?;
        let (one, many) = (one_thread(&files)?, many_threads(&files)?);
        assert!(one.0 == many.0, "seed {seed}, round {round}: {} chunks, {} in pieces", one.0.len(), many.0.len());
        assert_eq!(one.1, many.1, "seed {seed}, round {round}");
        chunks += one.1.chunks;
        damages += one.1.damages.len();
    }
    eprintln!("seed {seed}: {chunks} chunks, {nested_files} of nested records, {damages} damages");
    assert!(chunks > 50_000 && nested_files > 10_000 && damages > 20, "cases hardly occurred");
    Ok(())
}

/// Chunks of series 1 to `n` with these bytes.
fn write(files: &ChunkFiles, n: u64, data: &[u8]) -> Result<(), FilesError> {
    for series in (1..=n).map(SeriesRef) {
        let encoding = Encoding::Xor;
        files.write(&NewChunk { series, mint: 1, maxt: 2, encoding, data, out_of_order: false })?;
    }
    Ok(())
}

#[test]
fn a_caller_that_has_had_enough_ends_it() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let (files, _) = ChunkFiles::open(fs(), scratch.path(), Options::default())?;
    let data = [0; 500];
    write(&files, 5_000, &data)?;
    let mut seen = 0;
    let ended = files.iterate(|meta| {
        seen += 1;
        if meta.series.0 == 3_000 { Err(FilesError::Closed { dir: scratch.path().into() }) } else { Ok(()) }
    });
    assert!(matches!(ended, Err(FilesError::Closed { .. })));
    assert_eq!(seen, 3_000);
    Ok(())
}

/// However many threads there are, and whoever else uses them: in order, and no thread waits for one that waits for it.
#[test]
fn the_caller_may_use_the_threads_itself() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let (files, _) = ChunkFiles::open(fs(), scratch.path(), Options::default())?;
    let data = [1; 900];
    write(&files, 20_000, &data)?;
    files.flush()?;
    for threads in 1..=5 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let iterate = || {
            let mut seen = 0;
            files.iterate::<FilesError>(|meta| {
                // Lets this thread do what others left to do meanwhile.
                let next = if seen % 100 == 0 { rayon::join(|| seen + 1, || ()).0 } else { seen + 1 };
                assert_eq!(meta.series.0, next);
                seen = next;
                Ok(())
            })?;
            assert_eq!(seen, 20_000, "{threads} threads");
            Ok::<_, FilesError>(())
        };
        pool.install(|| (0..threads).try_for_each(|_| iterate()))?;
        iterate()?;
        // Several at once, each with helpers of its own.
        let both = pool.install(|| rayon::join(iterate, iterate));
        both.0.and(both.1)?;
    }
    Ok(())
}

/// Files that somebody else cuts while they are read: fewer chunks or an error, never the end of the process.
#[test]
fn a_file_that_is_cut_while_it_is_read_kills_nobody() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let (files, _) = ChunkFiles::open(fs(), scratch.path(), Options::default())?;
    let data = [7; 500];
    let mut last = None;
    for n in 0..20_000 {
        let series = SeriesRef(n + 1);
        let chunk = NewChunk { series, mint: 1, maxt: 2, encoding: Encoding::Xor, data: &data, out_of_order: false };
        last = Some(files.write(&chunk)?);
    }
    files.flush()?;
    let path = scratch.path().join("000001");
    let mut seen = 0;
    let report = files.iterate::<FilesError>(|_| {
        seen += 1;
        if seen == 1 {
            let file = fs().open_write(&path).expect("it is there");
            file.set_len(1_000).expect("cut");
        }
        Ok(())
    })?;
    assert_eq!(report.chunks, seen);
    assert!(seen < 20_000 || report.damages.is_empty());
    assert!(files.read(last.expect("written")).is_err(), "behind the end of the file");
    Ok(())
}
