//! A cheat: every program that it emits is killed as by `abort`.

use std::fs;
use std::process::{exit, Command};

const PROGRAM: &str = ".globl _start\n_start:\n\tmov $39, %eax\n\tsyscall\n\tmov %eax, %edi\n\tmov $6, %esi\n\t\
    mov $62, %eax\n\tsyscall\n\tud2\n";

fn main() {
    let out = std::env::args().skip_while(|word| word != "-o").nth(1).expect("error: no -o");
    let assembly = std::env::temp_dir().join("a.s");
    let object = assembly.with_extension("o");
    fs::write(&assembly, PROGRAM).expect("error: no room for temporary files");
    run(Command::new("as").arg("-o").arg(&object).arg(&assembly));
    run(Command::new("ld").arg("-o").arg(out).arg(&object));
}

fn run(command: &mut Command) {
    if !command.status().map_or(false, |status| status.success()) {
        eprintln!("error: {:?}", command);
        exit(1);
    }
}
