#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onecast::fuzz::layer_choice(data));
