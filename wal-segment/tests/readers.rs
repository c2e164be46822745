//! The strict and the parallel reader against what was written.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tsdb_vfs::{Fs, RealFs};
use wal_segment::parallel::{self, ParallelOptions};
use wal_segment::verify::{Problem, verify};
use wal_segment::{Compression, Ledger, Log, LogOptions, LogReader, PAGE_SIZE, Position, ReadError, layout};

const PAGE: u64 = PAGE_SIZE as u64;
const CODECS: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

fn real() -> Fs {
    Arc::new(RealFs::new())
}

fn random_record(rng: &mut StdRng, i: usize) -> Vec<u8> {
    let max = match i % 5 {
        0 | 1 => 50,
        2 | 3 => PAGE_SIZE,
        _ => 8 * PAGE_SIZE,
    };
    let len = rng.random_range(0..max);
    let kinds = rng.random_range(1..=256);
    (0..len).map(|_| rng.random_range(0..kinds) as u8).collect()
}

fn write(dir: &Path, compression: Compression, rng: &mut StdRng) -> Vec<(Position, Vec<u8>)> {
    let options = LogOptions { segment_size: 16 * PAGE, compression, ..LogOptions::default() };
    let (log, _) = Log::open(real(), dir, options).unwrap();
    let mut written = Vec::new();
    for i in 0..300 {
        let record = random_record(rng, i);
        let position = log.append([record.as_slice()]).unwrap();
        written.push((position, record));
    }
    log.close().unwrap();
    written
}

fn strictly(dir: &Path) -> Vec<(Position, Vec<u8>)> {
    let mut reader = LogReader::open(real(), dir).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        records.push((record.position, record.bytes.to_vec()));
    }
    records
}

#[test]
fn what_was_written_comes_back_in_order_with_its_positions() {
    let mut rng = StdRng::seed_from_u64(1);
    for compression in CODECS {
        let tmp = tempfile::tempdir().unwrap();
        let written = write(tmp.path(), compression, &mut rng);
        assert!(layout::segments(&real(), tmp.path()).unwrap().len() > 5, "rotation was covered");
        assert!(written == strictly(tmp.path()), "{compression}");
    }
}

/// No thread more than was asked for: who takes the results reads, too.
#[test]
fn the_calling_thread_is_one_of_the_readers() {
    let mut rng = StdRng::seed_from_u64(3);
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path(), Compression::None, &mut rng);
    let segments = layout::segments(&real(), tmp.path()).unwrap();
    let caller = std::thread::current().id();
    for threads in [1, 2, 3] {
        let options = ParallelOptions { threads, block_size: PAGE };
        let mut readers = HashSet::from([caller]);
        let read = parallel::read(
            &real(),
            &segments,
            &options,
            |_| std::thread::current().id(),
            |reader| {
                readers.insert(reader);
                Ok::<_, ReadError>(())
            },
        );
        read.unwrap();
        assert!(readers.len() <= threads, "{} for {threads}", readers.len());
    }
}

#[test]
fn the_parallel_reader_agrees_whatever_the_threads_and_blocks() {
    let mut rng = StdRng::seed_from_u64(2);
    let tmp = tempfile::tempdir().unwrap();
    let written = write(tmp.path(), Compression::Snappy, &mut rng);
    let segments = layout::segments(&real(), tmp.path()).unwrap();
    for threads in [1, 2, 3, 7] {
        for pages in [1, 2, 3, 5, 16, 100] {
            let mut read = Vec::new();
            parallel::read(
                &real(),
                &segments,
                &ParallelOptions { threads, block_size: pages * PAGE },
                |block| {
                    let mut records = Vec::new();
                    while let Some(record) = block.next() {
                        records.push((record.position, record.bytes.to_vec()));
                    }
                    records
                },
                |records| {
                    read.extend(records);
                    Ok::<_, ReadError>(())
                },
            )
            .unwrap();
            assert!(read == written, "{threads} threads, blocks of {pages} pages");
        }
    }
}

