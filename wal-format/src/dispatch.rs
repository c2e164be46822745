//! The one place that looks at a record's tag and decides what it is.

use crate::{
    Checked, DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, Kind, KindSet, MetadataBatch,
    MmapMarkerBatch, SampleBatch, SeriesBatch, TombstoneBatch,
};

/// A consumer of records: one method per kind, all required, so that a new kind fails to compile wherever it is not
/// handled; and one for what is unknown.
///
/// ```
/// use wal_format::*;
///
/// /// Counts samples, and does not let anything else be decoded.
/// struct Counter(usize);
///
/// impl RecordSink for Counter {
///     type Error = DecodeError;
///     fn kinds(&self) -> KindSet {
///         KindSet::NONE.with(Kind::Samples)
///     }
///     fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
///         let mut count = 0;
///         batch.for_each(|_sample| count += 1)?;
///         self.0 += count;
///         Ok(())
///     }
///     fn series(&mut self, _: SeriesBatch<'_>) -> Result<(), DecodeError> { Ok(()) }
///     fn histograms(&mut self, _: HistogramBatch<'_>) -> Result<(), DecodeError> { Ok(()) }
///     fn float_histograms(&mut self, _: FloatHistogramBatch<'_>) -> Result<(), DecodeError> { Ok(()) }
///     fn tombstones(&mut self, _: TombstoneBatch<'_>) -> Result<(), DecodeError> { Ok(()) }
///     fn exemplars(&mut self, _: ExemplarBatch<'_>) -> Result<(), DecodeError> { Ok(()) }
///     fn metadata(&mut self, _: MetadataBatch<'_>) -> Result<(), DecodeError> { Ok(()) }
///     fn mmap_markers(&mut self, _: MmapMarkerBatch<'_>) -> Result<(), DecodeError> { Ok(()) }
///     fn unknown(&mut self, _tag: Option<u8>, _record: &[u8]) -> Result<(), DecodeError> { Ok(()) }
/// }
///
/// let mut batch = Batch::new(Version::V1);
/// batch.samples([Sample { series: 1.into(), t: 1000, v: 1.5, st: 0 }]);
/// let mut counter = Counter(0);
/// for record in batch.records() {
///     dispatch(record, &mut counter)?;
/// }
/// assert_eq!(counter.0, 1);
/// # Ok::<(), DecodeError>(())
/// ```
pub trait RecordSink {
    /// What can go wrong. Implement `From<DecodeError>` for it, and `?` works on a batch's entries.
    type Error;

    /// The kinds of interest: records of others are passed over without being decoded. Unknown tags are always handed over.
    fn kinds(&self) -> KindSet {
        KindSet::ALL
    }

    /// Series refs and labels.
    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), Self::Error>;
    /// Float samples.
    fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), Self::Error>;
    /// Integer histograms.
    fn histograms(&mut self, batch: HistogramBatch<'_>) -> Result<(), Self::Error>;
    /// Float histograms.
    fn float_histograms(&mut self, batch: FloatHistogramBatch<'_>) -> Result<(), Self::Error>;
    /// Deleted time ranges.
    fn tombstones(&mut self, batch: TombstoneBatch<'_>) -> Result<(), Self::Error>;
    /// Exemplars.
    fn exemplars(&mut self, batch: ExemplarBatch<'_>) -> Result<(), Self::Error>;
    /// Type, unit and help of series.
    fn metadata(&mut self, batch: MetadataBatch<'_>) -> Result<(), Self::Error>;
    /// Mmap markers of the out-of-order log.
    fn mmap_markers(&mut self, batch: MmapMarkerBatch<'_>) -> Result<(), Self::Error>;
    /// A record with a tag that the reference does not know, or an empty record (no tag). A consumer should count them.
    fn unknown(&mut self, tag: Option<u8>, record: &[u8]) -> Result<(), Self::Error>;
}

/// Hands a record to the method of its kind, if the sink is interested.
#[inline]
pub fn dispatch<S: RecordSink + ?Sized>(record: &[u8], sink: &mut S) -> Result<(), S::Error> {
    let Some(kind) = Kind::of_record(record) else {
        return sink.unknown(record.first().copied(), record);
    };
    if !sink.kinds().contains(kind) {
        return Ok(());
    }
    match kind {
        Kind::Series => sink.series(SeriesBatch::of_tagged(record)),
        Kind::Samples => sink.samples(SampleBatch::of_tagged(record)),
        Kind::Histograms => sink.histograms(HistogramBatch::of_tagged(record)),
        Kind::FloatHistograms => sink.float_histograms(FloatHistogramBatch::of_tagged(record)),
        Kind::Tombstones => sink.tombstones(TombstoneBatch::of_tagged(record)),
        Kind::Exemplars => sink.exemplars(ExemplarBatch::of_tagged(record)),
        Kind::Metadata => sink.metadata(MetadataBatch::of_tagged(record)),
        Kind::MmapMarkers => sink.mmap_markers(MmapMarkerBatch::of_tagged(record)),
    }
}

/// Checks a whole record of any kind without delivering or allocating anything, and counts its entries. A record of an
/// unknown tag and an empty one are fine and hold nothing.
pub fn validate(record: &[u8]) -> Result<Checked, DecodeError> {
    let mut validator = Validator(Checked::default());
    dispatch(record, &mut validator)?;
    Ok(validator.0)
}

struct Validator(Checked);

macro_rules! validate_all {
    ($($method:ident: $Batch:ident),*) => {
        impl RecordSink for Validator {
            type Error = DecodeError;

            $(fn $method(&mut self, batch: $Batch<'_>) -> Result<(), DecodeError> {
                self.0 = batch.validate()?;
                Ok(())
            })*

            fn unknown(&mut self, _tag: Option<u8>, _record: &[u8]) -> Result<(), DecodeError> {
                Ok(())
            }
        }
    };
}

validate_all! {
    series: SeriesBatch,
    samples: SampleBatch,
    histograms: HistogramBatch,
    float_histograms: FloatHistogramBatch,
    tombstones: TombstoneBatch,
    exemplars: ExemplarBatch,
    metadata: MetadataBatch,
    mmap_markers: MmapMarkerBatch
}
