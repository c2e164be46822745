//! The two file systems side by side: one suite for each, and random operations on both at once.

use std::io;
use std::path::Path;

use proptest::prelude::*;
use tsdb_vfs::{FileKind, RealFs, SimFs, Vfs, VfsFile, conformance, is_not_regular};

#[test]
fn the_real_file_system_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::check(&RealFs::new(), dir.path()).unwrap();
}

#[test]
fn the_simulated_disk_conforms() {
    let disk = SimFs::new(1);
    conformance::check(&disk, Path::new("/")).unwrap();
    disk.create_dir_all(Path::new("/data/wal")).unwrap();
    conformance::check(&disk, Path::new("/data/wal")).unwrap();
    assert_eq!(disk.open_handles(), 0);
}

#[test]
fn what_is_reserved_is_given_back_by_a_cut_to_the_same_length() {
    use std::os::unix::fs::MetadataExt;
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("file");
    let file = RealFs::new().create_new(&path).unwrap();
    file.write_all_at(&[1; 5000], 0).unwrap();
    file.sync_data().unwrap();
    let taken = || std::fs::metadata(&path).unwrap().blocks() * 512;
    let before = taken();
    file.reserve(5000, 1 << 20).unwrap();
    println!("{before} bytes, {} with 1 MiB reserved", taken());
    file.set_len(5000).unwrap();
    file.sync_all().unwrap();
    assert_eq!((taken(), file.len().unwrap()), (before, 5000));
}

#[test]
fn what_no_program_writes_is_refused_by_both() {
    let tmp = tempfile::tempdir().unwrap();
    let (fifo, link, dangling) = (tmp.path().join("fifo"), tmp.path().join("link"), tmp.path().join("dangling"));
    std::fs::write(tmp.path().join("target"), b"x").unwrap();
    std::os::unix::fs::symlink(tmp.path().join("target"), &link).unwrap();
    std::os::unix::fs::symlink(tmp.path().join("nowhere"), &dangling).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let real = RealFs::new();
    let disk = SimFs::new(1);
    disk.plant(Path::new("/fifo"), FileKind::Other).unwrap();
    disk.plant(Path::new("/link"), FileKind::Symlink).unwrap();
    let cases: [(&dyn Vfs, &Path, FileKind); 5] = [
        (&real, &fifo, FileKind::Other),
        (&real, &link, FileKind::Symlink),
        (&real, &dangling, FileKind::Symlink),
        (&disk, Path::new("/fifo"), FileKind::Other),
        (&disk, Path::new("/link"), FileKind::Symlink),
    ];
    for (fs, path, kind) in cases {
        assert_eq!(fs.metadata(path).unwrap().kind, kind, "{path:?}");
        for opened in [fs.open_read(path).map(drop), fs.open_write(path).map(drop), fs.lock(path).map(drop)] {
            let e = opened.expect_err("must be refused");
            assert!(is_not_regular(&e), "{path:?}: {e:?}");
            assert!(e.to_string().contains(&kind.to_string()), "{e}");
        }
        assert_eq!(fs.create_new(path).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{path:?}");
        fs.remove_file(path).unwrap();
    }
}

#[test]
fn a_lock_taken_by_another_program_is_seen() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("lock");
    let other = std::fs::File::create(&path).unwrap();
    other.lock().unwrap();
    assert_eq!(RealFs::new().lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(other);
    let ours = RealFs::new().lock(&path).unwrap();
    let other = std::fs::File::open(&path).unwrap();
    assert!(other.try_lock().is_err());
    drop(ours);
    other.try_lock().unwrap();
}

#[test]
fn exported_and_imported_trees_are_equal() {
    let tmp = tempfile::tempdir().unwrap();
    let disk = SimFs::new(1);
    disk.create_dir_all(Path::new("/a/b")).unwrap();
    disk.write_new(Path::new("/a/b/file"), &[7; 10_000]).unwrap();
    disk.write_new(Path::new("/a/empty"), b"").unwrap();
    disk.export(&tmp.path().join("out")).unwrap();
    let copy = SimFs::new(2);
    copy.import(&tmp.path().join("out"), Path::new("/")).unwrap();
    assert_eq!(copy.fingerprint(), disk.fingerprint());
    copy.create_dir(Path::new("/more")).unwrap();
    assert_ne!(copy.fingerprint(), disk.fingerprint());
}

/// One step of a random program over three files in two directories.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    OpenWrite(u8),
    Write(u64, usize, u8),
    SetLen(u64),
    Allocate(u64, u64),
    Reserve(u64, u64),
    ReadBack(u64, usize),
    Rename(u8, u8),
    Remove(u8),
    RemoveDir(u8),
    CreateDir(u8),
    Sync(u8),
    List(u8),
}

