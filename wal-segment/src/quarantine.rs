//! Where damaged bytes go: a directory beside them. Nothing is ever deleted or overwritten there.

use std::io;
use std::path::{Path, PathBuf};

use tsdb_vfs::Fs;

use crate::error::{Error, ReadError};
use crate::layout::QUARANTINE_NAME;

/// Bytes copied at once.
const PIECE: usize = 1024 * 1024;

/// Keeps a copy of the bytes `from..len` of the file `source`, in `dir` or below it, durably, and returns where. Called
/// again after a crash it finds its own copy.
pub(crate) fn keep_range(fs: &Fs, dir: &Path, source: &Path, from: u64, len: u64) -> Result<PathBuf, Error> {
    let quarantine = open(fs, dir)?;
    let wanted = format!("{}.{from}-{len}", name_of(dir, source));
    for turn in 0.. {
        let kept = quarantine.join(if turn == 0 { wanted.clone() } else { format!("{wanted}.{turn}") });
        if !fs.exists(&kept).map_err(Error::io(&kept))? {
            return copy(fs, source, from, len, &kept).and_then(|()| sync(fs, dir, &quarantine)).map(|()| kept);
        }
        if same(fs, source, from, len, &kept).map_err(Error::io(&kept))? {
            sync(fs, dir, &quarantine)?;
            return Ok(kept);
        }
    }
    Err(Error::io(quarantine)(io::ErrorKind::AlreadyExists.into()))
}

/// Moves a file or directory, in `dir` or below it, away, durably, and returns where to.
pub(crate) fn move_away(fs: &Fs, dir: &Path, source: &Path) -> Result<PathBuf, Error> {
    let quarantine = open(fs, dir)?;
    let kept = free_name(fs, &quarantine, &name_of(dir, source))?;
    fs.rename(source, &kept).map_err(Error::io(source))?;
    // The new name first: at no time is there none.
    sync(fs, dir, &quarantine)?;
    if let Some(parent) = source.parent().filter(|&parent| parent != dir) {
        fs.sync_dir(parent).map_err(Error::io(parent))?;
    }
    Ok(kept)
}

/// What a path below `dir` is called in the quarantine, which is flat.
fn name_of(dir: &Path, source: &Path) -> String {
    let inside = source.strip_prefix(dir).unwrap_or(source);
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("-")
}

/// A name in `dir`'s quarantine that nothing has yet.
fn free_name(fs: &Fs, quarantine: &Path, name: &str) -> Result<PathBuf, Error> {
    for turn in 0.. {
        let free = quarantine.join(if turn == 0 { name.to_owned() } else { format!("{name}.{turn}") });
        if !fs.exists(&free).map_err(Error::io(&free))? {
            return Ok(free);
        }
    }
    Err(Error::io(quarantine)(io::ErrorKind::AlreadyExists.into()))
}

fn open(fs: &Fs, dir: &Path) -> Result<PathBuf, Error> {
    let quarantine = dir.join(QUARANTINE_NAME);
    if !fs.dir_exists(&quarantine).map_err(Error::io(&quarantine))? {
        fs.create_dir(&quarantine).map_err(Error::io(&quarantine))?;
        fs.sync_dir(dir).map_err(Error::io(dir))?;
    }
    Ok(quarantine)
}

fn sync(fs: &Fs, dir: &Path, quarantine: &Path) -> Result<(), Error> {
    fs.sync_dir(quarantine).map_err(Error::io(quarantine))?;
    fs.sync_dir(dir).map_err(Error::io(dir))
}

/// Under a temporary name first, so that a copy has its name only when it is whole.
fn copy(fs: &Fs, source: &Path, from: u64, len: u64, kept: &Path) -> Result<(), Error> {
    let temporary = kept.with_extension("tmp");
    if fs.exists(&temporary).map_err(Error::io(&temporary))? {
        fs.remove_file(&temporary).map_err(Error::io(&temporary))?;
    }
    let read = fs.open_read(source).map_err(Error::io(source))?;
    let write = fs.create_new(&temporary).map_err(Error::io(&temporary))?;
    let mut piece = vec![0; PIECE.min((len - from) as usize)];
    let mut at = from;
    while at < len {
        let wanted = piece.len().min((len - at) as usize);
        let n = read.read_full_at(&mut piece[..wanted], at).map_err(Error::io(source))?;
        if n == 0 {
            return Err(Error::Read(ReadError::io(source)(io::ErrorKind::UnexpectedEof.into()).into()));
        }
        write.write_all_at(&piece[..n], at - from).map_err(Error::io(&temporary))?;
        at += n as u64;
    }
    write.sync_all().map_err(Error::io(&temporary))?;
    fs.rename(&temporary, kept).map_err(Error::io(kept))
}

fn same(fs: &Fs, source: &Path, from: u64, len: u64, kept: &Path) -> io::Result<bool> {
    let (read, copy) = (fs.open_read(source)?, fs.open_read(kept)?);
    if copy.len()? != len - from {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = from;
    while at < len {
        let wanted = PIECE.min((len - at) as usize);
        let n = read.read_full_at(&mut a[..wanted], at)?;
        let m = copy.read_full_at(&mut b[..wanted], at - from)?;
        if n == 0 || a[..n] != b[..m] {
            return Ok(false);
        }
        at += n as u64;
    }
    Ok(true)
}
