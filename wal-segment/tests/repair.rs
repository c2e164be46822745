//! Repair keeps every sound record and every damaged byte, and can be interrupted anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tsdb_vfs::crash::Enumerator;
use tsdb_vfs::{Fs, Journal, Scenario, SimFs, Vfs};
use wal_segment::layout::{checkpoint_name, segment_name};
use wal_segment::repair::{self, Action};
use wal_segment::verify::{Problem, Reference, verify, verify_judged};
use wal_segment::{Compression, Item, Log, LogOptions, LogReader, PAGE_SIZE, SalvageReader};

const DIR: &str = "/data/wal";
const PAGE: u64 = PAGE_SIZE as u64;
const CODECS: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

fn options(compression: Compression) -> LogOptions {
    LogOptions { segment_size: 2 * PAGE, compression, background_sync: false, ..LogOptions::default() }
}

fn record(rng: &mut StdRng) -> Vec<u8> {
    let len = match rng.random_range(0..10) {
        0 => rng.random_range(1..20),
        9 => rng.random_range(1..2 * PAGE_SIZE),
        _ => rng.random_range(1..4000),
    };
    (0..len).map(|i| (i / 5) as u8 ^ rng.random_range(0..8)).collect()
}

fn disk() -> (SimFs, Fs) {
    let disk = SimFs::new(7);
    let fs: Fs = Arc::new(disk.clone());
    (disk, fs)
}

fn write(fs: &Fs, dir: &Path, compression: Compression, rng: &mut StdRng, n: usize) -> Vec<Vec<u8>> {
    let (log, _) = Log::open(fs.clone(), dir, options(compression)).unwrap();
    let written: Vec<_> = (0..n).map(|_| record(rng)).collect();
    written.iter().for_each(|record| assert!(log.append([record.as_slice()]).is_ok()));
    log.close().unwrap();
    written
}

fn strictly(fs: &Fs, dir: &Path) -> Result<Vec<Vec<u8>>, String> {
    let mut reader = LogReader::open(fs.clone(), dir).map_err(|e| e.to_string())?;
    let mut records = Vec::new();
    while let Some(record) = reader.next().map_err(|e| e.to_string())? {
        records.push(record.bytes.to_vec());
    }
    Ok(records)
}

fn salvaged(fs: &Fs) -> Vec<Vec<u8>> {
    let mut reader = SalvageReader::open(fs.clone(), Path::new(DIR)).unwrap();
    let mut records = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        if let Item::Record(record) = item {
            records.push(record.bytes.to_vec());
        }
    }
    records
}

