//! An owned label set.

use crate::labels::{Iter, LabelError, LabelPairs};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};

/// A label set in one allocation: the pairs packed one after the other, sorted by name and unique.
///
/// What [`LabelsBuilder`](crate::LabelsBuilder) makes is sorted, unique and has no empty values. What comes out of a
/// record ([`LabelPairs::to_labels`]) is as it was stored: a damaged or foreign log can hold unsorted or repeated pairs,
/// and the reference keeps them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Labels {
    packed: Box<[u8]>,
}

impl Labels {
    /// No labels.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sorts the pairs; of a repeated name the last value stays, a pair with an empty value goes.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = crate::LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// Copies packed pairs, keeping their order.
    pub fn from_packed(packed: &[u8]) -> Result<Self, LabelError> {
        Ok(LabelPairs::from_packed(packed)?.to_labels())
    }

    pub(crate) fn from_trusted(packed: Vec<u8>) -> Self {
        Self { packed: packed.into_boxed_slice() }
    }

    /// The packed bytes: what a series record holds after its count.
    #[inline]
    #[must_use]
    pub fn as_packed(&self) -> &[u8] {
        &self.packed
    }

    /// How many pairs. Walks the set.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut iter = Iter::unbounded(&self.packed);
        let mut len = 0;
        while iter.next().is_some() {
            len += 1;
        }
        len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// The pairs as a borrowed view, to hand to an encoder. Walks the set once to count.
    #[must_use]
    pub fn pairs(&self) -> LabelPairs<'_> {
        LabelPairs::trusted(&self.packed, self.len())
    }

    /// The pairs in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.pairs().iter()
    }

    /// The value of the first pair with this name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        Iter::unbounded(&self.packed).find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// A fast, well distributed hash of the packed bytes. Equal sets have equal hashes within one program; not stable
    /// across versions, so never store it.
    #[must_use]
    pub fn hash(&self) -> u64 {
        hash_packed(&self.packed)
    }
}

/// The hash of packed labels, for tables keyed by labels that are not owned yet.
#[inline]
#[must_use]
pub fn hash_packed(packed: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(packed)
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.packed.hash(state);
    }
}

/// By name, value, name, value …; a prefix comes first. Byte order, as the reference sorts.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        Iter::unbounded(&self.packed).cmp(Iter::unbounded(&other.packed))
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
