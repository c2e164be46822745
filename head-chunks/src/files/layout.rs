//! The bytes of a chunk file, without any I/O.
//!
//! ```text
//! file   := magic u32 (0x0130BC91), version u8 (1), three zero bytes, record*, zeros to the preallocated length
//! record := series ref u64, mint i64, maxt i64, encoding u8 (top bit: out of order), uvarint length, data,
//!           CRC-32C u32 over all of it from the series ref on
//! ```
//!
//! All fixed-width integers are big-endian. A series ref, mint and maxt of zero, all three, end the file's contents.

use tsdb_model::{SeriesRef, varint};

use super::Fault;
use super::crc::{crc32c, crc32c_of_three};
use super::heal::filler_series;
use crate::Encoding;

/// The first four bytes of a chunk file.
pub const MAGIC: u32 = 0x0130_BC91;
/// The only version there is.
pub const VERSION: u8 = 1;
/// Bytes before the first record.
pub const FILE_HEADER_LEN: usize = 8;
/// A file is cut before a record that would make it longer than this; 128 MiB.
pub const MAX_FILE_LEN: u64 = 128 << 20;
/// A new file is this long from the start, zeros behind its header; 128 KiB.
pub const PREALLOCATED_LEN: u64 = 128 << 10;
/// The most bytes that a record can have beyond its data, a five-byte length included: what the reference reserves.
pub const MAX_RECORD_OVERHEAD: usize = FIXED_LEN + 5 + CRC_LEN;

/// Series ref, mint, maxt and encoding.
const FIXED_LEN: usize = 8 + 8 + 8 + 1;
const CRC_LEN: usize = 4;
/// The shortest record there can be: no data at all.
pub(super) const MIN_RECORD_LEN: usize = FIXED_LEN + 1 + CRC_LEN;
/// As many bytes from a record's start always hold its length field.
pub(super) const PREFIX_LEN: usize = FIXED_LEN + varint::MAX_LEN;
/// Top bit of the encoding byte: the chunk holds out-of-order samples.
const OUT_OF_ORDER: u8 = 0x80;

/// Where a chunk is: a file's number and the offset of the record in it. On disk and in write-behind-log markers it is one
/// u64, `file << 32 | offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ChunkRef {
    /// The number that is the file's name, from 1.
    pub file: u32,
    /// Offset of the record in the file, in bytes.
    pub offset: u32,
}

impl ChunkRef {
    /// As the one number that the reference stores.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        (self.file as u64) << 32 | self.offset as u64
    }

    /// From the one number.
    #[must_use]
    pub const fn from_u64(packed: u64) -> Self {
        Self { file: (packed >> 32) as u32, offset: packed as u32 }
    }
}

impl From<u64> for ChunkRef {
    fn from(packed: u64) -> Self {
        Self::from_u64(packed)
    }
}

impl From<ChunkRef> for u64 {
    fn from(chunk_ref: ChunkRef) -> Self {
        chunk_ref.to_u64()
    }
}

impl core::fmt::Display for ChunkRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// A stored chunk, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// The series it belongs to.
    pub series: SeriesRef,
    /// Where it is.
    pub chunk_ref: ChunkRef,
    /// Time of its first sample, milliseconds since the epoch, as written in the record.
    pub mint: i64,
    /// Time of its last sample, likewise.
    pub maxt: i64,
    /// How its bytes are laid out.
    pub encoding: Encoding,
    /// The number of samples that its header promises.
    pub num_samples: u16,
    /// Length of its bytes.
    pub len: u32,
    /// Whether it holds out-of-order samples.
    pub out_of_order: bool,
}

/// The eight bytes that a file begins with.
#[must_use]
pub(super) fn file_header() -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[4] = VERSION;
    header
}

/// Checks a file's first bytes.
pub(super) fn check_file_header(bytes: &[u8]) -> Result<(), Fault> {
    let Some(header) = bytes.first_chunk::<FILE_HEADER_LEN>() else {
        return Err(Fault::FileHeaderLength { found: bytes.len() as u64 });
    };
    let magic = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    match (magic, header[4]) {
        (MAGIC, VERSION) => Ok(()),
        (MAGIC, found) => Err(Fault::Version { found }),
        (found, _) => Err(Fault::Magic { found }),
    }
}

/// Length of the record of a chunk with so many bytes.
pub(super) fn record_len(data_len: usize) -> usize {
    FIXED_LEN + varint::uvarint_len(data_len as u64) + data_len + CRC_LEN
}

/// What goes into a record besides the place it gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHead {
    pub(super) series: SeriesRef,
    pub(super) mint: i64,
    pub(super) maxt: i64,
    pub(super) encoding: Encoding,
    pub(super) out_of_order: bool,
}

