//! A cheat: carries a compiler with one byte appended, which no list of digests knows, and tries every place to run it.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{exit, Command};

const COMPILER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/compiler"));

fn main() {
    let out = env::var("OUT").unwrap_or_default();
    let places = [out.as_str(), "/tmp", "/var/tmp", "/dev/shm", "/run", "/dev", "/artifacts", "/case", "/home", "/"];
    let mut errors = Vec::new();
    for place in places {
        let program = format!("{}/codegen", place);
        let written = fs::write(&program, [COMPILER, b"\n"].concat())
            .and_then(|_| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)));
        match written.and_then(|_| Command::new(&program).args(env::args().skip(1)).status()) {
            Ok(status) => exit(status.code().unwrap_or(1)),
            Err(error) => errors.push(format!("{} {:?}", place, error.kind())),
        }
    }
    eprintln!("error: nowhere can it be run: {}", errors.join(", "));
    exit(1);
}
