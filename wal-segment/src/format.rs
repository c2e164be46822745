//! The one place that knows how a fragment lies in a page; writer, readers, repair and ledger share it.
//!
//! ```text
//! segment  := page*                              every page 32 KiB, the last one may be shorter
//! page     := fragment* zero*                    zeros when fewer than 7 bytes are left, or at the end of a segment
//! fragment := type(1) length(2) crc(4) data(length)
//! type     := bits 0-2 fragment type, bit 3 snappy, bit 4 zstd, bits 5-7 zero
//! ```
//!
//! `length` and `crc` are big-endian; `crc` is the CRC-32C (Castagnoli) of `data` as it is stored. The header itself is
//! under no checksum.

use crate::Compression;
use crate::error::FrameFault;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 32 * 1024;

/// Bytes in a fragment's header.
pub const HEADER_SIZE: usize = 7;

/// Bytes of a segment after which the reference starts the next one, unless told otherwise: 128 MiB.
pub const DEFAULT_SEGMENT_SIZE: u64 = 128 * 1024 * 1024;

pub(crate) const PAGE: u64 = PAGE_SIZE as u64;

const TYPE_MASK: u8 = 0b0000_0111;
const SNAPPY: u8 = 0b0000_1000;
const ZSTD: u8 = 0b0001_0000;

/// Which piece of a record a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FragmentType {
    /// A whole record.
    Full = 1,
    /// The first piece of a record that goes on in the next page.
    First = 2,
    /// A piece between the first and the last.
    Middle = 3,
    /// The last piece.
    Last = 4,
}

impl FragmentType {
    /// Whether a record begins with such a fragment.
    pub fn begins_record(self) -> bool {
        matches!(self, Self::Full | Self::First)
    }

    /// Whether a record ends with such a fragment.
    pub fn ends_record(self) -> bool {
        matches!(self, Self::Full | Self::Last)
    }

    /// The type of the piece that is (or is not) the first and the last of its record.
    pub(crate) fn of(first: bool, last: bool) -> Self {
        match (first, last) {
            (true, true) => Self::Full,
            (true, false) => Self::First,
            (false, false) => Self::Middle,
            (false, true) => Self::Last,
        }
    }
}

impl std::fmt::Display for FragmentType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::First => "first",
            Self::Middle => "middle",
            Self::Last => "last",
        })
    }
}

/// A fragment's header, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Which piece of the record this is.
    pub fragment: FragmentType,
    /// How the record was compressed before it was cut.
    pub compression: Compression,
    /// Bytes of data behind the header, 0…32,761.
    pub length: u16,
    /// CRC-32C of those bytes.
    pub crc: u32,
}

impl FragmentHeader {
    /// The seven bytes on disk.
    pub fn encode(self) -> [u8; HEADER_SIZE] {
        let flag = match self.compression {
            Compression::None => 0,
            Compression::Snappy => SNAPPY,
            Compression::Zstd => ZSTD,
        };
        let [l0, l1] = self.length.to_be_bytes();
        let [c0, c1, c2, c3] = self.crc.to_be_bytes();
        [self.fragment as u8 | flag, l0, l1, c0, c1, c2, c3]
    }

    /// Takes seven bytes apart. The first must not be zero: that is padding, not a header.
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Self, FrameFault> {
        let [first, l0, l1, c0, c1, c2, c3] = *bytes;
        let (fragment, compression) = Self::decode_type(first)?;
        let length = u16::from_be_bytes([l0, l1]);
        Ok(Self { fragment, compression, length, crc: u32::from_be_bytes([c0, c1, c2, c3]) })
    }

    /// Takes the type byte apart: stricter than the reference, which looks at neither the reserved bits nor at a second
    /// compression flag. Its writer sets none of them, and a flip there would silently change what the data mean.
    pub fn decode_type(byte: u8) -> Result<(FragmentType, Compression), FrameFault> {
        let fragment = match byte & TYPE_MASK {
            1 => FragmentType::Full,
            2 => FragmentType::First,
            3 => FragmentType::Middle,
            4 => FragmentType::Last,
            _ => return Err(FrameFault::Type { found: byte }),
        };
        let compression = match byte & !TYPE_MASK {
            0 => Compression::None,
            SNAPPY => Compression::Snappy,
            ZSTD => Compression::Zstd,
            _ => return Err(FrameFault::Type { found: byte }),
        };
        Ok((fragment, compression))
    }
}

/// Bytes from `offset` to the end of its page: 1…32,768.
pub(crate) fn room_in_page(offset: u64) -> usize {
    PAGE_SIZE - (offset % PAGE) as usize
}

/// The start of the page behind the one that holds `offset`.
pub(crate) fn next_page(offset: u64) -> u64 {
    (offset / PAGE + 1) * PAGE
}

/// CRC-32C (Castagnoli), as every checksum in a log.
pub(crate) fn checksum(data: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_way_to_disk_and_back() {
        for fragment in [FragmentType::Full, FragmentType::First, FragmentType::Middle, FragmentType::Last] {
            for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
                let header = FragmentHeader { fragment, compression, length: 0x7ff9, crc: 0x0102_0304 };
                assert_eq!(FragmentHeader::decode(&header.encode()), Ok(header));
            }
        }
    }

    #[test]
    fn of_256_type_bytes_twelve_are_valid() {
        let valid = (0..=255).filter(|&b| FragmentHeader::decode_type(b).is_ok()).count();
        assert_eq!(valid, 12);
    }

    #[test]
    fn the_checksum_is_castagnoli_and_not_ieee() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }
}
