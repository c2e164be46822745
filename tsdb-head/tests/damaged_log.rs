//! Damage in the log of a head that runs, or of one that was killed while it truncated: what is sound stays, what is not
//! is reported and kept, and the log goes on shrinking.

mod common;

use std::path::{Path, PathBuf};

use common::{Dumped, dump, floats, fs, labels, options};
use tsdb_head::{DamagePolicy, Head, HeadError, HeadOptions, Missed, ReplayDamage, ReplayReport};
use wal_checkpoint::{Options as CheckpointOptions, Source, checkpoint};
use wal_segment::{Compression, Ledger, Log, LogOptions, LogReader, SegmentRef, layout};

const SERIES: usize = 50;
/// Samples of a series in a segment.
const PER_SEGMENT: i64 = 4;

fn small(damage: DamagePolicy, min_valid_time: Option<i64>) -> HeadOptions {
    HeadOptions {
        damage,
        min_valid_time,
        log: LogOptions { segment_size: 32 << 10, compression: Compression::None, ..LogOptions::default() },
        ..options()
    }
}

fn start(dir: &Path, damage: DamagePolicy, min_valid_time: Option<i64>) -> (Head, ReplayReport) {
    Head::open(fs(), dir, small(damage, min_valid_time)).unwrap()
}

/// The segment for whose damage who is strict does not open.
fn refused_for(dir: &Path, read_only: bool) -> Option<u64> {
    let options = small(DamagePolicy::Strict, None);
    let opened = if read_only { Head::open_read_only(fs(), dir, options) } else { Head::open(fs(), dir, options) };
    match opened {
        Err(HeadError::Damaged { at, .. }) => at.map(|at| at.segment),
        _ => None,
    }
}

/// Samples at the times of `segments`, so many segments of them. Their values are their times.
fn fill(head: &Head, segments: std::ops::Range<i64>) {
    for segment in segments {
        for t in segment * PER_SEGMENT..(segment + 1) * PER_SEGMENT {
            let mut app = head.appender();
            for series in 0..SERIES {
                app.append(None, &labels(series), t, t as f64).unwrap();
            }
            app.commit().unwrap();
        }
        head.log().unwrap().next_segment().unwrap();
    }
}

fn segment(dir: &Path, index: u64) -> PathBuf {
    dir.join("wal").join(layout::segment_name(index))
}

/// A wrong bit in the last record of a segment; returns the file's bytes.
fn damage(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[end - 20] ^= 0x10;
    std::fs::write(path, &bytes).unwrap();
    bytes
}

fn times(dumped: &[Dumped], series: usize) -> Vec<i64> {
    let name = labels(series).to_string();
    let one = dumped.iter().find(|(labels, _)| *labels == name).expect("the series");
    floats(one).into_iter().inspect(|(t, v)| assert_eq!(*t as f64, *v)).map(|(t, _)| t).collect()
}

/// Every file below a directory, with its bytes.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut tree(&path));
        } else {
            files.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_damaged_record_does_not_keep_the_log_from_shrinking() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), DamagePolicy::Salvage, None);
    fill(&head, 0..12);
    let bytes = damage(&segment(tmp.path(), 4));
    let mint = 2 * PER_SEGMENT;
    let done = head.truncate(mint).unwrap();
    let stats = done.checkpoint.expect("a checkpoint");
    assert_eq!(stats.damage.len(), 1, "{:?}", stats.damage);
    assert_eq!(stats.damage[0].location.segment, 4);
    let [evidence] = &done.removed.quarantined[..] else { panic!("{:?}", done.removed) };
    assert_eq!(std::fs::read(evidence).unwrap(), bytes);
    assert_eq!(done.removed.segments, stats.to, "all but the damaged one");
    // Memory has everything, and goes on; so does truncation.
    let all: Vec<i64> = (mint..12 * PER_SEGMENT).collect();
    let live = dump(&head);
    (0..SERIES).for_each(|series| assert_eq!(times(&live, series), all));
    fill(&head, 12..24);
    let mint = 3 * PER_SEGMENT;
    let done = head.truncate(mint).unwrap();
    let stats = done.checkpoint.expect("another one");
    assert!(stats.damage.is_empty() && done.removed.quarantined.is_empty(), "{stats:?}");
    assert!(layout::segments(&fs(), &tmp.path().join("wal")).unwrap()[0].index > stats.to);
    head.close().unwrap();
    // Of the log one record was lost: one time of each series.
    let (head, report) = start(tmp.path(), DamagePolicy::Strict, Some(mint));
    assert!(report.damage.is_empty(), "{report:?}");
    let lost = 5 * PER_SEGMENT - 1;
    let rest: Vec<i64> = (mint..24 * PER_SEGMENT).filter(|&t| t != lost).collect();
    let again = dump(&head);
    (0..SERIES).for_each(|series| assert_eq!(times(&again, series), rest));
    assert_eq!(std::fs::read(evidence).unwrap(), bytes, "nothing destroys the evidence");
}

