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
