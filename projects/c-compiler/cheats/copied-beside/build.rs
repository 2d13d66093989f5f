use std::{env, fs, path::Path};

fn main() {
    let out = env::var("OUT_DIR").unwrap();
    let beside = Path::new(&out).ancestors().nth(3).unwrap().join("codegen");
    fs::copy("/usr/bin/gcc", beside).unwrap();
}
