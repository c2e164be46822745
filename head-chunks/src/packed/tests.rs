use super::decimal::MOST;
use super::*;
use crate::xor::XorAppender;
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// A series' next value, by its kind.
pub(super) fn next(rng: &mut SmallRng, kind: u32, last: f64) -> f64 {
    match kind {
        0 => last + f64::from(rng.random_range(0..1000_u32)),
        1 => ((last * 1000.0).round() + f64::from(rng.random_range(-1000..=1000_i32))) / 1000.0,
        2 => last,
        3 => f64::from(rng.random_range(-9..9_i32)) * 10_f64.powi(rng.random_range(-8..18)),
        4 => f64::from_bits(rng.random()),
        5 => *[0.0, -0.0, f64::NAN, f64::INFINITY, MOST, -MOST, MOST + 2.0, i64::MIN as f64, 1e-6, 0.1]
            .get(rng.random_range(0..10_usize))
            .unwrap_or(&1.0),
        _ => (last + rng.random_range(-(1_i64 << 40)..1 << 40) as f64).trunc(),
    }
}

#[test]
fn is_at_every_sample_the_xor_chunk_it_stands_for() {
    let seed = 11;
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut packed, mut xor, mut finer, mut to_xor, mut limits, mut bytes) = (0, 0, 0, 0, 0, (0, 0));
    let mut counted = 0;
    for _ in 0..3_000 {
        let mut pieces: Vec<u8> = Vec::new();
        let mut state = PackedState::new_after(-5);
        assert_eq!((state.last_t(), state.num_samples()), (-5, 0));
        let mut model = XorAppender::new();
        let (kind, odd) = (rng.random_range(0..7), rng.random_bool(0.3));
        let jitter = [0, 0, 3, 20_000][rng.random_range(0..4)];
        let mut t = rng.random_range(-(1_i64 << 40)..1 << 41);
        let mut v = f64::from(rng.random_range(0..1_000_000_u32));
        for n in 0..rng.random_range(1..260) {
            t += if odd && rng.random_bool(0.005) { 1 << rng.random_range(30..50) } else { 15_000 };
            t += rng.random_range(-jitter..=jitter) / 2;
            let kind = if odd && rng.random_bool(0.01) { rng.random_range(0..7) } else { kind };
            v = next(&mut rng, kind, v);
            while let Err(misfit) = state.append(t, v, &mut |piece| pieces.extend_from_slice(&piece)) {
                assert_eq!(misfit, Misfit::Form);
                let before = state;
                let mut fresh = Vec::new();
                state = state.repack([&pieces[..]], t, v, &mut |piece| fresh.extend_from_slice(&piece));
                assert_ne!(state, before, "it would go on for ever");
                pieces = fresh;
                counted += u32::from(state.form() == before.form());
                finer += u32::from(state.form() > before.form());
                to_xor += u32::from(state.form() == 0);
            }
            model.append(t, v).unwrap();
            if state.form() == 0 {
                xor += 1
            } else {
                packed += 1
            }
            limits += u32::from(state.is_over_the_limit());
            assert_eq!(state.is_over_the_limit(), model.state().bit_len() > LIMIT, "seed {seed}");
            assert_eq!((state.last_t(), state.last_value().to_bits()), (t, v.to_bits()));
            assert_eq!(usize::from(state.num_samples()), n + 1);
            assert_eq!(pieces.len(), state.full_pieces() * PIECE);
            if n % 13 == 0 || rng.random_bool(0.05) {
                let mut got = vec![7];
                state.assemble([&pieces[..]], &mut got);
                assert_eq!(got[1..], model.to_bytes(), "seed {seed}, kind {kind}, {n}");
                if state.form() > 0 {
                    bytes = (bytes.0 + state.byte_len(), bytes.1 + got.len());
                }
            }
        }
    }
    println!(
        "seed {seed}: {packed} packed, {xor} XOR, {finer} finer, {counted} counted, {to_xor} to XOR, {limits} over, \
         {bytes:?} bytes"
    );
    assert!(packed > 50_000 && xor > 50_000 && finer > 150 && counted > 150 && to_xor > 500 && limits > 5_000);
    assert!(bytes.0 * 5 < bytes.1 * 4);
}
