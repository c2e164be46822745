//! Building a label set pair by pair.

use crate::labels::Labels;
use crate::labels::pairs::put_text;
use alloc::vec::Vec;
use core::ops::Range;

/// Collects pairs in any order and makes a [`Labels`] out of them: sorted by name (byte order), unique, no empty values.
///
/// Keeps its buffers: clear it and build the next one without allocating.
///
/// ```
/// use tsdb_model::LabelsBuilder;
/// let mut builder = LabelsBuilder::new();
/// builder.set("b", "2").set("a", "1").set("b", "3");
/// assert_eq!(builder.build().to_string(), r#"{a="1", b="3"}"#);
/// ```
#[derive(Clone, Default, Debug)]
pub struct LabelsBuilder {
    /// Names and values one after the other, in the order in which they were set.
    text: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    start: usize,
    name_len: usize,
    value_len: usize,
}

impl Entry {
    fn name(&self) -> Range<usize> {
        self.start..self.start + self.name_len
    }

    fn value(&self) -> Range<usize> {
        let start = self.start + self.name_len;
        start..start + self.value_len
    }
}

impl LabelsBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder that holds what `labels` holds.
    #[must_use]
    pub fn from_labels(labels: &Labels) -> Self {
        let mut builder = Self::new();
        for (name, value) in labels {
            builder.set(name, value);
        }
        builder
    }

    /// Sets a label; a later value of the same name replaces an earlier one, an empty value removes the label.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        self.entries.push(Entry { start: self.text.len(), name_len: name.len(), value_len: value.len() });
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self
    }

    /// Removes a label.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> &mut Self {
        self.set(name, "")
    }

    /// Whether a name was set more than once. Scrape formats refuse such a line, this builder lets the last one win.
    #[must_use]
    pub fn has_repeated_name(&mut self) -> bool {
        self.sort();
        self.entries.windows(2).any(|w| self.text[w[0].name()] == self.text[w[1].name()])
    }

    /// Forgets all pairs, keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }

    /// The label set. The builder keeps its pairs.
    #[must_use]
    pub fn build(&mut self) -> Labels {
        let mut packed = Vec::with_capacity(self.text.len() + 2 * self.entries.len());
        self.build_packed(&mut packed);
        Labels::from_trusted(packed)
    }

    /// Appends the packed bytes of the label set to `out`: a key to look labels up by before they are owned.
    pub fn build_packed(&mut self, out: &mut Vec<u8>) {
        self.sort();
        for (i, entry) in self.entries.iter().enumerate() {
            let name = &self.text[entry.name()];
            let replaced = self.entries.get(i + 1).is_some_and(|next| self.text[next.name()] == *name);
            if !replaced && entry.value_len > 0 {
                put_text(out, name);
                put_text(out, &self.text[entry.value()]);
            }
        }
    }

    /// By name, then in the order of setting: `start` grows with every call.
    fn sort(&mut self) {
        let text = &self.text;
        self.entries.sort_unstable_by(|a, b| text[a.name()].cmp(&text[b.name()]).then(a.start.cmp(&b.start)));
    }
}
