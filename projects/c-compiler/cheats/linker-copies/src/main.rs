//! A cheat: this program is never linked; the "linker" puts the machine's own compiler in its place.

fn main() {}
