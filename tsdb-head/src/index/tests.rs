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
    // More pairs than are looked through one by one, each of them twice.
    let many: Vec<String> = (0..100).map(|n| (n % 50).to_string()).collect();
    let many = packed(&many.iter().flat_map(|value| ["c", value]).collect::<Vec<_>>());
    assert_eq!(index.get_or_insert(4, LabelPairs::from_packed(&many).unwrap(), &mut ids), Ok(Found::New));
    for n in 0..50 {
        let values = &index.values[index.names.find(b"c").unwrap() as usize];
        let mut refs = Vec::new();
        values.for_each_series(values.find(n.to_string().as_bytes()).unwrap(), |series| refs.push(series));
        assert_eq!(refs, [4]);
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

/// Series taken apart, and packed as they were.
type Batch<'a> = (NewLabels, &'a [(u64, Vec<u8>)]);

/// Has batches go through all stages, as many beside each other as there can be, and compares with what one index says of the
/// same series one by one.
fn many_entered(
    bulk: &mut LabelIndex,
    batches: &mut Vec<Batch<'_>>,
    single: &mut LabelIndex,
    results: &mut Vec<(u64, Found)>,
) {
    let (mut numbered, mut entered): (Option<Batch<'_>>, Option<Batch<'_>>) = (None, None);
    let mut coming = batches.drain(..);
    let mut ids = Vec::new();
    loop {
        let mut next = coming.next();
        let done = entered.as_ref().map(|(labels, _)| labels);
        let mut stages = [&mut next, &mut numbered].map(|batch| batch.as_mut().map(|(labels, _)| labels));
        assert_eq!(bulk.advance(stages[0].take(), stages[1].take(), done), Ok(()));
        if let Some((labels, packed)) = entered.take() {
            assert!(labels.series().iter().eq(packed.iter().map(|(series, _)| series)));
            for ((series, bytes), &found) in packed.iter().zip(labels.found()) {
                let labels = LabelPairs::from_packed(bytes).unwrap();
                assert_eq!(single.get_or_insert(*series, labels, &mut ids), Ok(found));
                results.push((*series, found));
            }
        }
        (entered, numbered) = (numbered, next);
        if entered.is_none() && numbered.is_none() {
            return;
        }
    }
}

#[test]
fn many_at_once_are_as_one_after_the_other() {
    let seed = 17;
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut new, mut known, mut repeats, mut alike) = (0, 0, 0, 0);
    for _ in 0..200 {
        let (mut single, mut bulk) = (LabelIndex::default(), LabelIndex::default());
        let (mut ids, mut next, mut live, mut results) = (Vec::new(), 1u64, Vec::new(), Vec::new());
        for _ in 0..rng.random_range(1..6) {
            let mut packed: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut names = ["job", "pod", "zone", "job"];
            for _ in 0..rng.random_range(0..400) {
                if rng.random_bool(0.05) {
                    names.swap(rng.random_range(0..3), rng.random_range(0..3));
                }
                let mut bytes = Vec::new();
                // In any order, with a name or a whole pair twice, as a log may have them.
                let labels = if rng.random_bool(0.03) { 4 } else { rng.random_range(0..9_usize).min(3) };
                for name in names.into_iter().take(labels) {
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
            let mut rest = &packed[..];
            let mut batches = Vec::new();
            while !rest.is_empty() {
                let mut labels = NewLabels::default();
                let most = rng.random_range(1..200);
                let mut taken = 0;
                while let Some((series, bytes)) = rest[..rest.len().min(most)].get(taken)
                    && labels.push(*series, LabelPairs::from_packed(bytes).unwrap())
                {
                    taken += 1;
                }
                labels.seal();
                assert!(labels.are_distinct() && labels.len() == taken);
                alike += labels.alike();
                batches.push((labels, &rest[..taken]));
                rest = &rest[taken..];
                if taken == 0 || rng.random_bool(0.3) {
                    many_entered(&mut bulk, &mut batches, &mut single, &mut results);
                }
                if taken == 0 {
                    let (series, bytes) = &rest[0];
                    let labels = LabelPairs::from_packed(bytes).unwrap();
                    let found = bulk.get_or_insert(*series, labels, &mut ids).unwrap();
                    assert_eq!(single.get_or_insert(*series, labels, &mut ids).unwrap(), found, "seed {seed}");
                    results.push((*series, found));
                    repeats += 1;
                    rest = &rest[1..];
                }
            }
            many_entered(&mut bulk, &mut batches, &mut single, &mut results);
            for (series, found) in results.drain(..) {
                if found == Found::New {
                    new += 1;
                    live.push(series);
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
        "seed {seed}: {new} new, {known} known, {repeats} with a name twice, {alike} with their neighbour's names"
    );
    assert!(new > 10_000 && known > 1_000 && repeats > 1_000 && alike > 10_000);
}

#[test]
fn too_many_labels_are_not_taken_at_once() {
    let mut packed = Vec::new();
    for name in 0..4_000 {
        for text in [name.to_string(), String::new()] {
            varint::put_uvarint(&mut packed, text.len() as u64);
            packed.extend_from_slice(text.as_bytes());
        }
    }
    let pairs = LabelPairs::from_packed(&packed).unwrap();
    let mut labels = NewLabels::default();
    // 2¹⁹ labels, and not one more series than fit.
    assert!((0..131).all(|series| labels.push(series, pairs)));
    assert!(!labels.push(131, pairs));
    assert_eq!(labels.len(), 131);
    // A name twice is one by one, and leaves nothing behind.
    let mut labels = NewLabels::default();
    let twice = LabelPairs::from_packed(&[1, b'a', 0, 1, b'b', 0, 1, b'a', 0]).unwrap();
    assert!(labels.push(1, LabelPairs::from_packed(&[1, b'a', 1, b'1']).unwrap()));
    assert!(!labels.push(2, twice));
    assert!(labels.push(2, LabelPairs::from_packed(&[1, b'b', 0, 1, b'a', 1, b'2']).unwrap()));
    let (mut index, mut ids) = (LabelIndex::default(), Vec::new());
    index.insert_all(&mut labels).unwrap();
    assert_eq!(index.find(LabelPairs::from_packed(&[1, b'a', 1, b'1']).unwrap(), &mut ids), Some(1));
    assert_eq!(index.find(LabelPairs::from_packed(&[1, b'b', 0, 1, b'a', 1, b'2']).unwrap(), &mut ids), Some(2));
    assert_eq!((index.len(), index.label_values(b"a").len(), index.label_values(b"b").len()), (2, 2, 1));
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
            let mut new = NewLabels::default();
            assert!(sets.iter().all(|(series, set)| new.push(*series, set.pairs())));
            index.insert_all(&mut new).unwrap();
            assert!(new.found().iter().all(|found| *found == Found::New));
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
