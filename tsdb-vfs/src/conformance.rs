//! What every [`Vfs`] must do: one suite for the real file system, the simulated disk and any other.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path();
//! tsdb_vfs::conformance::check(&tsdb_vfs::RealFs::new(), dir)?;
//! # Ok(())
//! # }
//! ```

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;

use crate::{FileKind, Metadata, Vfs, is_not_regular};

/// Runs the suite in an existing, empty directory.
///
/// # Errors
/// An operation that should have succeeded did not.
///
/// # Panics
/// An operation did something else than the traits promise; the message says what.
pub fn check(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    files_keep_what_is_written(fs, dir)?;
    lengths_grow_and_shrink(fs, dir)?;
    handles_refuse_what_they_were_not_opened_for(fs, dir)?;
    vectored_writes_equal_plain_ones(fs, dir)?;
    names_appear_and_vanish(fs, dir)?;
    directories_nest(fs, dir)?;
    renames_replace(fs, dir)?;
    removed_files_stay_readable(fs, dir)?;
    only_regular_files_open(fs, dir)?;
    locks_exclude(fs, dir)?;
    assert_eq!(fs.list(dir)?, [], "each part cleans up after itself");
    Ok(())
}

/// Asserts that a call failed with this kind of error.
#[track_caller]
fn fails<T>(kind: ErrorKind, result: io::Result<T>) {
    match result {
        Ok(_) => panic!("succeeded, expected {kind:?}"),
        Err(e) => assert_eq!(e.kind(), kind, "{e}"),
    }
}

#[track_caller]
fn refused<T>(result: io::Result<T>) {
    match result {
        Ok(_) => panic!("opened something that is not a regular file"),
        Err(e) => assert!(is_not_regular(&e), "{e:?}"),
    }
}

fn files_keep_what_is_written(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let path = dir.join("file");
    fails(ErrorKind::NotFound, fs.open_read(&path));
    fails(ErrorKind::NotFound, fs.open_write(&path));
    let file = fs.create_new(&path)?;
    fails(ErrorKind::AlreadyExists, fs.create_new(&path));
    assert!(file.is_empty()?);
    file.write_all_at(b"hello world", 0)?;
    file.write_all_at(b"W", 6)?;
    file.sync_data()?;
    file.sync_all()?;
    fs.sync_dir(dir)?;
    assert_eq!(fs.read(&path)?, b"hello World");

    let again = fs.open_write(&path)?;
    assert_eq!(again.len()?, 11, "opening for writing keeps the contents");
    again.write_all_at(b"!", 11)?;
    let mut buf = [0; 5];
    file.read_exact_at(&mut buf, 7)?;
    assert_eq!(&buf, b"orld!", "handles see each other's writes at once");
    fails(ErrorKind::UnexpectedEof, file.read_exact_at(&mut buf, 8));
    assert_eq!(file.read_full_at(&mut buf, 8)?, 4);
    assert_eq!(file.read_at(&mut buf, 12)?, 0, "nothing at the end");
    assert_eq!(file.read_at(&mut buf, 1 << 40)?, 0, "nothing behind it");
    assert_eq!(file.read_at(&mut [], 0)?, 0);
    assert_eq!(file.write_at(&[], 0)?, 0);
    assert_eq!(&*file.map()?, b"hello World!");
    fs.remove_file(&path)
}

