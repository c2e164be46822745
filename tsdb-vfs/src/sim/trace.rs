//! A recording of the moments at which a crash would differ from a crash before.

use super::disk::Disk;

/// The disk at a moment, and how many notes the program had made by then.
#[derive(Debug, Clone)]
pub(crate) struct TracePoint {
    pub(crate) disk: Disk,
    /// Number of the next operation.
    pub(crate) next_op: u64,
    pub(crate) notes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) points: Vec<TracePoint>,
    /// A promise was made since the last point: the same disk must now hold more.
    pub(crate) promised: bool,
    pub(crate) notes: usize,
}

impl Trace {
    pub(crate) fn push(&mut self, disk: &Disk, next_op: u64) {
        self.points.push(TracePoint { disk: disk.clone(), next_op, notes: self.notes });
        self.promised = false;
    }
}
