//! Bucket layouts against each other: which buckets one has and the other lacks.

use tsdb_model::Span;

/// Indices of the buckets that spans describe, in order.
#[derive(Debug, Clone)]
pub(super) struct BucketIndices<'a> {
    spans: core::slice::Iter<'a, Span>,
    left: u32,
    /// The index behind the last one yielded.
    next: i64,
}

impl<'a> BucketIndices<'a> {
    pub(super) fn new(spans: &'a [Span]) -> Self {
        Self { spans: spans.iter(), left: 0, next: 0 }
    }
}

impl Iterator for BucketIndices<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        while self.left == 0 {
            let span = self.spans.next()?;
            self.next += i64::from(span.offset);
            self.left = span.length;
        }
        self.left -= 1;
        self.next += 1;
        Some(self.next - 1)
    }
}

/// How many buckets spans describe.
pub(super) fn bucket_count(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

/// Empty buckets to put in front of the one at position `pos`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Insert {
    /// Position in the buckets as they are.
    pub(super) pos: usize,
    /// How many to put there.
    pub(super) num: usize,
    /// Bucket index of the first of them; they follow each other without a gap.
    pub(super) index: i64,
}

/// What it takes to bring a chunk and a histogram to one layout, for the positive or the negative side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inserts {
    /// Buckets that the histogram brings and the chunk lacks.
    pub(super) forward: Vec<Insert>,
    /// Buckets that the chunk has and the histogram lacks.
    pub(super) backward: Vec<Insert>,
}

/// Collects the buckets that are missing at one position after the other.
#[derive(Default)]
struct Collector {
    done: Vec<Insert>,
    pos: usize,
    open: Option<Insert>,
}

impl Collector {
    /// A bucket is missing here.
    fn missing(&mut self, index: i64) {
        match &mut self.open {
            Some(open) if open.index + open.num as i64 == index => open.num += 1,
            _ => {
                self.flush();
                self.open = Some(Insert { pos: self.pos, num: 1, index });
            }
        }
    }

    /// On to the next bucket that is there.
    fn advance(&mut self) {
        self.flush();
        self.pos += 1;
    }

    fn flush(&mut self) {
        self.done.extend(self.open.take());
    }

    fn finish(mut self) -> Vec<Insert> {
        self.flush();
        self.done
    }
}

/// Compares the layout of a chunk (`a`) with a counter histogram's (`b`), bucket by bucket with the absolute counts.
/// `None` when a bucket lost observations, or disappeared with some in it: a counter reset.
pub(super) fn expand_counters<C: PartialOrd + Default>(
    a: &[Span],
    a_counts: impl Iterator<Item = C>,
    b: &[Span],
    b_counts: impl Iterator<Item = C>,
) -> Option<Inserts> {
    let mut a = BucketIndices::new(a).zip(a_counts).peekable();
    let mut b = BucketIndices::new(b).zip(b_counts).peekable();
    let (mut forward, mut backward) = (Collector::default(), Collector::default());
    loop {
        match (a.peek(), b.peek()) {
            (Some((a_index, a_count)), Some((b_index, b_count))) if a_index == b_index => {
                if a_count > b_count {
                    return None;
                }
                forward.advance();
                backward.advance();
                a.next();
                b.next();
            }
            (Some((a_index, _)), Some((b_index, _))) if b_index < a_index => {
                forward.missing(*b_index);
                backward.advance();
                b.next();
            }
            (Some((a_index, a_count)), _) => {
                if *a_count != C::default() {
                    return None;
                }
                backward.missing(*a_index);
                forward.advance();
                a.next();
            }
            (None, Some((b_index, _))) => {
                forward.missing(*b_index);
                backward.advance();
                b.next();
            }
            (None, None) => break,
        }
    }
    Some(Inserts { forward: forward.finish(), backward: backward.finish() })
}

/// Compares the layout of a chunk (`a`) with a gauge histogram's (`b`): what each lacks of the other's buckets, and the
/// spans of all of them.
pub(super) fn expand_gauges(a: &[Span], b: &[Span]) -> (Inserts, Vec<Span>) {
    let (mut a, mut b) = (BucketIndices::new(a).peekable(), BucketIndices::new(b).peekable());
    let (mut forward, mut backward) = (Collector::default(), Collector::default());
    let mut merged = SpanBuilder::default();
    loop {
        let (in_a, in_b, index) = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => (x <= y, y <= x, *x.min(y)),
            (Some(x), None) => (true, false, *x),
            (None, Some(y)) => (false, true, *y),
            (None, None) => break,
        };
        merged.push(index);
        if in_a {
            forward.advance();
            a.next();
        } else {
            forward.missing(index);
        }
        if in_b {
            backward.advance();
            b.next();
        } else {
            backward.missing(index);
        }
    }
    (Inserts { forward: forward.finish(), backward: backward.finish() }, merged.spans)
}