fn lengths_grow_and_shrink(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let path = dir.join("lengths");
    let file = fs.create_new(&path)?;
    assert_eq!(file.map()?.len(), 0, "an empty file has an empty map");
    file.write_all_at(b"abc", 5000)?;
    assert_eq!(file.len()?, 5003);
    assert_eq!(fs.metadata(&path)?, Metadata { kind: FileKind::File, len: 5003 });
    let read = fs.read(&path)?;
    assert!(read[..5000].iter().all(|&b| b == 0), "a gap reads as zeros");
    file.set_len(5001)?;
    file.set_len(9000)?;
    let read = fs.read(&path)?;
    assert_eq!(read.len(), 9000);
    assert_eq!(&read[5000..5004], b"a\0\0\0", "what was cut off does not come back");
    file.allocate(8000, 10_000)?;
    assert_eq!(file.len()?, 18_000, "allocating extends");
    file.allocate(0, 100)?;
    assert_eq!(file.len()?, 18_000, "and never shortens");
    assert_eq!(fs.read(&path)?[5000], b'a', "and keeps the contents");
    file.reserve(18_000, 50_000)?;
    file.reserve(60_000, 0)?;
    assert_eq!(file.len()?, 18_000, "reserving changes no length");
    file.write_all_at(b"z", 20_000)?;
    assert_eq!(fs.read(&path)?[18_000..], [&[0; 2000][..], b"z"].concat(), "what is reserved reads as zeros");
    file.set_len(20_001)?;
    assert_eq!(file.len()?, 20_001, "giving back what is reserved keeps the length");
    file.set_len(0)?;
    assert!(file.is_empty()?);
    fs.remove_file(&path)
}

fn handles_refuse_what_they_were_not_opened_for(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let path = dir.join("read-only");
    fs.write_new(&path, b"kept")?;
    let file = fs.open_read(&path)?;
    assert!(file.write_at(b"x", 0).is_err(), "a handle for reading wrote");
    assert!(file.set_len(0).is_err(), "a handle for reading cut");
    assert_eq!(fs.read(&path)?, b"kept");
    fs.remove_file(&path)
}

fn vectored_writes_equal_plain_ones(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let path = dir.join("vectored");
    let parts: Vec<Vec<u8>> = (0..3000_usize).map(|i| vec![(i % 251) as u8; i % 7]).collect();
    let file = fs.create_new(&path)?;
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_all_vectored_at(&mut slices, 3)?;
    let mut expected = vec![0; 3];
    expected.extend(parts.concat());
    assert!(fs.read(&path)? == expected, "more buffers than one call takes");
    file.write_all_vectored_at(&mut [IoSlice::new(&[]), IoSlice::new(&[])], 0)?;
    file.write_all_vectored_at(&mut [], 0)?;
    assert!(fs.read(&path)? == expected, "empty buffers write nothing");
    fs.remove_file(&path)
}

fn names_appear_and_vanish(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    for name in ["b", "a", "c"] {
        fs.write_new(&dir.join(name), name.as_bytes())?;
    }
    fs.create_dir(&dir.join("ab"))?;
    let listed: Vec<_> = fs.list(dir)?.into_iter().map(|e| (e.name.into_string(), e.kind, e.len)).collect();
    let entry = |name: &str, kind, len| (Ok(name.to_owned()), kind, len);
    let expected = [
        entry("a", FileKind::File, 1),
        entry("ab", FileKind::Dir, 0),
        entry("b", FileKind::File, 1),
        entry("c", FileKind::File, 1),
    ];
    assert_eq!(listed, expected, "sorted by name");
    assert!(fs.exists(&dir.join("a"))?);
    for name in ["a", "b", "c"] {
        fs.remove_file(&dir.join(name))?;
    }
    assert!(!fs.exists(&dir.join("a"))?);
    fails(ErrorKind::NotFound, fs.remove_file(&dir.join("a")));
    fails(ErrorKind::NotFound, fs.metadata(&dir.join("a")));
    assert!(fs.remove_file(&dir.join("ab")).is_err(), "a directory is not removed as a file");
    fs.remove_dir_all(&dir.join("ab"))?;
    fails(ErrorKind::NotFound, fs.list(&dir.join("ab")));
    fails(ErrorKind::NotFound, fs.sync_dir(&dir.join("ab")));
    Ok(())
}

