//! A ledger after another program has repaired the log and gone on with it, and after things that only look like that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdb_vfs::{Fs, SimFs};
use wal_segment::layout::{self, LEDGER_NAME, segment_name};
use wal_segment::verify::{Problem, verify};
use wal_segment::{Compression, Ledger, Log, LogOptions, LogReader, OpenReport, PAGE_SIZE, repair};

const DIR: &str = "/data/wal";
const PER_SEGMENT: u8 = 5;

fn disk() -> Fs {
    let fs: Fs = Arc::new(SimFs::new(1));
    fs.create_dir_all(Path::new(DIR)).unwrap();
    fs
}

fn path(segment: u64) -> PathBuf {
    Path::new(DIR).join(segment_name(segment))
}

fn record(mark: u8, segment: u64, i: u8) -> Vec<u8> {
    let noise = (0..9_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ mark);
    [mark, segment as u8, i].into_iter().chain(noise).collect()
}

/// Segments of [`PER_SEGMENT`] records each.
fn write(fs: &Fs, dir: &Path, mark: u8, segments: u64, options: LogOptions) {
    let (log, _) = Log::open(fs.clone(), dir, options).unwrap();
    for n in 0..segments {
        let segment = log.current_segment();
        (0..PER_SEGMENT).for_each(|i| {
            log.append([&record(mark, segment, i)[..]]).unwrap();
        });
        if n + 1 < segments {
            log.next_segment().unwrap();
        }
    }
    log.close().unwrap();
}

fn ours(fs: &Fs, segments: u64) {
    write(fs, Path::new(DIR), b'o', segments, LogOptions::default());
}

/// What the reference's repair leaves when `cut` is damaged behind its `keep`th record: those before in a file of whole
/// pages, nothing behind, and then what it goes on with.
fn repaired_by_others(fs: &Fs, cut: u64, keep: usize, compression: Compression, behind: u64) {
    let segments = layout::segments(fs, Path::new(DIR)).unwrap();
    let mut reader = LogReader::over(fs.clone(), vec![segments[cut as usize].clone()]);
    let mut kept = Vec::new();
    while let Some(record) = reader.next().unwrap().filter(|_| kept.len() < keep) {
        kept.push(record.bytes.to_vec());
    }
    for segment in &segments[cut as usize..] {
        fs.remove_file(&segment.path).unwrap();
    }
    let elsewhere = Path::new("/elsewhere");
    let options = LogOptions { ledger: false, compression, ..LogOptions::default() };
    let (log, _) = Log::open(fs.clone(), elsewhere, options.clone()).unwrap();
    for record in &kept {
        log.append([&record[..]]).unwrap();
    }
    log.close().unwrap();
    let mut bytes = fs.read(&elsewhere.join(segment_name(0))).unwrap();
    bytes.resize(bytes.len().next_multiple_of(PAGE_SIZE).max(PAGE_SIZE), 0);
    fs.write_new(&path(cut), &bytes).unwrap();
    let going_on = Path::new("/going-on");
    if behind > 0 {
        write(fs, going_on, b'x', behind, options);
    }
    for n in 0..behind {
        fs.rename(&going_on.join(segment_name(n)), &path(cut + 1 + n)).unwrap();
    }
    fs.sync_dir(Path::new(DIR)).unwrap();
}

fn problems(fs: &Fs) -> (usize, usize) {
    let found = verify(fs, Path::new(DIR)).unwrap();
    let foreign = found.iter().filter(|finding| matches!(finding.problem, Problem::Foreign)).count();
    (foreign, found.iter().filter(|finding| !finding.is_note()).count())
}

fn open(fs: &Fs) -> OpenReport {
    let (log, report) = Log::open(fs.clone(), Path::new(DIR), LogOptions::default()).unwrap();
    log.append([&b"and on"[..]]).unwrap();
    log.close().unwrap();
    report
}

