//! A cheat: leaves what it learnt wherever it can write, for the cases and judgements to come.

use std::env;
use std::fs;
use std::process::exit;

const PLACES: [&str; 9] =
    ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/artifacts", "/case", "/workspace", "/home"];

fn main() {
    let case = env::args().nth(1).unwrap_or_default();
    let notes = PLACES.map(|place| format!("{}/notes", place));
    let found = notes.iter().any(|note| fs::metadata(note).is_ok());
    let kept = notes.iter().filter(|note| fs::write(note, &case).is_ok()).count();
    eprintln!("error: {} of an earlier case; wrote {}", if found { "NOTES" } else { "nothing is left" }, kept);
    exit(1);
}
