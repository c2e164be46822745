//! The seam between those who have samples and those who keep them.
//!
//! [`crate::Head`] implements it; a fan-out to several stores and a remote store will, too. Small on purpose: who
//! scrapes needs [`Storage`] and [`Append`] only, who answers queries needs [`Query`] only.

use tsdb_model::histogram::{FloatHistogram, Histogram};
use tsdb_model::{Labels, SeriesRef};

use crate::index::Matcher;
use crate::read::{Sample, Series, SeriesSet, Value};
use crate::{AppendError, Appender, CommitError, Committed, Head, ReadError};

/// Something that takes samples in transactions and gives them back.
///
/// ```
/// use tsdb_head::{Append, Head, HeadOptions, Storage, Value};
/// use tsdb_model::Labels;
///
/// /// Knows nothing of heads.
/// fn scrape<S: Storage>(store: &S, t: i64) -> Result<(), S::CommitError> {
///     let mut transaction = store.begin();
///     let up = Labels::from_pairs([("__name__", "up")]);
///     // A refused sample concerns nobody else.
///     transaction.append(None, &up, 0, t, Value::Float(1.0)).ok();
///     transaction.commit()?;
///     Ok(())
/// }
/// # let tmp = tempfile::tempdir()?;
/// let fs = std::sync::Arc::new(tsdb_vfs::RealFs::new());
/// let (head, _) = Head::open(fs, tmp.path(), HeadOptions::default())?;
/// scrape(&head, 1_700_000_000_000)?;
/// assert_eq!(head.series_count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Storage {
    /// A transaction.
    type Appender: Append<CommitError = Self::CommitError>;
    /// Why a whole transaction failed.
    type CommitError: std::error::Error + Send + Sync + 'static;

    /// Starts a transaction.
    fn begin(&self) -> Self::Appender;
}

/// A transaction under way. Dropping it gives it up.
pub trait Append {
    /// Why the whole transaction failed.
    type CommitError: std::error::Error + Send + Sync + 'static;

    /// Appends a sample of time `t` and start timestamp `start` (ms since epoch; 0 for none) to the series with this ref
    /// or, if there is none, with these labels. Returns the ref to use next time.
    ///
    /// # Errors
    /// The sample is not part of the transaction; the others stay.
    fn append(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        start: i64,
        t: i64,
        value: Value,
    ) -> Result<SeriesRef, AppendError>;

    /// Makes everything that was appended durable, as far as the store promises that, and visible, all at once.
    ///
    /// # Errors
    /// Nothing of it is.
    fn commit(self) -> Result<Committed, Self::CommitError>;

    /// Gives everything up.
    fn rollback(self);
}

/// Something that answers with series and samples.
pub trait Query {
    /// The series of an answer.
    type Series: QuerySeries;

    /// The series that satisfy all matchers, with their samples from `mint` to `maxt` (ms, both inclusive).
    fn select(&self, matchers: &[Matcher], mint: i64, maxt: i64) -> impl Iterator<Item = Self::Series>;
}

/// One series of an answer.
pub trait QuerySeries {
    /// Its labels.
    fn labels(&self) -> &Labels;

    /// Its samples, oldest first.
    fn samples(&self) -> impl Iterator<Item = Result<Sample, ReadError>>;
}

impl Storage for Head {
    type Appender = Appender;
    type CommitError = CommitError;

    fn begin(&self) -> Appender {
        self.appender()
    }
}

impl Append for Appender {
    type CommitError = CommitError;

    fn append(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        start: i64,
        t: i64,
        value: Value,
    ) -> Result<SeriesRef, AppendError> {
        match value {
            Value::Float(v) => self.append_with_start(series, labels, start, t, v),
            Value::Histogram(h) => {
                let histogram: Histogram = *h;
                self.append_histogram(series, labels, start, t, histogram)
            }
            Value::FloatHistogram(h) => {
                let histogram: FloatHistogram = *h;
                self.append_float_histogram(series, labels, start, t, histogram)
            }
        }
    }

    fn commit(self) -> Result<Committed, CommitError> {
        Self::commit(self)
    }

    fn rollback(self) {
        Self::rollback(self);
    }
}

impl Query for Head {
    type Series = Series;

    fn select(&self, matchers: &[Matcher], mint: i64, maxt: i64) -> impl Iterator<Item = Series> {
        let set: SeriesSet = Self::select(self, matchers, mint, maxt);
        set
    }
}

impl QuerySeries for Series {
    fn labels(&self) -> &Labels {
        Self::labels(self)
    }

    fn samples(&self) -> impl Iterator<Item = Result<Sample, ReadError>> {
        Self::samples(self)
    }
}
