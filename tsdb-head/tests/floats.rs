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

/// Many at once are taken and refused as one by one, whatever is known of their series without a look at them.
#[test]
fn many_at_once_are_taken_as_one_by_one() {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    let seed = 17;
    let mut rng = SmallRng::seed_from_u64(seed);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let heads = [open(dirs[0].path()).0, open(dirs[1].path()).0];
    let series: Vec<SeriesRef> = heads.each_ref().map(|head| {
        let mut app = head.appender();
        let refs = (0..300).map(|i| app.append(None, &labels(i), 1_000_000, 0.0).unwrap()).collect::<Vec<_>>();
        app.commit().unwrap();
        refs
    })[0]
        .clone();
    let (mut now, mut taken, mut late, mut twice, mut left, mut rolled) = (1_000_000, 0, 0, 0, 0, 0);
    for _ in 0..400 {
        now += rng.random_range(0..3);
        let from = rng.random_range(0..series.len());
        let samples: Vec<wal_format::Sample> = (from..series.len().min(from + rng.random_range(1..120)))
            .map(|i| {
                let t = if rng.random_bool(0.1) { now - rng.random_range(0..5) } else { now };
                wal_format::Sample { series: series[i], t, v: f64::from(rng.random_range(0..2)), st: 0 }
            })
            .collect();
        // The same ones again and again: more of a series than a byte counts.
        let repeats = if rng.random_bool(0.02) { 300 } else { 1 };
        let mut apps = heads.each_ref().map(tsdb_head::Head::appender);
        let mut refused: [Vec<(usize, AppendError)>; 2] = Default::default();
        for _ in 0..repeats {
            apps[0].append_many(&samples, |i, error| refused[0].push((i, error)));
            for (i, sample) in samples.iter().enumerate() {
                if let Err(error) = apps[1].append(Some(sample.series), &Labels::empty(), sample.t, sample.v) {
                    refused[1].push((i, error));
                }
            }
        }
        assert_eq!(refused[0], refused[1], "seed {seed}");
        late += refused[0].iter().filter(|(_, error)| *error == AppendError::OutOfOrder).count();
        twice += refused[0].iter().filter(|(_, error)| matches!(error, AppendError::Duplicate { .. })).count();
        if rng.random_bool(0.2) {
            rolled += 1;
            apps.into_iter().for_each(tsdb_head::Appender::rollback);
            continue;
        }
        let done = apps.map(|app| app.commit().unwrap());
        assert_eq!(done[0], done[1], "seed {seed}");
        (taken, left) = (taken + done[0].appended, left + done[0].left_out);
    }
    println!("seed {seed}: {taken} taken, {late} late, {twice} twice, {left} left out, {rolled} rolled back");
    assert!(taken > 5_000 && late > 500 && twice > 500 && left > 1_000 && rolled > 40);
    assert_eq!(dump(&heads[0]), dump(&heads[1]));
    // Nobody holds anything any more, so all of it can go; a series of which somebody holds a sample stays.
    let [many, _] = &heads;
    let mut app = many.appender();
    app.append_many(&[wal_format::Sample { series: series[7], t: now + 10, v: 1.0, st: 0 }], |_, error| {
        panic!("{error}")
    });
    many.truncate(now + 5).unwrap();
    assert_eq!(many.series_count(), 1);
    app.commit().unwrap();
    assert_eq!(many.select(&[], 0, i64::MAX).count(), 1);
}
