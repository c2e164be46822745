//! Reading one chunk file from front to back, around whatever is damaged in it.
//!
//! A chunk is sound when its checksum is. After an unsound one the scan goes on at the next offset at which a sound one
//! begins; the length that the damaged one claims is not trusted, as it may be what is damaged. So a damaged chunk costs
//! itself, and a hole costs what lay in it.

use std::io;
use std::ops::Range;
use std::path::Path;

use tsdb_vfs::VfsFile;

use super::layout::{
    FILE_HEADER_LEN, MIN_RECORD_LEN, PREFIX_LEN, Parsed, RecordHead, Unverified, bytes_to_decide, check_file_header,
    is_filler, parse_record, plausible_record,
};
use super::{ChunkMeta, ChunkRef, Damage, Fault};

/// Read ahead by so much: large enough that a read's fixed cost vanishes, small enough to stay in the second-level cache.
pub(super) const PIECE: usize = 256 << 10;

/// Who looks at a piece of a file reads so much more at once: the last record that begins in it ends there, mostly.
const OVERHANG: u64 = 2048;

/// Where a piece's first record begins is guessed from records up to this length: what a chunk's bytes seem to say of a
/// length is mostly far more, and would have to be read.
const GUESSED: u64 = 16 << 10;

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
    let mut scan = Scan::new(file, number, path, end);
    scan.header(&mut damage)?;
    scan.run(FILE_HEADER_LEN as u64, end, &mut chunk, &mut damage)?;
    Ok(())
}

/// A walk over one file.
pub(super) struct Scan<'f> {
    window: Window<'f>,
    number: u32,
    path: &'f Path,
    end: u64,
    budget: u64,
}

impl<'f> Scan<'f> {
    pub(super) fn new(file: &'f dyn VfsFile, number: u32, path: &'f Path, end: u64) -> Self {
        Self { window: Window::new(file, end), number, path, end, budget: end.saturating_mul(SEARCH_BUDGET) }
    }

    /// One that is to look at a piece of the file only: reads ahead no further, into `buffer`.
    pub(super) fn of_piece(mut self, piece: &Range<u64>, buffer: Vec<u8>) -> Self {
        self.window.ahead_to = piece.end.saturating_add(OVERHANG).min(self.end);
        self.window.bytes = buffer;
        self.budget = (piece.end - piece.start).saturating_mul(SEARCH_BUDGET);
        self
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.window.bytes
    }

    /// Looks at the file's first bytes.
    pub(super) fn header(&mut self, damage: &mut impl FnMut(Damage)) -> io::Result<()> {
        if let Err(fault) = check_file_header(self.window.at(0, FILE_HEADER_LEN)?) {
            damage(self.lost(0, self.end.min(FILE_HEADER_LEN as u64), fault));
        }
        Ok(())
    }

    fn lost(&self, offset: u64, to: u64, fault: Fault) -> Damage {
        Damage { file: self.number, path: self.path.into(), offset, len: to - offset, at_end: to == self.end, fault }
    }

    /// Goes on at `pos`, where a record ends or the contents begin, until something begins at or behind `until`; says where.
    pub(super) fn run<E: From<io::Error>>(
        &mut self,
        mut pos: u64,
        until: u64,
        chunk: &mut impl FnMut(&ChunkMeta, &[u8]) -> Result<(), E>,
        damage: &mut impl FnMut(Damage),
    ) -> Result<u64, E> {
        while pos < until {
            let available = self.end - pos;
            let need = bytes_to_decide(self.window.at(pos, PREFIX_LEN)?, available);
            match parse_record(self.window.at(pos, need)?, available) {
                Parsed::Record { head, data, len } => {
                    let at = ChunkRef { file: self.number, offset: pos as u32 };
                    if !is_filler(&head, at) {
                        chunk(&head.meta(at, data), data)?;
                    }
                    pos += len as u64;
                }
                Parsed::NeedMore(needed) => {
                    // Somebody cut the file since its length was asked for.
                    let available = self.window.available(pos);
                    damage(self.lost(pos, self.end, Fault::Torn { needed: needed as u64, available }));
                    pos = self.end;
                }
                Parsed::End => {
                    let Some(data) = self.skip_zeros(pos)? else { return Ok(self.end) };
                    // The next record's first bytes may well be zeros too: its series ref is small.
                    let from = data.saturating_sub(MIN_RECORD_LEN as u64).max(pos + 1);
                    let next = self.search(from..self.end, u64::MAX)?.unwrap_or(self.end);
                    damage(self.lost(pos, next, Fault::Hole { after: data - pos }));
                    pos = next;
                }
                Parsed::Bad { fault, intact } => {
                    let next = match intact {
                        Some(len) => pos + len as u64,
                        None => self.search(pos + 1..self.end, u64::MAX)?.unwrap_or(self.end),
                    };
                    damage(self.lost(pos, next, fault));
                    pos = next;
                }
            }
        }
        Ok(pos)
    }

