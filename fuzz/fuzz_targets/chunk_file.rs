//! Any bytes as a chunk file: every chunk that is yielded is where it says, its checksum matches, and nothing is yielded
//! twice; chunks and damage cover the file without overlap.
#![no_main]

use std::sync::Arc;

use head_chunks::files::{ChunkFiles, ChunkRef, FilesError};
use libfuzzer_sys::fuzz_target;
use tsdb_vfs::{Fs, SimFs};

fuzz_target!(|bytes: &[u8]| {
    let fs: Fs = Arc::new(SimFs::new(1));
    let dir = std::path::Path::new("/chunks_head");
    fs.create_dir_all(dir).expect("a directory");
    fs.write_new(&dir.join("000001"), bytes).expect("a file");
    let (files, _) = ChunkFiles::open_read_only(fs, dir).expect("opens whatever is in it");
    let (mut end, mut found) = (8, Vec::new());
    let report = files
        .for_each::<FilesError>(|meta, data| {
            assert!(u64::from(meta.chunk_ref.offset) >= end, "chunks overlap");
            let start = meta.chunk_ref.offset as usize;
            found.push(meta.chunk_ref.offset);
            let at = bytes[start..].windows(data.len()).position(|window| window == data).expect("out of the file");
            end = (start + at + data.len() + 4) as u64;
            assert_eq!(files.read(meta.chunk_ref).expect("what was found can be read").data, data);
            Ok(())
        })
        .expect("no failure of the disk");
    assert!(report.damages.is_sorted_by_key(|damage| damage.offset));
    // A reference to anywhere is an answer or an error. Not every offset of every input, which would be nearly all of the
    // time: the first ones, those around the chunks, and some that the input itself decides about.
    let around = found.iter().flat_map(|offset| [offset - 1, offset + 1]);
    let mut random = crc32c::crc32c(bytes);
    let anywhere = std::iter::repeat_with(|| {
        random = random.wrapping_mul(0x9e37_79b1).rotate_left(13);
        (u64::from(random) * (bytes.len() as u64 + 16) >> 32) as u32
    });
    for offset in [0, 7, 8].into_iter().chain(around.take(16)).chain(anywhere.take(4)) {
        if let Ok(chunk) = files.read(ChunkRef { file: 1, offset }) {
            assert!(bytes[offset as usize..].windows(chunk.data.len()).any(|window| window == chunk.data), "invented");
        }
    }
});
