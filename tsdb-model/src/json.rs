//! JSON forms that JSON itself has none for: floats that are not numbers, bytes that are no text.

use crate::histogram::{BucketValue, NativeHistogram, Span};
use crate::labels::{LabelPairs, Labels};
use crate::staleness::{NORMAL_NAN_BITS, STALE_NAN_BITS};
use alloc::string::String;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

/// A float: the shortest number that reads back to the same bits, or `"+Inf"`, `"-Inf"`, `"stale"` (the stale marker),
/// `"NaN"` (the ordinary one), `"NaN(0x…)"` (any other, with its 16 digits of bits).
///
/// ```
/// use tsdb_model::json::Float;
/// let json = |v| serde_json::to_string(&Float(v)).unwrap();
/// assert_eq!(json(1.5), "1.5");
/// assert_eq!(json(-0.0), "-0.0");
/// assert_eq!(json(f64::INFINITY), r#""+Inf""#);
/// assert_eq!(json(tsdb_model::staleness::stale_nan()), r#""stale""#);
/// assert_eq!(json(f64::from_bits(0x7ff8_0000_0000_0000)), r#""NaN(0x7ff8000000000000)""#);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Float(
    /// The value.
    pub f64,
);

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_finite() => serializer.serialize_f64(v),
            f64::INFINITY => serializer.serialize_str("+Inf"),
            f64::NEG_INFINITY => serializer.serialize_str("-Inf"),
            v => match v.to_bits() {
                STALE_NAN_BITS => serializer.serialize_str("stale"),
                NORMAL_NAN_BITS => serializer.serialize_str("NaN"),
                bits => serializer.collect_str(&format_args!("NaN({bits:#018x})")),
            },
        }
    }
}

/// Bytes as a string; what is not UTF-8 becomes U+FFFD. [`is_lossy`] says whether that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text<'a>(
    /// The bytes.
    pub &'a [u8],
);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.0))
    }
}

/// Whether bytes lose something as a JSON string.
#[must_use]
pub fn is_lossy(text: &[u8]) -> bool {
    core::str::from_utf8(text).is_err()
}

/// Whether a name or value among them loses something as a JSON string.
#[must_use]
pub fn labels_are_lossy(labels: &LabelPairs<'_>) -> bool {
    labels.iter().any(|(name, value)| is_lossy(name) || is_lossy(value))
}

/// An object in stored order, repeated names repeated.
impl Serialize for LabelPairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(&Text(name), &Text(value))?;
        }
        map.end()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.pairs().serialize(serializer)
    }
}

/// `[offset, length]`
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.offset, self.length).serialize(serializer)
    }
}

/// How counts and buckets of a histogram are written.
trait Number: BucketValue {
    fn bucket(self) -> impl Serialize;
    fn count(count: Self::Count) -> impl Serialize;
}

impl Number for i64 {
    fn bucket(self) -> impl Serialize {
        self
    }

    fn count(count: u64) -> impl Serialize {
        count
    }
}

impl Number for f64 {
    fn bucket(self) -> impl Serialize {
        Float(self)
    }

    fn count(count: f64) -> impl Serialize {
        Float(count)
    }
}

struct List<'a, B>(&'a [B]);

impl<B: Number> Serialize for List<'_, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for bucket in self.0 {
            seq.serialize_element(&bucket.bucket())?;
        }
        seq.end()
    }
}

/// All fields by their names, buckets as stored (differences in integer histograms); the counter reset hint as its byte
/// under `reset_hint`.
impl<B: Number> Serialize for NativeHistogram<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Histogram", 11)?;
        object.serialize_field("reset_hint", &self.counter_reset_hint.to_byte())?;
        object.serialize_field("schema", &self.schema)?;
        object.serialize_field("zero_threshold", &Float(self.zero_threshold))?;
        object.serialize_field("zero_count", &B::count(self.zero_count))?;
        object.serialize_field("count", &B::count(self.count))?;
        object.serialize_field("sum", &Float(self.sum))?;
        object.serialize_field("positive_spans", &self.positive_spans)?;
        object.serialize_field("negative_spans", &self.negative_spans)?;
        object.serialize_field("positive_buckets", &List(&self.positive_buckets))?;
        object.serialize_field("negative_buckets", &List(&self.negative_buckets))?;
        object.serialize_field("custom_values", &List(&self.custom_values))?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Histogram, Labels, Span};

    #[test]
    fn a_histogram() {
        let h = Histogram {
            zero_threshold: 0.001,
            count: 3,
            sum: 1.5,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1, 1],
            ..Histogram::default()
        };
        assert_eq!(
            serde_json::to_string(&h).unwrap(),
            r#"{"reset_hint":0,"schema":0,"zero_threshold":0.001,"zero_count":0,"count":3,"sum":1.5,"positive_spans":[[0,2]],"negative_spans":[],"positive_buckets":[1,1],"negative_buckets":[],"custom_values":[]}"#
        );
        let float = serde_json::to_string(&h.to_float()).unwrap();
        assert!(float.contains(r#""zero_count":0.0,"count":3.0"#) && float.contains(r#""positive_buckets":[1.0,2.0]"#));
    }

    #[test]
    fn labels_keep_order_and_repeats() {
        let stored = Labels::from_packed(&[1, b'b', 1, b'1', 1, b'a', 0, 1, b'b', 1, 0xff]).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), "{\"b\":\"1\",\"a\":\"\",\"b\":\"\u{fffd}\"}");
        assert!(super::labels_are_lossy(&stored.pairs()));
    }
}
