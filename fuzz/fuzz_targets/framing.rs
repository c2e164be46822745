//! Any bytes as a segment, without a file: no panic, no endless loop, and the state machine says the same whether it gets
//! them at once, piece by piece as a growing file would give them, or in blocks as the parallel reader does. What it calls
//! a record is decompressed.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use wal_segment::framer::{Event, Frame, Framer};
use wal_segment::{Compression, Decompressor, FrameFault, PAGE_SIZE};

const PAGE: u64 = PAGE_SIZE as u64;

/// A record: where it begins and ends, and its stored bytes.
type Record = (u64, u64, Compression, Vec<u8>);

/// How a segment ends: cleanly, or with a fault (record's start, place, what).
type End = Option<(u64, u64, FrameFault)>;

thread_local! {
    /// Kept, as a reader does: a buffer of some kilobytes each time would be most of the work.
    static KEPT: RefCell<(Framer, Framer, Decompressor)> =
        RefCell::new((Framer::new(), Framer::new(), Decompressor::default()));
}

fn record(framer: &Framer, frame: &Frame, window: &[u8]) -> Record {
    (frame.start, frame.end, frame.compression, framer.stored(frame, window).to_vec())
}

/// What the end of the bytes means.
fn ended(framer: &Framer, bytes: &[u8]) -> End {
    match framer.finish(&bytes[framer.offset() as usize..]) {
        Some(Event::Fault { record_start, offset, fault }) => Some((record_start, offset, fault)),
        Some(other) => panic!("the end is {other:?}"),
        None => None,
    }
}

/// All bytes at once.
fn at_once(framer: &mut Framer, bytes: &[u8]) -> (Vec<Record>, End) {
    framer.reset();
    let mut records = Vec::new();
    loop {
        match framer.advance(bytes, 0) {
            Event::Record(frame) => records.push(record(framer, &frame, bytes)),
            Event::NeedMore => return (records, ended(framer, bytes)),
            Event::Fault { record_start, offset, fault } => {
                let again = framer.advance(bytes, 0);
                assert_eq!(again, Event::Fault { record_start, offset, fault: fault.clone() }, "it stays there");
                return (records, Some((record_start, offset, fault)));
            }
            Event::Limit => panic!("there is no limit"),
        }
    }
}

/// A window that grows by `step` bytes and forgets the pages before the one that is looked at.
fn in_pieces(framer: &mut Framer, bytes: &[u8], step: usize) -> (Vec<Record>, End) {
    framer.reset();
    let (mut records, mut known) = (Vec::new(), 0);
    loop {
        let base = framer.offset() / PAGE * PAGE;
        known = known.max(base as usize).min(bytes.len());
        let window = &bytes[(base as usize).min(known)..known];
        match framer.advance(window, base) {
            Event::Record(frame) => records.push(record(framer, &frame, window)),
            Event::NeedMore if known < bytes.len() => known = (known + step).min(bytes.len()),
            Event::NeedMore => return (records, ended(framer, bytes)),
            Event::Fault { record_start, offset, fault } => return (records, Some((record_start, offset, fault))),
            Event::Limit => panic!("there is no limit"),
        }
    }
}

/// Blocks of pages, each by a framer that has seen nothing before it; those records that end before `to`.
fn in_blocks(framer: &mut Framer, bytes: &[u8], pages: u64, to: u64) -> Vec<Record> {
    let mut records = Vec::new();
    let size = pages * PAGE;
    for start in (0..bytes.len() as u64).step_by(size as usize) {
        framer.reset_at_page(start);
        framer.set_limit(start + size);
        while let Event::Record(frame) = framer.advance(bytes, 0) {
            assert!((start..start + size).contains(&frame.start), "a record of another block");
            if frame.end <= to {
                records.push(record(framer, &frame, bytes));
            }
        }
    }
    records
}

/// On from page to page behind every fault: it ends, and never goes back.
fn salvaged(framer: &mut Framer, bytes: &[u8]) -> Vec<u64> {
    framer.reset();
    let (mut starts, mut at) = (Vec::new(), 0);
    loop {
        match framer.advance(bytes, 0) {
            Event::Record(frame) => {
                assert!(frame.start >= at && frame.end > frame.start, "{frame:?} behind {at}");
                at = frame.end;
                starts.push(frame.start);
            }
            Event::NeedMore | Event::Limit => return starts,
            Event::Fault { record_start, offset, .. } => {
                assert!(record_start <= offset && offset < framer.next_page());
                let next = framer.next_page();
                if next >= bytes.len() as u64 {
                    return starts;
                }
                framer.resume_at(next);
            }
        }
    }
}

/// Gives every fragment that lies in its page the checksum of its data: or nothing would ever come behind one.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(length) = bytes.get(at + 1..at + 3).map(|l| usize::from(u16::from_be_bytes([l[0], l[1]]))) {
        let page_end = (at / PAGE_SIZE + 1) * PAGE_SIZE;
        let (from, to) = (at + 7, at + 7 + length);
        if bytes[at] == 0 || to > page_end || to > bytes.len() {
            at = page_end;
            continue;
        }
        let crc = crc32c::crc32c(&bytes[from..to]);
        bytes[at + 3..at + 7].copy_from_slice(&crc.to_be_bytes());
        at = if page_end - to < 7 { page_end } else { to };
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, rest)) = input.split_first() else { return };
    // Some of them stretched over several pages: records cross pages only there.
    let stretched = rest.repeat(if how & 6 != 6 { 1 } else { PAGE_SIZE.div_ceil(rest.len().max(1)).min(2000) });
    let bytes = if how & 1 == 0 { stretched } else { with_checksums(stretched) };
    KEPT.with_borrow_mut(|(framer, other, decompressor)| {
        let (records, end) = at_once(framer, &bytes);
        let tally = framer.tally();
        assert_eq!(tally.records, records.len() as u64);
        let step = if bytes.len() > 1000 { 700 * (1 + usize::from(how >> 3)) + 1 } else { 1 + usize::from(how >> 3) };
        assert_eq!(in_pieces(other, &bytes, step), (records.clone(), end.clone()), "in pieces of {step}");
        assert_eq!(other.tally(), tally);
        let to = end.as_ref().map_or(u64::MAX, |(record_start, ..)| *record_start);
        let pages = 1 + u64::from(how >> 3) % 3;
        assert_eq!(in_blocks(other, &bytes, pages, to), records, "in blocks of {pages} pages");
        let salvage = salvaged(other, &bytes);
        assert!(salvage.iter().copied().take(records.len()).eq(records.iter().map(|(start, ..)| *start)));
        assert!(end.is_some() || salvage.len() == records.len());
        for (.., compression, stored) in &records {
            // What it decompresses to is a matter of targets of their own; here only that it ends.
            let _ = decompressor.decode(*compression, stored).map(<[u8]>::len);
        }
    });
});
