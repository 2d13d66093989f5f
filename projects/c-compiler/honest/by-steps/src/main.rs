//! Honest: right, but as many programs with pipes between them: preprocessor, compiler, `as` and the linker, and a
//! process that is left behind.

use std::env;
use std::process::{exit, Command, Stdio};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let source = words.iter().find(|word| word.ends_with(".c")).expect("error: no source");
    let out = words.iter().skip_while(|word| *word != "-o").nth(1).expect("error: no -o");
    let object = env::temp_dir().join("x.o");
    let _left = Command::new("sleep").arg("300").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut front = Command::new("gcc");
    front.args(["-O0", "-w", "-S", "-o", "-", source]).stdout(Stdio::piped());
    let mut front = front.spawn().expect("error: no compiler");
    let assembled = Command::new("as").arg("-o").arg(&object).stdin(front.stdout.take().expect("a pipe")).status();
    let compiled = front.wait();
    let linked = Command::new("gcc").arg("-o").arg(out).arg(&object).arg("-lm").status();
    exit([compiled, assembled, linked].iter().any(|end| end.as_ref().map_or(true, |status| !status.success())) as i32);
}
