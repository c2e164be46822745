//! Copies of what was written and is not durable yet, so that a failed fsync can hand it back: the kernel may have
//! dropped its own.

use std::collections::VecDeque;

use crate::error::Position;
use crate::log::options::Durability;

/// Bytes kept until a sync; when there are more, the writer syncs at once. That also bounds what a crash loses.
const LIMIT: usize = 16 * 1024 * 1024;

/// Pieces are not grown beyond this, so that forgetting their beginning frees memory.
const PIECE: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Retained {
    /// With the reference's durability up to two segments are not durable: too much to keep in memory.
    on: bool,
    pieces: VecDeque<(Position, Vec<u8>)>,
    len: usize,
}

impl Retained {
    pub(super) fn new(durability: Durability) -> Self {
        Self { on: durability != Durability::Rotate, pieces: VecDeque::new(), len: 0 }
    }

    pub(super) fn keep(&mut self, at: Position, bytes: &[u8]) {
        if !self.on {
            return;
        }
        self.len += bytes.len();
        if let Some((start, last)) = self.pieces.back_mut()
            && start.segment == at.segment
            && start.offset + last.len() as u64 == at.offset
            && last.len() < PIECE
        {
            last.extend_from_slice(bytes);
            return;
        }
        self.pieces.push_back((at, bytes.to_vec()));
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    pub(super) fn is_full(&self) -> bool {
        self.len > LIMIT
    }

    /// Everything before `to` is durable.
    pub(super) fn forget(&mut self, to: Position) {
        while let Some((start, bytes)) = self.pieces.front_mut() {
            let covered = if start.segment < to.segment {
                bytes.len()
            } else if start.segment == to.segment && start.offset < to.offset {
                bytes.len().min((to.offset - start.offset) as usize)
            } else {
                0
            };
            self.len -= covered;
            if covered < bytes.len() {
                bytes.drain(..covered);
                start.offset += covered as u64;
                break;
            }
            self.pieces.pop_front();
        }
    }

    /// Everything from `to` on was taken back.
    pub(super) fn cut(&mut self, to: Position) {
        while let Some((start, bytes)) = self.pieces.back_mut() {
            if *start >= to {
                self.len -= bytes.len();
                self.pieces.pop_back();
                continue;
            }
            if start.segment == to.segment {
                let keep = bytes.len().min((to.offset - start.offset) as usize);
                self.len -= bytes.len() - keep;
                bytes.truncate(keep);
            }
            break;
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.len = 0;
    }

    /// The bytes of `segment` from `from` to `to`, if all of them are here.
    pub(super) fn bytes(&self, segment: u64, from: u64, to: u64) -> Option<Vec<u8>> {
        let mut found = Vec::new();
        for (start, bytes) in self.pieces.iter().filter(|(start, _)| start.segment == segment) {
            if start.offset == from + found.len() as u64 {
                found.extend_from_slice(bytes);
            }
        }
        (found.len() as u64 == to - from).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u64) -> Position {
        Position { segment, offset }
    }

    #[test]
    fn what_is_durable_is_forgotten_and_the_rest_kept() {
        let mut retained = Retained::new(Durability::Always);
        retained.keep(at(1, 10), b"abc");
        retained.keep(at(1, 13), b"def");
        retained.keep(at(2, 0), b"ghi");
        retained.forget(at(1, 12));
        assert_eq!(retained.bytes(1, 12, 16).as_deref(), Some(b"cdef".as_slice()));
        assert_eq!(retained.bytes(1, 10, 16), None);
        retained.cut(at(2, 1));
        assert_eq!(retained.bytes(2, 0, 1).as_deref(), Some(b"g".as_slice()));
        retained.forget(at(2, 1));
        assert_eq!(retained.len, 0);
    }

    #[test]
    fn with_the_reference_durability_nothing_is_kept() {
        let mut retained = Retained::new(Durability::Rotate);
        retained.keep(at(1, 10), b"abc");
        assert_eq!((retained.bytes(1, 10, 13), retained.len), (None, 0));
    }
}