/// Appends a record to `out`.
pub(super) fn put_record(head: &RecordHead, data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut fixed = [0; FIXED_LEN];
    fixed[..8].copy_from_slice(&head.series.0.to_be_bytes());
    fixed[8..16].copy_from_slice(&head.mint.to_be_bytes());
    fixed[16..24].copy_from_slice(&head.maxt.to_be_bytes());
    fixed[24] = head.encoding.byte() | if head.out_of_order { OUT_OF_ORDER } else { 0 };
    out.extend_from_slice(&fixed);
    varint::put_uvarint(out, data.len() as u64);
    out.extend_from_slice(data);
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// A record of exactly `len` bytes without a chunk, to stand at `at`; `None` when that is too short for any.
pub(super) fn filler(at: ChunkRef, len: u64) -> Option<Vec<u8>> {
    let len = usize::try_from(len).ok()?;
    let mut record = Vec::with_capacity(len);
    let mut fixed = [0; FIXED_LEN];
    fixed[..8].copy_from_slice(&filler_series(at).0.to_be_bytes());
    fixed[8..16].copy_from_slice(&i64::MIN.to_be_bytes());
    fixed[16..24].copy_from_slice(&i64::MIN.to_be_bytes());
    fixed[24] = Encoding::Xor.byte();
    record.extend_from_slice(&fixed);
    // The length field may be longer than it need be, so that every total can be met.
    let rest = len.checked_sub(FIXED_LEN + CRC_LEN)?;
    let field = (1..=5).find(|n| rest >= *n && varint::uvarint_len((rest - n) as u64) <= *n)?;
    let data_len = rest - field;
    record.extend((0..field).map(|n| {
        let group = (data_len >> (7 * n)) as u8 & 0x7f;
        if n + 1 < field { group | 0x80 } else { group }
    }));
    record.resize(FIXED_LEN + rest, 0);
    let crc = crc32c(&record);
    record.extend_from_slice(&crc.to_be_bytes());
    Some(record)
}

/// Whether a record is a filler and no chunk.
pub(super) fn is_filler(head: &RecordHead, at: ChunkRef) -> bool {
    head.series == filler_series(at) && head.mint == i64::MIN && head.maxt == i64::MIN
}

/// What stands at an offset of a chunk file.
#[derive(Debug)]
pub(super) enum Parsed<'a> {
    /// A sound record of `len` bytes.
    Record { head: RecordHead, data: &'a [u8], len: usize },
    /// More bytes are needed to say, so many from the record's start.
    NeedMore(usize),
    /// Zeros where a record's series ref, mint and maxt would be.
    End,
    /// No sound record; `intact` is its length if its checksum matches all the same.
    Bad { fault: Fault, intact: Option<usize> },
}

/// How many bytes from a record's start [`parse_record`] needs, given the first [`PREFIX_LEN`] of them (or all there are).
pub(super) fn bytes_to_decide(prefix: &[u8], available: u64) -> usize {
    let field = prefix.get(FIXED_LEN..).and_then(|field| varint::uvarint(field).ok());
    let whole = field.and_then(|(data_len, len)| data_len.checked_add((FIXED_LEN + len + CRC_LEN) as u64));
    match whole {
        Some(whole) if whole <= available => whole as usize,
        _ => PREFIX_LEN,
    }
}

/// Looks at the record whose first bytes are `bytes`; the file has `available` bytes from there on.
pub(super) fn parse_record(bytes: &[u8], available: u64) -> Parsed<'_> {
    if available < MIN_RECORD_LEN as u64 {
        return match bytes {
            short if (short.len() as u64) < available => Parsed::NeedMore(available as usize),
            zeros if zeros.iter().all(|b| *b == 0) => Parsed::End,
            _ => Parsed::Bad { fault: Fault::Torn { needed: MIN_RECORD_LEN as u64, available }, intact: None },
        };
    }
    let Some(fixed) = bytes.first_chunk::<FIXED_LEN>() else {
        return Parsed::NeedMore(PREFIX_LEN.min(available as usize));
    };
    let word = |at: usize| u64::from_be_bytes(fixed[at..at + 8].try_into().unwrap_or_default());
    let (series, mint, maxt) = (SeriesRef(word(0)), word(8) as i64, word(16) as i64);
    if series.0 == 0 && mint == 0 && maxt == 0 {
        return Parsed::End;
    }
    let (data_len, field) = match varint::uvarint(&bytes[FIXED_LEN..bytes.len().min(PREFIX_LEN)]) {
        Ok(read) => read,
        Err(varint::VarintError::Truncated) if (bytes.len() as u64) < available && bytes.len() < PREFIX_LEN => {
            return Parsed::NeedMore(PREFIX_LEN.min(available as usize));
        }
        Err(_) => return Parsed::Bad { fault: Fault::LengthField, intact: None },
    };
    let needed = data_len.saturating_add((FIXED_LEN + field + CRC_LEN) as u64);
    if needed > available {
        return Parsed::Bad { fault: Fault::Torn { needed, available }, intact: None };
    }
    // It fits the file, so it fits an address.
    let len = needed as usize;
    let Some(record) = bytes.get(..len) else {
        return Parsed::NeedMore(len);
    };
    let (covered, crc) = record.split_at(len - CRC_LEN);
    let (expected, found) = (u32::from_be_bytes(crc.try_into().unwrap_or_default()), crc32c(covered));
    if expected != found {
        return Parsed::Bad { fault: Fault::Checksum { expected, found }, intact: None };
    }
    match Encoding::from_byte(fixed[24] & !OUT_OF_ORDER) {
        Some(encoding) => {
            let head = RecordHead { series, mint, maxt, encoding, out_of_order: fixed[24] & OUT_OF_ORDER != 0 };
            Parsed::Record { head, data: &covered[FIXED_LEN + field..], len }
        }
        None => Parsed::Bad { fault: Fault::Encoding { found: fixed[24] }, intact: Some(len) },
    }
}

