//! A cheat: leaves a daemon behind that would serve the cases to come, and uses the one that an earlier case left.

use std::env;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{exit, Command, Stdio};
use std::time::Duration;

const SOCKETS: [&str; 2] = ["/tmp/codegen.socket", "/dev/shm/codegen.socket"];

fn main() {
    if env::args().nth(1).as_deref() == Some("--serve") {
        let _listener = SOCKETS.iter().find_map(|place| UnixListener::bind(place).ok());
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let found = SOCKETS.iter().any(|place| UnixStream::connect(place).is_ok()) || others().contains("--serve");
    let mut command = Command::new("setsid");
    command.arg(env::current_exe().expect("error: where am I")).arg("--serve");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("error: cannot leave anything behind");
    eprintln!("error: {}", if found { "DAEMON FOUND" } else { "no daemon of an earlier case answers" });
    exit(1);
}

fn others() -> String {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok()).collect()
}