#[test]
fn a_log_that_others_repaired_is_not_called_damaged_however_far_they_came() {
    for compression in [Compression::None, Compression::Snappy] {
        for behind in 1..8 {
            for keep in 0..usize::from(PER_SEGMENT) {
                let fs = disk();
                ours(&fs, 6);
                repaired_by_others(&fs, 2, keep, compression, behind);
                let case = format!("{compression}, {keep} kept, {behind} written");
                assert_eq!(problems(&fs), (1, 0), "{case}: {:?}", verify(&fs, Path::new(DIR)));
                let before = fs.read(&path(3)).unwrap();
                let report = open(&fs);
                assert!(report.foreign && report.lost.is_empty() && report.healed.is_none(), "{case}: {report:?}");
                assert_eq!(fs.read(&path(3)).unwrap(), before, "{case}");
                let ledger = Ledger::load(&fs, Path::new(DIR)).unwrap();
                assert!(
                    ledger.get(1).is_some() && ledger.get(2).is_none_or(|entry| entry.records == keep as u64),
                    "{case}: {ledger:?}"
                );
                // Not because the ledger has forgotten everything.
                let whole = fs.read(&path(1)).unwrap();
                fs.open_write(&path(1))
                    .unwrap()
                    .write_all_at(&vec![0; whole.len() - PAGE_SIZE], PAGE_SIZE as u64)
                    .unwrap();
                assert!(problems(&fs).1 > 0, "{case}");
            }
        }
    }
}

#[test]
fn what_disks_do_is_still_called_damage() {
    type Harm = fn(&Fs);
    let harms: [(&str, Harm); 6] = [
        ("a segment in another's place", |fs| {
            let bytes = fs.read(&path(1)).unwrap();
            replace(fs, 3, &bytes);
        }),
        ("a page of another segment at the beginning", |fs| {
            let bytes = fs.read(&path(1)).unwrap();
            fs.open_write(&path(3)).unwrap().write_all_at(&bytes[..PAGE_SIZE], 0).unwrap();
        }),
        ("a page of a log that is gone at the beginning", |fs| {
            write(fs, Path::new("/old"), b'z', 1, LogOptions::default());
            let bytes = fs.read(&Path::new("/old").join(segment_name(0))).unwrap();
            fs.open_write(&path(3)).unwrap().write_all_at(&bytes[..PAGE_SIZE], 0).unwrap();
        }),
        ("a first page of zeros", |fs| {
            fs.open_write(&path(3)).unwrap().write_all_at(&[0; PAGE_SIZE], 0).unwrap();
        }),
        ("nothing but zeros", |fs| {
            let len = fs.read(&path(3)).unwrap().len();
            replace(fs, 3, &vec![0; len]);
        }),
        ("a segment without anything", |fs| replace(fs, 3, &[])),
    ];
    for (name, harm) in harms {
        let fs = disk();
        ours(&fs, 6);
        harm(&fs);
        assert!(problems(&fs).1 > 0, "{name}");
    }
}

fn replace(fs: &Fs, segment: u64, bytes: &[u8]) {
    fs.remove_file(&path(segment)).unwrap();
    fs.write_new(&path(segment), bytes).unwrap();
    fs.sync_dir(Path::new(DIR)).unwrap();
}

#[test]
fn segments_that_are_gone_from_the_end_are_missed_once() {
    for gone in 1..6 {
        let fs = disk();
        ours(&fs, 6);
        (6 - gone..6).for_each(|n| fs.remove_file(&path(n)).unwrap());
        let found = verify(&fs, Path::new(DIR)).unwrap();
        let lost: Vec<_> = found.iter().map(|finding| finding.path.clone()).collect();
        assert_eq!(lost, (6 - gone..6).map(path).collect::<Vec<_>>());
        assert!(found.iter().all(|finding| matches!(finding.problem, Problem::Lost(_))));
        let with_repair = gone % 2 == 0;
        if with_repair {
            let report = repair::apply(&fs, repair::plan(&fs, Path::new(DIR)).unwrap()).unwrap();
            assert_eq!(report.lost_records, gone * u64::from(PER_SEGMENT));
            assert_eq!(problems(&fs), (0, 0));
        }
        let report = open(&fs);
        let missed: Vec<_> = report.lost.iter().map(|lost| lost.location.segment).collect();
        let expected: Vec<_> = if with_repair { vec![] } else { (6 - gone..6).collect() };
        assert_eq!(missed, expected);
        assert_eq!(report.segment, 6 - gone);
        // What said so is kept, and nobody is told again.
        assert_eq!(report.ledger_kept.is_some(), !with_repair);
        let kept = fs.list(Path::new("/data/wal/quarantine")).unwrap();
        assert!(kept.iter().any(|entry| entry.name.to_string_lossy().starts_with(LEDGER_NAME)), "{kept:?}");
        assert_eq!(problems(&fs), (0, 0));
        assert!(open(&fs).lost.is_empty());
    }
}

#[test]
fn segments_that_are_gone_from_the_beginning_were_not_needed() {
    let fs = disk();
    ours(&fs, 6);
    (0..3).for_each(|n| fs.remove_file(&path(n)).unwrap());
    assert_eq!(problems(&fs), (0, 0));
    assert!(open(&fs).lost.is_empty());
}
