//! Cutting a stored record into fragments: the encoder beside [`framer`](crate::framer), its decoder.

use crate::Compression;
use crate::format::{FragmentHeader, FragmentType, HEADER_SIZE, PAGE, PAGE_SIZE, checksum, room_in_page};
use crate::framer::Tally;

/// A piece of a framed record, in the order in which they stand in the segment.
pub(crate) enum Piece<'a> {
    Head([u8; HEADER_SIZE]),
    Data(&'a [u8]),
    /// So many zeros.
    Padding(usize),
}

/// Cuts one record into fragments that continue the segment at `tally`'s and `offset`'s place, and moves both on. A page
/// that has no room for another header is filled with zeros at once, as the reference does. `known` is the checksum of
/// `stored`, if somebody has computed it already.
pub(crate) fn pieces<'a>(
    offset: &mut u64,
    tally: &mut Tally,
    stored: &'a [u8],
    compression: Compression,
    known: Option<u32>,
    mut put: impl FnMut(Piece<'a>),
) {
    let mut rest = stored;
    let mut first = true;
    // One pass at least: an empty record is a fragment, too.
    loop {
        let room = room_in_page(*offset);
        let (data, behind) = rest.split_at(rest.len().min(room - HEADER_SIZE));
        let fragment = FragmentType::of(first, behind.is_empty());
        let length = data.len() as u16;
        let crc = known.filter(|_| data.len() == stored.len()).unwrap_or_else(|| checksum(data));
        let head = FragmentHeader { fragment, compression, length, crc }.encode();
        put(Piece::Head(head));
        put(Piece::Data(data));
        *offset += (HEADER_SIZE + data.len()) as u64;
        tally.chain(&head, *offset);
        let room = room_in_page(*offset);
        if room < HEADER_SIZE {
            put(Piece::Padding(room));
            *offset += room as u64;
        }
        rest = behind;
        first = false;
        if rest.is_empty() {
            break;
        }
    }
    tally.records += 1;
}

/// Appends the fragments of one record to `out`; see [`pieces`].
pub(crate) fn frame(
    out: &mut Vec<u8>,
    offset: &mut u64,
    tally: &mut Tally,
    stored: &[u8],
    compression: Compression,
    known: Option<u32>,
) {
    pieces(offset, tally, stored, compression, known, |piece| match piece {
        Piece::Head(head) => out.extend_from_slice(&head),
        Piece::Data(data) => out.extend_from_slice(data),
        Piece::Padding(zeros) => out.resize(out.len() + zeros, 0),
    });
}

/// Fills the page with zeros, if it holds anything.
pub(crate) fn pad_page(out: &mut Vec<u8>, offset: &mut u64) {
    let room = room_in_page(*offset);
    if room < PAGE_SIZE {
        out.resize(out.len() + room, 0);
        *offset += room as u64;
    }
}

/// Whether a stored record of `len` bytes still goes into a segment of `segment_size` that is filled up to `offset`.
/// A record never crosses segments; one that is larger than a whole segment makes a larger segment.
pub(crate) fn fits(offset: u64, len: usize, segment_size: u64) -> bool {
    let per_page = (PAGE_SIZE - HEADER_SIZE) as i128;
    let pages_behind = i128::from(segment_size / PAGE) - i128::from(offset / PAGE) - 1;
    len as i128 <= (room_in_page(offset) - HEADER_SIZE) as i128 + per_page * pages_behind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framer::{Event, Framer};

    fn framed(records: &[&[u8]]) -> Vec<u8> {
        let (mut out, mut offset, mut tally) = (Vec::new(), 0, Tally::default());
        for record in records {
            frame(&mut out, &mut offset, &mut tally, record, Compression::None, None);
        }
        assert_eq!(offset, out.len() as u64);
        out
    }

    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut framer, mut records) = (Framer::new(), Vec::new());
        while let Event::Record(frame) = framer.advance(bytes, 0) {
            records.push(framer.stored(&frame, bytes).to_vec());
        }
        assert_eq!(framer.finish(&bytes[framer.offset() as usize..]), None);
        records
    }

    #[test]
    fn a_page_with_seven_bytes_left_takes_an_empty_first_fragment() {
        let record = vec![7; PAGE_SIZE - 2 * HEADER_SIZE];
        let bytes = framed(&[&record, b"x"]);
        let seam = PAGE_SIZE - HEADER_SIZE;
        assert_eq!(bytes[seam..][..HEADER_SIZE], [FragmentType::First as u8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[PAGE_SIZE], FragmentType::Last as u8);
        assert_eq!(read(&bytes), [record, b"x".to_vec()]);
    }

    #[test]
    fn records_of_every_length_around_a_page_come_back() {
        for len in (0..40).chain(PAGE_SIZE - 40..PAGE_SIZE + 40).chain(2 * PAGE_SIZE - 40..2 * PAGE_SIZE + 40) {
            let record: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let bytes = framed(&[b"before", &record, b"", b"behind"]);
            assert_eq!(read(&bytes), [b"before".to_vec(), record, Vec::new(), b"behind".to_vec()], "{len}");
        }
    }

    #[test]
    fn an_empty_record_still_goes_into_a_full_segment_and_no_other_does() {
        assert!(fits(2 * PAGE, 0, 2 * PAGE));
        assert!(!fits(2 * PAGE, 1, 2 * PAGE));
        assert!(!fits(3 * PAGE, 0, 2 * PAGE));
        assert!(fits(0, 2 * (PAGE_SIZE - HEADER_SIZE), 2 * PAGE));
        assert!(!fits(0, 2 * (PAGE_SIZE - HEADER_SIZE) + 1, 2 * PAGE));
    }
}
