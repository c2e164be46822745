//! Appenders that all make new series: each takes the index, the set of series not yet in the log, and the log.

use std::sync::Arc;

use tsdb_head::{Head, HeadOptions};
use tsdb_model::Labels;
use tsdb_vfs::{Fs, RealFs};

#[test]
fn appenders_that_make_series_at_once_do_not_wait_for_each_other() {
    const THREADS: usize = 4;
    const COMMITS: usize = 100;
    const SERIES: usize = 50;
    let dir = tempfile::tempdir().expect("a directory");
    let fs: Fs = Arc::new(RealFs::new());
    let (head, _) = Head::open(fs.clone(), dir.path(), HeadOptions::default()).expect("opened");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let head = &head;
            scope.spawn(move || {
                for commit in 0..COMMITS {
                    let mut appender = head.appender();
                    for series in 0..SERIES {
                        let id = format!("{thread}-{commit}-{series}");
                        let labels = Labels::from_pairs([("__name__", "fresh"), ("id", &id)]);
                        appender.append(None, &labels, 1_700_000_000_000, 1.0).expect("appended");
                    }
                    appender.commit().expect("committed");
                }
            });
        }
    });
    drop(head);
    let (head, report) = Head::open(fs, dir.path(), HeadOptions::default()).expect("opened again");
    assert_eq!(head.series_count(), THREADS * COMMITS * SERIES);
    // A sample before its series' record would be one of an unknown ref.
    assert_eq!(report.counts.unknown_refs, 0);
    assert_eq!(report.counts.applied, (THREADS * COMMITS * SERIES) as u64);
}
