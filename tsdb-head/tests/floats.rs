//! Floats: in, across restarts, out.

mod common;

use common::{dump, floats, fs, labels, open, options};
use tsdb_head::{AppendError, Head, HeadOptions, Matcher};
use tsdb_model::{Labels, SeriesRef};

fn fill(head: &Head, series: usize, from: i64, to: i64) {
    for t in from..to {
        let mut appender = head.appender();
        for i in 0..series {
            appender.append(None, &labels(i), t * 1000, (t * 7 + i as i64) as f64 / 4.0).unwrap();
        }
        assert_eq!(appender.commit().unwrap().appended, series as u64);
    }
}

#[test]
fn what_was_committed_is_read_live_after_a_kill_and_after_a_close() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, report) = open(tmp.path());
    assert_eq!(report.counts.records, 0);
    fill(&head, 600, 1, 300);
    let live = dump(&head);
    assert_eq!(live.len(), 600);
    assert!(live.iter().all(|series| floats(series).len() == 299));
    drop(head);
    let (head, report) = open(tmp.path());
    assert!(report.damage.is_empty(), "{report:?}");
    assert_eq!(report.counts.applied, 600 * 299);
    assert_eq!(dump(&head), live);
    assert_eq!((head.min_time(), head.max_time()), (1_000, 299_000));
    fill(&head, 600, 300, 400);
    let live = dump(&head);
    head.close().unwrap();
    let (head, report) = open(tmp.path());
    assert_eq!(report.chunk_files.out_of_sequence + report.chunk_files.unknown_refs, 0);
    assert!(report.counts.already_there > 600 * 100, "{report:?}");
    assert_eq!(dump(&head), live);
    // Read-only: the same answers, and nothing changes.
    head.close().unwrap();
    let (head, _) = Head::open_read_only(fs(), tmp.path(), options()).unwrap();
    assert_eq!(dump(&head), live);
    assert_eq!(head.appender().append(None, &labels(0), 500_000, 1.0), Err(AppendError::ReadOnly));
}

#[test]
fn refusals_are_told_apart_and_leave_the_rest() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    let mut app = head.appender();
    let a = app.append(None, &labels(1), 1_000_000, 1.0).unwrap();
    app.commit().unwrap();
    let mut app = head.appender();
    assert_eq!(app.append(Some(a), &labels(1), 999_999, 1.0), Err(AppendError::OutOfOrder));
    assert_eq!(app.append(Some(a), &labels(1), 1_000_000, 2.0), Err(AppendError::Duplicate { t: 1_000_000 }));
    assert_eq!(app.append(Some(a), &labels(1), 1_000_000, 1.0), Ok(a));
    assert_eq!(
        app.append(Some(a), &labels(1), 499_999, 1.0),
        Err(AppendError::OutOfBounds { t: 499_999, min_valid: 500_000 })
    );
    assert_eq!(app.append(None, &Labels::empty(), 1_000_001, 1.0), Err(AppendError::EmptyLabels));
    assert_eq!(app.append(None, &Labels::from_pairs([("a", "")]), 1_000_001, 1.0), Err(AppendError::EmptyLabels));
    let unknown = SeriesRef(77);
    assert_eq!(app.append(Some(unknown), &Labels::empty(), 1_000_001, 1.0), Err(AppendError::UnknownSeries(unknown)));
    let twice = Labels::from_packed(b"\x01a\x011\x01a\x012").unwrap();
    assert_eq!(app.append(None, &twice, 1_000_001, 1.0), Err(AppendError::DuplicateLabelName { name: b"a".to_vec() }));
    let b = app.append(Some(unknown), &labels(2), 1_000_001, 5.0).unwrap();
    assert_ne!(a, b);
    let done = app.commit().unwrap();
    assert_eq!((done.appended, done.left_out), (1, 1));
    let mut app = head.appender();
    let sample = |series, t, v| wal_format::Sample { series, t, v, st: 0 };
    let many =
        [sample(a, 1_000_010, 1.0), sample(unknown, 1_000_010, 1.0), sample(b, 5, 1.0), sample(b, 1_000_010, 2.0)];
    let mut refused = Vec::new();
    app.append_many(&many, |i, error| refused.push((i, error)));
    assert_eq!(refused[0], (1, AppendError::UnknownSeries(unknown)));
    assert!(matches!(refused[1], (2, AppendError::OutOfBounds { .. })));
    assert_eq!(app.commit().unwrap().appended, 2);
    assert_eq!(head.select(&[Matcher::equal("series", "2")], 0, i64::MAX).count(), 1);
}

