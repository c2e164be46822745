//! The worked examples of `docs/format`, made and compared.
#![allow(clippy::disallowed_methods, reason = "the documents are read from the real disk")]

use std::path::Path;
use std::sync::Arc;

use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, FilesError, NewChunk, Options, PREALLOCATED_LEN};
use head_chunks::xor::XorAppender;
use tsdb_model::SeriesRef;
use tsdb_vfs::RealFs;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format").join(name);
    std::fs::read_to_string(path).expect("the document")
}

/// The lines of the code block behind a marker.
fn example<'a>(document: &'a str, marker: &str) -> Vec<&'a str> {
    let (_, rest) = document.split_once(&format!("<!-- example:{marker} -->\n```\n")).expect("the marker");
    rest.split_once("```").expect("its end").0.lines().collect()
}

/// The bytes in front of a line's comment, which begins behind two spaces.
fn hex(line: &str) -> Vec<u8> {
    let bytes = line.split("  ").next().expect("a line");
    bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

#[test]
fn the_chunk() {
    let mut appender = XorAppender::new();
    for (t, value) in [(0, 12.0), (15_000, 12.0), (30_000, 24.5)] {
        appender.append(t, value).expect("there is room");
    }
    let chunk = appender.to_bytes();
    let document = document("chunks.md");
    let lines = example(&document, "xor");
    let (whole, bits) = lines.split_at(4);
    let mut expected: Vec<u8> = whole.iter().flat_map(|line| hex(line)).collect();
    let bits: String = bits.iter().flat_map(|line| line.split("  ").next()).collect::<String>().replace(' ', "");
    assert_eq!(bits.len() % 8, 0, "whole bytes: {bits}");
    for byte in bits.as_bytes().chunks(8) {
        expected.push(byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')));
    }
    let printed = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    assert_eq!(printed(&expected), printed(&chunk), "the bits");
    let in_bytes = document.split_once("In bytes: `").and_then(|(_, rest)| rest.split_once('`')).expect("them").0;
    assert_eq!(in_bytes, printed(&chunk), "the bytes");
}

#[test]
fn the_file() -> Result<(), FilesError> {
    let tmp = tempfile::tempdir().expect("a directory");
    let mut appender = XorAppender::new();
    appender.append(1, 1.0).expect("there is room");
    let (files, _) = ChunkFiles::open(Arc::new(RealFs::new()), tmp.path(), Options::default())?;
    let (series, encoding) = (SeriesRef(7), Encoding::Xor);
    let data = appender.to_bytes();
    files.write(&NewChunk { series, mint: 1, maxt: 1, encoding, data: &data, out_of_order: false })?;
    files.close()?;
    let file = std::fs::read(tmp.path().join("000001")).expect("the file");
    let document = document("chunk-files.md");
    let mut lines = example(&document, "file");
    assert!(lines.pop().expect("the last").starts_with("CRC"));
    let mut expected: Vec<u8> = lines.iter().flat_map(|line| hex(line)).collect();
    expected.extend(crc32c::crc32c(&expected[8..]).to_be_bytes());
    assert_eq!(file[..expected.len()], expected);
    assert_eq!(expected.len(), 8 + 37 + 4);
    assert_eq!(file.len() as u64, PREALLOCATED_LEN);
    assert!(file[expected.len()..].iter().all(|byte| *byte == 0));
    Ok(())
}
