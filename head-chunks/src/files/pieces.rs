//! All chunks of all files on many threads, in order.
//!
//! Where a record begins is known only to who has read all before it. So a thread that is given a piece of a file guesses:
//! it looks for the first sound record in it and goes on from there. Whether that was right is seen when the pieces are
//! put in order: where one ends the next has to begin. If it does not, or if anything was found that is no sound record,
//! that piece is read once more, by the one who knows. So what comes out is what a single thread finds, whatever the
//! bytes are.
//!
//! The thread that calls gives out what was found, and looks at pieces itself while there is nothing to give out. The others
//! help: each goes on until there is no piece left or too many wait to be given out, and is called again when there is one.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::ops::Range;

use parking_lot::{Condvar, Mutex};

use super::layout::FILE_HEADER_LEN;
use super::read::ScanError;
use super::scan::{PIECE, Scan};
use super::{ChunkMeta, Damage, FilesError, OpenFile};

/// Pieces for each thread between the one that is given out and the last one begun: what was found in them waits, 50 to
/// 100 kB each, while somebody is slow.
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
    let cuts = sources.iter().enumerate().flat_map(|(source, Source { end, .. })| {
        // One piece at least of every file, for its header's sake.
        let start = FILE_HEADER_LEN as u64;
        let starts = (start..(*end).max(start + 1)).step_by(PIECE);
        starts.map(move |start| (source, start..(start + PIECE as u64).min(*end).max(start)))
    });
    let threads = rayon::current_num_threads().max(1);
    let team = Team { sources, most: PER_THREAD * threads, state: Mutex::new(State::new(cuts)), found: Condvar::new() };
    let mut order = Order::default();
    let mut buffer = Vec::new();
    // This thread looks at pieces too, whenever the next one in order is not there yet.
    rayon::in_place_scope(|scope| {
        loop {
            let mut state = team.state.lock();
            let next = match state.next() {
                Some(next) => next,
                None => match state.take(team.most) {
                    Some((number, piece)) => {
                        drop(state);
                        team.look(number, piece, &mut buffer);
                        state = team.state.lock();
                        state.help(team.most, threads - 1, || scope.spawn(|_| team.help()));
                        continue;
                    }
                    None if state.begun.is_empty() => return Ok(()),
                    None => {
                        team.found.wait(&mut state);
                        continue;
                    }
                },
            };
            state.help(team.most, threads - 1, || scope.spawn(|_| team.help()));
            drop(state);
            if let Err(error) = order.join(sources, &next, &mut chunk) {
                team.state.lock().stopped = true;
                return Err(error);
            }
            team.state.lock().spare.push(next);
        }
    })?;
    Ok(order.damages)
}

/// Who looks at pieces: the thread that gives out what they found, and others as long as there is something to do. None of
/// these waits: a thread that is lent to us may be needed elsewhere.
struct Team<'s, I: Iterator<Item = (usize, Range<u64>)>> {
    sources: &'s [Source],
    /// Pieces that may have been begun and not given out.
    most: usize,
    state: Mutex<State<I>>,
    /// What is next in order was found.
    found: Condvar,
}

struct State<I: Iterator> {
    cuts: Peekable<I>,
    /// Pieces from the next one in order on; `None` while somebody looks at them.
    begun: VecDeque<Option<Piece>>,
    /// The number of the first of them.
    first: usize,
    /// Memory to use again, that used last first: it is in the cache.
    spare: Vec<Piece>,
    buffers: Vec<Vec<u8>>,
    helpers: usize,
    stopped: bool,
}

impl<I: Iterator<Item = (usize, Range<u64>)>> State<I> {
    fn new(cuts: I) -> Self {
        let (begun, spare, buffers) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { cuts: cuts.peekable(), begun, first: 0, spare, buffers, helpers: 0, stopped: false }
    }

    /// The next piece in order, if it was looked at.
    fn next(&mut self) -> Option<Piece> {
        let piece = self.begun.front_mut()?.take()?;
        self.begun.pop_front();
        self.first += 1;
        Some(piece)
    }

    /// Whether there is a piece to look at.
    fn has_more(&mut self, most: usize) -> bool {
        !self.stopped && self.begun.len() < most && self.cuts.peek().is_some()
    }

    /// A piece to look at, and its number.
    fn take(&mut self, most: usize) -> Option<(usize, Piece)> {
        if !self.has_more(most) {
            return None;
        }
        let (source, range) = self.cuts.next()?;
        let mut metas = self.spare.pop().unwrap_or_default().metas;
        metas.clear();
        self.begun.push_back(None);
        Some((self.first + self.begun.len() - 1, Piece { source, range, found: None, metas }))
    }

    /// Calls for help if there is work for one more.
    fn help(&mut self, most: usize, helpers: usize, call: impl FnOnce()) {
        if self.helpers < helpers && self.has_more(most) {
            self.helpers += 1;
            call();
        }
    }
}

impl<I: Iterator<Item = (usize, Range<u64>)>> Team<'_, I> {
    /// Looks at pieces until there are none, or too many wait to be given out.
    fn help(&self) {
        let mut state = self.state.lock();
        let mut buffer = state.buffers.pop().unwrap_or_default();
        while let Some((number, piece)) = state.take(self.most) {
            drop(state);
            self.look(number, piece, &mut buffer);
            state = self.state.lock();
        }
        state.buffers.push(buffer);
        state.helpers -= 1;
    }

    /// Looks for records in a piece. What cannot be read is met again, and reported, when the pieces are put in order.
    fn look(&self, number: usize, piece: Piece, buffer: &mut Vec<u8>) {
        // Handed over even by a thread that panics: somebody may wait for it.
        let mut handover = Handover { team: self, number, piece };
        let piece = &mut handover.piece;
        let mut scan = self.sources[piece.source].scan().of_piece(&piece.range, std::mem::take(buffer));
        piece.found = scan.sound(piece.range.clone(), &mut piece.metas).unwrap_or_default();
        *buffer = scan.into_buffer();
    }
}

/// A piece that somebody looks at.
struct Handover<'t, 's, I: Iterator<Item = (usize, Range<u64>)>> {
    team: &'t Team<'s, I>,
    number: usize,
    piece: Piece,
}

impl<I: Iterator<Item = (usize, Range<u64>)>> Drop for Handover<'_, '_, I> {
    fn drop(&mut self) {
        let mut state = self.team.state.lock();
        let place = self.number - state.first;
        state.begun[place] = Some(std::mem::take(&mut self.piece));
        if place == 0 {
            self.team.found.notify_one();
        }
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
