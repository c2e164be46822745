//! One block's records on their way from a reading thread to the checkpoint.

use tsdb_model::SeriesRef;
use wal_segment::parallel::Block;
use wal_segment::{Compression, Compressor, Location, Record, SegmentRef};

use crate::damage::{Damage, DamagePolicy, Problem};
use crate::filter::{Filter, Taken, Verdict, Wanted};
use crate::options::Options;
use crate::publish::Stored;
use crate::stats::Records;

/// What a thread has to know besides [`Wanted`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    compression: Compression,
    pub(crate) damage: DamagePolicy,
}

impl Job {
    pub(crate) fn of(options: &Options) -> Self {
        Self { compression: options.compression, damage: options.damage }
    }
}

/// Stored records behind each other.
#[derive(Debug, Default)]
pub(crate) struct Pile {
    bytes: Vec<u8>,
    /// End in `bytes` of each record, how it is compressed, and its checksum where that is known.
    ends: Vec<(usize, Compression, Option<u32>)>,
    compressor: Compressor,
}

impl Pile {
    /// Adds a record in its stored form.
    fn push_stored(&mut self, stored: &[u8], compression: Compression, checksum: Option<u32>) {
        self.bytes.extend_from_slice(stored);
        self.ends.push((self.bytes.len(), compression, checksum));
    }

    /// Compresses a record and adds it.
    pub(crate) fn push(&mut self, record: &[u8], wanted: Compression) {
        let compression = self.compressor.append(wanted, record, &mut self.bytes);
        self.ends.push((self.bytes.len(), compression, None));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Stored<'_>> {
        let mut start = 0;
        self.ends.iter().map(move |&(end, compression, checksum)| {
            let bytes = &self.bytes[std::mem::replace(&mut start, end)..end];
            Stored { bytes, compression, checksum }
        })
    }

    /// Bytes of all records.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Number of records.
    pub(crate) fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Stored bytes beyond which a result is handed on.
const LARGE: usize = 1024 * 1024;

/// The kept records of a stretch of a segment, in their stored form, and what was seen on the way.
#[derive(Debug, Default)]
pub(crate) struct Filtered {
    pub(crate) taken: Taken,
    pub(crate) records: Records,
    pub(crate) pile: Pile,
    /// Records that can't be decoded.
    pub(crate) damage: Vec<Damage>,
    /// Number of the segment.
    pub(crate) segment: u64,
    /// End in the segment of the last record read.
    pub(crate) end: Option<u64>,
    /// Bytes of the segment that this stands for.
    pub(crate) bytes: u64,
}

impl Filtered {
    /// Forgets everything, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.taken.clear();
        self.pile.clear();
        self.damage.clear();
        (self.records, self.end, self.bytes) = (Records::default(), None, 0);
    }

    pub(crate) fn is_large(&self) -> bool {
        self.pile.bytes.len() >= LARGE
    }

    /// Filters the records that begin in a block.
    pub(crate) fn read<K: Fn(SeriesRef) -> bool>(&mut self, block: &mut Block<'_>, wanted: &Wanted<'_, K>, job: Job) {
        let pages = block.block().pages.clone();
        self.bytes = pages.end - pages.start;
        let segment = block.segment().clone();
        self.segment = segment.index;
        while let Some(record) = block.next() {
            self.filter(&record, &segment, wanted, job);
            if job.damage == DamagePolicy::Strict && !self.damage.is_empty() {
                break;
            }
        }
    }

    /// Filters one record.
    pub(crate) fn filter<K: Fn(SeriesRef) -> bool>(
        &mut self,
        record: &Record<'_>,
        segment: &SegmentRef,
        wanted: &Wanted<'_, K>,
        job: Job,
    ) {
        self.end = Some(record.end);
        self.records.read += 1;
        match Filter::new(wanted, &mut self.taken).apply(record.bytes) {
            Ok(Verdict::Drop) => self.records.dropped += 1,
            Ok(Verdict::Copy) => {
                self.records.copied += 1;
                self.copy(record, job.compression);
            }
            Ok(Verdict::Rewrite) => {
                self.records.rewritten += 1;
                for rewritten in self.taken.rewritten.records() {
                    self.pile.push(rewritten, job.compression);
                }
            }
            Err(error) => {
                self.records.dropped += 1;
                let offset = record.position.offset;
                let location =
                    Location { dir: segment.dir().to_owned(), segment: segment.index, record_start: offset, offset };
                self.damage.push(Damage { location, problem: Problem::Record(error) });
            }
        }
        self.records.written = self.pile.len();
    }

    /// Takes a record over as it is stored, if that is how records are to be stored.
    fn copy(&mut self, record: &Record<'_>, wanted: Compression) {
        if record.compression == wanted {
            self.pile.push_stored(record.stored, wanted, record.checksum);
        } else {
            self.pile.push(record.bytes, wanted);
        }
    }
}
