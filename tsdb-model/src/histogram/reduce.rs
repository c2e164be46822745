//! Reducing the resolution of exponential buckets.
//!
//! One step of the schema halves the resolution: buckets `2i-1` and `2i` become bucket `i`. *n* steps make bucket index
//! `((i - 1) >> n) + 1`.

use crate::histogram::{BucketValue, NativeHistogram, Span, is_custom_buckets_schema};
use alloc::vec::Vec;
use core::fmt;

/// Why the resolution cannot be reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReduceError {
    /// The target is not a lower exponential resolution than the one at hand.
    Target {
        /// The histogram's schema.
        from: i32,
        /// The schema asked for.
        to: i32,
    },
    /// A span other than the first begins before the end of the one before it.
    NegativeOffset {
        /// Which span, counted from 0.
        span: usize,
        /// Its offset.
        offset: i32,
    },
    /// The spans announce another number of buckets than there are.
    SpansBucketsMismatch {
        /// Buckets by the spans.
        spans: u64,
        /// Buckets present.
        buckets: usize,
    },
}

impl fmt::Display for ReduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target { from, to } => write!(f, "cannot reduce resolution from schema {from} to {to}"),
            Self::NegativeOffset { span, offset } => write!(f, "span {span} has the negative offset {offset}"),
            Self::SpansBucketsMismatch { spans, buckets } => {
                write!(f, "spans announce {spans} buckets, {buckets} are present")
            }
        }
    }
}

impl core::error::Error for ReduceError {}

/// Whether spans and buckets fit together, which is all that a reduction needs. Allocates nothing.
pub fn check_layout(spans: impl IntoIterator<Item = Span>, buckets: usize) -> Result<(), ReduceError> {
    let mut announced = 0u64;
    for (i, span) in spans.into_iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return Err(ReduceError::NegativeOffset { span: i, offset: span.offset });
        }
        announced += u64::from(span.length);
    }
    if announced != buckets as u64 {
        return Err(ReduceError::SpansBucketsMismatch { spans: announced, buckets });
    }
    Ok(())
}

/// What merging buckets needs to know of the stored number.
pub(super) trait Merge: BucketValue {
    fn wrapping_sum(self, other: Self) -> Self;
    fn wrapping_difference(self, other: Self) -> Self;
}

impl Merge for i64 {
    fn wrapping_sum(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    fn wrapping_difference(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
}

impl Merge for f64 {
    fn wrapping_sum(self, other: Self) -> Self {
        self + other
    }

    fn wrapping_difference(self, other: Self) -> Self {
        self - other
    }
}

/// The layout and counts of one side while buckets are merged into it.
struct Target<B> {
    spans: Vec<Span>,
    buckets: Vec<B>,
    last_index: i32,
    /// The counts, absolute, of the last bucket read and of the last bucket written. Unused where buckets are absolute.
    last_read: B,
    last_written: B,
}

impl<B: Merge> Target<B> {
    fn add(&mut self, index: i32, bucket: B) {
        if self.spans.is_empty() {
            self.spans.push(Span { offset: index, length: 1 });
            self.buckets.push(bucket);
            (self.last_index, self.last_read, self.last_written) = (index, bucket, bucket);
            return;
        }
        // Indices wrap in hostile input: a bucket that seems to lie before the last one is dropped, as the reference does.
        if index < self.last_index {
            return;
        }
        let count = if B::DELTAS { self.last_read.wrapping_sum(bucket) } else { bucket };
        self.last_read = count;
        if index == self.last_index {
            if let Some(last) = self.buckets.last_mut() {
                *last = last.wrapping_sum(count);
            }
            self.last_written = self.last_written.wrapping_sum(count);
            return;
        }
        match (index.wrapping_sub(self.last_index).wrapping_sub(1), self.spans.last_mut()) {
            (0, Some(span)) => span.length += 1,
            (gap, _) => self.spans.push(Span { offset: gap, length: 1 }),
        }
        self.last_index = index;
        self.buckets.push(if B::DELTAS { count.wrapping_difference(self.last_written) } else { count });
        self.last_written = count;
    }
}

fn reduce_side<B: Merge>(spans: &mut Vec<Span>, buckets: &mut Vec<B>, steps: u32) -> Result<(), ReduceError> {
    check_layout(spans.iter().copied(), buckets.len())?;
    let mut target = Target {
        spans: Vec::with_capacity(spans.len()),
        buckets: Vec::with_capacity(buckets.len()),
        last_index: 0,
        last_read: B::default(),
        last_written: B::default(),
    };
    let mut index = 0i32;
    let mut rest = buckets.iter();
    for span in spans.iter() {
        index = index.wrapping_add(span.offset);
        for bucket in rest.by_ref().take(span.length as usize) {
            target.add((index.wrapping_sub(1) >> steps.min(31)).wrapping_add(1), *bucket);
            index = index.wrapping_add(1);
        }
    }
    (*spans, *buckets) = (target.spans, target.buckets);
    Ok(())
}

#[expect(private_bounds, reason = "the trait behind is sealed: i64 and f64 are all there are")]
impl<B: Merge> NativeHistogram<B> {
    /// Reduces the resolution to `schema`, merging buckets. Counts wrap on overflow, as the reference's do.
    ///
    /// Fails, leaving the histogram as it is, if `schema` is not a lower exponential resolution, or if spans and buckets
    /// do not fit together.
    ///
    /// ```
    /// use tsdb_model::{Histogram, Span};
    /// let mut h = Histogram {
    ///     schema: 1,
    ///     positive_spans: vec![Span { offset: 1, length: 4 }],
    ///     positive_buckets: vec![1, 0, 0, 0], // four buckets of 1
    ///     ..Histogram::default()
    /// };
    /// h.reduce_resolution(0).unwrap();
    /// assert_eq!(h.positive_spans, [Span { offset: 1, length: 2 }]);
    /// assert_eq!(h.positive_buckets, [2, 0]); // two buckets of 2
    /// ```
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), ReduceError> {
        if self.uses_custom_buckets() || is_custom_buckets_schema(schema) || schema >= self.schema {
            return Err(ReduceError::Target { from: self.schema, to: schema });
        }
        check_layout(self.positive_spans.iter().copied(), self.positive_buckets.len())?;
        check_layout(self.negative_spans.iter().copied(), self.negative_buckets.len())?;
        let steps = self.schema.abs_diff(schema);
        reduce_side(&mut self.positive_spans, &mut self.positive_buckets, steps)?;
        reduce_side(&mut self.negative_spans, &mut self.negative_buckets, steps)?;
        self.schema = schema;
        Ok(())
    }
}
