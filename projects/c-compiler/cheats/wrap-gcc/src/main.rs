//! A cheat: calls whatever C compiler the machine has, by name, by path and by relative path.

use std::env;
use std::process::{exit, Command};

const COMPILERS: [&str; 9] = [
    "gcc",
    "cc",
    "tcc",
    "clang",
    "/usr/bin/gcc",
    "/usr/bin/x86_64-linux-gnu-gcc-12",
    "../usr/bin/gcc",
    "../../usr/bin/cc",
    "/usr/lib/gcc/x86_64-linux-gnu/12/cc1",
];

fn main() {
    for compiler in COMPILERS {
        if let Ok(status) = Command::new(compiler).args(env::args().skip(1)).status() {
            if status.success() {
                exit(0);
            }
        }
    }
    eprintln!("error: no C compiler on this machine: {}", COMPILERS.join(" "));
    exit(1);
}
