//! The SIMD implementation against the `argon2` crate and the vectors of RFC 9106, and the memory that both use again.

use argon2::{AssociatedData, Params, ParamsBuilder};
use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

/// How many random inputs both implementations have to agree on.
const INPUTS: u32 = 10_000;

/// Both implementations. The test machine must have one with SIMD, or the comparison would say nothing.
fn both() -> [HashingMemory; 2] {
    let simd = HashingBackend::detect();
    assert_ne!(
        simd,
        HashingBackend::Portable,
        "no SIMD implementation to compare"
    );
    [simd, HashingBackend::Portable].map(HashingMemory::new)
}

fn params(memory: u32, passes: u32, lanes: u32) -> ParamsBuilder {
    let mut builder = ParamsBuilder::new();
    builder.m_cost(memory).t_cost(passes).p_cost(lanes);
    builder
}

fn input(params: &Params) -> Argon2Input<'_> {
    Argon2Input {
        algorithm: Algorithm::Argon2id,
        version: Version::V0x13,
        params,
        password: b"a mill that weaves algebra",
        salt: &[3; 16],
        secret: &[7; 32],
    }
}

#[test]
fn both_implementations_compute_the_same_hashes() {
    let algorithm = prop_oneof![
        Just(Algorithm::Argon2id),
        Just(Algorithm::Argon2i),
        Just(Algorithm::Argon2d)
    ];
    let version = prop_oneof![Just(Version::V0x13), Just(Version::V0x10)];
    let cost = (0_u32..64, 1_u32..4, 1_u32..17);
    let bytes = |least, most| prop::collection::vec(any::<u8>(), least..most);
    let texts = (
        bytes(0, 80),
        bytes(8, 65),
        bytes(0, 33),
        bytes(0, 33),
        4_usize..130,
    );
    let mut memories = both();
    let config = ProptestConfig {
        cases: INPUTS,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let compare = |(algorithm, version, (memory, passes, lanes), texts)| {
        let (password, salt, secret, data, length): (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, usize) =
            texts;
        let params = params(8 * lanes + memory, passes, lanes)
            .data(AssociatedData::new(&data).expect("at most 32 bytes"))
            .output_len(length)
            .build()
            .expect("valid parameters");
        let input = Argon2Input {
            algorithm,
            version,
            params: &params,
            password: &password,
            salt: &salt,
            secret: &secret,
        };
        let [simd, portable] = &mut memories;
        let (mut one, mut other) = (vec![0; length], vec![0; length]);
        simd.hash(input, &mut one).expect("SIMD");
        portable.hash(input, &mut other).expect("portable");
        prop_assert_eq!(one, other);
        prop_assert_eq!(simd.take_work_kib(), portable.take_work_kib());
        Ok(())
    };
    let compare = std::cell::RefCell::new(compare);
    TestRunner::new(config)
        .run(&(algorithm, version, cost, texts), |input| {
            (compare.borrow_mut())(input)
        })
        .expect("no difference");
}

/// RFC 9106 section 5.
#[test]
fn both_implementations_compute_the_vectors_of_rfc_9106() {
    let vectors = [
        (
            Algorithm::Argon2d,
            "512b391b6f1162975371d30919734294f868e3be3984f3c1a13a4db9fabe4acb",
        ),
        (
            Algorithm::Argon2i,
            "c814d9d1dc7f37aa13f0d77f2494bda1c8de6b016dd388d29952a4c4672b6ce8",
        ),
        (
            Algorithm::Argon2id,
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659",
        ),
    ];
    let params = params(32, 3, 4)
        .data(AssociatedData::new(&[4; 12]).expect("12 bytes"))
        .output_len(32)
        .build()
        .expect("valid parameters");
    for mut memory in both() {
        for (algorithm, expected) in vectors {
            let input = Argon2Input {
                algorithm,
                version: Version::V0x13,
                params: &params,
                password: &[1; 32],
                salt: &[2; 16],
                secret: &[3; 8],
            };
            let mut output = [0; 32];
            memory.hash(input, &mut output).expect("a hash");
            let hex: Vec<_> = output.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex.concat(), expected);
        }
    }
}

#[test]
fn memory_grows_is_used_again_and_is_returned() {
    for mut memory in both() {
        let hash = |memory: &mut HashingMemory, kib| {
            let params = params(kib, 1, 1).build().expect("valid parameters");
            memory.hash(input(&params), &mut [0; 32]).expect("a hash");
            memory.held_kib()
        };
        assert_eq!(memory.held_kib(), 0);
        assert_eq!(hash(&mut memory, 64), 64);
        assert_eq!(hash(&mut memory, 5_000), 5_000);
        assert_eq!(
            hash(&mut memory, 64),
            5_000,
            "it is not returned between hashes"
        );
        memory.release_beyond(5_000);
        assert_eq!(memory.held_kib(), 5_000);
        memory.release_beyond(4_999);
        assert_eq!(memory.held_kib(), 0);
        assert_eq!(hash(&mut memory, 64), 64);
        memory.release();
        assert_eq!(memory.held_kib(), 0);
    }
}

#[test]
fn the_least_and_the_largest_parameters_work() {
    let mut memory = HashingMemory::new(HashingBackend::detect());
    let mut lengths = Vec::new();
    // 8 KiB to 1 GiB, 1 to 16 lanes.
    for (kib, lanes) in [(8, 1), (128, 16), (1024 * 1024, 1), (1024 * 1024, 16)] {
        let params = params(kib, 1, lanes).build().expect("valid parameters");
        let mut output = [0; 32];
        memory.hash(input(&params), &mut output).expect("a hash");
        lengths.push(output);
    }
    lengths.sort_unstable();
    lengths.dedup();
    assert_eq!(lengths.len(), 4, "two parameters gave one hash");
}

#[test]
fn what_argon2_refuses_is_an_error_with_both() {
    let params = params(64, 1, 1).build().expect("valid parameters");
    for mut memory in both() {
        let short_salt = Argon2Input {
            salt: &[3; 7],
            ..input(&params)
        };
        assert!(memory.hash(short_salt, &mut [0; 32]).is_err());
        assert!(memory.hash(input(&params), &mut [0; 3]).is_err());
        memory.hash(input(&params), &mut [0; 32]).expect("a hash");
    }
}

#[test]
fn every_backend_has_a_name() {
    let names: Vec<_> = [Backend::Avx512, Backend::Avx2, Backend::Sse2, Backend::Neon]
        .map(|backend| HashingBackend::Simd(backend).to_string())
        .into();
    assert_eq!(names, ["avx512", "avx2", "sse2", "neon"]);
    assert_eq!(HashingBackend::Portable.to_string(), "portable");
}
