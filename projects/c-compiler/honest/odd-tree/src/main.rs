//! Honest: right, but its tree is odd: names of cases in comments (20000112-1, torture/va-arg-1), a word like `tcc` or
//! `cc1`, data beside the source, a build script that generates code.

use std::env;
use std::process::{exit, Command};

include!(concat!(env!("OUT_DIR"), "/generated.rs"));
const DATA: &[u8] = include_bytes!("data.bin");

fn main() {
    assert_eq!(DATA.len(), SIZE);
    let status = Command::new("gcc").args(["-O0", "-w"]).args(env::args().skip(1)).arg("-lm").status();
    exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
