//! Values in a payload, the same way as `interop/wire.go`: little-endian numbers of fixed width, floats as their bits,
//! lists as items (u32 length, bytes). Nothing here looks like the formats under test.

use anyhow::{Result, ensure};

/// Takes values off the front of a payload.
pub(crate) struct WireReader<'a>(pub(crate) &'a [u8]);

/// Appends values to a payload.
#[derive(Default)]
pub(crate) struct WireWriter(pub(crate) Vec<u8>);

macro_rules! numbers {
    ($($name:ident: $type:ty),*) => {
        impl WireReader<'_> {
            $(pub(crate) fn $name(&mut self) -> Result<$type> {
                let bytes = self.take(size_of::<$type>())?;
                Ok(<$type>::from_le_bytes(bytes.try_into()?))
            })*
        }
        impl WireWriter {
            $(pub(crate) fn $name(&mut self, value: $type) {
                self.0.extend_from_slice(&value.to_le_bytes());
            })*
        }
    };
}

numbers!(u8: u8, u32: u32, i32: i32, u64: u64, i64: i64, f64: f64);

impl<'a> WireReader<'a> {
    /// Whether anything is left.
    pub(crate) fn more(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        ensure!(n <= self.0.len(), "payload ends early: need {n} bytes, have {}", self.0.len());
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(head)
    }

    /// One item: length, bytes.
    pub(crate) fn item(&mut self) -> Result<&'a [u8]> {
        let n = self.u32()?;
        self.take(n as usize)
    }
}

impl WireWriter {
    /// One item: length, bytes.
    pub(crate) fn item(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("an item is smaller than 4 GiB"));
        self.0.extend_from_slice(bytes);
    }
}

/// A payload which is a list of items.
pub(crate) fn join<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut writer = WireWriter::default();
    items.into_iter().for_each(|item| writer.item(item.as_ref()));
    writer.0
}

/// The items of such a payload.
pub(crate) fn split(payload: &[u8]) -> Result<Vec<&[u8]>> {
    let mut reader = WireReader(payload);
    let mut items = Vec::new();
    while reader.more() {
        items.push(reader.item()?);
    }
    Ok(items)
}
