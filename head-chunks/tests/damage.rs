//! Damaged chunk files: what is lost, what is found all the same, and what healing leaves.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "damage is done on the real disk")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use head_chunks::Encoding;
use head_chunks::files::{
    ChunkFiles, ChunkMeta, ChunkRef, Damage, Fault, FilesError, NewChunk, OpenReport, Options, QUARANTINE, heal,
};
use head_chunks::xor::XorAppender;
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, RealFs};

type Found = Vec<(ChunkMeta, Vec<u8>)>;

fn real() -> Fs {
    Arc::new(RealFs::new())
}

fn scan(dir: &Path) -> (Found, Vec<Damage>, OpenReport) {
    let (files, opened) = ChunkFiles::open_read_only(real(), dir).expect("opens");
    let mut found = Vec::new();
    let report = files
        .for_each::<FilesError>(|meta, data| {
            found.push((*meta, data.to_vec()));
            Ok(())
        })
        .expect("readable");
    (found, report.damages, opened)
}

fn data(i: u64) -> Vec<u8> {
    let mut appender = XorAppender::new();
    for n in 0..1 + i % 40 {
        appender.append((i * 1_000 + n) as i64, (n * i) as f64 * 0.1).expect("there is room");
    }
    appender.to_bytes()
}

fn write(files: &ChunkFiles, i: u64) -> Result<ChunkRef, FilesError> {
    let data = data(i);
    let (series, mint) = (SeriesRef(i % 7 + 1), (i * 1_000) as i64);
    files.write(&NewChunk { series, mint, maxt: mint + 50, encoding: Encoding::Xor, data: &data, out_of_order: false })
}

/// Three files of 30 chunks each.
fn three_files(dir: &Path) -> Found {
    let (files, _) = ChunkFiles::open(real(), dir, Options::default()).expect("opens");
    for i in 0..90 {
        if i % 30 == 0 {
            files.cut_new_file();
        }
        write(&files, i).expect("written");
    }
    files.close().expect("closes");
    let (found, damages, opened) = scan(dir);
    assert!(opened.is_sound() && damages.is_empty());
    assert_eq!(found.len(), 90);
    found
}

fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}"))
}

fn overwrite(path: &Path, bytes: &[u8], offset: u64) {
    fs::OpenOptions::new().write(true).open(path).expect("opens").write_all_at(bytes, offset).expect("written");
}

/// The golden's first file as a directory of its own, without most of its zeros; its chunks and where they end.
fn golden(dir: &Path) -> (Vec<u8>, Found, usize) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/chunks/files/chunks_head/000001");
    let mut bytes = fs::read(golden).expect("there");
    fs::write(path(dir, 1), &bytes).expect("written");
    let found = scan(dir).0;
    let (last, data) = found.last().expect("chunks");
    let prefix = bytes[last.chunk_ref.offset as usize..].windows(data.len()).position(|w| w == data).expect("there");
    let end = last.chunk_ref.offset as usize + prefix + data.len() + 4;
    bytes.truncate(end + 100);
    fs::write(path(dir, 1), &bytes).expect("written");
    (bytes, found, end)
}

/// Where the i-th chunk's record is.
fn extent(found: &Found, i: usize, end: usize) -> core::ops::Range<usize> {
    let next = found.get(i + 1).map_or(end, |(meta, _)| meta.chunk_ref.offset as usize);
    found[i].0.chunk_ref.offset as usize..next
}

#[test]
fn a_flipped_bit_costs_the_chunk_that_it_is_in() {
    let tmp = tempfile::tempdir().expect("a directory");
    let (bytes, all, end) = golden(tmp.path());
    let (file, fs) = (path(tmp.path(), 1), real());
    let (files, _) = ChunkFiles::open_read_only(fs, tmp.path()).expect("opens");
    let (mut lost, mut harmless) = (0, 0);
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        overwrite(&file, &[bytes[at] ^ 0x80 >> (bit % 8)], at as u64);
        let mut rest = all.iter();
        let mut missing = Vec::new();
        let report = files
            .for_each::<FilesError>(|meta, data| {
                // In order, so whatever the iterator passes over is missing; what it never finds is invented.
                loop {
                    let (known, bytes) = rest.next().unwrap_or_else(|| panic!("bit {bit} invented {meta:?}"));
                    if known == meta && bytes == data {
                        return Ok(());
                    }
                    missing.push(*known);
                }
            })
            .expect("readable");
        missing.extend(rest.map(|(meta, _)| *meta));
        let touched = (0..all.len()).find(|i| extent(&all, *i, end).contains(&at));
        let expected: Vec<_> = touched.iter().map(|i| all[*i].0).collect();
        assert_eq!(missing, expected, "bit {bit}");
        match touched {
            Some(_) => {
                assert_eq!(report.damages.len(), 1, "bit {bit}: {:?}", report.damages);
                lost += 1;
            }
            // The header's three spare bytes say nothing; the rest of it and the zeros at the end are looked at.
            None => {
                assert_eq!(report.damages.is_empty(), (5..8).contains(&at), "bit {bit}: {:?}", report.damages);
                harmless += 1;
            }
        }
        overwrite(&file, &bytes[at..=at], at as u64);
    }
    println!("{lost} flips cost a chunk, {harmless} none");
    assert!(lost > 10_000 && harmless > 500);
}

