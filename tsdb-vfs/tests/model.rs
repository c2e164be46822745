//! What the simulated disk loses and keeps, case by case.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use tsdb_vfs::sim::{BLOCK_SIZE, CrashPoint, Dirty, Failure, Fault, Kept, OpKind, SECTOR_SIZE};
use tsdb_vfs::{SimFs, Vfs, VfsFile, is_disk_full};

const LOG: &str = "/log";

/// A disk with a durable file.
fn disk_with(bytes: &[u8]) -> (SimFs, Box<dyn VfsFile>) {
    let disk = SimFs::new(1);
    let file = disk.create_new(Path::new(LOG)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

fn contents(disk: &SimFs) -> Option<Vec<u8>> {
    disk.read(Path::new(LOG)).ok()
}

/// Everything that may be left of the log at this moment.
fn possible(point: &CrashPoint) -> BTreeSet<Option<Vec<u8>>> {
    assert!(point.changes() <= 12, "small cases only");
    let subsets = (0..1 << point.changes()).map(Kept::Subset);
    subsets.chain((0..2000).map(Kept::Random)).map(|kept| contents(&point.image(kept))).collect()
}

fn names(disk: &SimFs, dir: &str) -> Vec<String> {
    disk.list(Path::new(dir)).unwrap().into_iter().map(|e| e.name.into_string().unwrap()).collect()
}

/// Everything that may be left of the root directory's names.
fn possible_names(disk: &SimFs) -> BTreeSet<Vec<String>> {
    let point = disk.crash_point();
    (0..1 << point.changes()).map(|bits| names(&point.image(Kept::Subset(bits)), "/")).collect()
}

fn set<const N: usize>(names: [&[&str]; N]) -> BTreeSet<Vec<String>> {
    names.iter().map(|names| names.iter().map(|&name| name.to_owned()).collect()).collect()
}

#[test]
fn synced_bytes_stay_and_unsynced_ones_may_go() {
    let (disk, file) = disk_with(b"synced");
    assert_eq!(possible(&disk.crash_point()), [Some(b"synced".to_vec())].into());
    file.write_all_at(b" not", 6).unwrap();
    let left = possible(&disk.crash_point());
    let expected = [b"synced".to_vec(), b"synced not".to_vec(), b"synced\0\0\0\0".to_vec()].map(Some);
    assert_eq!(left, expected.into(), "lost, kept, size before data");
    file.sync_data().unwrap();
    assert_eq!(possible(&disk.crash_point()), [Some(b"synced not".to_vec())].into());
}

#[test]
fn blocks_are_lost_independently() {
    let (disk, file) = disk_with(&[1; 3 * BLOCK_SIZE]);
    for block in 0..3 {
        file.write_all_at(&[2; BLOCK_SIZE], block * BLOCK_SIZE as u64).unwrap();
    }
    let whole: BTreeSet<Vec<u8>> = (0..8)
        .map(|bits| contents(&disk.crash_point().image(Kept::Subset(bits))).unwrap())
        .inspect(|bytes| assert!(bytes.chunks(BLOCK_SIZE).all(|block| block.iter().all(|b| b == &block[0]))))
        .collect();
    assert_eq!(whole.len(), 8);
}

#[test]
fn torn_blocks_are_torn_at_sectors() {
    let (disk, file) = disk_with(&[1; BLOCK_SIZE]);
    file.write_all_at(&[2; BLOCK_SIZE], 0).unwrap();
    let left = possible(&disk.crash_point());
    let sectors = |bytes: &[u8]| -> Vec<u8> { bytes.chunks(SECTOR_SIZE).map(|sector| sector[0]).collect() };
    for bytes in left.iter().flatten() {
        assert!(bytes.chunks(SECTOR_SIZE).all(|sector| sector.iter().all(|b| b == &sector[0])));
    }
    let torn: BTreeSet<Vec<u8>> = left.iter().flatten().map(|bytes| sectors(bytes)).collect();
    assert!(torn.contains(&vec![2, 1, 1, 1, 1, 1, 1, 1]), "only the first sector: {torn:?}");
    assert!(torn.contains(&vec![1, 1, 1, 1, 2, 2, 2, 2]), "only the second half: {torn:?}");
    assert!(torn.len() > 6, "{torn:?}");
}

#[test]
fn bytes_that_were_durable_in_a_rewritten_block_stay() {
    let (disk, file) = disk_with(&[1; 1000]);
    for at in 1000..1010 {
        file.write_all_at(&[2], at).unwrap();
    }
    for bytes in possible(&disk.crash_point()).iter().flatten() {
        assert_eq!(bytes[..1000], [1; 1000]);
        assert!(bytes[1000..].iter().all(|&b| b == 0 || b == 2));
    }
}

#[test]
fn older_versions_of_a_block_come_back() {
    let (disk, file) = disk_with(b"0");
    for version in b"123" {
        file.write_all_at(&[*version], 0).unwrap();
    }
    let left = possible(&disk.crash_point());
    assert_eq!(left, [b"0", b"1", b"2", b"3"].map(|v| Some(v.to_vec())).into());
}

#[test]
fn a_cut_may_not_have_happened_and_never_resurrects_after_a_sync() {
    let (disk, file) = disk_with(&[1; 6000]);
    file.set_len(10).unwrap();
    let left = possible(&disk.crash_point());
    assert_eq!(left, [Some(vec![1; 6000]), Some(vec![1; 10])].into(), "as a whole or not at all");
    file.write_all_at(&[2; 5], 10).unwrap();
    let left = possible(&disk.crash_point());
    for bytes in left.iter().flatten() {
        assert_eq!(bytes[..10], [1; 10]);
        assert!(bytes.len() == 6000 || bytes.len() <= 15, "{}", bytes.len());
    }
    assert!(left.contains(&Some([[1; 10].as_slice(), &[1; 5]].concat())), "the length before the block's new contents");
    file.sync_all().unwrap();
    let expected = [vec![1; 10], vec![2; 5]].concat();
    assert_eq!(possible(&disk.crash_point()), [Some(expected)].into());
}

#[test]
fn blocks_that_a_cut_freed_are_zeros_when_they_are_used_again() {
    let (disk, file) = disk_with(&[1; 3 * BLOCK_SIZE]);
    file.set_len(0).unwrap();
    file.write_all_at(&[2; 100], 2 * BLOCK_SIZE as u64).unwrap();
    let left = possible(&disk.crash_point());
    assert!(left.contains(&Some(vec![1; 3 * BLOCK_SIZE])), "nothing has happened");
    for bytes in left.iter().flatten().filter(|bytes| bytes.len() != 3 * BLOCK_SIZE) {
        assert!(bytes.iter().all(|&b| b != 1), "no old bytes once the cut has happened");
    }
    assert!(left.len() > 3, "{}", left.len());
}

#[test]
fn a_name_needs_its_directory_synced() {
    let disk = SimFs::new(1);
    disk.write_new(Path::new("/a"), b"1").unwrap();
    disk.write_new(Path::new("/b"), b"2").unwrap();
    assert_eq!(possible_names(&disk), set([&[], &["a"], &["b"], &["a", "b"]]), "in any combination");
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(possible_names(&disk), set([&["a", "b"]]));
    disk.remove_file(Path::new("/a")).unwrap();
    assert_eq!(possible_names(&disk), set([&["a", "b"], &["b"]]));
}

#[test]
fn a_rename_is_never_half_done() {
    let (disk, _) = disk_with(b"old");
    disk.write_new(Path::new("/tmp"), b"new").unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(Path::new("/tmp"), Path::new(LOG)).unwrap();
    assert_eq!(possible_names(&disk), set([&["log"], &["log", "tmp"]]));
    let left = possible(&disk.crash_point());
    assert_eq!(left, [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
}

#[test]
fn a_file_moved_to_another_directory_keeps_a_name() {
    for synced in ["", "/", "/q"] {
        let (disk, _) = disk_with(b"evidence");
        disk.create_dir(Path::new("/q")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.rename(Path::new(LOG), Path::new("/q/log")).unwrap();
        if !synced.is_empty() {
            disk.sync_dir(Path::new(synced)).unwrap();
        }
        let point = disk.crash_point();
        let mut seen = BTreeSet::new();
        for kept in (0..1 << point.changes()).map(Kept::Subset) {
            let image = point.image(kept);
            seen.insert((contents(&image).is_some(), image.exists(Path::new("/q/log")).unwrap()));
        }
        let expected: &[(bool, bool)] = match synced {
            "" => &[(false, true), (true, false), (true, true)],
            // The old name cannot go without the new one.
            "/" => &[(false, true)],
            _ => &[(false, true), (true, true)],
        };
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected, "{synced:?} synced");
    }
}

#[test]
fn a_directory_whose_name_is_lost_takes_its_files_along() {
    let disk = SimFs::new(1);
    disk.create_dir_all(Path::new("/data/wal")).unwrap();
    disk.write_new(Path::new("/data/wal/0"), b"1").unwrap();
    disk.sync_dir(Path::new("/data/wal")).unwrap();
    assert_eq!(names(&disk.crash_point().image(Kept::Nothing), "/"), [""; 0]);
    disk.sync_dir(Path::new("/")).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    let image = disk.crash_point().image(Kept::Nothing);
    assert_eq!(image.read(Path::new("/data/wal/0")).unwrap(), b"1");
}

#[test]
fn a_failed_sync_treats_dirty_pages_as_ordered() {
    for (dirty, seen, after_second_sync) in [
        (Dirty::Keep, &b"new"[..], vec![&b"new"[..]]),
        (Dirty::Drop, b"new", vec![b"new", b"old"]),
        (Dirty::Revert, b"old", vec![b"new", b"old"]),
    ] {
        let (disk, file) = disk_with(b"old");
        file.write_all_at(b"new", 0).unwrap();
        let fault = Fault::FailedSync(dirty, 5);
        disk.inject(Failure::new(fault).kind(OpKind::SyncData));
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(contents(&disk).unwrap(), seen, "{dirty:?}: what readers see");
        file.sync_data().unwrap();
        let expected = after_second_sync.into_iter().map(|v| Some(v.to_vec())).collect();
        assert_eq!(possible(&disk.crash_point()), expected, "{dirty:?}: a later sync proves nothing");
        file.write_all_at(b"END", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(possible(&disk.crash_point()), [Some(b"END".to_vec())].into(), "{dirty:?}: unless written again");
    }
}

#[test]
fn a_failed_sync_of_a_directory_may_lose_names_for_good() {
    let disk = SimFs::new(1);
    disk.write_new(Path::new("/a"), b"").unwrap();
    disk.inject(Failure::new(Fault::SYNC_DROPS).kind(OpKind::SyncDir));
    disk.sync_dir(Path::new("/")).unwrap_err();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(possible_names(&disk), set([&[], &["a"]]));
    disk.write_new(Path::new("/b"), b"").unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(possible_names(&disk), set([&["b"], &["a", "b"]]));
}

#[test]
fn a_killed_process_leaves_what_readers_saw_and_nothing_more_durable() {
    let (disk, file) = disk_with(b"old");
    file.write_all_at(b"new", 0).unwrap();
    let killed = disk.crash_point().image(Kept::ProcessOnly);
    assert_eq!(contents(&killed).unwrap(), b"new");
    assert_eq!(contents(&killed.crash_point().image(Kept::Nothing)).unwrap(), b"old");
    assert_eq!(killed.open_handles(), 0);
}

#[test]
fn failures_meet_what_they_were_ordered_for() {
    let (disk, file) = disk_with(b"");
    disk.create_dir(Path::new("/other")).unwrap();
    disk.inject(Failure::new(Fault::EIO).kind(OpKind::Write).under(LOG).nth(1).sticky());
    let other = disk.create_new(Path::new("/other/file")).unwrap();
    file.write_all_at(b"a", 0).unwrap();
    for _ in 0..3 {
        assert_eq!(file.write_at(b"b", 1).unwrap_err().raw_os_error(), Some(5));
        other.write_all_at(b"c", 0).unwrap();
    }
    file.sync_data().unwrap();
    assert_eq!(disk.fired(), 3);
    disk.heal();
    file.write_all_at(b"d", 1).unwrap();
    assert_eq!(contents(&disk).unwrap(), b"ad");

    disk.inject(Failure::new(Fault::ENOSPC).from_number(disk.operations() + 1));
    disk.metadata(Path::new(LOG)).unwrap();
    assert!(is_disk_full(&disk.metadata(Path::new(LOG)).unwrap_err()));
    disk.metadata(Path::new(LOG)).unwrap();
}

#[test]
fn short_and_broken_writes_leave_a_part() {
    let mut lengths = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimFs::new(seed);
        let file = disk.create_new(Path::new(LOG)).unwrap();
        disk.inject(Failure::new(Fault::ShortWrite));
        let n = file.write_at(&[1; 100], 0).unwrap();
        assert!((1..100).contains(&n) && file.len().unwrap() == n as u64);
        disk.inject(Failure::new(Fault::BrokenWrite(28)));
        assert!(is_disk_full(&file.write_at(&[1; 100], 100).unwrap_err()));
        lengths.insert(file.len().unwrap());
        disk.inject(Failure::new(Fault::ShortWrite).sticky());
        file.write_all_at(&[3; 100], 0).unwrap();
        assert_eq!(contents(&disk).unwrap()[..100], [3; 100], "short writes are gone on with");
    }
    assert!(lengths.len() > 50, "the break comes anywhere: {lengths:?}");
}

#[test]
fn interruptions_are_retried() {
    let (disk, file) = disk_with(b"abc");
    disk.inject(Failure::new(Fault::EINTR).sticky());
    file.write_all_at(b"d", 3).unwrap();
    assert_eq!(file.read_at(&mut [0], 0).unwrap_err().kind(), io::ErrorKind::Interrupted);
    assert_eq!(disk.read(Path::new(LOG)).unwrap(), b"abcd");
    file.sync_data().unwrap();
}

#[test]
fn a_full_disk_takes_what_fits_until_space_returns() {
    let (disk, file) = disk_with(&[1; 100]);
    disk.set_capacity(Some(3 * BLOCK_SIZE as u64));
    assert_eq!(disk.used(), BLOCK_SIZE as u64);
    let n = file.write_at(&vec![2; 4 * BLOCK_SIZE], 100).unwrap();
    assert_eq!(n, 3 * BLOCK_SIZE - 100, "short");
    let e = file.write_at(&[2], 3 * BLOCK_SIZE as u64).unwrap_err();
    assert!(is_disk_full(&e));
    file.write_all_at(&[3; 100], 50).unwrap();
    assert!(is_disk_full(&disk.create_new(Path::new("/more")).unwrap_err()));
    assert!(is_disk_full(&file.allocate(0, 4 * BLOCK_SIZE as u64).unwrap_err()));
    file.set_len(2 * BLOCK_SIZE as u64).unwrap();
    file.allocate(0, 3 * BLOCK_SIZE as u64).unwrap();
    assert_eq!(disk.used(), 3 * BLOCK_SIZE as u64);
    file.write_all_at(&[4; BLOCK_SIZE], 2 * BLOCK_SIZE as u64).unwrap();

    disk.remove_file(Path::new(LOG)).unwrap();
    assert!(disk.create_new(Path::new("/more")).is_err(), "an open handle holds the space");
    drop(file);
    disk.create_new(Path::new("/more")).unwrap();
}

#[test]
fn what_is_reserved_is_there_when_the_disk_is_full() {
    const BLOCK: u64 = BLOCK_SIZE as u64;
    let (disk, file) = disk_with(&[1; 100]);
    disk.set_capacity(Some(4 * BLOCK));
    file.reserve(100, 3 * BLOCK - 100).unwrap();
    assert_eq!((disk.used(), file.len().unwrap()), (3 * BLOCK, 100));
    assert!(is_disk_full(&file.reserve(3 * BLOCK, 2 * BLOCK).unwrap_err()));
    disk.create_new(Path::new("/more")).unwrap().write_all_at(&[1; BLOCK_SIZE], 0).unwrap();
    assert!(disk.create_new(Path::new("/full")).is_err());
    file.write_all_at(&[2; 2 * BLOCK_SIZE], 100).unwrap();
    assert_eq!(disk.used(), 4 * BLOCK, "no block more");
    file.set_len(file.len().unwrap()).unwrap();
    file.set_len(100).unwrap();
    assert_eq!(disk.used(), 2 * BLOCK, "given back");
    // A crash knows nothing of it.
    file.reserve(100, 3 * BLOCK - 100).unwrap();
    let image = disk.crash_point().image(Kept::Nothing);
    assert_eq!(image.read(Path::new(LOG)).unwrap(), [1; 100]);
}

#[test]
fn the_same_seed_draws_the_same_image() {
    let (disk, file) = disk_with(&[0; 100]);
    for i in 0..20 {
        file.write_all_at(&[i; 3000], u64::from(i) * 2500).unwrap();
    }
    let (a, b) = (disk.crash_point(), disk.crash_point());
    let mut distinct = BTreeSet::new();
    for seed in 0..200 {
        let image = a.image(Kept::Random(seed)).fingerprint();
        assert_eq!(image, b.image(Kept::Random(seed)).fingerprint());
        distinct.insert(image);
    }
    assert!(distinct.len() > 50);
}

#[test]
fn operations_are_recorded_with_their_outcome() {
    let disk = SimFs::new(1);
    disk.record_ops();
    disk.inject(Failure::new(Fault::EIO).kind(OpKind::Write));
    let file = disk.create_new(Path::new(LOG)).unwrap();
    file.write_all_at(b"abc", 7).unwrap_err();
    let lines: Vec<String> = disk.ops().iter().map(ToString::to_string).collect();
    assert_eq!(lines[0], "#0 create /log");
    assert!(lines[1].starts_with("#1 write /log, 3 bytes at 7 (injected): Input/output error"), "{lines:?}");
    assert_eq!(disk.counts().to_string(), "create 1, write 1");
}