    /// The sound records that follow each other from the first on that begins in `range`: where they begin, and where they
    /// end, which is before the end of `range` if something else follows there.
    ///
    /// Without knowing what lies before `range` that may be a mistake: a chunk's bytes can look like records.
    pub(super) fn sound(&mut self, range: Range<u64>, metas: &mut Vec<ChunkMeta>) -> io::Result<Option<Range<u64>>> {
        let first = match range.start {
            start if start == FILE_HEADER_LEN as u64 => start,
            start => match self.search(start..range.end, GUESSED)? {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let number = self.number;
        let mut pos = first;
        let mut keep = |head: RecordHead, data: &[u8], pos: u64| {
            let at = ChunkRef { file: number, offset: pos as u32 };
            if !is_filler(&head, at) {
                metas.push(head.meta(at, data));
            }
        };
        while pos < range.end {
            let available = self.end - pos;
            let need = bytes_to_decide(self.window.at(pos, PREFIX_LEN)?, available);
            let mut bytes = self.window.at(pos, need)?;
            // What begins behind the range is another's, so the last ones are not looked at together.
            while let Some(three) = next_three(bytes)
                && pos + ((three[0].len() + three[1].len()) as u64) < range.end
            {
                for (record, sound) in three.iter().zip(Unverified::verify_three(three)) {
                    let Some((head, data)) = record.verified().filter(|_| sound) else { return Ok(Some(first..pos)) };
                    keep(head, data, pos);
                    pos += record.len() as u64;
                    bytes = &bytes[record.len()..];
                }
            }
            if pos >= range.end {
                break;
            }
            // One by one where the window ends, and at the end of the contents.
            let available = self.end - pos;
            let need = bytes_to_decide(self.window.at(pos, PREFIX_LEN)?, available);
            let Parsed::Record { head, data, len } = parse_record(self.window.at(pos, need)?, available) else { break };
            keep(head, data, pos);
            pos += len as u64;
        }
        Ok(Some(first..pos))
    }

    /// The first offset in `range` at which a sound record begins that is no longer than `longest`.
    fn search(&mut self, range: Range<u64>, longest: u64) -> io::Result<Option<u64>> {
        let mut pos = range.start;
        while pos < range.end && pos + MIN_RECORD_LEN as u64 <= self.end {
            let available = self.end - pos;
            if let Some(len) = plausible_record(self.window.at(pos, PREFIX_LEN)?, available.min(longest)) {
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

fn next_three(bytes: &[u8]) -> Option<[Unverified<'_>; 3]> {
    let a = Unverified::first_of(bytes)?;
    let b = Unverified::first_of(&bytes[a.len()..])?;
    let c = Unverified::first_of(&bytes[a.len() + b.len()..])?;
    Some([a, b, c])
}

/// A stretch of the file in memory, moved forward (and, for a search after a long record, back) as needed.
struct Window<'f> {
    file: &'f dyn VfsFile,
    end: u64,
    /// Not read ahead of need behind this.
    ahead_to: u64,
    /// Where in the file `bytes` begins.
    start: u64,
    /// What was read: the first `filled` of `bytes`, whose rest is kept so that it need not be zeroed for every read.
    bytes: Vec<u8>,
    filled: usize,
}

impl<'f> Window<'f> {
    fn new(file: &'f dyn VfsFile, end: u64) -> Self {
        Self { file, end, ahead_to: end, start: 0, bytes: Vec::new(), filled: 0 }
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
        let ahead = self.ahead_to.saturating_sub(pos).min(PIECE as u64 + OVERHANG) as usize;
        let want = n.max(ahead).min(self.end.saturating_sub(pos) as usize);
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