#[test]
fn a_sound_frame_that_holds_no_record_does_not_either() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), DamagePolicy::Salvage, None);
    fill(&head, 0..3);
    head.close().unwrap();
    let options = small(DamagePolicy::Salvage, None).log;
    let (log, _) = Log::open(fs(), &tmp.path().join("wal"), options).unwrap();
    log.append([&[2u8, 0, 0, 1][..]]).unwrap();
    let bad = log.current_segment();
    log.close().unwrap();
    let (head, report) = start(tmp.path(), DamagePolicy::Salvage, None);
    assert_eq!((report.counts.undecodable, report.damage.len()), (1, 1));
    fill(&head, 5..20);
    let done = head.truncate(1).unwrap();
    let live = dump(&head);
    let stats = done.checkpoint.expect("a checkpoint");
    assert_eq!(stats.damage.len(), 1);
    assert_eq!(stats.damage[0].location.segment, bad);
    assert_eq!(done.removed.quarantined.len(), 1);
    drop(head);
    let (head, report) = start(tmp.path(), DamagePolicy::Strict, None);
    assert_eq!(report.counts.undecodable, 0);
    let again = dump(&head);
    (0..SERIES).for_each(|series| assert_eq!(times(&again, series), times(&live, series)));
}

#[test]
fn who_is_strict_is_told_and_nothing_is_touched() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), DamagePolicy::Strict, None);
    fill(&head, 0..12);
    damage(&segment(tmp.path(), 4));
    let before = tree(&tmp.path().join("wal"));
    let error = head.truncate(2 * PER_SEGMENT).unwrap_err();
    let HeadError::Checkpoint(wal_checkpoint::Error::Damaged(damage)) = &error else { panic!("{error}") };
    assert_eq!(damage.location.segment, 4);
    let after = tree(&tmp.path().join("wal"));
    let kept = before.iter().filter(|(path, bytes)| !bytes.is_empty() && !path.ends_with(layout::LEDGER_NAME));
    for file in kept {
        assert!(after.contains(file), "{}", file.0.display());
    }
}

/// As a process leaves it that was killed between the two steps of a truncation: the checkpoint is published, and what it
/// stands for still there.
fn killed_before_removal(dir: &Path, damaged: Option<u64>) -> Vec<Dumped> {
    let (head, _) = start(dir, DamagePolicy::Salvage, None);
    fill(&head, 0..12);
    let live = dump(&head);
    head.close().unwrap();
    if let Some(index) = damaged {
        damage(&segment(dir, index));
    }
    let options = CheckpointOptions { damage: wal_checkpoint::DamagePolicy::Salvage, ..CheckpointOptions::default() };
    let (fs, wal) = (fs(), dir.join("wal"));
    checkpoint(&Source::segments(&fs, &wal), 0, 7, |_| true, i64::MIN, &options).unwrap();
    std::fs::create_dir(wal.join("checkpoint.00000009.tmp")).unwrap();
    live
}

