//! Out of read-only: back to what is durable, everything else handed to the caller.

use crate::compression::Decompressor;
use crate::error::{Error, Position};
use crate::framer::{Event, Framer};
use crate::layout;
use crate::log::segment::Segment;
use crate::log::writer::Writer;

/// What a failed sync left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// The records that were written and not durable, in order: append them again, or report them as lost. Those whose
    /// `append` failed are among them.
    pub records: Vec<Vec<u8>>,
    /// How many more there were that could not be read back. Only with [`Durability::Rotate`](crate::Durability::Rotate),
    /// which keeps no copy in memory.
    pub missing: u64,
    /// Everything before this is durable, and nothing is behind it.
    pub durable_to: Position,
}

impl Writer {
    /// Collects what is not durable, cuts the log there, durably, and opens the next segment. Whatever fails leaves the
    /// log read-only, and the next call starts again: `pending` keeps what was collected once the first file is cut.
    pub(super) fn recover(&mut self, pending: &mut Option<Recovered>) -> Result<Recovered, Error> {
        if self.read_only.is_none() {
            return Ok(Recovered { durable_to: self.durable_end(), ..Recovered::default() });
        }
        if pending.is_none() {
            *pending = Some(self.collect());
        }
        for Segment { file, durable, .. } in self.unsynced.iter().chain([&self.current]) {
            let path = &file.path;
            // A handle of its own: what the old one still knows of the failure is none of this one's.
            let file = self.fs.open_write(path).map_err(Error::io(path))?;
            file.set_len(*durable).map_err(Error::io(path))?;
            file.sync_all().map_err(Error::io(path))?;
        }
        self.fs.sync_dir(&self.dir).map_err(Error::io(&self.dir))?;
        let last = layout::segments(&self.fs, &self.dir)?.last().map_or(self.current.index, |last| last.index);
        let next = Segment::create(&self.fs, &self.dir, last + 1)?;
        self.note_birth(last + 1)?;
        self.start_over(next);
        Ok(pending.take().unwrap_or_default())
    }

    fn collect(&self) -> Recovered {
        let mut recovered = Recovered { durable_to: self.durable_end(), ..Recovered::default() };
        let mut decompressor = Decompressor::default();
        for segment in self.unsynced.iter().chain([&self.current]) {
            let wanted = segment.tally.records - segment.durable_tally.records;
            let before = recovered.records.len();
            let kept = self.retained.bytes(segment.index, segment.durable, segment.len);
            let bytes = kept.or_else(|| self.read_back(segment)).unwrap_or_default();
            let mut framer = Framer::new();
            framer.reset_at_record(segment.durable);
            while let Event::Record(frame) = framer.advance(&bytes, segment.durable) {
                if let Ok(record) = decompressor.decode(frame.compression, framer.stored(&frame, &bytes)) {
                    recovered.records.push(record.to_vec());
                }
            }
            recovered.missing += wanted.saturating_sub((recovered.records.len() - before) as u64);
        }
        recovered
    }

    fn read_back(&self, segment: &Segment) -> Option<Vec<u8>> {
        let file = self.fs.open_read(&segment.file.path).ok()?;
        let mut bytes = vec![0; (segment.len - segment.durable) as usize];
        let n = file.read_full_at(&mut bytes, segment.durable).ok()?;
        bytes.truncate(n);
        Some(bytes)
    }
}
