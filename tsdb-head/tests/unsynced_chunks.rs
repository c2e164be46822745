//! Chunk files whose end only the page cache has: what the next head shows of it, the one after a power cut shows too.

use std::path::Path;
use std::sync::Arc;

use tsdb_head::{Head, HeadOptions};
use tsdb_model::Labels;
use tsdb_vfs::sim::{Failure, Fault, Kept, OpKind};
use tsdb_vfs::{Fs, SimFs};
use wal_segment::{Durability, LogOptions};

const DIR: &str = "/data";

fn open(disk: &SimFs) -> (Head, tsdb_head::ReplayReport) {
    let fs: Fs = Arc::new(disk.clone());
    let options = HeadOptions {
        chunk_range: 100_000,
        samples_per_chunk: 4,
        chunk_write_bytes: 0,
        replay_threads: 1,
        log: LogOptions { durability: Durability::Always, ..LogOptions::default() },
        ..HeadOptions::default()
    };
    Head::open(fs, Path::new(DIR), options).expect("opens")
}

fn commit(head: &Head, times: core::ops::Range<i64>) {
    for t in times.map(|n| n * 10) {
        let mut appender = head.appender();
        for series in 0..3 {
            let labels = Labels::from_pairs([("series", series.to_string())]);
            appender.append(None, &labels, t, (t + series) as f64).expect("newer than all others");
        }
        appender.commit().expect("no failure");
    }
    head.write_chunks().expect("they wait in memory");
}

fn count(head: &Head) -> usize {
    head.select(&[], i64::MIN, i64::MAX).map(|series| series.samples().filter(Result::is_ok).count()).sum()
}

/// In how many of some runs the second head found chunks that were not durable, and in how many a sample was lost.
fn runs(failure: impl Fn() -> Failure) -> (u32, u32) {
    let (mut found, mut lost) = (0, 0);
    for seed in 0..40 {
        let disk = SimFs::new(seed);
        let (head, _) = open(&disk);
        commit(&head, 1..20);
        disk.inject(failure().under("/data/chunks_head"));
        assert!(head.close().is_err());
        disk.heal();
        let (head, report) = open(&disk);
        found += u32::from(report.chunk_files.chunks > 0);
        assert_eq!(count(&head), 57, "seed {seed}: {report:?}");
        commit(&head, 20..40);
        head.close().expect("no failure");
        let (head, _) = open(&disk.crash_point().image(Kept::Nothing));
        lost += u32::from(count(&head) != 117);
    }
    (found, lost)
}

#[test]
fn what_a_write_that_broke_off_has_left_is_not_lost_behind_newer_chunks() {
    let (found, lost) = runs(|| Failure::new(Fault::BrokenWrite(28)).kind(OpKind::Write));
    assert!(found > 5, "{found}");
    assert_eq!(lost, 0, "of {found}");
}

#[test]
fn what_a_failed_sync_has_left_is_not_lost_behind_newer_chunks() {
    for fault in [Fault::SYNC_KEEPS, Fault::SYNC_DROPS, Fault::SYNC_REVERTS] {
        let (found, lost) = runs(|| Failure::new(fault).kind(OpKind::SyncData));
        assert!(found > 5 || fault == Fault::SYNC_REVERTS, "{fault:?}: {found}");
        assert_eq!(lost, 0, "{fault:?}, of {found}");
    }
}