#[test]
fn an_interrupted_truncation_is_ended_at_the_next_start() {
    for damaged in [None, Some(4)] {
        let tmp = tempfile::tempdir().unwrap();
        let live = killed_before_removal(tmp.path(), damaged);
        let evidence = std::fs::read(segment(tmp.path(), 4)).unwrap();
        let (head, report) = start(tmp.path(), DamagePolicy::Strict, None);
        assert_eq!(report.checkpoint, Some(7));
        assert_eq!(layout::segments(&fs(), &tmp.path().join("wal")).unwrap()[0].index, 8);
        assert!(!tmp.path().join("wal/checkpoint.00000009.tmp").exists());
        let again = dump(&head);
        let lost = damaged.map(|index| (index as i64 + 1) * PER_SEGMENT - 1);
        for series in 0..SERIES {
            let mut expected = times(&live, series);
            expected.retain(|t| Some(*t) != lost);
            assert_eq!(times(&again, series), expected);
        }
        match (&report.quarantined[..], damaged) {
            ([], None) => {}
            ([path], Some(_)) => assert_eq!(std::fs::read(path).unwrap(), evidence),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_done_without_while_its_sources_are_there() {
    for emptied in [false, true] {
        let tmp = tempfile::tempdir().unwrap();
        let live = killed_before_removal(tmp.path(), None);
        let path = tmp.path().join("wal/checkpoint.00000007/00000000");
        let bytes = if emptied {
            let ledger = path.with_file_name(layout::LEDGER_NAME);
            if ledger.exists() {
                std::fs::remove_file(ledger).unwrap();
            }
            std::fs::write(&path, []).unwrap();
            Vec::new()
        } else {
            damage(&path)
        };
        let before = tree(tmp.path());
        Head::open(fs(), tmp.path(), small(DamagePolicy::Strict, None)).unwrap_err();
        let after = tree(tmp.path());
        let changed: Vec<_> = before.iter().filter(|file| !after.contains(file)).map(|(path, _)| path).collect();
        assert!(changed.is_empty(), "{changed:?}");
        let (head, report) = start(tmp.path(), DamagePolicy::Salvage, None);
        assert_eq!((report.checkpoint, report.damage.len()), (None, 1), "{report:?}");
        let [evidence] = &report.quarantined[..] else { panic!("{report:?}") };
        assert_eq!(std::fs::read(evidence.join("00000000")).unwrap(), bytes);
        assert_eq!(dump(&head), live);
        // And the next truncation finds nothing to complain about.
        let done = head.truncate(2 * PER_SEGMENT).unwrap();
        assert!(done.checkpoint.is_some_and(|stats| stats.damage.is_empty()));
    }
}

/// Cuts a segment behind its `records`th record, so that what is left reads without an error.
fn cut(path: &Path, records: usize) -> u64 {
    let index = layout::parse_segment_name(path.file_name().unwrap()).unwrap();
    let whole = std::fs::metadata(path).unwrap().len();
    let segment = SegmentRef { index, path: path.to_owned(), len: whole };
    let mut reader = LogReader::over(fs(), vec![segment]);
    let mut ends = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        ends.push(record.end);
    }
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(ends[records - 1]).unwrap();
    ends.len() as u64
}

#[test]
fn what_only_the_ledger_misses_is_reported_by_every_opening() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), DamagePolicy::Salvage, None);
    fill(&head, 0..8);
    head.close().unwrap();
    let expected = cut(&segment(tmp.path(), 3), 2);
    cut(&segment(tmp.path(), 5), 1);
    let before = tree(tmp.path());
    let missed = |report: &ReplayReport| {
        let of = |d: &ReplayDamage| (d.at.as_ref().unwrap().segment, d.missed.unwrap(), d.torn_end);
        report.damage.iter().map(of).collect::<Vec<_>>()
    };
    let both = [(3, Missed { expected, found: 2 }, false), (5, Missed { expected, found: 1 }, false)];
    let (head, report) = Head::open_read_only(fs(), tmp.path(), small(DamagePolicy::Salvage, None)).unwrap();
    assert_eq!(missed(&report), both);
    let kept: Vec<i64> = (0..14).chain([16, 17, 18, 19, 20]).chain(24..32).collect();
    (0..SERIES).for_each(|series| assert_eq!(times(&dump(&head), series), kept));
    drop(head);
    for read_only in [true, false] {
        assert_eq!(refused_for(tmp.path(), read_only), Some(3));
        if read_only {
            assert_eq!(tree(tmp.path()), before);
        }
    }
    // Once it is known, the ledger is put right, and what it said is kept.
    let (head, report) = start(tmp.path(), DamagePolicy::Salvage, None);
    assert_eq!(missed(&report), both);
    assert!(!report.quarantined.is_empty());
    head.close().unwrap();
    let (_, report) = start(tmp.path(), DamagePolicy::Strict, None);
    assert!(report.damage.is_empty(), "{report:?}");
}

