//! A growing buffer with cheap fixed-size windows, so that an encoder's inner loop has no checks but one.

use tsdb_model::varint;

/// Bytes written so far, in memory that is initialised once and then reused.
#[derive(Clone, Default)]
pub(crate) struct Buffer {
    /// Initialised to its whole length; only `..len` has meaning.
    bytes: alloc::vec::Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The next `N` bytes to write to; what is used of them counts after [`advance`](Self::advance).
    #[inline]
    pub(crate) fn window<const N: usize>(&mut self) -> &mut [u8; N] {
        if self.bytes.len() - self.len < N {
            self.grow(N);
        }
        match self.bytes[self.len..].first_chunk_mut() {
            Some(window) => window,
            // `grow` made room.
            None => unreachable!("a grown buffer has room"),
        }
    }

    /// The next bytes to write to, at least `len` of them.
    #[inline]
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.len < len {
            self.grow(len);
        }
        &mut self.bytes[self.len..]
    }

    #[inline]
    pub(crate) fn advance(&mut self, len: usize) {
        self.len += len;
    }

    /// Doubling keeps the cost of initialising new memory a small part of writing it.
    #[cold]
    fn grow(&mut self, needed: usize) {
        let target = (self.len + needed).max(self.bytes.len() * 2).max(256);
        self.bytes.resize(target, 0);
    }

    #[inline]
    pub(crate) fn put_byte(&mut self, byte: u8) {
        self.window::<1>()[0] = byte;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn put_be64(&mut self, value: u64) {
        *self.window() = value.to_be_bytes();
        self.len += 8;
    }

    #[inline]
    pub(crate) fn put_float(&mut self, value: f64) {
        self.put_be64(value.to_bits());
    }

    #[inline]
    pub(crate) fn put_uvarint(&mut self, value: u64) {
        let window = self.window();
        let len = if value < 0x80 {
            window[0] = value as u8;
            1
        } else {
            varint::write_uvarint(window, value)
        };
        self.len += len;
    }

    #[inline]
    pub(crate) fn put_varint(&mut self, value: i64) {
        self.put_uvarint(varint::zigzag(value));
    }

    #[inline]
    pub(crate) fn put_slice(&mut self, slice: &[u8]) {
        if self.bytes.len() - self.len < slice.len() {
            self.grow(slice.len());
        }
        self.bytes[self.len..self.len + slice.len()].copy_from_slice(slice);
        self.len += slice.len();
    }

    #[inline]
    pub(crate) fn put_text(&mut self, text: &[u8]) {
        self.put_uvarint(text.len() as u64);
        self.put_slice(text);
    }

    pub(crate) fn put_labels(&mut self, labels: &tsdb_model::LabelPairs<'_>) {
        self.put_uvarint(labels.len() as u64);
        if let Some(packed) = labels.as_canonical() {
            self.put_slice(packed);
            return;
        }
        for (name, value) in labels.iter() {
            self.put_text(name);
            self.put_text(value);
        }
    }
}