/// The spans of a histogram with the buckets of `inserts` in it.
pub(super) fn with_inserts(spans: &[Span], inserts: &[Insert]) -> Vec<Span> {
    if inserts.is_empty() {
        return spans.to_vec();
    }
    let mut missing = inserts.iter().flat_map(|insert| insert.index..insert.index + insert.num as i64).peekable();
    let mut merged = SpanBuilder::default();
    for index in BucketIndices::new(spans) {
        while let Some(before) = missing.next_if(|missing| *missing < index) {
            merged.push(before);
        }
        merged.push(index);
    }
    missing.for_each(|index| merged.push(index));
    merged.spans
}

/// Builds spans, as few as possible, from indices in order.
#[derive(Default)]
struct SpanBuilder {
    spans: Vec<Span>,
    next: i64,
}

impl SpanBuilder {
    fn push(&mut self, index: i64) {
        let gap = index - self.next;
        match self.spans.last_mut() {
            Some(last) if gap == 0 => last.length += 1,
            // Indices beyond 32 bits exist only in spans that nobody writes; the reference cuts them off likewise.
            _ => self.spans.push(Span { offset: gap as i32, length: 1 }),
        }
        self.next = index + 1;
    }
}

/// Puts empty buckets between `buckets`. With `deltas` a bucket is its difference to the one before, and the one behind an
/// insert takes it to the count that it had.
pub(super) fn insert_empty<B>(buckets: &[B], inserts: &[Insert], deltas: bool, out: &mut Vec<B>)
where
    B: Copy + Default + WrappingDelta,
{
    out.clear();
    let mut inserts = inserts.iter().peekable();
    // The count of the bucket before, when buckets are differences.
    let mut count = B::default();
    for (pos, bucket) in buckets.iter().enumerate() {
        let mut emptied = false;
        while let Some(insert) = inserts.next_if(|insert| insert.pos == pos) {
            put_empty(insert.num, if deltas && !emptied { count.negated() } else { B::default() }, out);
            emptied = true;
        }
        out.push(if emptied && deltas { bucket.plus(count) } else { *bucket });
        count = count.plus(*bucket);
    }
    for insert in inserts {
        put_empty(insert.num, if deltas { count.negated() } else { B::default() }, out);
        count = B::default();
    }
}

/// `num` empty buckets, the first of which is `first`.
fn put_empty<B: Copy + Default>(num: usize, first: B, out: &mut Vec<B>) {
    let from = out.len();
    out.resize(from + num, B::default());
    if let Some(slot) = out.get_mut(from) {
        *slot = first;
    }
}

/// The arithmetic of differences, which wraps as the reference's does.
pub(super) trait WrappingDelta {
    fn plus(self, other: Self) -> Self;
    fn negated(self) -> Self;
}

impl WrappingDelta for i64 {
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    fn negated(self) -> Self {
        self.wrapping_neg()
    }
}

impl WrappingDelta for f64 {
    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn negated(self) -> Self {
        -self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(i32, u32)]) -> Vec<Span> {
        pairs.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    fn indices(spans: &[Span]) -> Vec<i64> {
        BucketIndices::new(spans).collect()
    }

    #[test]
    fn indices_pass_over_spans_without_buckets() {
        assert_eq!(indices(&spans(&[(-2, 2), (3, 1)])), [-2, -1, 3]);
        assert_eq!(indices(&spans(&[(1, 0), (2, 1), (0, 0), (1, 2), (5, 0)])), [3, 5, 6]);
        assert_eq!(indices(&[]), []);
    }

    #[test]
    fn merging_covers_both() {
        let (a, b) = (spans(&[(0, 2), (2, 1)]), spans(&[(1, 2), (4, 1)]));
        let (inserts, merged) = expand_gauges(&a, &b);
        assert_eq!(indices(&merged), [0, 1, 2, 4, 7]);
        assert_eq!(with_inserts(&a, &inserts.forward), merged);
        assert_eq!(with_inserts(&b, &inserts.backward), merged);
    }

    #[test]
    fn deltas_keep_their_counts_around_empty_buckets() {
        let insert = |pos, num| Insert { pos, num, index: 0 };
        let mut out = Vec::new();
        insert_empty(&[6_i64, -3, 0], &[insert(0, 1), insert(2, 2), insert(3, 1)], true, &mut out);
        assert_eq!(out, [0, 6, -3, -3, 0, 3, -3]);
        let mut out = Vec::new();
        insert_empty(&[6.0, 3.0], &[insert(1, 1), insert(2, 2)], false, &mut out);
        assert_eq!(out, [6.0, 0.0, 3.0, 0.0, 0.0]);
    }

    #[test]
    fn a_bucket_that_loses_observations_is_a_reset() {
        let (a, b) = (spans(&[(0, 2)]), spans(&[(0, 1), (1, 1)]));
        let expand = |a_counts: [u64; 2], b_counts: [u64; 2]| {
            expand_counters(&a, a_counts.into_iter(), &b, b_counts.into_iter())
        };
        assert_eq!(expand([1, 1], [1, 1]), None, "bucket 1 disappeared with an observation in it");
        assert_eq!(expand([2, 0], [1, 1]), None, "bucket 0 lost one");
        let inserts = expand([1, 0], [1, 1]).expect("no reset");
        assert_eq!(inserts.forward, [Insert { pos: 2, num: 1, index: 2 }]);
        assert_eq!(inserts.backward, [Insert { pos: 1, num: 1, index: 1 }]);
    }
}
