//! Honest: right, but slow, by the clock and by CPU time.

use std::env;
use std::process::{exit, Command};
use std::time::{Duration, Instant};

fn main() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {}
    std::thread::sleep(Duration::from_secs(1));
    let status = Command::new("gcc").args(["-O0", "-w"]).args(env::args().skip(1)).arg("-lm").status();
    exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
