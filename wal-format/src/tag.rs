//! The first byte of a record: the 13 tags the reference writes.

/// Series: ref and labels.
pub const SERIES: u8 = 1;
/// Float samples, V1: no start timestamps.
pub const SAMPLES: u8 = 2;
/// Tombstones: deleted time ranges.
pub const TOMBSTONES: u8 = 3;
/// Exemplars.
pub const EXEMPLARS: u8 = 4;
/// Mmap markers: only in the out-of-order log.
pub const MMAP_MARKERS: u8 = 5;
/// Metadata: type, unit and help of a series.
pub const METADATA: u8 = 6;
/// Integer histograms with exponential buckets, V1.
pub const HISTOGRAMS: u8 = 7;
/// Float histograms with exponential buckets, V1.
pub const FLOAT_HISTOGRAMS: u8 = 8;
/// Integer histograms with custom buckets, V1.
pub const CUSTOM_HISTOGRAMS: u8 = 9;
/// Float histograms with custom buckets, V1.
pub const CUSTOM_FLOAT_HISTOGRAMS: u8 = 10;
/// Float samples with start timestamps.
pub const SAMPLES_V2: u8 = 11;
/// Integer histograms of any buckets with start timestamps.
pub const HISTOGRAMS_V2: u8 = 12;
/// Float histograms of any buckets with start timestamps.
pub const FLOAT_HISTOGRAMS_V2: u8 = 13;

/// All of them, ascending.
pub const ALL: [u8; 13] = [
    SERIES,
    SAMPLES,
    TOMBSTONES,
    EXEMPLARS,
    MMAP_MARKERS,
    METADATA,
    HISTOGRAMS,
    FLOAT_HISTOGRAMS,
    CUSTOM_HISTOGRAMS,
    CUSTOM_FLOAT_HISTOGRAMS,
    SAMPLES_V2,
    HISTOGRAMS_V2,
    FLOAT_HISTOGRAMS_V2,
];