fn directories_nest(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let deep = dir.join("x/y/z");
    fails(ErrorKind::NotFound, fs.create_dir(&deep));
    fs.create_dir_all(&deep)?;
    fs.create_dir_all(&deep)?;
    fails(ErrorKind::AlreadyExists, fs.create_dir(&deep));
    assert!(fs.dir_exists(&deep)? && fs.dir_exists(&dir.join("x"))?);
    assert!(!fs.dir_exists(&dir.join("x/q"))?);
    fs.write_new(&deep.join("file"), b"1")?;
    assert!(!fs.dir_exists(&deep.join("file"))?);
    assert!(!fs.dir_exists(&deep.join("file/under"))?);
    assert!(!fs.exists(&deep.join("file/under"))?);
    fails(ErrorKind::NotADirectory, fs.list(&deep.join("file")));
    fails(ErrorKind::NotADirectory, fs.create_new(&deep.join("file/under")));
    fails(ErrorKind::NotADirectory, fs.sync_dir(&deep.join("file")));
    assert_eq!(fs.metadata(&deep)?, Metadata { kind: FileKind::Dir, len: 0 });
    fs.remove_dir_all(&dir.join("x"))?;
    assert!(!fs.dir_exists(&dir.join("x"))?);
    fails(ErrorKind::NotFound, fs.remove_dir_all(&dir.join("x")));
    Ok(())
}

fn renames_replace(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let (a, b, sub) = (dir.join("a"), dir.join("b"), dir.join("sub"));
    fs.write_new(&a, b"new")?;
    fs.write_new(&b, b"old")?;
    fs.create_dir(&sub)?;
    let handle = fs.open_read(&b)?;
    fs.rename(&a, &b)?;
    assert!(!fs.exists(&a)?);
    assert_eq!(fs.read(&b)?, b"new");
    assert_eq!(&*handle.map()?, b"old", "a handle stays with its file");
    fails(ErrorKind::NotFound, fs.rename(&a, &b));
    fs.rename(&b, &b)?;
    assert_eq!(fs.read(&b)?, b"new", "onto itself");
    fs.rename(&b, &sub.join("moved"))?;
    assert_eq!(fs.read(&sub.join("moved"))?, b"new");
    fs.create_dir(&a)?;
    fs.rename(&sub, &a)?;
    assert_eq!(fs.read(&a.join("moved"))?, b"new", "an empty directory is replaced");
    fs.create_dir(&sub)?;
    fails(ErrorKind::DirectoryNotEmpty, fs.rename(&sub, &a));
    fails(ErrorKind::InvalidInput, fs.rename(&a, &a.join("under")));
    fails(ErrorKind::NotADirectory, fs.rename(&sub, &a.join("moved")));
    fails(ErrorKind::IsADirectory, fs.rename(&a.join("moved"), &sub));
    fs.remove_dir_all(&a)?;
    fs.remove_dir_all(&sub)
}

fn removed_files_stay_readable(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let path = dir.join("removed");
    fs.write_new(&path, b"still here")?;
    let file = fs.open_read(&path)?;
    fs.remove_file(&path)?;
    fs.sync_dir(dir)?;
    fs.write_new(&path, b"another")?;
    let mut buf = [0; 10];
    file.read_exact_at(&mut buf, 0)?;
    assert_eq!(&buf, b"still here");
    fs.remove_file(&path)
}

fn only_regular_files_open(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let path = dir.join("00000000");
    fs.create_dir(&path)?;
    refused(fs.open_read(&path));
    refused(fs.open_write(&path));
    refused(fs.lock(&path));
    fails(ErrorKind::AlreadyExists, fs.create_new(&path));
    fs.remove_dir_all(&path)
}

fn locks_exclude(fs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let path = dir.join("lock");
    let lock = fs.lock(&path)?;
    assert!(lock.is_current()?);
    fails(ErrorKind::WouldBlock, fs.lock(&path));
    drop(lock);
    assert!(fs.exists(&path)?, "releasing leaves the file");
    let lock = fs.lock(&path)?;
    fs.remove_file(&path)?;
    assert!(!lock.is_current()?, "unlinked under the holder");
    let other = fs.lock(&path)?;
    assert!(other.is_current()? && !lock.is_current()?);
    drop((lock, other));
    fs.remove_file(&path)
}
