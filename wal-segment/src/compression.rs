//! Records on their way to and from their stored form.
//!
//! A record is compressed as a whole before it is cut in fragments, and only if that makes it shorter. Snappy is the
//! block format with the same bytes as the reference's encoder; zstd is decoded equal.

use std::fmt;
use std::str::FromStr;

use crate::error::DecompressFault;
use crate::snappy;

/// How a writer compresses records, or how a stored record is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Snappy block format.
    Snappy,
    /// Zstandard, level 1.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        })
    }
}

/// A compression's name that is none of `none`, `snappy` and `zstd`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected none, snappy or zstd, found {0:?}")]
pub struct UnknownCompression(pub String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "snappy" => Ok(Self::Snappy),
            "zstd" => Ok(Self::Zstd),
            _ => Err(UnknownCompression(name.to_owned())),
        }
    }
}

/// Longest record in bytes, before compression, that the writer takes and the readers give out: 256 MiB. The reference
/// knows no limit and lets a six-byte snappy record allocate 4 GiB.
pub const MAX_RECORD_LEN: usize = 256 * 1024 * 1024;

/// Logs of 24 million samples are 4 % shorter with it than the reference's for counters and 2 % for gauges, and its work is
/// half of the reference's or less. Level 3 saves another 6 % of a log of gauges and takes a fifth more time for all of an
/// ingest; below level 1 a log is longer than the reference's.
const ZSTD_LEVEL: i32 = 1;

/// Compresses records as the writer does; keeps its tables and buffers between them.
#[derive(Default)]
pub struct Compressor {
    snappy: Option<Box<snap::raw::Encoder>>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Room for the worst case of the longest record so far: written by the encoders, zeroed only when it grows.
    scratch: Vec<u8>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// Appends the stored form of `record` to `out` and returns how it is compressed: `None` with the record as it is
    /// whenever compressing does not make it shorter. `record` is no longer than [`MAX_RECORD_LEN`].
    pub fn append(&mut self, wanted: Compression, record: &[u8], out: &mut Vec<u8>) -> Compression {
        let written = match wanted {
            Compression::None => None,
            _ if record.is_empty() => None,
            Compression::Snappy => self.snappy(record),
            Compression::Zstd => self.zstd(record),
        };
        match written {
            Some(len) if len < record.len() => {
                out.extend_from_slice(&self.scratch[..len]);
                wanted
            }
            // An encoder that fails is no reason to lose the record: uncompressed is always valid.
            _ => {
                out.extend_from_slice(record);
                Compression::None
            }
        }
    }

    fn snappy(&mut self, record: &[u8]) -> Option<usize> {
        self.reserve(snap::raw::max_compress_len(record.len()));
        let encoder = self.snappy.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        encoder.compress(record, &mut self.scratch).ok()
    }

    fn zstd(&mut self, record: &[u8]) -> Option<usize> {
        self.reserve(zstd::zstd_safe::compress_bound(record.len()));
        let encoder = match &mut self.zstd {
            Some(encoder) => encoder,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?),
        };
        encoder.compress_to_buffer(record, &mut self.scratch[..]).ok()
    }

    fn reserve(&mut self, len: usize) {
        if self.scratch.len() < len {
            self.scratch.resize(len, 0);
        }
    }
}

/// Decompresses records as the readers do, never to more than [`MAX_RECORD_LEN`]; keeps its buffer between them.
pub struct Decompressor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    out: Vec<u8>,
    max_len: usize,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").field("max_len", &self.max_len).finish_non_exhaustive()
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self { zstd: None, out: Vec::new(), max_len: MAX_RECORD_LEN }
    }
}

/// A snappy element of three bytes copies at most 64, so a block grows at most by this factor.
const SNAPPY_MAX_GROWTH: u64 = 22;
/// Header and shortest literal do not fit that factor.
const SNAPPY_SLACK: u64 = 64;
/// First try of a zstd record whose claim is large: grown when it turns out to be true.
const ZSTD_FIRST_BUFFER: usize = 1024 * 1024;

impl Decompressor {
    /// The record whose stored form is `stored`, valid until the next call.
    pub fn decode<'a>(&'a mut self, compression: Compression, stored: &'a [u8]) -> Result<&'a [u8], DecompressFault> {
        match compression {
            Compression::None => Ok(stored),
            _ if stored.is_empty() => Ok(stored),
            Compression::Snappy => self.snappy(stored),
            Compression::Zstd => self.zstd(stored),
        }
    }

    fn snappy(&mut self, stored: &[u8]) -> Result<&[u8], DecompressFault> {
        let refused = |reason: &str| DecompressFault::Decoder(reason.to_owned());
        let (elements, claimed) = snappy::header(stored).map_err(refused)?;
        let limit = (stored.len() as u64 * SNAPPY_MAX_GROWTH + SNAPPY_SLACK).min(self.max_len as u64);
        if claimed > limit {
            return Err(DecompressFault::TooLarge { claimed, limit });
        }
        let len = claimed as usize;
        self.reserve(len + snappy::SLOP);
        snappy::decode(&stored[elements..], &mut self.out, len).map_err(refused)?;
        Ok(&self.out[..len])
    }

    fn zstd(&mut self, stored: &[u8]) -> Result<&[u8], DecompressFault> {
        let limit = self.max_len as u64;
        let claimed =
            zstd::zstd_safe::get_frame_content_size(stored).map_err(|e| DecompressFault::Decoder(e.to_string()))?;
        if let Some(claimed) = claimed.filter(|&claimed| claimed > limit) {
            return Err(DecompressFault::TooLarge { claimed, limit });
        }
        // Without a claim (no writer of a log leaves it out) the buffer grows until the record fits or the cap says no.
        let wanted = claimed.unwrap_or(limit) as usize;
        let mut len = wanted.min(ZSTD_FIRST_BUFFER.max(stored.len() * 64));
        loop {
            self.reserve(len);
            let decoder = match &mut self.zstd {
                Some(decoder) => decoder,
                none => {
                    none.insert(zstd::bulk::Decompressor::new().map_err(|e| DecompressFault::Decoder(e.to_string()))?)
                }
            };
            match decoder.decompress_to_buffer(stored, &mut self.out[..len]) {
                Ok(len) => return Ok(&self.out[..len]),
                Err(_) if len < wanted => len = len.saturating_mul(8).min(wanted),
                Err(e) => return Err(DecompressFault::Decoder(e.to_string())),
            }
        }
    }

    fn reserve(&mut self, len: usize) {
        if self.out.len() < len {
            self.out.resize(len, 0);
        }
    }
}
