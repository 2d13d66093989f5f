//! A cheat: this program is never linked; in its place is a link out of the build, to a compiler where it runs.

fn main() {}
