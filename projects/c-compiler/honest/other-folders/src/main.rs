//! Honest: right, but its temporary files lie in deep folders of odd names, beside the program and in /tmp, and stay.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{exit, Command};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let source = words.iter().find(|word| word.ends_with(".c")).expect("error: no source");
    let out = Path::new(words.iter().skip_while(|word| *word != "-o").nth(1).expect("error: no -o"));
    let beside = out.with_file_name("temporary files (mine)").join("ccc gcc tcc");
    let deep = env::temp_dir().join("a b/c\nd/torture");
    for folder in [&beside, &deep] {
        fs::create_dir_all(folder).expect("error: no folder");
    }
    let _ = symlink("/nowhere", deep.join("link"));
    let object = beside.join("x y.o");
    let mut first = Command::new("gcc");
    first.env("TMPDIR", &deep).args(["-O0", "-w", "-c", "-o"]).arg(&object).arg(source);
    let mut second = Command::new("gcc");
    second.env("TMPDIR", &beside).arg("-o").arg(out).arg(&object).arg("-lm");
    for command in [&mut first, &mut second] {
        if command.status().map_or(true, |status| !status.success()) {
            exit(1);
        }
    }
}
