//! All chunks of all files on many threads, in order.
//!
//! Where a record begins is known only to who has read all before it. So a thread that is given a piece of a file guesses:
//! it looks for the first sound record in it and goes on from there. Whether that was right is seen when the pieces are
//! put in order: where one ends the next has to begin. If it does not, or if anything was found that is no sound record,
//! that piece is read once more, by the one who knows. So what comes out is what a single thread finds, whatever the
//! bytes are.

use std::ops::Range;

use parking_lot::Mutex;
use rayon::prelude::*;

use super::layout::FILE_HEADER_LEN;
use super::read::ScanError;
use super::scan::{PIECE, Scan};
use super::{ChunkMeta, Damage, FilesError, OpenFile};

/// Pieces for each thread between two times at which all wait for each other: they have to be few for their results' sake,
/// 50 to 100 kB each, and many for the waiting's.
const PER_THREAD: usize = 16;

/// A file to scan, up to `end`.
pub(super) struct Source {
    pub(super) number: u32,
    pub(super) open: OpenFile,
    pub(super) end: u64,
}

/// A piece of a file and what was found in it.
#[derive(Default)]
struct Piece {
    source: usize,
    range: Range<u64>,
    /// Where the records lie that were found one behind the other; `None` if there were none.
    found: Option<Range<u64>>,
    metas: Vec<ChunkMeta>,
}

/// Calls `chunk` for every sound chunk, in order, on this thread, and returns what is not sound.
pub(super) fn scan_all<E: From<FilesError>>(
    sources: &[Source],
    mut chunk: impl FnMut(&ChunkMeta) -> Result<(), E>,
) -> Result<Vec<Damage>, E> {
    let mut cuts = sources.iter().enumerate().flat_map(|(source, Source { end, .. })| {
        // One piece at least of every file, for its header's sake.
        let start = FILE_HEADER_LEN as u64;
        let starts = (start..(*end).max(start + 1)).step_by(PIECE);
        starts.map(move |start| (source, start..(start + PIECE as u64).min(*end).max(start)))
    });
    let size = PER_THREAD * rayon::current_num_threads().max(1);
    let (mut done, mut next) = (Wave::default(), Wave::default());
    let mut order = Order::default();
    let buffers = Mutex::new(Vec::new());
    next.take(size, &mut cuts);
    while done.len + next.len > 0 {
        // What was found last is given out while the threads go on.
        rayon::in_place_scope(|scope| {
            let pieces = &mut next.pieces[..next.len];
            // A single piece is left to the one who puts them in order.
            if pieces.len() > 1 {
                scope.spawn(|_| pieces.par_iter_mut().for_each(|piece| piece.look(sources, &buffers)));
            }
            done.pieces[..done.len].iter().try_for_each(|piece| order.join(sources, piece, &mut chunk))
        })?;
        std::mem::swap(&mut done, &mut next);
        next.take(size, &mut cuts);
    }
    Ok(order.damages)
}

/// Pieces that are looked at together; their memory is used again.
#[derive(Default)]
struct Wave {
    pieces: Vec<Piece>,
    len: usize,
}

impl Wave {
    fn take(&mut self, most: usize, cuts: &mut impl Iterator<Item = (usize, Range<u64>)>) {
        self.len = 0;
        for (source, range) in cuts.take(most) {
            if self.len == self.pieces.len() {
                self.pieces.push(Piece::default());
            }
            let piece = &mut self.pieces[self.len];
            (piece.source, piece.range, piece.found) = (source, range, None);
            piece.metas.clear();
            self.len += 1;
        }
    }
}

impl Piece {
    /// Looks for records. What cannot be read is met again, and reported, when the pieces are put in order.
    fn look(&mut self, sources: &[Source], buffers: &Mutex<Vec<Vec<u8>>>) {
        let source = &sources[self.source];
        let buffer = buffers.lock().pop().unwrap_or_default();
        let mut scan = source.scan().of_piece(&self.range, buffer);
        self.found = scan.sound(self.range.clone(), &mut self.metas).unwrap_or_default();
        buffers.lock().push(scan.into_buffer());
    }
}

impl Source {
    fn scan(&self) -> Scan<'_> {
        Scan::new(&*self.open.file, self.number, &self.open.path, self.end)
    }

    fn unreadable(&self, source: std::io::Error) -> FilesError {
        FilesError::Io { action: "read", path: self.open.path.clone(), source }
    }
}

/// Puts pieces in order, and reads again what was guessed wrong.
#[derive(Default)]
struct Order<'s> {
    /// The file that the pieces are of, read by the one who knows where its records begin.
    current: Option<(usize, Scan<'s>)>,
    /// Where the next record begins in it.
    pos: u64,
    damages: Vec<Damage>,
}

impl<'s> Order<'s> {
    fn join<E: From<FilesError>>(
        &mut self,
        sources: &'s [Source],
        piece: &Piece,
        chunk: &mut impl FnMut(&ChunkMeta) -> Result<(), E>,
    ) -> Result<(), E> {
        let source = &sources[piece.source];
        let damages = &mut self.damages;
        let mut damage = |damage| damages.push(damage);
        let scan = match &mut self.current {
            Some((of, scan)) if *of == piece.source => scan,
            current => {
                let (_, scan) = current.insert((piece.source, source.scan()));
                scan.header(&mut damage).map_err(|e| source.unreadable(e))?;
                self.pos = FILE_HEADER_LEN as u64;
                scan
            }
        };
        if let Some(found) = piece.found.as_ref().filter(|found| found.start == self.pos) {
            piece.metas.iter().try_for_each(&mut *chunk)?;
            self.pos = found.end;
        }
        let mut caller = |meta: &ChunkMeta, _: &[u8]| chunk(meta).map_err(ScanError::Caller);
        match scan.run(self.pos, piece.range.end, &mut caller, &mut damage) {
            Ok(pos) => self.pos = pos,
            Err(ScanError::Caller(error)) => return Err(error),
            Err(ScanError::Io(error)) => return Err(source.unreadable(error).into()),
        }
        Ok(())
    }
}
