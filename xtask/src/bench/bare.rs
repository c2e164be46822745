//! Floors: what the operating system takes for the bytes alone, with nothing of ours or theirs.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;
use tsdb_vfs::{RealFs, Vfs};

use super::versus::Cost;

/// Hands over these files, in pieces as our readers want them, to so many threads.
pub(super) fn reads(paths: &[PathBuf], threads: usize) -> Result<()> {
    const PIECE: u64 = 256 << 10;
    for path in paths {
        let file = RealFs::new().open_read(path)?;
        let (len, next) = (file.len()?, AtomicU64::new(0));
        let read = || -> std::io::Result<()> {
            let mut piece = vec![0; PIECE as usize];
            loop {
                let at = next.fetch_add(PIECE, Relaxed);
                if at >= len {
                    return Ok(());
                }
                file.read_full_at(&mut piece, at)?;
                black_box(&piece);
            }
        };
        match threads {
            1 => read()?,
            _ => std::thread::scope(|scope| {
                let handles: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
                handles.into_iter().try_for_each(|handle| handle.join().expect("no reader panics"))
            })?,
        }
    }
    Ok(())
}

/// What so many writes of so many bytes take, with space reserved as our writers do it, for each of `units`: nothing that
/// writes them before it returns can be faster. They come from as much memory as records do where both sides append: more than
/// the nearest caches hold.
pub(super) fn writes(path: &Path, len: usize, repeat: usize, sync: bool, units: u64) -> Result<Cost> {
    const AHEAD: u64 = 8 << 20;
    let bytes: Vec<u8> = (0..(8 << 20).max(len)).map(|i| i as u8).collect();
    let places = bytes.len() / len;
    let file = RealFs::new().create_new(path)?;
    let cost = Cost::measure(units, || {
        let (mut at, mut reserved) = (0, 0);
        for n in 0..repeat {
            if at + len as u64 > reserved {
                file.reserve(reserved, AHEAD)?;
                reserved += AHEAD;
            }
            file.write_all_at(&bytes[n % places * len..][..len], at)?;
            at += len as u64;
        }
        if sync {
            file.sync_all()?;
        }
        Ok(())
    })?;
    std::fs::remove_file(path)?;
    Ok(cost)
}
