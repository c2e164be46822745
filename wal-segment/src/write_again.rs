//! Writing the bytes that are there once more: a process that died after a failed sync may have left pages that the kernel
//! takes for clean and that never reached the disk, and syncing them would prove nothing.

use std::path::Path;

use tsdb_vfs::{Fs, VfsFile};

/// What is read and written at once: it stays in the cache between the two.
const PIECE: u64 = 128 * 1024;

/// A file that is written again, from the front to the back. While somebody reads it the bytes come from there.
#[derive(Debug)]
pub(crate) struct WriteAgain {
    file: Box<dyn VfsFile>,
    /// All from the beginning up to here is done.
    at: u64,
    failed: Option<std::io::Error>,
}

impl WriteAgain {
    /// Of what lies before `from` it is known that it is durable.
    pub(crate) fn from(fs: &Fs, path: &Path, from: u64) -> std::io::Result<Self> {
        Ok(Self { file: fs.open_write(path)?, at: from, failed: None })
    }

    /// Takes bytes that were read at `offset`. A failure is for [`finish`](Self::finish) to tell.
    pub(crate) fn pass(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        if self.failed.is_some() || !(offset..end).contains(&self.at) {
            return;
        }
        match self.file.write_all_at(&bytes[(self.at - offset) as usize..], self.at) {
            Ok(()) => self.at = end,
            Err(e) => self.failed = Some(e),
        }
    }

    /// Cuts the file to `len`, writes what is left of it and makes it durable.
    pub(crate) fn finish(self, len: u64) -> std::io::Result<()> {
        let Self { file, mut at, failed } = self;
        if let Some(failed) = failed {
            return Err(failed);
        }
        file.set_len(len)?;
        let mut piece = vec![0; len.saturating_sub(at).min(PIECE) as usize];
        while at < len {
            let wanted = piece.len().min((len - at) as usize);
            file.read_exact_at(&mut piece[..wanted], at)?;
            file.write_all_at(&piece[..wanted], at)?;
            at += wanted as u64;
        }
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdb_vfs::sim::{Failure, Fault, Kept, OpKind};
    use tsdb_vfs::{SimFs, Vfs};

    use super::*;

    const PARTS: [&[(usize, usize)]; 4] =
        [&[], &[(0, 100_000)], &[(0, 100_000), (100_000, 399_999)], &[(50_000, 70_000), (60_000, 200_000)]];

    fn bytes() -> Vec<u8> {
        (0..400_000_u32).map(|i| (i / 7) as u8 | 1).collect()
    }

    /// Pages that a failed sync has dropped read as they were and are not on the disk; a later sync says nothing of them.
    #[test]
    fn what_a_failed_sync_dropped_is_durable_whoever_reads_it() {
        let (bytes, path) = (bytes(), Path::new("/file"));
        for parts in PARTS {
            for again in [true, false] {
                let disk = SimFs::new(1);
                let fs: Fs = Arc::new(disk.clone());
                let file = fs.create_new(path).expect("a disk");
                fs.sync_dir(Path::new("/")).expect("a disk");
                file.write_all_at(&bytes, 0).expect("a disk");
                disk.inject(Failure::new(Fault::SYNC_DROPS).kind(OpKind::SyncData));
                assert!(file.sync_data().is_err());
                if again {
                    let mut again = WriteAgain::from(&fs, path, 0).expect("a file");
                    for &(start, end) in parts {
                        again.pass(&bytes[start..end], start as u64);
                    }
                    again.finish(399_000).expect("a disk");
                } else {
                    file.sync_data().expect("nothing to do");
                }
                let after = disk.crash_point().image(Kept::Nothing);
                assert_eq!(after.read(path).expect("a file") == bytes[..399_000], again, "{parts:?}");
            }
        }
    }

    #[test]
    fn what_is_known_to_be_durable_is_not_written() {
        let (bytes, path) = (bytes(), Path::new("/file"));
        for parts in PARTS {
            for from in [0, 60_000, 400_000] {
                let disk = SimFs::new(1);
                let fs: Fs = Arc::new(disk.clone());
                fs.write_new(path, &bytes).expect("a disk");
                disk.record_ops();
                let mut again = WriteAgain::from(&fs, path, from).expect("a file");
                parts.iter().for_each(|&(start, end)| again.pass(&bytes[start..end], start as u64));
                again.finish(399_000).expect("a disk");
                assert_eq!(fs.read(path).expect("a file"), &bytes[..399_000]);
                let ops = disk.ops();
                let writes: Vec<_> = ops.iter().filter(|op| op.kind == OpKind::Write).collect();
                assert!(writes.iter().all(|op| op.offset >= from), "{parts:?} from {from}");
                let written: u64 = writes.iter().map(|op| op.len).sum();
                assert!(written >= 399_000_u64.saturating_sub(from) && written <= 400_000_u64.saturating_sub(from));
            }
        }
    }

    #[test]
    fn a_write_that_fails_is_told_at_the_end() {
        let (bytes, path) = (bytes(), Path::new("/file"));
        let disk = SimFs::new(1);
        let fs: Fs = Arc::new(disk.clone());
        fs.write_new(path, &bytes).expect("a disk");
        let mut again = WriteAgain::from(&fs, path, 0).expect("a file");
        disk.inject(Failure::new(Fault::EIO).kind(OpKind::Write));
        again.pass(&bytes[..100_000], 0);
        again.pass(&bytes[100_000..], 100_000);
        assert!(again.finish(400_000).is_err());
    }
}