#[test]
fn a_rolled_back_series_is_logged_by_whoever_uses_it_first() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    let mut first = head.appender();
    let series = first.append(None, &labels(1), 1_000, 1.0).unwrap();
    let mut second = head.appender();
    assert_eq!(second.append(None, &labels(1), 2_000, 2.0).unwrap(), series);
    first.rollback();
    second.commit().unwrap();
    let live = dump(&head);
    assert_eq!(floats(&live[0]), [(2_000, 2.0)]);
    drop(head);
    let (head, report) = open(tmp.path());
    assert_eq!((report.counts.unknown_refs, report.counts.series), (0, 1));
    assert_eq!(dump(&head), live);
}

#[test]
fn readers_see_whole_commits() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    fill(&head, 3, 1, 10);
    let before = head.select(&[], 0, i64::MAX);
    fill(&head, 3, 10, 200);
    assert!(before.map(|series| series.samples().count()).eq([9, 9, 9]));
    assert!(head.select(&[], 0, i64::MAX).map(|series| series.samples().count()).eq([199, 199, 199]));
}

#[test]
fn truncation_takes_what_is_old_and_keeps_what_is_not() {
    let tmp = tempfile::tempdir().unwrap();
    let small =
        || HeadOptions { log: wal_segment::LogOptions { segment_size: 32 * 1024, ..Default::default() }, ..options() };
    let (head, _) = Head::open(fs(), tmp.path(), small()).unwrap();
    fill(&head, 40, 1, 600);
    for t in 600..2_400 {
        let mut appender = head.appender();
        for i in 20..40 {
            appender.append(None, &labels(i), t * 1000, t as f64).unwrap();
        }
        appender.commit().unwrap();
    }
    assert!(head.compactable());
    head.write_chunks().unwrap();
    let all = dump(&head);
    let done = head.truncate(1_000_000).unwrap();
    assert_eq!(done.series, 20);
    assert!(done.checkpoint.is_some());
    assert_eq!((head.series_count(), head.min_time()), (20, 1_000_000));
    let cut: Vec<_> = all
        .into_iter()
        .map(|(labels, mut samples)| {
            samples.retain(|&(t, _, _)| t >= 1_000_000);
            (labels, samples)
        })
        .filter(|(_, samples)| !samples.is_empty())
        .collect();
    assert_eq!(dump(&head), cut);
    let last = head.appender().append(None, &labels(99), 2_400_000, 1.0).unwrap();
    drop(head);
    let (head, report) =
        Head::open(fs(), tmp.path(), HeadOptions { min_valid_time: Some(1_000_000), ..small() }).unwrap();
    assert!(report.checkpoint.is_some());
    assert_eq!(dump(&head), cut);
    assert!(head.appender().append(None, &labels(99), 2_400_000, 1.0).unwrap() >= last, "refs are not reused");
}

#[test]
fn the_log_fills_the_hole_that_a_damaged_chunk_leaves() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    fill(&head, 20, 1, 700);
    head.close().unwrap();
    let file = tmp.path().join("chunks_head/000001");
    let mut bytes = std::fs::read(&file).unwrap();
    let live = {
        let (head, report) = Head::open_read_only(fs(), tmp.path(), options()).unwrap();
        assert!(report.chunk_files.chunks > 60 && report.damage.is_empty());
        dump(&head)
    };
    for at in [2_000, 9_000] {
        bytes[at] ^= 0x40;
    }
    std::fs::write(&file, &bytes).unwrap();
    for _ in 0..2 {
        let (head, report) = Head::open_read_only(fs(), tmp.path(), options()).unwrap();
        assert!(!report.damage.is_empty());
        assert!(dump(&head) == live);
        let (head, report) = open(tmp.path());
        assert!(!report.damage.is_empty() && report.counts.already_there > 5_000, "{report:?}");
        assert!(dump(&head) == live);
        head.close().unwrap();
    }
}
