//! Chunk files in which a series' chunks do not follow each other: where the reference gives up all files, only chunks of
//! times that others cover are left out.

mod common;

use std::path::Path;

use common::{dump, fs, labels, open};
use head_chunks::files::{ChunkFiles, NewChunk, Options};
use tsdb_head::RawChunk;
use tsdb_model::SeriesRef;

/// Samples of two series in a closed head; their full chunks, by ref.
fn prepare(dir: &Path) -> Vec<(SeriesRef, Vec<RawChunk>)> {
    let (head, _) = open(dir);
    for t in 1..1_000 {
        let mut app = head.appender();
        for i in 0..2 {
            app.append(None, &labels(i), t * 1_000, (t * 7 + i as i64) as f64).unwrap();
        }
        app.commit().unwrap();
    }
    let full = |series: tsdb_head::Series| {
        let mut chunks = series.raw_chunks().unwrap();
        chunks.pop();
        (series.series_ref(), chunks)
    };
    let chunks: Vec<_> = head.select(&[], i64::MIN, i64::MAX).map(full).collect();
    assert!(chunks.iter().all(|(_, chunks)| chunks.len() >= 4), "{chunks:?}");
    head.close().unwrap();
    chunks
}

/// Puts these chunks in the place of all that the head has written.
fn write(dir: &Path, chunks: &[(SeriesRef, &RawChunk)]) {
    let dir = dir.join("chunks_head");
    std::fs::remove_dir_all(&dir).unwrap();
    let (files, _) = ChunkFiles::open(fs(), &dir, Options::default()).unwrap();
    for &(series, chunk) in chunks {
        let RawChunk { mint, maxt, encoding, .. } = *chunk;
        files.write(&NewChunk { series, mint, maxt, encoding, data: &chunk.bytes, out_of_order: false }).unwrap();
    }
    files.close().unwrap();
}

/// What the files hold, in the order of the one series' chunks that is given, and how many of them are out of sequence.
fn check(order: &[usize], expected: u64) {
    let tmp = tempfile::tempdir().unwrap();
    let all = prepare(tmp.path());
    let (head, report) = open(tmp.path());
    assert_eq!(report.chunk_files.out_of_sequence, 0);
    let before = dump(&head);
    assert_eq!(before.iter().map(|(_, samples)| samples.len()).sum::<usize>(), 2 * 999);
    head.close().unwrap();

    let [(one, mixed), (other, straight)] = &all[..] else { panic!("two series") };
    let mut chunks: Vec<_> = order.iter().map(|&i| (*one, &mixed[i])).collect();
    chunks.extend(straight.iter().map(|chunk| (*other, chunk)));
    write(tmp.path(), &chunks);
    for _ in 0..2 {
        let (head, report) = open(tmp.path());
        assert_eq!(report.chunk_files.out_of_sequence, expected, "{order:?}: {report:?}");
        assert!(report.damage.is_empty(), "{order:?}: {report:?}");
        assert_eq!(dump(&head), before, "{order:?}");
        // The other series' chunks are where they were.
        assert!(report.chunk_files.chunks >= straight.len() as u64, "{report:?}");
        drop(head);
    }
}

#[test]
fn a_chunk_twice() {
    check(&[0, 1, 1, 2, 3], 1);
    check(&[0, 0, 1, 2, 3], 1);
}

#[test]
fn an_older_chunk_behind_a_newer_finds_its_place() {
    check(&[1, 0, 2, 3], 0);
    check(&[3, 2, 1, 0], 0);
    check(&[3, 2, 3, 1, 0, 1], 2);
}