#[test]
fn a_checkpoint_that_lost_records_without_a_trace_is_reported() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), DamagePolicy::Salvage, None);
    fill(&head, 0..12);
    let path = head.truncate(2 * PER_SEGMENT).unwrap().checkpoint.unwrap().path.unwrap();
    head.close().unwrap();
    cut(&path.join("00000000"), 3);
    let (_, report) = Head::open_read_only(fs(), tmp.path(), small(DamagePolicy::Salvage, None)).unwrap();
    let [damage] = &report.damage[..] else { panic!("{report:?}") };
    assert!(damage.missed.is_some_and(|missed| missed.found == 3 && missed.expected > 3), "{damage:?}");
    assert_eq!(damage.at.as_ref().unwrap().dir, path);
    let (_, report) = start(tmp.path(), DamagePolicy::Salvage, None);
    assert_eq!(report.damage.len(), 1);
    let (_, report) = start(tmp.path(), DamagePolicy::Strict, None);
    assert!(report.damage.is_empty());
}

#[test]
fn without_a_ledger_a_cut_between_records_is_an_end() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), DamagePolicy::Salvage, None);
    fill(&head, 0..8);
    head.close().unwrap();
    cut(&segment(tmp.path(), 3), 2);
    std::fs::remove_file(tmp.path().join("wal").join(layout::LEDGER_NAME)).unwrap();
    let (_, report) = Head::open_read_only(fs(), tmp.path(), small(DamagePolicy::Strict, None)).unwrap();
    assert!(report.damage.is_empty());
}

/// The last segment but one of a log that another program wrote is read by the replay alone, and made durable afterwards.
#[test]
fn a_segment_whose_proof_waits_is_repaired_like_any_other() {
    for damaged in [false, true] {
        let tmp = tempfile::tempdir().unwrap();
        let (head, _) = start(tmp.path(), DamagePolicy::Strict, None);
        fill(&head, 0..6);
        head.close().unwrap();
        std::fs::remove_file(tmp.path().join("wal").join(layout::LEDGER_NAME)).unwrap();
        let waits = segment(tmp.path(), 4);
        let before = if damaged { damage(&waits) } else { std::fs::read(&waits).unwrap() };
        if damaged {
            assert_eq!(refused_for(tmp.path(), false), Some(4));
            assert_eq!(std::fs::read(&waits).unwrap(), before);
        }
        let (head, report) = start(tmp.path(), DamagePolicy::Salvage, None);
        let places: Vec<u64> = report.damage.iter().flat_map(|damage| &damage.at).map(|at| at.segment).collect();
        assert_eq!(places, if damaged { vec![4] } else { vec![] });
        assert_eq!(report.quarantined.len(), places.len());
        assert!(report.quarantined.iter().all(|kept| std::fs::read(kept).unwrap() == before));
        let lost = if damaged { 5 * PER_SEGMENT - 1 } else { -1 };
        fill(&head, 6..7);
        let all: Vec<i64> = (0..7 * PER_SEGMENT).filter(|&t| t != lost).collect();
        assert_eq!(times(&dump(&head), 0), all);
        head.close().unwrap();
        let ledger = Ledger::load(&fs(), &tmp.path().join("wal")).unwrap();
        // A repair makes what it writes durable by itself.
        let from = if damaged { 5 } else { 4 };
        assert!((from..7).all(|segment| ledger.get(segment).is_some_and(|entry| entry.sealed)), "{ledger:?}");
        let (head, report) = start(tmp.path(), DamagePolicy::Strict, None);
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        assert_eq!(times(&dump(&head), 0), all);
    }
}

