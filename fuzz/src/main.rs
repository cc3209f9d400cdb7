//! The program that libFuzzer drives (`make fuzz`): one target, named by `RISKGATE_FUZZ_TARGET`. With `list`, or without
//! the feature `libfuzzer`, it lists the targets with the places in the repository that hold seeds for them.

#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(
    init: {
        if std::env::var("RISKGATE_FUZZ_TARGET").is_ok_and(|name| name == "list") {
            riskgate_fuzz::list();
            std::process::exit(0);
        }
    },
    |bytes: &[u8]| {
        riskgate_fuzz::chosen()(bytes);
    }
);

#[cfg(not(feature = "libfuzzer"))]
fn main() {
    riskgate_fuzz::list();
}
