use core::fmt;

/// The number a log uses for a series instead of its labels.
///
/// A series record binds a ref to a label set; every later record of that series carries only the ref. Refs are handed
/// out in sequence beginning with 1; two refs may name the same labels (the later one is an alias). Any 64-bit value can
/// occur in a log: deltas between refs wrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct SeriesRef(pub u64);

impl SeriesRef {
    /// The ref `delta` away from this one, wrapping as the reference's arithmetic does.
    #[inline]
    #[must_use]
    pub const fn wrapping_add(self, delta: i64) -> Self {
        Self(self.0.wrapping_add_signed(delta))
    }

    /// The delta that leads from `base` to this ref, wrapping.
    #[inline]
    #[must_use]
    pub const fn wrapping_delta(self, base: Self) -> i64 {
        self.0.wrapping_sub(base.0) as i64
    }
}

impl fmt::Display for SeriesRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<u64> for SeriesRef {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl From<SeriesRef> for u64 {
    fn from(value: SeriesRef) -> Self {
        value.0
    }
}

#[cfg(test)]
mod tests {
    use super::SeriesRef;

    #[test]
    fn deltas_wrap_around_both_ends() {
        for (base, to) in [(0, u64::MAX), (u64::MAX, 0), (1, 1 << 63), (1 << 63, 1), (7, 9)] {
            let (base, to) = (SeriesRef(base), SeriesRef(to));
            assert_eq!(base.wrapping_add(to.wrapping_delta(base)), to);
        }
    }
}