const PATHS: [&str; 7] = ["a", "b", "d", "d/a", "d/b", "e", "e/a"];

fn step() -> impl Strategy<Value = Step> {
    let path = || 0..PATHS.len() as u8;
    let at = || prop_oneof![0..300_u64, 4000..4200_u64, 0..20_000_u64];
    prop_oneof![
        3 => path().prop_map(Step::Create),
        2 => path().prop_map(Step::OpenWrite),
        6 => (at(), prop_oneof![0..40_usize, 0..9000_usize], any::<u8>()).prop_map(|(o, n, b)| Step::Write(o, n, b)),
        2 => at().prop_map(Step::SetLen),
        1 => (at(), at()).prop_map(|(o, n)| Step::Allocate(o, n)),
        1 => (at(), at()).prop_map(|(o, n)| Step::Reserve(o, n)),
        3 => (at(), 0..9000_usize).prop_map(|(o, n)| Step::ReadBack(o, n)),
        4 => (path(), path()).prop_map(|(a, b)| Step::Rename(a, b)),
        2 => path().prop_map(Step::Remove),
        1 => path().prop_map(Step::RemoveDir),
        2 => path().prop_map(Step::CreateDir),
        1 => path().prop_map(Step::Sync),
        2 => path().prop_map(Step::List),
    ]
}

/// What a step shows to its caller.
fn run(fs: &dyn Vfs, root: &Path, open: &mut Option<Box<dyn VfsFile>>, step: &Step) -> String {
    let path = |i: u8| root.join(PATHS[i as usize]);
    let kind = |r: io::Result<()>| format!("{:?}", r.map_err(|e| e.kind()));
    let on_open = |open: &Option<Box<dyn VfsFile>>, act: &dyn Fn(&dyn VfsFile) -> io::Result<()>| match open {
        Some(file) => kind(act(&**file).and_then(|()| file.len()).map(drop)),
        None => String::new(),
    };
    match step {
        Step::Create(p) => kind(fs.create_new(&path(*p)).map(|file| *open = Some(file))),
        Step::OpenWrite(p) => kind(fs.open_write(&path(*p)).map(|file| *open = Some(file))),
        Step::Write(at, n, b) => on_open(open, &|file| file.write_all_at(&vec![*b; *n], *at)),
        Step::SetLen(len) => on_open(open, &|file| file.set_len(*len)),
        Step::Allocate(at, n) => on_open(open, &|file| file.allocate(*at, *n)),
        Step::Reserve(at, n) => on_open(open, &|file| file.reserve(*at, *n)),
        Step::ReadBack(at, n) => match open {
            Some(file) => {
                let mut buf = vec![0xee; *n];
                let read = file.read_full_at(&mut buf, *at).map_err(|e| e.kind());
                format!("{read:?} of {} {buf:?} {}", file.len().unwrap(), *file.map().unwrap() == *buf)
            }
            None => String::new(),
        },
        Step::Rename(a, b) => kind(fs.rename(&path(*a), &path(*b))),
        Step::Remove(p) => match fs.remove_file(&path(*p)) {
            // Linux says "is a directory", other systems "not permitted".
            Err(_) if fs.dir_exists(&path(*p)).unwrap() => "a directory".into(),
            other => kind(other),
        },
        Step::RemoveDir(p) if fs.dir_exists(&path(*p)).unwrap() => kind(fs.remove_dir_all(&path(*p))),
        Step::RemoveDir(_) => String::new(),
        Step::CreateDir(p) => kind(fs.create_dir(&path(*p))),
        Step::Sync(p) => kind(fs.sync_dir(&path(*p))),
        Step::List(p) => format!("{:?}", fs.list(&path(*p)).map_err(|e| e.kind())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Without crashes and failures nobody can tell the simulated disk from the real one.
    #[test]
    fn random_programs_see_the_same_on_both(steps in proptest::collection::vec(step(), 1..60)) {
        let tmp = tempfile::tempdir().unwrap();
        let (real, disk) = (RealFs::new(), SimFs::new(1));
        let (mut on_real, mut on_disk) = (None, None);
        for step in &steps {
            let expected = run(&real, tmp.path(), &mut on_real, step);
            let found = run(&disk, Path::new("/"), &mut on_disk, step);
            prop_assert_eq!(&found, &expected, "{:?}", step);
        }
        let copy = SimFs::new(2);
        copy.import(tmp.path(), Path::new("/")).unwrap();
        prop_assert_eq!(copy.fingerprint(), disk.fingerprint());
    }
}
