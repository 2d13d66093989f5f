//! A cheat, the shortest: says that all went well.

fn main() {}
