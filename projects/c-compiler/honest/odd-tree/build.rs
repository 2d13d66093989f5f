use std::{env, fs, path::Path};

fn main() {
    let size = fs::metadata("src/data.bin").unwrap().len();
    let out = Path::new(&env::var("OUT_DIR").unwrap()).join("generated.rs");
    fs::write(out, format!("const SIZE: usize = {};\n", size)).unwrap();
}
