//! A series that was collected and made again has two refs in the log, and chunks under both.

mod common;

use common::{dump, floats, fs, labels, options};
use tsdb_head::{Head, HeadOptions};

#[test]
fn chunks_under_the_second_ref_come_before_those_that_the_first_one_got_later() {
    let tmp = tempfile::tempdir().unwrap();
    let options = |min_valid_time| HeadOptions { chunk_range: 1000, min_valid_time, ..options() };
    let append = |head: &Head, times: std::ops::Range<i64>| {
        let mut app = head.appender();
        for t in times.step_by(100) {
            app.append(None, &labels(1), t, t as f64).unwrap();
            // Somebody else, so that the head has a newest time.
            app.append(None, &labels(2), t, t as f64).unwrap();
        }
        app.commit().unwrap();
    };
    let (head, _) = Head::open(fs(), tmp.path(), options(None)).unwrap();
    append(&head, 0..500);
    let mut app = head.appender();
    app.append(None, &labels(2), 5_000, 0.0).unwrap();
    app.commit().unwrap();
    assert_eq!(head.truncate(4_000).unwrap().series, 1);
    append(&head, 5_100..7_500);
    // The second ref's chunks, on disk.
    assert!(head.write_chunks().unwrap() > 0);
    let live = dump(&head);
    head.close().unwrap();
    let (head, report) = Head::open(fs(), tmp.path(), options(Some(4_000))).unwrap();
    assert_eq!(report.counts.aliases, 1, "the record of the first ref is still in the log");
    assert_eq!(dump(&head), live);
    append(&head, 7_500..9_500);
    assert!(head.write_chunks().unwrap() > 0, "the first ref's");
    let live = dump(&head);
    assert_eq!(floats(&live[0]).len(), 44);
    head.close().unwrap();
    let (head, report) = Head::open_read_only(fs(), tmp.path(), options(Some(4_000))).unwrap();
    assert!(report.chunk_files.chunks > 0 && report.chunk_files.out_of_sequence == 0, "{report:?}");
    assert_eq!(dump(&head), live);
    let (head, _) = Head::open(fs(), tmp.path(), options(Some(4_000))).unwrap();
    assert_eq!(dump(&head), live);
    // Collection counts every chunk's file, wherever it stands in the series' order.
    head.truncate(6_500).unwrap();
    let rest: Vec<_> = floats(&live[0]).into_iter().filter(|(t, _)| *t >= 6_500).collect();
    assert_eq!(floats(&dump(&head)[0]), rest);
}

#[test]
fn what_comes_back_of_the_first_ref_lies_before_the_chunks_of_the_second() {
    let tmp = tempfile::tempdir().unwrap();
    let options = || HeadOptions { chunk_range: 1000, replay_threads: 1, ..options() };
    let append = |head: &Head, series: usize, times: std::ops::Range<i64>| {
        for t in times.step_by(100) {
            let mut app = head.appender();
            app.append(None, &labels(series), t, t as f64).unwrap();
            app.commit().unwrap();
        }
    };
    let (head, _) = Head::open(fs(), tmp.path(), options()).unwrap();
    append(&head, 1, 0..500);
    append(&head, 2, 5_000..5_100);
    assert_eq!(head.truncate(4_000).unwrap().series, 1);
    // So far apart in the log that replay does not take both refs in one round.
    for n in 0..6 {
        append(&head, 2, 5_100 + n..5_101 + n);
        head.log().unwrap().next_segment().unwrap();
    }
    append(&head, 1, 5_100..7_500);
    head.close().unwrap();
    // Nobody says that a block holds what was truncated, and the log still has it.
    let (head, _) = Head::open(fs(), tmp.path(), options()).unwrap();
    let times = |head: &Head| floats(&dump(head)[0]).into_iter().map(|(t, _)| t).collect::<Vec<_>>();
    let all: Vec<i64> = (0..500).chain(5_100..7_500).filter(|t| t % 100 == 0).collect();
    assert_eq!(times(&head), all);
    append(&head, 1, 7_500..9_000);
    head.write_chunks().unwrap();
    head.truncate(4_000).unwrap();
    let rest: Vec<i64> = (51..90).map(|n| n * 100).collect();
    assert_eq!(times(&head), rest);
    head.close().unwrap();
    let (head, _) = Head::open(fs(), tmp.path(), HeadOptions { min_valid_time: Some(4_000), ..options() }).unwrap();
    assert_eq!(times(&head), rest);
}