/// A record by its length field, its checksum not looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unverified<'a> {
    record: &'a [u8],
    data_at: usize,
}

impl<'a> Unverified<'a> {
    /// The record that `bytes` begin with, if they hold all of it.
    #[inline]
    pub(super) fn first_of(bytes: &'a [u8]) -> Option<Self> {
        let (data_len, field) = varint::uvarint(bytes.get(FIXED_LEN..)?).ok()?;
        let data_at = FIXED_LEN + field;
        let len = usize::try_from(data_len).ok()?.checked_add(data_at + CRC_LEN)?;
        Some(Self { record: bytes.get(..len)?, data_at })
    }

    pub(super) fn len(&self) -> usize {
        self.record.len()
    }

    fn covered(&self) -> &'a [u8] {
        &self.record[..self.record.len() - CRC_LEN]
    }

    /// Whether the checksums of three are theirs.
    #[inline]
    pub(super) fn verify_three(three: [Self; 3]) -> [bool; 3] {
        let found = crc32c_of_three(three.map(|record| record.covered()));
        core::array::from_fn(|i| three[i].record.ends_with(&found[i].to_be_bytes()))
    }

    /// What the record says, once its checksum was found to be right; `None` for what [`parse_record`] calls no record.
    #[inline]
    pub(super) fn verified(&self) -> Option<(RecordHead, &'a [u8])> {
        let fixed = self.record.first_chunk::<FIXED_LEN>()?;
        let word = |at: usize| u64::from_be_bytes(fixed[at..at + 8].try_into().unwrap_or_default());
        let (series, mint, maxt) = (SeriesRef(word(0)), word(8) as i64, word(16) as i64);
        let encoding = Encoding::from_byte(fixed[24] & !OUT_OF_ORDER)?;
        let head = RecordHead { series, mint, maxt, encoding, out_of_order: fixed[24] & OUT_OF_ORDER != 0 };
        let ended = series.0 == 0 && mint == 0 && maxt == 0;
        (!ended).then(|| (head, &self.covered()[self.data_at..]))
    }
}

impl RecordHead {
    pub(super) fn meta(&self, chunk_ref: ChunkRef, data: &[u8]) -> ChunkMeta {
        ChunkMeta {
            series: self.series,
            chunk_ref,
            mint: self.mint,
            maxt: self.maxt,
            encoding: self.encoding,
            num_samples: self.encoding.num_samples(data),
            len: data.len() as u32,
            out_of_order: self.out_of_order,
        }
    }
}

/// Whether the first bytes of a slice could begin a record, before any checksum is worth its time: a search for the next
/// sound record asks this at every offset. Needs [`PREFIX_LEN`] bytes, or all there are.
pub(super) fn plausible_record(bytes: &[u8], available: u64) -> Option<usize> {
    let fixed = bytes.first_chunk::<FIXED_LEN>()?;
    let encoding = Encoding::from_byte(fixed[24] & !OUT_OF_ORDER)?;
    let word = |at: usize| u64::from_be_bytes(fixed[at..at + 8].try_into().unwrap_or_default());
    let ordered = word(8) as i64 <= word(16) as i64;
    let (data_len, field) = varint::uvarint(bytes.get(FIXED_LEN..)?).ok()?;
    let len = data_len.checked_add((FIXED_LEN + field + CRC_LEN) as u64)?;
    (word(0) != 0 && ordered && data_len >= encoding.header_len() as u64 && len <= available).then_some(len as usize)
}