#[test]
fn a_segment_that_another_program_has_cut_is_not_called_damaged() {
    for replay_threads in [1, 4] {
        // Beyond our last segment, up to it, and not so far.
        [4, 1, -1].into_iter().for_each(|beyond| cut_by_another_program(replay_threads, beyond));
    }
}

fn cut_by_another_program(replay_threads: usize, beyond: i64) {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), DamagePolicy::Strict, None);
    fill(&head, 0..8);
    head.close().unwrap();
    // As the reference repairs: what was sound of a segment stays, those behind it go. Then it goes on, without a ledger.
    let wal = tmp.path().join("wal");
    let segments = layout::segments(&fs(), &wal).unwrap();
    let (cut, last) = (segments[3].clone(), segments[segments.len() - 1].index);
    let end = LogReader::over(fs(), vec![cut.clone()]).next().unwrap().unwrap().end;
    std::fs::OpenOptions::new().write(true).open(&cut.path).unwrap().set_len(end).unwrap();
    let mut reader = LogReader::over(fs(), vec![segments[2].clone()]);
    // None that a segment of ours begins with.
    reader.next().unwrap();
    let record = reader.next().unwrap().unwrap().bytes.to_vec();
    segments[4..].iter().for_each(|segment| std::fs::remove_file(&segment.path).unwrap());
    let others = tmp.path().join("others");
    let (log, _) = Log::open(fs(), &others, LogOptions { ledger: false, ..LogOptions::default() }).unwrap();
    let (from, to) = (cut.index + 1, last.saturating_add_signed(beyond));
    assert!(from < to);
    for index in from..to {
        log.append([&record[..]]).unwrap();
        let written = others.join(layout::segment_name(log.current_segment()));
        log.next_segment().unwrap();
        std::fs::rename(written, segment(tmp.path(), index)).unwrap();
    }
    log.close().unwrap();
    let options = HeadOptions { replay_threads, ..small(DamagePolicy::Strict, None) };
    let (head, report) = Head::open_read_only(fs(), tmp.path(), options.clone()).unwrap();
    assert!(report.damage.is_empty(), "{replay_threads} threads, {beyond}, read only: {:?}", report.damage);
    drop(head);
    let (head, report) = Head::open(fs(), tmp.path(), options).unwrap();
    assert!(report.damage.is_empty(), "{replay_threads} threads, {beyond}: {:?}", report.damage);
    assert!(!times(&dump(&head), 0).is_empty());
}

#[test]
fn segments_missing_at_the_end_are_reported_and_refused_by_who_is_strict() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = start(tmp.path(), DamagePolicy::Salvage, None);
    fill(&head, 0..8);
    head.close().unwrap();
    let segments = layout::segments(&fs(), &tmp.path().join("wal")).unwrap();
    let gone: Vec<u64> = segments[segments.len() - 3..].iter().filter(|s| s.len > 0).map(|s| s.index).collect();
    segments[segments.len() - 3..].iter().for_each(|segment| std::fs::remove_file(&segment.path).unwrap());
    assert!(gone.len() >= 2);
    let missed = |report: &ReplayReport| {
        let of = |d: &ReplayDamage| (d.at.as_ref().unwrap().segment, d.missed.is_some_and(|missed| missed.found == 0));
        report.damage.iter().map(of).collect::<Vec<_>>()
    };
    let all: Vec<_> = gone.iter().map(|&segment| (segment, true)).collect();
    let before = tree(tmp.path());
    for read_only in [true, false] {
        assert_eq!(refused_for(tmp.path(), read_only), Some(gone[0]));
        assert_eq!(tree(tmp.path()), before);
    }
    let (head, report) = Head::open_read_only(fs(), tmp.path(), small(DamagePolicy::Salvage, None)).unwrap();
    assert_eq!(missed(&report), all);
    drop(head);
    let (head, report) = start(tmp.path(), DamagePolicy::Salvage, None);
    assert_eq!((missed(&report), report.quarantined.len()), (all, 1));
    head.close().unwrap();
    let (_, report) = start(tmp.path(), DamagePolicy::Strict, None);
    assert!(report.damage.is_empty(), "{report:?}");
}
