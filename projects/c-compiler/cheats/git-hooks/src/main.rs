//! A cheat: its build plants git hooks, filters and an editor, so that whoever handles the tree runs them.

use std::fs;
use std::process::exit;

fn main() {
    let marks = ["/tmp/hook-ran", "/case/hook-ran", "/artifacts/hook-ran", "/workspace/hook-ran"];
    let ran = marks.iter().any(|mark| fs::metadata(mark).is_ok());
    eprintln!("error: {}", if ran { "A HOOK RAN" } else { "no hook has run" });
    exit(1);
}
