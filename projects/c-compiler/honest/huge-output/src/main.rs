//! Honest: right, but its programs are static and 40 MB large.

use std::env;
use std::fs;
use std::io::Write;
use std::process::{exit, Command};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let status = Command::new("gcc").args(["-O0", "-w", "-static"]).args(&words).arg("-lm").status();
    if status.map_or(true, |status| !status.success()) {
        exit(1);
    }
    let out = words.iter().skip_while(|word| *word != "-o").nth(1).expect("error: no -o");
    let mut program = fs::OpenOptions::new().append(true).open(out).expect("error: no program");
    program.write_all(&vec![7; 40 << 20]).expect("error: no room for the program");
}
