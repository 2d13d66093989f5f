//! `ccc FILE.c -o OUT`: compiles one C file to an x86-64 Linux program.

use std::env;
use std::process::exit;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let message = match arguments(&words) {
        Some((file, _out)) => format!("{}: nothing can be compiled yet", file),
        None => "usage: ccc FILE.c -o OUT".to_string(),
    };
    eprintln!("error: {}", message);
    exit(1);
}

/// The file to compile and the program to write.
fn arguments(words: &[String]) -> Option<(&str, &str)> {
    match words {
        [file, flag, out] | [flag, out, file] if flag == "-o" => Some((file, out)),
        _ => None,
    }
}
