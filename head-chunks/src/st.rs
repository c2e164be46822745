//! Start timestamps: the header byte that XOR2 and the two histogram encodings share, and the field behind each sample.

/// Bit of the header: the first sample has a start timestamp.
pub(crate) const FIRST_KNOWN: u8 = 0x80;

/// Bits of the header that hold the index of the first sample whose start timestamp differs from the one before. As the
/// highest index that they can say it is also the sample at which start timestamps begin at the latest.
pub(crate) const LAST_CHANGE_ON: u8 = 0x7f;