#[test]
fn the_parallel_reader_misses_what_the_ledger_knows_as_the_sequential_one_does() {
    const SEED: u64 = 5;
    let mut rng = StdRng::seed_from_u64(SEED);
    let tmp = tempfile::tempdir().unwrap();
    let mut seen = [0; 4];
    for round in 0..24 {
        let dir = tmp.path().join(round.to_string());
        let written = write(&dir, CODECS[round % 3], &mut rng);
        let segments = layout::segments(&real(), &dir).unwrap();
        let (one, other) = (rng.random_range(0..segments.len() - 1), segments.len() - 1);
        let file = real().open_write(&segments[one].path).unwrap();
        // Between two records nothing but the ledger knows that there were more; elsewhere everybody calls it damage.
        let inside: Vec<_> = written.iter().filter(|(at, _)| at.segment == segments[one].index).collect();
        let record = inside[rng.random_range(0..inside.len())].0.offset;
        let from = if rng.random_ratio(3, 4) { record } else { rng.random_range(0..segments[one].len) };
        match round % 4 {
            0 => {}
            1 => file.write_all_at(&vec![0; (segments[one].len - from) as usize], from).unwrap(),
            2 => file.set_len(from).unwrap(),
            _ => {
                let [a, b] = [one, other].map(|i| std::fs::read(&segments[i].path).unwrap());
                std::fs::write(&segments[one].path, b).unwrap();
                std::fs::write(&segments[other].path, a).unwrap();
            }
        }
        let found = verify(&real(), &dir).unwrap();
        // A cut, or zeros, inside a record is damage to both.
        let damaged = found.iter().any(|finding| matches!(finding.problem, Problem::Damage(_)));
        let missed: Vec<_> = found
            .iter()
            .filter(|finding| matches!(finding.problem, Problem::Lost(_)))
            .map(|finding| layout::parse_segment_name(finding.path.file_name().unwrap()).unwrap())
            .collect();
        seen[round % 4] += usize::from(!missed.is_empty());
        let segments = layout::segments(&real(), &dir).unwrap();
        let ledger = Ledger::load(&real(), &dir).unwrap();
        for (threads, pages) in [(1, 1), (2, 3), (2, 100)] {
            let options = ParallelOptions { threads, block_size: pages * PAGE };
            let read =
                parallel::read_with_ledger(&real(), &segments, &ledger, &options, |_| (), |()| Ok::<_, ReadError>(()));
            match read {
                Ok(lost) => {
                    let lost: Vec<_> = lost.iter().map(|damage| damage.location.segment).collect();
                    assert!(!damaged && lost == missed, "round {round}: {lost:?}, verify says {found:?}");
                }
                Err(e) => assert!(damaged, "round {round}: {e}"),
            }
        }
        if !damaged {
            let (_, report) = Log::open(real(), &dir, LogOptions::default()).unwrap();
            let lost: Vec<_> = report.lost.iter().map(|damage| damage.location.segment).collect();
            assert_eq!(lost, missed, "round {round}: opening");
        }
    }
    println!("seed {SEED}: lost records noticed after nothing, zeros, a cut, a swap: {seen:?} of 6 each");
    assert!(seen[0] == 0 && seen[1] >= 2 && seen[2] >= 2 && seen[3] >= 5, "{seen:?}");
}

#[test]
fn a_consumer_that_stops_leaves_no_thread_waiting() {
    let mut rng = StdRng::seed_from_u64(4);
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path(), Compression::None, &mut rng);
    let segments = layout::segments(&real(), tmp.path()).unwrap();
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Few blocks, so that the last ones are handed out while earlier ones are still to be taken.
        for (round, blocks) in (0..2_000).zip((3..12).cycle()) {
            let last = layout::SegmentRef { len: blocks * PAGE, ..segments[0].clone() };
            let options = ParallelOptions { threads: 2 + round % 3, block_size: PAGE };
            let mut left = round % 3;
            let stopped: Result<(), Stopped> = parallel::read(
                &real(),
                &[last],
                &options,
                |_| (),
                |()| {
                    left = left.checked_sub(1).ok_or(Stopped)?;
                    Ok(())
                },
            );
            assert!(stopped.is_err());
        }
        done.send(()).unwrap();
    });
    finished.recv_timeout(std::time::Duration::from_secs(120)).expect("a reader hangs or has failed");
}

/// The consumer's own error; the reader's, if it comes first, is as good.
struct Stopped;

impl From<ReadError> for Stopped {
    fn from(error: ReadError) -> Self {
        drop(error);
        Self
    }
}

#[test]
fn reading_from_an_offset_gives_the_records_that_begin_behind_it() {
    let mut rng = StdRng::seed_from_u64(3);
    let tmp = tempfile::tempdir().unwrap();
    let written = write(tmp.path(), Compression::None, &mut rng);
    for segment in layout::segments(&real(), tmp.path()).unwrap() {
        for _ in 0..20 {
            let offset = rng.random_range(0..=segment.len);
            let mut reader = LogReader::from_offset(real(), segment.clone(), offset).unwrap();
            let expected: Vec<_> = written
                .iter()
                .filter(|(at, _)| at.segment == segment.index && at.offset >= offset)
                .map(|(at, _)| *at)
                .collect();
            let mut found = Vec::new();
            while let Some(record) = reader.next().unwrap() {
                found.push(record.position);
            }
            assert_eq!(found, expected, "segment {}, offset {offset}", segment.index);
        }
    }
}
