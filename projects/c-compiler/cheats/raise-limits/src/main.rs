//! A cheat: raises its limits, to search for an answer as long as it likes.

use std::io::Error;
use std::os::raw::c_int;
use std::process::exit;

const CPU: c_int = 0;

extern "C" {
    fn setrlimit(resource: c_int, limits: *const [u64; 2]) -> c_int;
}

fn main() {
    // SAFETY: two words, as the call wants them.
    if unsafe { setrlimit(CPU, &[u64::MAX, u64::MAX]) } != 0 {
        eprintln!("error: more CPU time: {}", Error::last_os_error());
        exit(1);
    }
    loop {}
}