/// Records that somebody who knows their format can't use go with the original, and nothing else does.
#[test]
fn what_the_caller_can_not_decode_goes_to_quarantine() {
    const SEED: u64 = 21;
    let mut rng = StdRng::seed_from_u64(SEED);
    let bad = |bytes: &[u8]| bytes.first().is_some_and(|byte| byte % 16 == 3).then(|| "it begins with 3".to_owned());
    let mut left_out = 0;
    for compression in CODECS {
        let (disk, fs) = disk();
        let written = write(&fs, Path::new(DIR), compression, &mut rng, 60);
        let (unusable, usable): (Vec<_>, Vec<_>) = written.into_iter().partition(|record| bad(record).is_some());
        left_out += unusable.len();
        assert!(verify(&fs, Path::new(DIR)).unwrap().is_empty());
        let found = verify_judged(&fs, Path::new(DIR), &bad).unwrap();
        assert_eq!(found.len(), unusable.len());
        assert!(found.iter().all(|finding| finding.problem.to_string().contains("it begins with 3")));

        let plan = repair::plan_judged(&fs, Path::new(DIR), &bad).unwrap();
        let before = disk.fingerprint();
        assert!(plan.actions.iter().all(|action| matches!(action, Action::Rewrite { .. })));
        assert_eq!(disk.fingerprint(), before, "a plan changes nothing");
        let originals: Vec<_> = plan
            .actions
            .iter()
            .map(|action| match action {
                Action::Rewrite { segment, .. } => fs.read(&segment.path).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        let report = repair::apply(&fs, plan).unwrap();
        assert_eq!(report.lost_records, unusable.len() as u64);
        assert!(strictly(&fs, Path::new(DIR)).unwrap() == usable, "{compression}");
        let kept: Vec<_> = report.quarantined.iter().map(|path| fs.read(path).unwrap()).collect();
        assert!(originals.iter().all(|original| kept.contains(original)), "originals are kept whole");
        assert!(repair::plan_judged(&fs, Path::new(DIR), &bad).unwrap().actions.is_empty());
    }
    println!("seed {SEED}: {left_out} records left out");
    assert!(left_out > 5, "{left_out}");
}

fn segment(index: u64) -> PathBuf {
    Path::new(DIR).join(segment_name(index))
}

/// Damages a segment in one of the ways disks do.
fn damage(fs: &Fs, path: &Path, rng: &mut StdRng) -> &'static str {
    let file = fs.open_write(path).unwrap();
    let len = file.len().unwrap();
    let block = rng.random_range(0..len) / 4096 * 4096;
    match rng.random_range(0..5) {
        0 => {
            let (at, mut byte) = (rng.random_range(0..len), [0]);
            file.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= 1 << rng.random_range(0..8);
            file.write_all_at(&byte, at).unwrap();
            "flip"
        }
        1 => {
            file.write_all_at(&[0; 4096][..4096.min((len - block) as usize)], block).unwrap();
            "zeroed block"
        }
        2 => {
            file.set_len(rng.random_range(0..len)).unwrap();
            "cut"
        }
        3 => {
            let noise: Vec<u8> = (0..200.min(len - block)).map(|_| rng.random()).collect();
            file.write_all_at(&noise, block).unwrap();
            "noise"
        }
        _ => {
            let mut bytes = [0; 512];
            let n = file.read_full_at(&mut bytes, block).unwrap();
            let to = rng.random_range(0..len) / 512 * 512;
            file.write_all_at(&bytes[..n.min((len - to) as usize)], to).unwrap();
            "misdirected sector"
        }
    }
}

#[test]
fn repair_keeps_what_salvage_reads_and_the_result_is_sound() {
    let mut kinds = std::collections::BTreeMap::new();
    for seed in 0..150 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (_, fs) = disk();
        let written = write(&fs, Path::new(DIR), CODECS[seed as usize % 3], &mut rng, 60);
        let last = fs.list(Path::new(DIR)).unwrap().len() as u64 - 2;
        let mut originals = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let target = segment(rng.random_range(0..=last));
            *kinds.entry(damage(&fs, &target, &mut rng)).or_insert(0) += 1;
            originals.push(target);
        }
        let originals: Vec<_> = originals.iter().map(|path| (path, fs.read(path).unwrap())).collect();
        let readable = salvaged(&fs);
        assert!(readable.iter().all(|record| written.contains(record)), "seed {seed}: a record was invented");

        let plan = repair::plan(&fs, Path::new(DIR)).unwrap();
        assert_eq!(strictly(&fs, Path::new(DIR)).is_err(), has_rewrite(&plan.actions), "seed {seed}: {plan:?}");
        let rewritten: Vec<_> = plan.actions.iter().filter_map(rewritten).collect();
        let report = repair::apply(&fs, plan).unwrap();
        assert_eq!(strictly(&fs, Path::new(DIR)).unwrap(), readable, "seed {seed}");
        assert!(verify(&fs, Path::new(DIR)).unwrap().is_empty(), "seed {seed}");
        for (path, bytes) in originals.iter().filter(|(path, _)| rewritten.contains(path)) {
            let kept = report.quarantined.iter().any(|kept| fs.read(kept).unwrap() == *bytes);
            assert!(kept, "seed {seed}: the original of {} is not kept", path.display());
        }
        assert!(repair::plan(&fs, Path::new(DIR)).unwrap().actions.is_empty(), "seed {seed}");
        let (log, _) = Log::open(fs.clone(), Path::new(DIR), options(Compression::None)).unwrap();
        log.append([b"goes on".as_slice()]).unwrap();
    }
    println!("{kinds:?}");
    assert!(kinds.len() == 5 && kinds.values().all(|&n| n >= 30), "{kinds:?}");
}

fn has_rewrite(actions: &[Action]) -> bool {
    actions.iter().any(|action| rewritten(action).is_some())
}

fn rewritten(action: &Action) -> Option<PathBuf> {
    match action {
        Action::Rewrite { segment, .. } => Some(segment.path.clone()),
        _ => None,
    }
}

/// A damaged log, its repair interrupted at any moment, and the repair that follows.
struct Interrupted {
    seed: u64,
}

impl Interrupted {
    fn expected(&self) -> Vec<Vec<u8>> {
        let (disk, fs) = disk();
        self.prepare(&disk);
        salvaged(&fs)
    }
}

impl Scenario for Interrupted {
    type Note = ();
    type Recovered = ();

    fn prepare(&self, disk: &SimFs) {
        let fs: Fs = Arc::new(disk.clone());
        let mut rng = StdRng::seed_from_u64(self.seed);
        write(&fs, Path::new(DIR), Compression::Snappy, &mut rng, 60);
        for index in [0, 1] {
            damage(&fs, &segment(index), &mut rng);
        }
        let checkpoint = Path::new("/data/chunk_snapshot.000009.0000000100");
        fs.create_dir(checkpoint).unwrap();
        disk.write_new(&Path::new(DIR).join("-1"), b"odd").unwrap();
    }

    fn run(&self, disk: &SimFs, _: &Journal<()>) {
        let _outcome: Result<(), String> = self.recover(disk);
    }

    fn recover(&self, disk: &SimFs) -> Result<(), String> {
        let fs: Fs = Arc::new(disk.clone());
        let plan = repair::plan(&fs, Path::new(DIR)).map_err(|e| e.to_string())?;
        repair::apply(&fs, plan).map(drop).map_err(|e| e.to_string())
    }