#[test]
fn a_truncation_costs_the_chunks_behind_it() {
    let tmp = tempfile::tempdir().expect("a directory");
    let (bytes, all, end) = golden(tmp.path());
    for len in 0..=end {
        fs::write(path(tmp.path(), 1), &bytes[..len]).expect("written");
        let (found, damages, opened) = scan(tmp.path());
        let whole = (0..all.len()).take_while(|i| extent(&all, *i, end).end <= len).count();
        assert_eq!(found, all[..whole], "cut at {len}");
        // Zeros are no chunk's beginning: a cut that leaves only them behind the last whole chunk leaves no trace.
        let boundary = whole.checked_sub(1).map_or(8, |last| extent(&all, last, end).end);
        let no_trace = len >= 8 && bytes[boundary..len].iter().all(|byte| *byte == 0);
        assert_eq!(damages.is_empty(), no_trace, "cut at {len}: {damages:?}");
        assert_eq!(opened.is_sound(), len >= 8);
    }
}

#[test]
fn a_hole_costs_what_lay_in_it() {
    let tmp = tempfile::tempdir().expect("a directory");
    let all = three_files(tmp.path());
    for from in [8, 9, 200, 1_000, 2_345] {
        let bytes = fs::read(path(tmp.path(), 2)).expect("there");
        overwrite(&path(tmp.path(), 2), &[0; 1_024], from);
        let (found, damages, _) = scan(tmp.path());
        let hole = from..from + 1_024;
        let untouched = |i: usize| {
            let meta = &all[i].0;
            let start = u64::from(meta.chunk_ref.offset);
            let end = all.get(i + 1).map_or(u64::MAX, |(next, _)| u64::from(next.chunk_ref.offset));
            meta.chunk_ref.file != 2 || end <= hole.start || start >= hole.end
        };
        let expected: Found = (0..all.len()).filter(|i| untouched(*i)).map(|i| all[i].clone()).collect();
        assert_eq!(found, expected, "hole at {from}");
        assert_eq!(damages.len(), 1, "{damages:?}");
        fs::write(path(tmp.path(), 2), bytes).expect("restored");
    }
}

#[test]
fn a_broken_magic_number_in_the_middle_costs_nothing() {
    let tmp = tempfile::tempdir().expect("a directory");
    let all = three_files(tmp.path());
    overwrite(&path(tmp.path(), 2), b"NOPE", 0);
    let (found, damages, opened) = scan(tmp.path());
    assert_eq!(found, all);
    assert!(matches!(opened.damages[..], [Damage { file: 2, fault: Fault::Magic { .. }, .. }]), "{opened:?}");
    assert_eq!(damages, opened.damages);
}

#[test]
fn a_gap_is_reported_and_the_other_files_are_read() {
    let tmp = tempfile::tempdir().expect("a directory");
    let all = three_files(tmp.path());
    fs::remove_file(path(tmp.path(), 2)).expect("removed");
    let (found, damages, opened) = scan(tmp.path());
    let expected: Found = all.into_iter().filter(|(meta, _)| meta.chunk_ref.file != 2).collect();
    let gap = 2..3;
    assert_eq!((found, damages, opened.gaps), (expected, vec![], Vec::from([gap])));
}

#[test]
fn an_empty_or_zero_last_file_is_removed_when_opened_for_writing() {
    for zeros in [0, 3, 8, 128 << 10] {
        let tmp = tempfile::tempdir().expect("a directory");
        let all = three_files(tmp.path());
        fs::write(path(tmp.path(), 4), vec![0; zeros]).expect("written");
        let (found, ..) = scan(tmp.path());
        assert_eq!(found, all, "reading only changes nothing");
        assert!(path(tmp.path(), 4).exists());
        let (files, report) = ChunkFiles::open(real(), tmp.path(), Options::default()).expect("opens");
        assert_eq!(report.removed_empty, Some(path(tmp.path(), 4)));
        assert!(report.is_sound());
        assert_eq!(write(&files, 1).expect("written").file, 4, "its number is used again");
    }
}

