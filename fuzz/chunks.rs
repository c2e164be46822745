//! What the targets of the six chunk encodings share.

use head_chunks::histogram::{Appender, Coded};
use head_chunks::xor::XorAppender;
use head_chunks::xor2::Xor2Appender;

#[path = "../head-chunks/tests/naive/mod.rs"]
mod naive;

/// Any bytes as a chunk of one encoding.
pub fn check(encoding: u8, bytes: &[u8]) {
    // A count of 65,535 samples of one bit each is sound; the naive decoder is slow, so that most inputs should be small.
    if bytes.len() > 4096 {
        return;
    }
    let real = naive::real(encoding, bytes);
    assert!(real == naive::decode(encoding, bytes), "the naive decoder reads something else");
    // What can be read can be continued, and then holds one sample more.
    let resumed = match encoding {
        1 => XorAppender::resume(bytes).ok().map(|mut appender| {
            let full = appender.append(7, 1.0).is_err();
            (full, appender.to_bytes())
        }),
        4 => Xor2Appender::resume(bytes).ok().map(|mut appender| {
            let full = appender.append(3, 7, 1.0).is_err();
            (full, appender.to_bytes())
        }),
        2 | 5 => resume_histogram::<i64>(encoding == 5, bytes),
        _ => resume_histogram::<f64>(encoding == 6, bytes),
    };
    // A histogram that cannot be reduced is refused by the iterator only: its owner may still continue the chunk.
    assert!(resumed.is_some() || !real.sound, "sound, but it cannot be continued");
    if let Some((full, bytes)) = resumed
        && real.sound
    {
        let again = naive::real(encoding, &bytes);
        assert!(again.sound, "continued, and not sound any more");
        assert_eq!(again.samples.len(), real.samples.len() + usize::from(!full));
        assert!(again.samples[..real.samples.len()] == real.samples[..], "continued, and reads differently");
    }
}

/// Continues a histogram chunk with its own last histogram.
fn resume_histogram<B: Coded>(start_timestamps: bool, bytes: &[u8]) -> Option<(bool, Vec<u8>)> {
    let mut appender = Appender::<B>::resume(start_timestamps, bytes).ok()?;
    let Some(last) = appender.last() else { return Some((true, appender.to_bytes())) };
    let full = appender.try_append(None, 3, 7, &last).is_err();
    Some((full, appender.to_bytes()))
}
