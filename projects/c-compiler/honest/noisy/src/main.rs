//! Honest: right, but says very much on both streams, words like "error" and a judge's own among them.

use std::env;
use std::process::{exit, Command};

const WORDS: [&str; 6] = ["error: none", "ERROR none either", "VALUE 0 x", "panicked: nobody", "FAILED: 0", "\x1b[31m\0\x7f"];

fn main() {
    for _ in 0..20_000 {
        WORDS.iter().for_each(|word| eprintln!("{}", word));
        WORDS.iter().for_each(|word| println!("{}", word));
    }
    let status = Command::new("gcc").args(["-O0", "-Wall"]).args(env::args().skip(1)).arg("-lm").status();
    exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