#[test]
fn truncation_works_after_an_iteration_that_found_damage() {
    let tmp = tempfile::tempdir().expect("a directory");
    three_files(tmp.path());
    overwrite(&path(tmp.path(), 2), &[0xff; 100], 300);
    let (files, _) = ChunkFiles::open(real(), tmp.path(), Options::default()).expect("opens");
    // An iteration that its caller ends is as good as one that damage ends elsewhere.
    let ended = files.iterate(|meta| match meta.chunk_ref.file {
        2 => Err(FilesError::Closed { dir: tmp.path().into() }),
        _ => Ok(()),
    });
    assert!(ended.is_err());
    files.truncate(3).expect("truncated");
    files.close().expect("closes");
    let (found, damages, opened) = scan(tmp.path());
    assert!(opened.is_sound() && damages.is_empty());
    assert!(found.iter().all(|(meta, _)| meta.chunk_ref.file == 3));
}

#[test]
fn a_file_that_is_cut_while_it_is_open_is_an_error_and_no_signal() {
    let tmp = tempfile::tempdir().expect("a directory");
    let all = three_files(tmp.path());
    let (files, _) = ChunkFiles::open_read_only(real(), tmp.path()).expect("opens");
    fs::OpenOptions::new().write(true).open(path(tmp.path(), 3)).expect("opens").set_len(500).expect("cut");
    let errors = all.iter().filter(|(meta, _)| files.read(meta.chunk_ref).is_err()).count();
    assert!(errors > 20, "{errors} of the third file's chunks are gone");
    let report = files.iterate::<FilesError>(|_| Ok(())).expect("readable");
    assert_eq!(report.chunks as usize, all.len() - errors);
    assert!(matches!(report.damages[..], [Damage { file: 3, at_end: true, fault: Fault::Torn { .. }, .. }]));
}

#[test]
fn healing_keeps_every_sound_chunk_in_its_place() {
    let tmp = tempfile::tempdir().expect("a directory");
    let dir = tmp.path();
    three_files(dir);
    let (files, _) = ChunkFiles::open(real(), dir, Options::default()).expect("opens");
    for i in 0..60 {
        if i % 30 == 0 {
            files.cut_new_file();
        }
        write(&files, i).expect("written");
    }
    files.close().expect("closes");
    overwrite(&path(dir, 1), b"NOPE", 0);
    overwrite(&path(dir, 1), &[0x55; 700], 900);
    overwrite(&path(dir, 2), &[0; 400], 100);
    fs::remove_file(path(dir, 3)).expect("removed");
    fs::OpenOptions::new().write(true).open(path(dir, 5)).expect("opens").set_len(1_000).expect("cut");
    let (before, damages, opened) = scan(dir);
    assert_eq!(damages.len(), 4, "{damages:?}");
    let damaged = fs::read(path(dir, 1)).expect("there");

    let report = heal(&RealFs::new(), dir, &damages, &opened.gaps).expect("healed");
    assert_eq!((report.healed.len(), report.left.len(), report.created.len()), (4, 0, 1));
    assert_eq!(fs::read(dir.join(QUARANTINE).join("000001.1")).expect("kept"), damaged);
    let (after, damages, opened) = scan(dir);
    assert!(opened.is_sound() && damages.is_empty(), "{damages:?} {opened:?}");
    assert_eq!(after, before);
    // Nothing to do a second time.
    assert_eq!(heal(&RealFs::new(), dir, &damages, &opened.gaps).expect("healed"), Default::default());
}

#[test]
fn queued_chunks_are_read_and_survive_a_truncation() {
    let tmp = tempfile::tempdir().expect("a directory");
    let options = Options { write_buffer: 64 << 10, max_file_len: 128 << 10, queue: 50 };
    let (files, _) = ChunkFiles::open(real(), tmp.path(), options).expect("opens");
    let mut refs: Vec<ChunkRef> = Vec::new();
    for i in 0..3_000 {
        refs.push(write(&files, i).expect("written"));
        assert_eq!(files.read(refs[i as usize]).expect("there").data, data(i));
        if i % 500 == 499 {
            let before = refs[i as usize].file - 1;
            files.truncate(before).expect("truncated");
            for (j, chunk_ref) in (0..).zip(&refs) {
                match files.read(*chunk_ref) {
                    Ok(chunk) => assert_eq!(chunk.data, data(j)),
                    Err(FilesError::NoSuchFile { .. }) => assert!(chunk_ref.file < before, "{chunk_ref} is gone"),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    files.flush().expect("flushed");
    assert!(files.is_queue_empty());
    files.close().expect("closes");
    let (found, damages, opened) = scan(tmp.path());
    assert!(opened.is_sound() && damages.is_empty());
    let kept: Vec<_> = refs.iter().filter(|r| r.file >= found[0].0.chunk_ref.file).copied().collect();
    assert_eq!(found.iter().map(|(meta, _)| meta.chunk_ref).collect::<Vec<_>>(), kept);
}