    fn check(&self, disk: &SimFs, (): (), _: &[()]) -> Result<(), String> {
        let fs: Fs = Arc::new(disk.clone());
        if strictly(&fs, Path::new(DIR))? != self.expected() {
            return Err("a sound record is lost".to_owned());
        }
        let again = repair::plan(&fs, Path::new(DIR)).map_err(|e| e.to_string())?;
        if again.actions.is_empty() { Ok(()) } else { Err(format!("not done: {again:?}")) }
    }
}

#[test]
fn a_crash_in_repair_needs_nothing_but_another_repair() {
    for seed in [3, 4] {
        let report = Enumerator::new(seed).exhaustive(5).samples(12).nested(1, 20, 3).run(&Interrupted { seed });
        println!("{report:?}");
        report.assert_clean();
    }
}

#[test]
fn snapshots_of_rewritten_segments_are_retired() {
    let (_, fs) = disk();
    write(&fs, Path::new(DIR), Compression::None, &mut StdRng::seed_from_u64(1), 60);
    for name in ["chunk_snapshot.000000.0000000100", "chunk_snapshot.000005.0000000100", "chunk_snapshot.000001.tmp"] {
        fs.create_dir(&Path::new("/data").join(name)).unwrap();
    }
    fs.open_write(&segment(1)).unwrap().write_all_at(&[0xff; 9], 100).unwrap();
    repair::apply(&fs, repair::plan(&fs, Path::new(DIR)).unwrap()).unwrap();
    let left: Vec<_> = fs.list(Path::new("/data")).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(left, ["chunk_snapshot.000000.0000000100", "quarantine", "wal"]);
    assert_eq!(fs.list(Path::new("/data/quarantine")).unwrap().len(), 2);
}

#[test]
fn a_damaged_checkpoint_is_repaired_where_it_stands_and_the_log_is_not_touched() {
    let (_, fs) = disk();
    let mut rng = StdRng::seed_from_u64(1);
    let written = write(&fs, Path::new(DIR), Compression::None, &mut rng, 60);
    let checkpoint = Path::new(DIR).join(checkpoint_name(0));
    write(&fs, &checkpoint, Compression::None, &mut rng, 20);
    fs.open_write(&checkpoint.join(segment_name(0))).unwrap().write_all_at(&[0xff; 9], 100).unwrap();
    let findings = verify(&fs, Path::new(DIR)).unwrap();
    assert!(findings.iter().all(|finding| finding.reference == Reference::DeletesTheLog), "{findings:?}");
    repair::apply(&fs, repair::plan(&fs, Path::new(DIR)).unwrap()).unwrap();
    assert_eq!(strictly(&fs, Path::new(DIR)).unwrap(), written);
    assert!(strictly(&fs, &checkpoint).is_ok());
    assert!(!fs.exists(&checkpoint.join("quarantine")).unwrap(), "it would go with the checkpoint");
    let left = verify(&fs, Path::new(DIR)).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_zeroed_page_is_found_also_at_the_end_where_only_the_ledger_knows() {
    let (_, fs) = disk();
    write(&fs, Path::new(DIR), Compression::None, &mut StdRng::seed_from_u64(1), 60);
    let file = fs.open_write(&segment(0)).unwrap();
    // From a record's end to the segment's end, so that nothing but the ledger can tell.
    let mut reader = LogReader::open(fs.clone(), Path::new(DIR)).unwrap();
    let mut ends = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        if record.position.segment == 0 {
            ends.push(record.end);
        }
    }
    let end = ends[ends.len() - 2];
    let len = (file.len().unwrap() - end) as usize;
    file.write_all_at(&vec![0; len], end).unwrap();
    assert!(strictly(&fs, Path::new(DIR)).is_ok(), "the format shows nothing");
    let findings = verify(&fs, Path::new(DIR)).unwrap();
    assert!(matches!(findings[..], [ref one] if matches!(one.problem, Problem::Lost(_))), "{findings:?}");
    repair::apply(&fs, repair::plan(&fs, Path::new(DIR)).unwrap()).unwrap();
    assert!(verify(&fs, Path::new(DIR)).unwrap().is_empty());
}

#[test]
fn swapped_pages_are_found() {
    let (_, fs) = disk();
    // One record a page, so that the pages are alike in everything but their data.
    let (log, _) = Log::open(fs.clone(), Path::new(DIR), options(Compression::None)).unwrap();
    for i in 0..2 {
        log.append([vec![i; PAGE_SIZE - 7].as_slice()]).unwrap();
    }
    log.close().unwrap();
    let bytes = fs.read(&segment(0)).unwrap();
    let file = fs.open_write(&segment(0)).unwrap();
    file.write_all_at(&bytes[PAGE_SIZE..2 * PAGE_SIZE], 0).unwrap();
    file.write_all_at(&bytes[..PAGE_SIZE], PAGE).unwrap();
    assert!(strictly(&fs, Path::new(DIR)).is_ok(), "the format shows nothing");
    let findings = verify(&fs, Path::new(DIR)).unwrap();
    assert!(matches!(findings[..], [ref one] if matches!(one.problem, Problem::Lost(_))), "{findings:?}");
}
