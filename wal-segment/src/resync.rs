//! Where reading goes on behind damage.
//!
//! Damage that leaves the lengths alone costs one record. When a length can't be trusted, the next place in the page is
//! looked for from which sound fragments follow each other up to the page's end (or, when there is more damage in the page,
//! the first sound one that the damaged ones' lengths lead to); bytes *inside* a record's data that look
//! like a fragment (a hostile label may hold them) do not pass as records, as no such chain starts there. Failing that, the
//! next page is where fragments are known to begin.

use crate::error::FrameFault;
use crate::format::{FragmentHeader, HEADER_SIZE, PAGE_SIZE, checksum};

/// Bytes that may be summed in search of a chain in one page: hostile pages must not cost more than that.
const SEARCH_BUDGET: usize = 16 * 1024 * 1024;

/// Offset in `page` from which to read on after `fault` at offset `at`; `page.len()` if nothing in it can be trusted.
///
/// `page` is a whole page, or what there is of the segment's last one.
pub(crate) fn resume_in_page(page: &[u8], at: usize, fault: &FrameFault) -> usize {
    match fault {
        // The fragment is sound, it only does not belong to what was before it.
        FrameFault::Order { .. } | FrameFault::MixedCompression { .. } | FrameFault::ZeroPage { .. } => at,
        // So is the padding, which is looked at once more without the record.
        FrameFault::PaddingInsideRecord => at,
        FrameFault::Torn { .. } if page.len() - at < HEADER_SIZE => page.len(),
        FrameFault::Type { .. }
        | FrameFault::Length { .. }
        | FrameFault::Checksum { .. }
        | FrameFault::Padding { .. }
        | FrameFault::Torn { .. } => search(page, at),
        FrameFault::Decompress { .. } | FrameFault::Ledger { .. } | FrameFault::Unusable { .. } => page.len(),
    }
}

fn search(page: &[u8], at: usize) -> usize {
    let behind = claimed_end(page, at);
    if let Some(end) = end_but_for_one_bit(page, at) {
        return end;
    }
    if let Some(behind) = behind.filter(|&behind| chain(page, behind, &mut { SEARCH_BUDGET })) {
        return behind;
    }
    let mut budget = SEARCH_BUDGET;
    let found = (at + 1..page.len()).find(|&start| plausible(page, start) && chain(page, start, &mut budget));
    let found = found.unwrap_or(page.len());
    // A second damage further on breaks the chains before it: trust the lengths if they lead to a sound fragment, and from
    // there to the chain. A wrong one may lead to what a record's data only looks like.
    let hopped = hop(page, at).filter(|&sound| found == page.len() || leads(page, sound, found));
    hopped.unwrap_or(found)
}

/// Whether the lengths of the fragments from `from` on lead to the one at `to`.
fn leads(page: &[u8], mut from: usize, to: usize) -> bool {
    while from < to {
        let Some(end) = claimed_end(page, from) else { return false };
        from = end;
    }
    from == to
}

/// Damaged fragments next to each other that are passed over by their lengths.
const HOPS: usize = 16;

/// The first sound fragment with data that the lengths of damaged ones lead to, from the one at `at` on.
fn hop(page: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..HOPS {
        at = claimed_end(page, at)?;
        if sound(page, at).is_some_and(|end| end > at + HEADER_SIZE) {
            return Some(at);
        }
        if !plausible(page, at) {
            return None;
        }
    }
    None
}

/// The end of the fragment at `at`, if its checksum holds with one bit of its length the other way round: then what it
/// claims may, by chance, be another fragment's end.
fn end_but_for_one_bit(page: &[u8], at: usize) -> Option<usize> {
    let head = page[at..].first_chunk::<HEADER_SIZE>()?;
    let length = u16::from_be_bytes([head[1], head[2]]);
    let crc = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let from = at + HEADER_SIZE;
    let ends = (0..16).map(|bit| from + usize::from(length ^ (1 << bit)));
    ends.filter(|&end| end > from).find(|&end| page.get(from..end).is_some_and(|data| checksum(data) == crc))
}

/// The end of the fragment at `at`, if its length is to be believed.
fn claimed_end(page: &[u8], at: usize) -> Option<usize> {
    let length = page.get(at + 1..at + 3)?;
    let end = at + HEADER_SIZE + usize::from(u16::from_be_bytes([length[0], length[1]]));
    (end < page.len()).then_some(end)
}

/// Whether a header that could be one begins at `start`, its data in the page and not empty.
fn plausible(page: &[u8], start: usize) -> bool {
    let Some(head) = page[start..].first_chunk::<HEADER_SIZE>() else { return false };
    FragmentHeader::decode(head)
        .is_ok_and(|header| header.length > 0 && start + HEADER_SIZE + usize::from(header.length) <= page.len())
}

