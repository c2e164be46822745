//! Reading one chunk file from front to back, around whatever is damaged in it.
//!
//! A chunk is sound when its checksum is. After an unsound one the scan goes on at the next offset at which a sound one
//! begins; the length that the damaged one claims is not trusted, as it may be what is damaged. So a damaged chunk costs
//! itself, and a hole costs what lay in it.

use std::io;
use std::path::Path;

use tsdb_vfs::VfsFile;

use super::layout::{
    FILE_HEADER_LEN, MIN_RECORD_LEN, PREFIX_LEN, Parsed, bytes_to_decide, check_file_header, is_filler, parse_record,
    plausible_record,
};
use super::{ChunkMeta, ChunkRef, Damage, Fault};

/// Read ahead by so much: large enough that a read's fixed cost vanishes, small enough to stay in the second-level cache.
const PIECE: usize = 256 << 10;

/// The search for the next sound record may checksum at most so many times the file's length: bytes can be laid out so
/// that every offset looks like the beginning of a long record.
const SEARCH_BUDGET: u64 = 8;

/// Scans `file` up to `end`, calling `chunk` for every sound chunk in the order of the file, and `damage` for every stretch
/// that is not sound.
pub(super) fn scan_file<E: From<io::Error>>(
    file: &dyn VfsFile,
    number: u32,
    path: &Path,
    end: u64,
    mut chunk: impl FnMut(&ChunkMeta, &[u8]) -> Result<(), E>,
    mut damage: impl FnMut(Damage),
) -> Result<(), E> {
    let mut scan = Scan { window: Window::new(file, end), end, budget: end.saturating_mul(SEARCH_BUDGET) };
    let mut lost = |offset: u64, to: u64, fault: Fault| {
        damage(Damage { file: number, path: path.into(), offset, len: to - offset, at_end: to == end, fault });
    };
    if let Err(fault) = check_file_header(scan.window.at(0, FILE_HEADER_LEN)?) {
        lost(0, end.min(FILE_HEADER_LEN as u64), fault);
    }
    let mut pos = FILE_HEADER_LEN as u64;
    while pos < end {
        let available = end - pos;
        let prefix = scan.window.at(pos, PREFIX_LEN)?;
        let need = bytes_to_decide(prefix, available);
        let parsed = parse_record(scan.window.at(pos, need)?, available);
        match parsed {
            Parsed::Record { head, data, len } => {
                let at = ChunkRef { file: number, offset: pos as u32 };
                if !is_filler(&head, at) {
                    chunk(&head.meta(at, data), data)?;
                }
                pos += len as u64;
            }
            Parsed::NeedMore(needed) => {
                // Somebody cut the file since its length was asked for.
                lost(pos, end, Fault::Torn { needed: needed as u64, available: scan.window.available(pos) });
                break;
            }
            Parsed::End => {
                let Some(data) = scan.skip_zeros(pos)? else { break };
                // The next record's first bytes may well be zeros too: its series ref is small.
                let from = data.saturating_sub(MIN_RECORD_LEN as u64).max(pos + 1);
                let next = scan.search(from)?.unwrap_or(end);
                lost(pos, next, Fault::Hole { after: data - pos });
                pos = next;
            }
            Parsed::Bad { fault, intact } => {
                let next = match intact {
                    Some(len) => pos + len as u64,
                    None => scan.search(pos + 1)?.unwrap_or(end),
                };
                lost(pos, next, fault);
                pos = next;
            }
        }
    }
    Ok(())
}

struct Scan<'f> {
    window: Window<'f>,
    end: u64,
    budget: u64,
}

impl Scan<'_> {
    /// The first offset from `from` on at which a sound record begins.
    fn search(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut pos = from;
        while pos + MIN_RECORD_LEN as u64 <= self.end {
            let available = self.end - pos;
            if let Some(len) = plausible_record(self.window.at(pos, PREFIX_LEN)?, available) {
                let Some(budget) = self.budget.checked_sub(len as u64) else { return Ok(None) };
                self.budget = budget;
                if matches!(parse_record(self.window.at(pos, len)?, available), Parsed::Record { .. }) {
                    return Ok(Some(pos));
                }
            }
            pos += 1;
        }
        Ok(None)
    }

    /// The first byte from `from` on that is not zero.
    fn skip_zeros(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut pos = from;
        while pos < self.end {
            let piece = self.window.at(pos, 4096)?;
            if piece.is_empty() {
                break;
            }
            if let Some(at) = piece.iter().position(|b| *b != 0) {
                return Ok(Some(pos + at as u64));
            }
            pos += piece.len() as u64;
        }
        Ok(None)
    }
}

/// A stretch of the file in memory, moved forward (and, for a search after a long record, back) as needed.
struct Window<'f> {
    file: &'f dyn VfsFile,
    end: u64,
    /// Where in the file `bytes` begins.
    start: u64,
    /// What was read: the first `filled` of `bytes`, whose rest is kept so that it need not be zeroed for every read.
    bytes: Vec<u8>,
    filled: usize,
}

impl<'f> Window<'f> {
    fn new(file: &'f dyn VfsFile, end: u64) -> Self {
        Self { file, end, start: 0, bytes: Vec::new(), filled: 0 }
    }

    /// The bytes from `pos` on: at least `n`, or all up to the end. Fewer too if the file is shorter than it was.
    #[inline]
    fn at(&mut self, pos: u64, n: usize) -> io::Result<&[u8]> {
        let n = n.min(self.end.saturating_sub(pos) as usize);
        if pos < self.start || pos + n as u64 > self.start + self.filled as u64 {
            self.load(pos, n)?;
        }
        Ok(&self.bytes[(pos - self.start) as usize..self.filled])
    }

    /// How many bytes from `pos` on were there when they were read.
    fn available(&self, pos: u64) -> u64 {
        (self.start + self.filled as u64).saturating_sub(pos)
    }

    #[cold]
    fn load(&mut self, pos: u64, n: usize) -> io::Result<()> {
        let want = n.max(PIECE).min(self.end.saturating_sub(pos) as usize);
        // What is loaded already is moved, not read again.
        let kept = match pos.checked_sub(self.start) {
            Some(skip) if (skip as usize) < self.filled => {
                self.bytes.copy_within(skip as usize..self.filled, 0);
                self.filled - skip as usize
            }
            _ => 0,
        };
        self.start = pos;
        if self.bytes.len() < want {
            self.bytes.resize(want, 0);
        }
        let read =
            if kept < want { self.file.read_full_at(&mut self.bytes[kept..want], pos + kept as u64)? } else { 0 };
        self.filled = kept + read;
        Ok(())
    }
}
