//! The eight kinds of records that 13 tags fold into.

use crate::tag;
use core::fmt;

/// What a record is about. Versions and bucket layouts of one thing are one kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Series refs and their labels (tag 1).
    Series,
    /// Float samples (tags 2 and 11).
    Samples,
    /// Integer histograms (tags 7, 9 and 12).
    Histograms,
    /// Float histograms (tags 8, 10 and 13).
    FloatHistograms,
    /// Deleted time ranges (tag 3).
    Tombstones,
    /// Exemplars (tag 4).
    Exemplars,
    /// Type, unit and help (tag 6).
    Metadata,
    /// Mmap markers of the out-of-order log (tag 5).
    MmapMarkers,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Series,
        Self::Samples,
        Self::Histograms,
        Self::FloatHistograms,
        Self::Tombstones,
        Self::Exemplars,
        Self::Metadata,
        Self::MmapMarkers,
    ];

    /// The kind of records with this tag; `None` for a tag that the reference does not know.
    #[inline]
    #[must_use]
    pub const fn of_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            tag::SERIES => Self::Series,
            tag::SAMPLES | tag::SAMPLES_V2 => Self::Samples,
            tag::TOMBSTONES => Self::Tombstones,
            tag::EXEMPLARS => Self::Exemplars,
            tag::MMAP_MARKERS => Self::MmapMarkers,
            tag::METADATA => Self::Metadata,
            tag::HISTOGRAMS | tag::CUSTOM_HISTOGRAMS | tag::HISTOGRAMS_V2 => Self::Histograms,
            tag::FLOAT_HISTOGRAMS | tag::CUSTOM_FLOAT_HISTOGRAMS | tag::FLOAT_HISTOGRAMS_V2 => Self::FloatHistograms,
            _ => return None,
        })
    }

    /// The kind of a record: by its first byte. `None` for an unknown tag or an empty record.
    #[inline]
    #[must_use]
    pub const fn of_record(record: &[u8]) -> Option<Self> {
        match record {
            [tag, ..] => Self::of_tag(*tag),
            [] => None,
        }
    }

    /// Its name in text and JSON: `series`, `samples`, `histograms`, `float_histograms`, `tombstones`, `exemplars`,
    /// `metadata`, `mmap_markers`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Samples => "samples",
            Self::Histograms => "histograms",
            Self::FloatHistograms => "float_histograms",
            Self::Tombstones => "tombstones",
            Self::Exemplars => "exemplars",
            Self::Metadata => "metadata",
            Self::MmapMarkers => "mmap_markers",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of kinds: which records a consumer wants to see.
///
/// ```
/// use wal_format::{Kind, KindSet};
/// const WANTED: KindSet = KindSet::NONE.with(Kind::Series).with(Kind::Samples);
/// assert!(WANTED.contains(Kind::Series) && !WANTED.contains(Kind::Metadata));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KindSet(u8);

impl KindSet {
    /// Every kind.
    pub const ALL: Self = Self(u8::MAX);
    /// No kind.
    pub const NONE: Self = Self(0);

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// This set but `kind`.
    #[must_use]
    pub const fn without(self, kind: Kind) -> Self {
        Self(self.0 & !(1 << kind as u8))
    }

    /// Whether `kind` is in it.
    #[inline]
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// The kinds in it.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl Default for KindSet {
    /// Every kind.
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Kind> for KindSet {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for KindSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
