//! Chunk files on the real file system: written, read back, iterated, truncated, damaged.

use std::path::Path;
use std::sync::Arc;

use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, ChunkMeta, ChunkRef, Fault, FilesError, NewChunk, Options, ScanReport};
use head_chunks::xor::XorAppender;
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, RealFs};

fn fs() -> Fs {
    Arc::new(RealFs::new())
}

fn small() -> Options {
    Options { write_buffer: 64 << 10, max_file_len: 128 << 10, ..Options::default() }
}

fn open(dir: &Path, options: Options) -> ChunkFiles {
    ChunkFiles::open(fs(), dir, options).expect("opens").0
}

/// The i-th of a sequence of chunks that differ in everything.
fn chunk_bytes(i: u64) -> Vec<u8> {
    let mut appender = XorAppender::new();
    for n in 0..1 + i % 120 {
        appender.append((i * 1_000_000 + n * 15_000) as i64, (n * i) as f64 * 0.1).expect("there is room");
    }
    appender.to_bytes()
}

fn write(files: &ChunkFiles, i: u64) -> Result<ChunkRef, FilesError> {
    let data = chunk_bytes(i);
    let (mint, maxt) = ((i * 1_000_000) as i64, (i * 1_000_000 + i % 120 * 15_000) as i64);
    let series = SeriesRef(i + 1);
    files.write(&NewChunk {
        series,
        mint,
        maxt,
        encoding: Encoding::Xor,
        data: &data,
        out_of_order: i.is_multiple_of(5),
    })
}

fn iterate(files: &ChunkFiles) -> (Vec<ChunkMeta>, ScanReport) {
    let mut metas = Vec::new();
    let report = files
        .iterate::<FilesError>(|meta| {
            metas.push(*meta);
            Ok(())
        })
        .expect("readable");
    (metas, report)
}

#[test]
fn every_chunk_reads_back_while_it_waits_after_a_flush_and_after_reopening() {
    let tmp = tempfile::tempdir().expect("a directory");
    let dir = tmp.path().join("chunks_head");
    let files = open(&dir, small());
    let mut refs = Vec::new();
    for i in 0..2_000 {
        refs.push(write(&files, i).expect("written"));
        if i % 50 == 7 {
            files.trim();
        }
        // One from long ago and the newest.
        for j in [i / 2, i] {
            assert_eq!(files.read(refs[j as usize]).expect("there").data, chunk_bytes(j), "chunk {j} after {i}");
        }
    }
    assert!(refs.last().expect("some").file > 3, "the files should be cut several times");
    let check = |files: &ChunkFiles| {
        let (metas, report) = iterate(files);
        assert_eq!(report.damages, []);
        assert_eq!(metas.len(), refs.len());
        for (i, meta) in (0_u64..).zip(&metas) {
            assert_eq!(meta.chunk_ref, refs[i as usize]);
            assert_eq!((meta.series, meta.mint), (SeriesRef(i + 1), (i * 1_000_000) as i64));
            assert_eq!((meta.num_samples, meta.encoding), ((1 + i % 120) as u16, Encoding::Xor));
            assert_eq!(meta.out_of_order, i.is_multiple_of(5));
            assert_eq!(files.read(meta.chunk_ref).expect("there").data, chunk_bytes(i));
        }
    };
    check(&files);
    files.close().expect("closes");
    assert!(matches!(files.read(refs[0]), Err(FilesError::Closed { .. })));
    let (files, report) = ChunkFiles::open(fs(), &dir, small()).expect("opens");
    assert!(report.is_sound());
    check(&files);
    let next = write(&files, 2_000).expect("written");
    assert_eq!((next.file, next.offset), (refs.last().expect("some").file + 1, 8));
}

#[test]
fn a_reference_out_of_any_file_is_an_error() {
    let tmp = tempfile::tempdir().expect("a directory");
    let files = open(tmp.path(), small());
    let chunk_ref = write(&files, 3).expect("written");
    files.flush().expect("flushed");
    let read = |file, offset| files.read(ChunkRef { file, offset });
    assert!(matches!(read(2, 8), Err(FilesError::NoSuchFile { .. })));
    assert!(matches!(read(1, 0), Err(FilesError::Corrupt { fault: Fault::NoRecord, .. })));
    assert!(matches!(read(1, u32::MAX), Err(FilesError::Corrupt { fault: Fault::NoRecord, .. })));
    for offset in 9..300 {
        assert!(read(1, offset).is_err(), "offset {offset}");
    }
    assert!(read(chunk_ref.file, chunk_ref.offset).is_ok());
}

#[test]
fn truncation_removes_old_files_and_keeps_the_sequence() {
    let tmp = tempfile::tempdir().expect("a directory");
    let files = open(tmp.path(), small());
    let mut last = 0;
    for i in 0..2_000 {
        last = write(&files, i).expect("written").file;
    }
    files.truncate(last - 1).expect("truncated");
    let (metas, report) = iterate(&files);
    assert_eq!(report.damages, []);
    assert_eq!(metas.first().expect("some").chunk_ref.file, last - 1);
    assert!(matches!(files.read(ChunkRef { file: 1, offset: 8 }), Err(FilesError::NoSuchFile { .. })));
    assert_eq!(write(&files, 0).expect("written").file, last + 1, "the current file is cut");
    // All but the current one.
    files.truncate(u32::MAX).expect("truncated");
    assert_eq!(files.size().expect("listed"), 128 << 10);
    files.close().expect("closes");
    let (files, report) = ChunkFiles::open(fs(), tmp.path(), small()).expect("opens");
    assert!(report.is_sound());
    assert_eq!(iterate(&files).0.len(), 1);
}

#[test]
fn chunks_of_a_series_out_of_sequence_are_yielded_as_they_stand() {
    let tmp = tempfile::tempdir().expect("a directory");
    let files = open(tmp.path(), small());
    // Each one's times say whether it follows the one before: the reference gives up all files at the second.
    let times = [(0, 900), (500, 600), (500, 600), (-7, -1), (1_000, 2_000)];
    let data = chunk_bytes(7);
    for (mint, maxt) in times {
        let (series, encoding) = (SeriesRef(3), Encoding::Xor);
        files.write(&NewChunk { series, mint, maxt, encoding, data: &data, out_of_order: false }).expect("written");
    }
    let (metas, report) = iterate(&files);
    assert_eq!(report.damages, []);
    assert_eq!(metas.iter().map(|meta| (meta.mint, meta.maxt)).collect::<Vec<_>>(), times);
    assert!(metas.is_sorted_by_key(|meta| meta.chunk_ref));
}
