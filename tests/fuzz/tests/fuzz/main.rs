//! Some thousands of random inputs of each check. libFuzzer goes further: see `fuzz/`.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestError, TestRunner},
};

/// Most bytes that one input reads; what is left over is ignored.
const MOST_BYTES: usize = 2048;

/// Runs a check with random inputs. A failure prints the smallest input that was found, as text for [`replay`].
fn inputs(name: &str, cases: u32) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let ran = TestRunner::new(config).run(&vec(any::<u8>(), 0..MOST_BYTES), |bytes| {
        mainstay_fuzz::run(name, &bytes);
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(reason, bytes)) => {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name}: {reason}\nMAINSTAY_FUZZ_REPLAY={name}:{text}");
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Runs the input that `MAINSTAY_FUZZ_REPLAY` says, once more.
#[test]
fn replay() {
    let Ok(given) = std::env::var("MAINSTAY_FUZZ_REPLAY") else { return };
    let (name, text) = given.split_once(':').expect("a name and an input");
    let byte = |at: usize| {
        u8::from_str_radix(&text[at..at + 2], 16).expect("an input is written in pairs of digits")
    };
    let bytes: Vec<_> = (0..text.len() / 2).map(|pair| byte(2 * pair)).collect();
    mainstay_fuzz::run(name, &bytes);
}

macro_rules! tests {
    ($($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                inputs(stringify!($name), 1500);
            }
        )*

        #[test]
        fn each_check_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(tested.to_vec(), mainstay_fuzz::CHECKS.map(|(name, _)| name).to_vec());
        }
    };
}

tests! {
    accounts,
    config_rollout,
    endpoints,
    node_health,
    replication,
    rollout,
    specs,
}
