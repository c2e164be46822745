//! What all eight batch types have in common: a record, decoded entry by entry, borrowed and without allocating.

use crate::error::DecodeError;

/// Decodes the entries of one record, one after the other.
pub(crate) trait Decoder: Sized {
    /// A borrowed record.
    type Record;
    type Entry;

    /// Reads what stands before the first entry.
    fn open(record: Self::Record) -> Result<Self, DecodeError>;

    /// The next entry; `None` at the end of the record.
    fn next_entry(&mut self) -> Result<Option<Self::Entry>, DecodeError>;

    /// Entries passed over because nothing is known of their meaning (histograms of unknown schemas).
    fn skipped(&self) -> usize {
        0
    }
}

/// What a record holds, counted without delivering anything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Checked {
    /// Entries that iterating yields.
    pub entries: usize,
    /// Histograms of unknown schemas, which iterating passes over.
    pub skipped: usize,
}

/// An iterator that ends after its first error.
#[derive(Clone, Debug)]
pub(crate) enum Entries<D> {
    Running(D),
    Broken(DecodeError),
    Done { skipped: usize },
}

impl<D: Decoder> Entries<D> {
    #[inline]
    pub(crate) fn open(record: D::Record) -> Self {
        D::open(record).map_or_else(Self::Broken, Self::Running)
    }

    pub(crate) fn skipped(&self) -> usize {
        match self {
            Self::Running(decoder) => decoder.skipped(),
            Self::Broken(_) => 0,
            Self::Done { skipped } => *skipped,
        }
    }
}

impl<D: Decoder> Iterator for Entries<D> {
    type Item = Result<D::Entry, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let item = match self {
            Self::Running(decoder) => match decoder.next_entry() {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            },
            Self::Broken(error) => Some(Err(*error)),
            Self::Done { .. } => None,
        };
        *self = Self::Done { skipped: self.skipped() };
        item
    }
}

/// Runs a decoder to its end, counting.
pub(crate) fn check<D: Decoder>(record: D::Record) -> Result<Checked, DecodeError> {
    let mut decoder = D::open(record)?;
    let mut entries = 0;
    while decoder.next_entry()?.is_some() {
        entries += 1;
    }
    Ok(Checked { entries, skipped: decoder.skipped() })
}

/// Defines a batch type and its iterator over a [`Decoder`].
macro_rules! batch {
    (
        $(#[$batch_doc:meta])*
        $Batch:ident, $Iter:ident: $Decoder:ident yields $Entry:ty, kind $kind:ident
    ) => {
        $(#[$batch_doc])*
        ///
        /// Borrowed from a record and not decoded before it is iterated over. Iterating allocates nothing; the entries
        /// before a damage are yielded, then the error, then nothing more. Who wants all or nothing calls
        #[doc = concat!("[`validate`](", stringify!($Batch), "::validate) first.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $Batch<'a> {
            record: &'a [u8],
        }

        impl<'a> $Batch<'a> {
            /// Takes a record of this kind, tag included; the rest of the record is not looked at yet.
            pub fn new(record: &'a [u8]) -> Result<Self, $crate::DecodeError> {
                match $crate::Kind::of_record(record) {
                    Some($crate::Kind::$kind) => Ok(Self { record }),
                    _ => Err($crate::DecodeError {
                        offset: 0,
                        problem: $crate::Problem::Tag {
                            expected: $crate::Kind::$kind.name(),
                            found: record.first().copied(),
                        },
                    }),
                }
            }

            /// For the dispatch, which has looked at the tag.
            #[inline]
            pub(crate) const fn of_tagged(record: &'a [u8]) -> Self {
                Self { record }
            }

            /// The whole record, tag included.
            #[inline]
            #[must_use]
            pub const fn record(&self) -> &'a [u8] {
                self.record
            }

            /// Decodes entry by entry.
            #[inline]
            #[must_use]
            pub fn iter(&self) -> $Iter<'a> {
                $Iter($crate::entries::Entries::open(self.record))
            }

            /// Checks the whole record without delivering or allocating anything, and counts its entries.
            pub fn validate(&self) -> Result<$crate::Checked, $crate::DecodeError> {
                $crate::entries::check::<$Decoder<'a>>(self.record)
            }
        }

        impl<'a> IntoIterator for $Batch<'a> {
            type Item = Result<$Entry, $crate::DecodeError>;
            type IntoIter = $Iter<'a>;

            fn into_iter(self) -> $Iter<'a> {
                self.iter()
            }
        }

        impl<'a> IntoIterator for &$Batch<'a> {
            type Item = Result<$Entry, $crate::DecodeError>;
            type IntoIter = $Iter<'a>;

            fn into_iter(self) -> $Iter<'a> {
                self.iter()
            }
        }

        #[doc = concat!("Iterates over the entries of a [`", stringify!($Batch), "`].")]
        #[derive(Clone, Debug)]
        pub struct $Iter<'a>($crate::entries::Entries<$Decoder<'a>>);

        impl<'a> Iterator for $Iter<'a> {
            type Item = Result<$Entry, $crate::DecodeError>;

            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                self.0.next()
            }
        }
    };
}

pub(crate) use batch;
