//! What a checkpoint is made from.

use std::fmt;
use std::path::Path;

use tsdb_vfs::Fs;
use wal_segment::layout::{self, CheckpointRef};
use wal_segment::{Ledger, SegmentRef};

use crate::error::Error;
use crate::live::Live;

/// What a checkpoint is made from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub(crate) fs: &'a Fs,
    pub(crate) dir: &'a Path,
    pub(crate) live: Option<&'a dyn Live>,
    pub(crate) living: Option<&'a dyn Live>,
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fs: _, dir, live, living } = self;
        let (live, living) = (live.is_some(), living.is_some());
        f.debug_struct("Source").field("dir", dir).field("live", &live).field("living", &living).finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    /// The log in `dir`: its last checkpoint and the segments behind it are read again.
    pub fn segments(fs: &'a Fs, dir: &'a Path) -> Self {
        Self { fs, dir, live: None, living: None }
    }

    /// What a head holds in memory, instead of the log in `dir`, of which nothing is read. What `live` writes has to stand
    /// for everything in the range's segments and in the previous checkpoint that is still wanted.
    pub fn memory(fs: &'a Fs, dir: &'a Path, live: &'a dyn Live) -> Self {
        Self { fs, dir, live: Some(live), living: None }
    }

    /// `living` knows the labels of series: it writes the records of all that are alive. Where a salvaging run comes upon
    /// damage and finds no sound record of some of them, it is made once more, with those records at its beginning: their
    /// samples keep their labels. `living` is not asked otherwise.
    #[must_use]
    pub fn with_living(self, living: &'a dyn Live) -> Self {
        Self { living: Some(living), ..self }
    }
}

/// A range of a log that is worth a checkpoint.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) previous: Option<CheckpointRef>,
}

impl Range {
    /// The range behind the previous checkpoint; `None` when that stands for all of it already.
    pub(crate) fn find(source: &Source<'_>, from: u64, to: u64) -> Result<Option<Self>, Error> {
        let previous = layout::last_checkpoint(source.fs, source.dir)?;
        let Some(checkpoint) = &previous else {
            return Ok((from <= to).then_some(Self { from, to, previous }));
        };
        let expected = checkpoint.index + 1;
        if from > expected {
            return Err(Error::Gap { dir: source.dir.to_owned(), expected, from });
        }
        // Segments up to the checkpoint's number are leftovers of a removal that was interrupted.
        Ok((expected <= to).then_some(Self { from: expected, to, previous }))
    }

    /// The segments of the range, all of them, and what was durable of them.
    pub(crate) fn group(&self, source: &Source<'_>) -> Result<Group, Error> {
        let (ledger, mut segments) = Ledger::with_segments(source.fs, source.dir)?;
        segments.retain(|segment| (self.from..=self.to).contains(&segment.index));
        layout::check_sequence(&segments)?;
        let missing = |missing| Error::Missing { dir: source.dir.to_owned(), from: self.from, to: self.to, missing };
        match (segments.first(), segments.last()) {
            (Some(first), _) if first.index > self.from => Err(missing(self.from)),
            (_, Some(last)) if last.index < self.to => Err(missing(last.index + 1)),
            (None, _) => Err(missing(self.from)),
            _ => Ok(Group { segments, ledger }),
        }
    }
}

/// Segments that follow each other, and the ledger that knows what was durable of them, if there is one.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) segments: Vec<SegmentRef>,
    pub(crate) ledger: Ledger,
}

impl Group {
    /// The segments of a checkpoint, which must follow each other.
    pub(crate) fn of_checkpoint(fs: &Fs, checkpoint: &CheckpointRef) -> Result<Self, Error> {
        let segments = layout::segments(fs, &checkpoint.path)?;
        layout::check_sequence(&segments)?;
        Ok(Self { segments, ledger: Ledger::load(fs, &checkpoint.path)? })
    }
}
