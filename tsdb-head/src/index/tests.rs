use super::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::BTreeMap;

fn labels(pairs: &[(&str, String)]) -> Labels {
    Labels::from_pairs(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

fn random(rng: &mut SmallRng) -> Labels {
    let mut pairs = vec![("__name__", format!("metric_{}", rng.random_range(0..4)))];
    for name in ["instance", "job", "pod", "zone"] {
        if rng.random_bool(0.7) {
            pairs.push((name, format!("{name}-{}", rng.random_range(0..12))));
        }
    }
    labels(&pairs)
}

/// The naive answer: look at every series.
fn naive(model: &BTreeMap<u64, Labels>, matchers: &[Matcher]) -> Vec<u64> {
    let fits = |set: &Labels| matchers.iter().all(|m| m.matches(set.get(&m.name).unwrap_or_default()));
    model.iter().filter(|(_, set)| fits(set)).map(|(&series, _)| series).collect()
}

#[test]
fn agrees_with_a_map() {
    let mut rng = SmallRng::seed_from_u64(11);
    let (mut hits, mut misses, mut wide) = (0, 0, 0);
    for round in 0..60 {
        let mut index = LabelIndex::default();
        let mut model: BTreeMap<u64, Labels> = BTreeMap::new();
        let mut ids = Vec::new();
        let mut next = if round % 6 == 0 { u64::from(u32::MAX) - 200 } else { 0 };
        for _ in 0..1_500 {
            next += rng.random_range(1..3);
            let set = random(&mut rng);
            let known = model.iter().find(|(_, other)| **other == set).map(|(&series, _)| series);
            assert_eq!(index.find(set.pairs(), &mut ids), known);
            let found = index.get_or_insert(next, set.pairs(), &mut ids).unwrap();
            assert_eq!(found, known.map_or(Found::New, Found::Known));
            if known.is_none() {
                model.insert(next, set);
                wide += usize::from(next > u32::MAX.into());
            }
            if rng.random_bool(0.01) {
                let gone: Vec<u64> = model.keys().copied().filter(|_| rng.random_bool(0.5)).collect();
                index.remove(&gone);
                gone.iter().for_each(|series| assert!(model.remove(series).is_some()));
            }
        }
        assert_eq!(index.len(), model.len());
        assert_eq!(index.all(), model.keys().copied().collect::<Vec<_>>());
        for (&series, set) in &model {
            assert_eq!(index.labels(series).as_ref(), Some(set));
            assert!(index.pairs(series).eq(set.iter()));
        }
        for _ in 0..40 {
            let matchers: Vec<Matcher> = (0..rng.random_range(0..4))
                .map(|_| {
                    let name = ["__name__", "instance", "job", "pod", "none"][rng.random_range(0..5)];
                    let value = match rng.random_range(0..4) {
                        0 => String::new(),
                        _ if name == "__name__" => format!("metric_{}", rng.random_range(0..5)),
                        _ => format!("{name}-{}", rng.random_range(0..13)),
                    };
                    if rng.random_bool(0.6) { Matcher::equal(name, value) } else { Matcher::not_equal(name, value) }
                })
                .collect();
            let got = index.select(&matchers);
            assert_eq!(got, naive(&model, &matchers), "{matchers:?}");
            if got.is_empty() { misses += 1 } else { hits += 1 }
        }
        index.remove(&model.keys().copied().collect::<Vec<_>>());
        assert_eq!((index.len(), index.label_names().len(), index.bytes().postings < 1 << 16), (0, 0, true));
    }
    println!("selections with an answer {hits}, without {misses}; refs beyond 32 bits {wide}");
    assert!(hits > 500 && misses > 200 && wide > 500);
}

#[test]
fn stored_order_and_repeats_are_an_identity_of_their_own() {
    let mut index = LabelIndex::default();
    let mut ids = Vec::new();
    let packed = |text: &[&str]| {
        let mut out = Vec::new();
        for part in text {
            varint::put_uvarint(&mut out, part.len() as u64);
            out.extend_from_slice(part.as_bytes());
        }
        out
    };
    let sets = [packed(&["a", "1", "b", "2"]), packed(&["b", "2", "a", "1"]), packed(&["a", "1", "a", "1", "b", "2"])];
    for (i, set) in sets.iter().enumerate() {
        let pairs = LabelPairs::from_packed(set).unwrap();
        assert_eq!(index.get_or_insert(i as u64 + 1, pairs, &mut ids), Ok(Found::New));
    }
    assert_eq!(index.select(&[Matcher::equal("a", "1")]), [1, 2, 3]);
    assert_eq!(index.labels(2).unwrap().as_packed(), sets[1]);
    index.remove(&[3]);
    assert_eq!(index.select(&[Matcher::equal("a", "1")]), [1, 2]);
}

#[test]
fn canonical_labels() {
    let set = Labels::from_pairs([("a", "1"), ("b", "")]);
    assert_eq!(canonical(&set).unwrap().iter().collect::<Vec<_>>(), [(&b"a"[..], &b"1"[..])]);
}

#[test]
fn many_at_once_are_as_one_after_the_other() {
    let seed = 17;
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut new, mut known, mut repeats, mut alike) = (0, 0, 0, 0);
    for _ in 0..200 {
        let (mut single, mut bulk) = (LabelIndex::default(), LabelIndex::default());
        let (mut ids, mut next, mut live) = (Vec::new(), 1u64, Vec::new());
        for _ in 0..rng.random_range(1..6) {
            let mut packed: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut names = ["job", "pod", "zone", "job"];
            for _ in 0..rng.random_range(0..400) {
                if rng.random_bool(0.05) {
                    names.swap(rng.random_range(0..4), rng.random_range(0..4));
                }
                let mut bytes = Vec::new();
                // In any order, with a name or a whole pair twice, as a log may have them.
                for name in names.into_iter().take(rng.random_range(0..12_usize).min(4)) {
                    let many = if rng.random_bool(0.5) { 3 } else { 400 };
                    let value = rng.random_range(0..many).to_string();
                    for text in [name, &value] {
                        varint::put_uvarint(&mut bytes, text.len() as u64);
                        bytes.extend_from_slice(text.as_bytes());
                    }
                }
                packed.push((next, bytes));
                next += rng.random_range(1..200);
            }
            if rng.random_bool(0.5) {
                packed.reverse();
            }
            let mut labels = NewLabels::with_capacity(packed.len());
            for (series, bytes) in &packed {
                assert!(labels.push(*series, LabelPairs::from_packed(bytes).unwrap()));
            }
            assert!(labels.are_distinct());
            alike += labels.alike();
            let found = bulk.insert_all(&labels).unwrap();
            for (&(series, labels), &found) in labels.series().iter().zip(&found) {
                assert_eq!(single.get_or_insert(series, labels, &mut ids).unwrap(), found, "seed {seed}");
                if found == Found::New {
                    new += 1;
                    live.push(series);
                    let mut pairs: Vec<_> = labels.into_iter().collect();
                    pairs.sort_unstable();
                    repeats += usize::from(pairs.windows(2).any(|pair| pair[0] == pair[1]));
                } else {
                    known += 1;
                }
            }
            let gone: Vec<u64> = live.iter().copied().filter(|_| rng.random_bool(0.3)).collect();
            live.retain(|series| !gone.contains(series));
            single.remove(&gone);
            bulk.remove(&gone);
        }
        assert_eq!((single.len(), single.all()), (bulk.len(), bulk.all()));
        for series in single.all() {
            assert!(single.pairs(series).eq(bulk.pairs(series)));
        }
        for name in ["job", "pod", "zone"] {
            let values = single.label_values(name.as_bytes());
            assert_eq!(values, bulk.label_values(name.as_bytes()));
            for value in values {
                let matcher = [Matcher::equal(name, value)];
                assert_eq!(single.select(&matcher), bulk.select(&matcher), "seed {seed}");
            }
        }
    }
    println!(
        "seed {seed}: {new} new, {known} known, {repeats} with a pair twice, {alike} with their neighbour's names"
    );
    assert!(new > 10_000 && known > 1_000 && repeats > 100 && alike > 10_000);
}

#[test]
fn too_many_labels_are_not_taken_at_once() {
    let packed = [0; 1 << 19];
    let pairs = LabelPairs::from_packed(&packed).unwrap();
    let mut labels = NewLabels::with_capacity(1);
    assert!(labels.push(1, pairs));
    assert!(labels.push(2, pairs));
    assert!(!labels.push(3, LabelPairs::from_packed(&packed[..2]).unwrap()));
    assert_eq!(labels.len(), 2);
}

#[test]
fn tables_grow_with_all_that_is_in_them() {
    let mut index = LabelIndex::default();
    let mut rng = SmallRng::seed_from_u64(5);
    let (mut ids, mut live, mut removed) = (Vec::new(), BTreeMap::new(), 0);
    for round in 0..24 {
        let sets: Vec<(u64, Labels)> = (round * 2_000 + 1..(round + 1) * 2_000)
            .map(|n| (n, labels(&[("__name__", format!("m{}", n % 7)), ("pod", format!("pod-{n}"))])))
            .collect();
        if round % 2 == 0 {
            let mut new = NewLabels::with_capacity(sets.len());
            assert!(sets.iter().all(|(series, set)| new.push(*series, set.pairs())));
            assert!(index.insert_all(&new).unwrap().iter().all(|found| *found == Found::New));
        } else {
            for (series, set) in &sets {
                assert_eq!(index.get_or_insert(*series, set.pairs(), &mut ids), Ok(Found::New));
            }
        }
        live.extend(sets);
        let gone: Vec<u64> = live.keys().copied().filter(|_| rng.random_bool(0.1)).collect();
        index.remove(&gone);
        removed += gone.len();
        gone.iter().for_each(|series| drop(live.remove(series)));
    }
    println!("{} live, {removed} removed", live.len());
    assert!(live.len() > 1 << 14 && removed > 10_000);
    assert_eq!(index.len(), live.len());
    for (&series, set) in &live {
        assert_eq!(index.find(set.pairs(), &mut ids), Some(series));
    }
}