/// The end of the fragment at `start`, if header and checksum are sound.
fn sound(page: &[u8], start: usize) -> Option<usize> {
    let head = page.get(start..)?.first_chunk::<HEADER_SIZE>()?;
    let header = FragmentHeader::decode(head).ok()?;
    let data = page.get(start + HEADER_SIZE..start + HEADER_SIZE + usize::from(header.length))?;
    (checksum(data) == header.crc).then_some(start + HEADER_SIZE + data.len())
}

/// Whether a fragment begins at `start` that the segment's end cuts.
fn cut(page: &[u8], start: usize) -> bool {
    let head = page[start..].first_chunk::<HEADER_SIZE>().and_then(|head| FragmentHeader::decode(head).ok());
    head.is_some_and(|header| (page.len()..=PAGE_SIZE).contains(&(start + HEADER_SIZE + usize::from(header.length))))
}

/// Whether sound fragments, at least one of them with data, follow each other from `start` to the page's end or its
/// padding. In a page that was not written to its end the last fragment may be cut.
fn chain(page: &[u8], mut start: usize, budget: &mut usize) -> bool {
    if *budget == 0 {
        return false;
    }
    let mut data = false;
    while page.len() - start >= HEADER_SIZE && page[start] != 0 {
        let Some(end) = sound(page, start) else {
            *budget = budget.saturating_sub(claimed_end(page, start).map_or(0, |end| end - start));
            return data && cut(page, start);
        };
        let Some(left) = budget.checked_sub(end - start) else { return false };
        *budget = left;
        data |= end > start + HEADER_SIZE;
        start = end;
    }
    data && page[start..].iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compression;
    use crate::frame::frame;
    use crate::framer::Tally;

    fn page(records: &[&[u8]]) -> Vec<u8> {
        let (mut out, mut offset, mut tally) = (Vec::new(), 0, Tally::default());
        records.iter().for_each(|record| frame(&mut out, &mut offset, &mut tally, record, Compression::None, None));
        out
    }

    const SUM: FrameFault = FrameFault::Checksum { expected: 0, found: 0 };

    #[test]
    fn behind_a_damaged_length_the_next_record_is_found() {
        let mut bytes = page(&[b"first record", b"second", b"third"]);
        bytes[2] ^= 0x40;
        assert_eq!(resume_in_page(&bytes, 0, &SUM), HEADER_SIZE + 12);
    }

    #[test]
    fn a_record_inside_a_record_is_not_one() {
        let inner = page(&[b"forged"]);
        let outer = [b"label=".as_slice(), &inner, b" and more"].concat();
        let mut bytes = page(&[&outer, b"second"]);
        bytes[2] ^= 0x80;
        assert_eq!(resume_in_page(&bytes, 0, &SUM), HEADER_SIZE + outer.len());
    }

    #[test]
    fn a_wrong_length_does_not_lead_into_a_record() {
        let inner = page(&[b"forged"]);
        let outer = [b"label=".as_slice(), &inner, b" and more"].concat();
        let mut bytes = page(&[&outer, b"second", b"third"]);
        bytes[1..3].copy_from_slice(&6_u16.to_be_bytes());
        assert!(sound(&bytes, HEADER_SIZE + 6).is_some(), "where the length leads");
        assert_eq!(resume_in_page(&bytes, 0, &SUM), HEADER_SIZE + outer.len());
    }

    #[test]
    fn damage_at_several_places_of_a_page_costs_what_it_touches() {
        let records: [&[u8]; 6] = [b"first", b"second", b"third", b"fourth", b"fifth", b"sixth"];
        let whole = page(&records);
        let start = |n: usize| records[..n].iter().map(|record| HEADER_SIZE + record.len()).sum::<usize>();
        // A wrong byte of data in each of some records: the one behind the first of them, or behind its neighbours, is next.
        for (wrong, next) in
            [(&[0, 2][..], 1), (&[0, 1, 4], 2), (&[0, 1, 2, 5], 3), (&[0, 5], 1), (&[0, 1, 2, 3, 4], 5)]
        {
            let mut bytes = whole.clone();
            wrong.iter().for_each(|&n| bytes[start(n) + HEADER_SIZE] ^= 1);
            assert_eq!(resume_in_page(&bytes, 0, &SUM), start(next), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_chain_the_page_is_given_up() {
        let mut bytes = page(&[b"first record"]);
        bytes[2] ^= 0x01;
        assert_eq!(resume_in_page(&bytes, 0, &SUM), bytes.len());
    }
}
