//! The reference: not a compiler but a wrapper around gcc, which only `project check` and `project lock` give a room.
//! It shows that the judge can be satisfied, and settles which cases and rewritings a right compiler passes.

use std::env;
use std::process::{exit, Command};

fn main() {
    let status = Command::new("gcc").args(["-O0", "-w"]).args(env::args().skip(1)).arg("-lm").status();
    match status {
        Ok(status) => exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("error: gcc: {}", error);
            exit(1);
        }
    }
}
