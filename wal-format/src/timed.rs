//! What the four timed kinds have in common.

use crate::histograms::body::Wire;
use crate::{Exemplar, NativeEntry, NativeSample, Sample};
use tsdb_model::SeriesRef;

/// An entry of one series at one time: float samples, both histograms, exemplars. Filtering by time, following aliases of
/// refs and sharding by ref are written once over this.
pub trait Timed {
    /// Which series.
    fn series(&self) -> SeriesRef;
    /// Milliseconds since the epoch.
    fn t(&self) -> i64;
    /// The same entry for another ref.
    #[must_use]
    fn with_series(self, series: SeriesRef) -> Self
    where
        Self: Sized;
}

macro_rules! timed {
    ($(($($generics:tt)*) $Entry:ty;)*) => {$(
        impl<$($generics)*> Timed for $Entry {
            #[inline]
            fn series(&self) -> SeriesRef {
                self.series
            }

            #[inline]
            fn t(&self) -> i64 {
                self.t
            }

            #[inline]
            fn with_series(self, series: SeriesRef) -> Self {
                Self { series, ..self }
            }
        }
    )*};
}

timed! {
    () Sample;
    () Exemplar<'_>;
    (B: Wire) NativeEntry<'_, B>;
    (B: Wire) NativeSample<'_, B>;
}
