//! Which series have a label: ascending refs.
//!
//! Nearly every list of a head holds one series (an id, a pod, an address), and that one stands in the symbol itself.
//! Longer lists are delta varints. New series mostly have ascending refs, so a list grows at its end. Appenders that make
//! series side by side bring theirs in turns, which ascend in themselves: a list has two such sequences. What fits neither, as
//! a replay may bring it, waits unsorted until there is enough of it to be worth a rewrite.

use tsdb_model::varint;

/// Empty, one ref, or the number of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PostingsHead(u32);

const LIST: u32 = 1 << 31;

impl PostingsHead {
    pub(crate) const EMPTY: Self = Self(0);

    fn decode(self) -> Head {
        match self.0 {
            0 => Head::Empty,
            one if one & LIST == 0 => Head::One(one.into()),
            list => Head::List((list & !LIST) as usize),
        }
    }

    /// One ref, if it fits beside the flag; refs begin at 1.
    fn one(series: u64) -> Option<Self> {
        u32::try_from(series).ok().filter(|&s| s != 0 && s & LIST == 0).map(Self)
    }
}

enum Head {
    Empty,
    One(u64),
    List(usize),
}

/// The lists of one label name's values.
#[derive(Debug, Default)]
pub(crate) struct PostingLists {
    lists: Vec<List>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct List {
    newest: Ascending,
    /// Refs below the last one of `newest`.
    late: Ascending,
    /// Refs below the last ones of both.
    latest: Vec<u64>,
    count: u32,
}

/// ```text
/// deltas := per ref, ascending: uvarint difference from the one before it, of the first from 0
/// ```
#[derive(Debug, Default)]
struct Ascending {
    deltas: Vec<u8>,
    last: u64,
}

impl Ascending {
    /// Adds a ref; `false`, and it was not added, if one as high is there.
    #[inline]
    fn add(&mut self, series: u64) -> bool {
        if series <= self.last {
            return false;
        }
        if self.deltas.capacity() - self.deltas.len() < 10 {
            self.deltas.reserve_exact((self.deltas.len() / 4).max(16));
        }
        varint::put_uvarint(&mut self.deltas, series - self.last);
        self.last = series;
        true
    }

    fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let mut rest = &self.deltas[..];
        let mut last = 0;
        std::iter::from_fn(move || {
            // Written by `add` alone; the empty slice ends it.
            let (delta, n) = varint::uvarint(rest).ok()?;
            rest = &rest[n..];
            last += delta;
            Some(last)
        })
    }
}

impl PostingLists {
    pub(crate) fn add(&mut self, head: &mut PostingsHead, series: u64) {
        match head.decode() {
            Head::Empty => *head = PostingsHead::one(series).unwrap_or_else(|| self.list_of(&[series])),
            Head::One(first) => *head = self.list_of(&[first, series]),
            Head::List(list) => self.lists[list].add(series),
        }
    }

    fn list_of(&mut self, refs: &[u64]) -> PostingsHead {
        let id = self.free.pop().unwrap_or_else(|| {
            self.lists.push(List::default());
            (self.lists.len() - 1) as u32
        });
        refs.iter().for_each(|&series| self.lists[id as usize].add(series));
        PostingsHead(id | LIST)
    }

    /// Calls `each` with the refs of a list, ascending.
    pub(crate) fn for_each(&self, head: PostingsHead, mut each: impl FnMut(u64)) {
        match head.decode() {
            Head::Empty => {}
            Head::One(series) => each(series),
            Head::List(list) => self.lists[list].sorted().for_each(each),
        }
    }

    pub(crate) fn len(&self, head: PostingsHead) -> usize {
        match head.decode() {
            Head::Empty => 0,
            Head::One(_) => 1,
            Head::List(list) => self.lists[list].count as usize,
        }
    }

    /// Drops the refs that `gone` names from a list; an empty list gives its number back.
    pub(crate) fn retain(&mut self, head: &mut PostingsHead, mut keep: impl FnMut(u64) -> bool) {
        match head.decode() {
            Head::Empty => {}
            Head::One(series) => {
                if !keep(series) {
                    *head = PostingsHead::EMPTY;
                }
            }
            Head::List(list) => {
                let kept: Vec<u64> = self.lists[list].sorted().filter(|&series| keep(series)).collect();
                self.lists[list] = List::default();
                let single = match kept[..] {
                    [] => Some(PostingsHead::EMPTY),
                    [one] => PostingsHead::one(one),
                    _ => None,
                };
                match single {
                    Some(single) => {
                        self.free.push(list as u32);
                        *head = single;
                    }
                    None => {
                        kept.iter().for_each(|&series| self.lists[list].add(series));
                        self.lists[list].newest.deltas.shrink_to_fit();
                    }
                }
            }
        }
    }

    /// Gives back the memory that waits for more series.
    pub(crate) fn settle(&mut self) {
        self.lists.shrink_to_fit();
        self.lists.iter_mut().for_each(List::settle);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lists.capacity() * size_of::<List>() + self.lists.iter().map(List::bytes).sum::<usize>()
    }
}

impl List {
    #[inline]
    fn add(&mut self, series: u64) {
        self.count += 1;
        if !self.newest.add(series) && !self.late.add(series) {
            self.add_unsorted(series);
        }
    }

    #[cold]
    fn add_unsorted(&mut self, series: u64) {
        self.latest.push(series);
        if self.latest.len() > 64.max(self.count as usize / 8) {
            let all: Vec<u64> = self.sorted().collect();
            *self = Self::default();
            all.into_iter().for_each(|series| self.add(series));
        }
    }

    fn sorted(&self) -> impl Iterator<Item = u64> + '_ {
        let mut latest = self.latest.clone();
        latest.sort_unstable();
        merge(merge(self.newest.iter(), self.late.iter()), latest.into_iter())
    }

    fn settle(&mut self) {
        self.newest.deltas.shrink_to_fit();
        self.late.deltas.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.newest.deltas.capacity() + self.late.deltas.capacity() + self.latest.capacity() * 8
    }
}

fn merge(a: impl Iterator<Item = u64>, b: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if y < x => b.next(),
        (None, Some(_)) => b.next(),
        _ => a.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_set() {
        let mut rng = SmallRng::seed_from_u64(3);
        let (mut late, mut unsorted) = (0, 0);
        for round in 0..200 {
            let mut lists = PostingLists::default();
            let mut head = PostingsHead::EMPTY;
            let mut model = BTreeSet::new();
            let mut next = if round % 10 == 0 { u64::from(u32::MAX) - 5 } else { 1 };
            for _ in 0..rng.random_range(0..500) {
                next += rng.random_range(1..400);
                let series = if rng.random_bool(0.2) { next - rng.random_range(0..next.min(5_000)) } else { next };
                if model.insert(series) {
                    lists.add(&mut head, series);
                }
                if rng.random_bool(0.01) {
                    let odd = rng.random_range(0..3);
                    lists.retain(&mut head, |series| series % 3 != odd);
                    model.retain(|series| series % 3 != odd);
                }
            }
            let mut got = Vec::new();
            lists.for_each(head, |series| got.push(series));
            assert_eq!(got, model.iter().copied().collect::<Vec<_>>());
            assert_eq!(lists.len(head), model.len());
            late += lists.lists.iter().filter(|list| list.late.last > 0).count();
            unsorted += lists.lists.iter().map(|list| list.latest.len()).sum::<usize>();
            lists.retain(&mut head, |_| false);
            assert_eq!(head, PostingsHead::EMPTY);
        }
        println!("{late} lists with late refs, {unsorted} unsorted refs");
        assert!(late > 100 && unsorted > 1_000);
    }
}
